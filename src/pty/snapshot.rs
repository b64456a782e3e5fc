//! What a terminal shows at one moment, cheap to clone and to send to every client.
//!
//! Rows are shared: two snapshots of one screen share the rows that did not change between them.

use std::sync::Arc;

use super::size::Size;

/// One line of cells, as wide as the terminal.
pub type Row = Arc<[Cell]>;

/// The visible part of a terminal at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Size of the terminal; `rows` has as many rows.
    pub size: Size,
    /// The lines, top to bottom.
    pub rows: Arc<[Row]>,
    /// The cursor, when it is visible and within the part shown.
    pub cursor: Option<Cursor>,
    /// Title set by the program, without control characters, cut to 256 characters.
    pub title: Arc<str>,
    /// Grows when anything of the live screen but this number changed.
    pub sequence: u64,
    /// Lines of scrollback above the screen.
    pub history: usize,
    /// Lines this snapshot is scrolled back; 0 is the live screen.
    pub offset: usize,
    /// How the program wants its input.
    pub modes: Modes,
}

impl Snapshot {
    /// A blank terminal.
    pub fn blank(size: Size) -> Self {
        let size = size.clamped();
        let row: Row = vec![Cell::default(); usize::from(size.columns)].into();
        Self {
            size,
            rows: vec![row; usize::from(size.rows)].into(),
            cursor: None,
            title: Arc::from(""),
            sequence: 0,
            history: 0,
            offset: 0,
            modes: Modes::default(),
        }
    }

    /// The text, one line per row, trailing blanks and empty last lines removed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.rows.iter() {
            text.push_str(row_text(row).trim_end());
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// The text of one row; the second half of a wide character is left out.
pub fn row_text(row: &[Cell]) -> String {
    let mut text = String::with_capacity(row.len());
    for cell in row {
        if cell.flags.has(CellFlags::SPACER) {
            continue;
        }
        match &cell.cluster {
            Some(cluster) => text.push_str(cluster),
            None => text.push(cell.character),
        }
    }
    text
}

/// One cell of the grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The base character.
    pub character: char,
    /// Base and combining characters, when there are combining ones.
    pub cluster: Option<Arc<str>>,
    /// Foreground.
    pub foreground: Colour,
    /// Background.
    pub background: Colour,
    /// Attributes.
    pub flags: CellFlags,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            character: ' ',
            cluster: None,
            foreground: Colour::Default,
            background: Colour::Default,
            flags: CellFlags::default(),
        }
    }
}

/// A colour as the program asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Colour {
    /// The terminal's own.
    Default,
    /// One of the palette's 256; 0 to 15 are the named ones.
    Indexed(u8),
    /// Exactly this one.
    Rgb(u8, u8, u8),
}

/// Attributes of a cell, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CellFlags(pub u16);

impl CellFlags {
    /// Bold.
    pub const BOLD: Self = Self(1);
    /// Dim.
    pub const DIM: Self = Self(1 << 1);
    /// Italic.
    pub const ITALIC: Self = Self(1 << 2);
    /// Underlined, in any style.
    pub const UNDERLINE: Self = Self(1 << 3);
    /// Foreground and background swapped.
    pub const INVERSE: Self = Self(1 << 4);
    /// Not shown.
    pub const HIDDEN: Self = Self(1 << 5);
    /// Struck out.
    pub const STRIKEOUT: Self = Self(1 << 6);
    /// First half of a wide character.
    pub const WIDE: Self = Self(1 << 7);
    /// Second half of a wide character, or the gap before one that did not fit.
    pub const SPACER: Self = Self(1 << 8);
    /// The line goes on in the next row.
    pub const WRAPPED: Self = Self(1 << 9);

    /// Whether any bit of `flag` is set.
    #[must_use]
    pub const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// These flags and `flag`, when `set`.
    #[must_use]
    pub(super) const fn with(self, flag: Self, set: bool) -> Self {
        if set { Self(self.0 | flag.0) } else { self }
    }
}

/// The cursor of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Column, from 0.
    pub column: u16,
    /// Row, from 0.
    pub row: u16,
    /// Its form.
    pub shape: CursorShape,
}

/// The form of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CursorShape {
    /// A filled cell.
    #[default]
    Block,
    /// A line below.
    Underline,
    /// A line to the left.
    Bar,
}

/// How the program wants its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one private mode of the terminal, set on its own"
)]
pub struct Modes {
    /// Pastes are bracketed.
    pub bracketed_paste: bool,
    /// Arrow keys send SS3.
    pub application_cursor: bool,
    /// Focus changes are reported.
    pub focus_events: bool,
    /// The alternate screen is shown.
    pub alternate_screen: bool,
    /// The wheel sends arrow keys on the alternate screen.
    pub alternate_scroll: bool,
    /// Enter sends CR LF.
    pub newline: bool,
    /// Which mouse events are reported.
    pub mouse: MouseMode,
    /// Mouse events are in SGR form.
    pub sgr_mouse: bool,
    /// Mouse coordinates are UTF-8 characters.
    pub utf8_mouse: bool,
}

/// Which mouse events are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseMode {
    /// None.
    #[default]
    Off,
    /// Buttons.
    Clicks,
    /// Buttons and movement while one is held.
    Drag,
    /// Everything.
    Motion,
}
