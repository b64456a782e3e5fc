//! The emulator behind our own type: bytes in, snapshots and replies out.
//!
//! `alacritty_terminal` reflows on resize, answers the questions that programs ask a terminal and
//! never panicked under fuzzing; [`Guard`] cuts down what it keeps without a bound.
//!
//! Invariant: no clock. A synchronised update (mode 2026) ends when the program says so or when
//! the owner calls [`Screen::end_update`], which it does 150 ms after [`Screen::update_pending`]
//! became true.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell as GridCell, Flags};
use alacritty_terminal::term::{Config, Osc52, Term, TermMode};
use alacritty_terminal::vte::ansi::{
    Color, CursorShape as GridCursor, NamedColor, Processor, Timeout,
};

use super::guard::{COMBINING_MAX, Guard};
use super::palette;
use super::size::Size;
use super::snapshot::{
    Cell, CellFlags, Colour, Cursor, CursorShape, Modes, MouseMode, Row, Snapshot,
};

/// Longest title kept, in characters.
const TITLE_MAX: usize = 256;

/// Replies waiting at most, in bytes; a program that asks without reading loses the rest.
const REPLIES_MAX: usize = 64 * 1024;

/// Bytes given to the emulator at once, so that work between two checks is bounded.
const PIECE: usize = 4096;

/// Combining characters after which the cells are checked for piles of them.
const COMBINING_CHECK: usize = 1024;

/// How long an owner waits before it ends a synchronised update.
pub const UPDATE_TIMEOUT: Duration = Duration::from_millis(150);

/// A terminal emulator with bounded memory.
pub struct Screen {
    guard: Guard,
    parser: Processor<UpdateFlag>,
    term: Term<Listener>,
    events: Listener,
    filtered: Vec<u8>,
    combining: usize,
    shown: Snapshot,
    is_stale: bool,
}

impl Screen {
    /// A blank screen with at most `scrollback` lines above it.
    pub fn new(size: Size, scrollback: usize) -> Self {
        let size = size.clamped();
        let events = Listener::default();
        let config = Config {
            scrolling_history: scrollback,
            osc52: Osc52::Disabled,
            ..Config::default()
        };
        Self {
            guard: Guard::default(),
            parser: Processor::new(),
            term: Term::new(config, &GridSize(size), events.clone()),
            events,
            filtered: Vec::new(),
            combining: 0,
            shown: Snapshot::blank(size),
            is_stale: true,
        }
    }

    /// Takes output of the program.
    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            self.filtered.clear();
            self.guard.filter(piece, &mut self.filtered);
            self.parser.advance(&mut self.term, &self.filtered);
            self.limit_combining();
        }
        self.is_stale |= !bytes.is_empty();
    }

    /// Changes the size; lines are wrapped anew.
    pub fn resize(&mut self, size: Size) {
        self.term.resize(GridSize(size.clamped()));
        self.is_stale = true;
    }

    /// The size.
    pub fn size(&self) -> Size {
        let (columns, rows) = (self.term.columns(), self.term.screen_lines());
        Size::new(narrow(columns), narrow(rows))
    }

    /// What the terminal answers to the program, to be written to its pty.
    pub fn take_replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.events.inbox().replies)
    }

    /// Switches replies off while a screen is rebuilt from old output, and on again. What was not
    /// taken is dropped.
    pub fn set_replies(&mut self, enabled: bool) {
        let mut inbox = self.events.inbox();
        inbox.is_mute = !enabled;
        inbox.replies.clear();
    }

    /// Whether a synchronised update is open: what came since is not shown yet.
    pub fn update_pending(&self) -> bool {
        self.parser.sync_timeout().pending_timeout()
    }

    /// Ends a synchronised update that the program did not end in [`UPDATE_TIMEOUT`].
    pub fn end_update(&mut self) {
        if self.update_pending() {
            self.parser.stop_sync(&mut self.term);
            self.is_stale = true;
        }
    }

    /// How the program wants its input.
    pub fn modes(&self) -> Modes {
        modes(*self.term.mode())
    }

    /// Lines of scrollback.
    pub fn history(&self) -> usize {
        self.term.history_size()
    }

    /// Changes only when what is shown, or how input is wanted, changed.
    pub fn sequence(&mut self) -> u64 {
        self.refresh();
        self.shown.sequence
    }

    /// What is shown, scrolled back by `offset` lines (at most all of them).
    pub fn snapshot(&mut self, offset: usize) -> Snapshot {
        self.refresh();
        let offset = offset.min(self.history());
        if offset == 0 {
            return self.shown.clone();
        }
        let top = -i32::try_from(offset).unwrap_or(i32::MAX);
        let rows = (0..i32::from(self.shown.size.rows))
            .map(|row| copy_row(&self.term.grid()[Line(top.saturating_add(row))][..]))
            .collect();
        let cursor = self.shown.cursor.and_then(|cursor| {
            let row = usize::from(cursor.row) + offset;
            (row < usize::from(self.shown.size.rows)).then(|| Cursor {
                row: narrow(row),
                ..cursor
            })
        });
        Snapshot {
            rows,
            cursor,
            offset,
            ..self.shown.clone()
        }
    }

    /// The visible text.
    pub fn text(&mut self) -> String {
        self.refresh();
        self.shown.text()
    }

    fn refresh(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let shown = Snapshot {
            size: self.size(),
            rows: self.rows(),
            cursor: self.cursor(),
            title: self.title(),
            sequence: self.shown.sequence,
            history: self.history(),
            offset: 0,
            modes: self.modes(),
        };
        if shown != self.shown {
            self.shown = shown;
            self.shown.sequence += 1;
        }
    }

    /// The visible rows; unchanged ones are shared with the last snapshot.
    fn rows(&self) -> Arc<[Row]> {
        (0..self.term.screen_lines())
            .map(|index| {
                let cells = &self.term.grid()[Line(i32::from(narrow(index)))][..];
                match self.shown.rows.get(index) {
                    Some(old) if is_same(cells, old) => Arc::clone(old),
                    Some(_) | None => copy_row(cells),
                }
            })
            .collect()
    }

    fn cursor(&self) -> Option<Cursor> {
        let shape = match self.term.cursor_style().shape {
            GridCursor::Underline => CursorShape::Underline,
            GridCursor::Beam => CursorShape::Bar,
            GridCursor::Block | GridCursor::HollowBlock => CursorShape::Block,
            GridCursor::Hidden => return None,
        };
        let point = self.term.grid().cursor.point;
        self.term
            .mode()
            .contains(TermMode::SHOW_CURSOR)
            .then(|| Cursor {
                column: narrow(point.column.0),
                row: u16::try_from(point.line.0).unwrap_or(0),
                shape,
            })
    }

    fn title(&self) -> Arc<str> {
        let inbox = self.events.inbox();
        if *inbox.title == *self.shown.title {
            Arc::clone(&self.shown.title)
        } else {
            Arc::from(inbox.title.as_str())
        }
    }

    /// Cuts piles of combining characters, which a cell keeps without a bound.
    fn limit_combining(&mut self) {
        self.combining += self.guard.take_combining_passed();
        if self.combining < COMBINING_CHECK {
            return;
        }
        self.combining = 0;
        let (lines, columns) = (self.term.screen_lines(), self.term.columns());
        for line in 0..lines {
            let row = &mut self.term.grid_mut()[Line(i32::from(narrow(line)))];
            for column in 0..columns {
                cut_combining(&mut row[Column(column)]);
            }
        }
    }
}

fn cut_combining(cell: &mut GridCell) {
    let kept = match cell.zerowidth() {
        Some(characters) if characters.len() > COMBINING_MAX => {
            characters.iter().take(COMBINING_MAX).copied().collect()
        }
        Some(_) | None => Vec::new(),
    };
    if kept.is_empty() {
        return;
    }
    let (character, flags) = (cell.c, cell.flags);
    cell.clear_wide();
    cell.c = character;
    cell.flags = flags;
    for character in kept {
        cell.push_zerowidth(character);
    }
}

fn copy_row(cells: &[GridCell]) -> Row {
    cells.iter().map(copy_cell).collect()
}

fn is_same(cells: &[GridCell], old: &[Cell]) -> bool {
    cells.len() == old.len()
        && cells.iter().zip(old).all(|(cell, old)| {
            visible(cell.c) == old.character
                && colour(cell.fg) == old.foreground
                && colour(cell.bg) == old.background
                && flags(cell.flags) == old.flags
                && cluster(cell).as_deref() == old.cluster.as_deref()
        })
}

fn copy_cell(cell: &GridCell) -> Cell {
    Cell {
        character: visible(cell.c),
        cluster: cluster(cell),
        foreground: colour(cell.fg),
        background: colour(cell.bg),
        flags: flags(cell.flags),
    }
}

/// A tab is kept in its cell by the emulator; what is seen is a blank.
fn visible(character: char) -> char {
    if character.is_control() {
        ' '
    } else {
        character
    }
}

fn cluster(cell: &GridCell) -> Option<Arc<str>> {
    let combining = cell.zerowidth().filter(|chars| !chars.is_empty())?;
    let mut text = String::from(visible(cell.c));
    text.extend(
        combining
            .iter()
            .take(COMBINING_MAX)
            .filter(|c| !c.is_control()),
    );
    Some(text.into())
}

fn colour(colour: Color) -> Colour {
    match colour {
        Color::Spec(rgb) => Colour::Rgb(rgb.r, rgb.g, rgb.b),
        Color::Indexed(index) => Colour::Indexed(index),
        Color::Named(name) => named(name),
    }
}

/// The first sixteen names are the palette's; the dim ones are the same under another flag.
fn named(name: NamedColor) -> Colour {
    let dim_black = NamedColor::DimBlack as usize;
    let dim_white = NamedColor::DimWhite as usize;
    match name as usize {
        index @ 0..16 => Colour::Indexed(u8::try_from(index).unwrap_or(0)),
        index if (dim_black..=dim_white).contains(&index) => {
            Colour::Indexed(u8::try_from(index - dim_black).unwrap_or(0))
        }
        _ => Colour::Default,
    }
}

fn flags(flags: Flags) -> CellFlags {
    let has = |flag| flags.intersects(flag);
    CellFlags::default()
        .with(CellFlags::BOLD, has(Flags::BOLD))
        .with(CellFlags::DIM, has(Flags::DIM))
        .with(CellFlags::ITALIC, has(Flags::ITALIC))
        .with(CellFlags::UNDERLINE, has(Flags::ALL_UNDERLINES))
        .with(CellFlags::INVERSE, has(Flags::INVERSE))
        .with(CellFlags::HIDDEN, has(Flags::HIDDEN))
        .with(CellFlags::STRIKEOUT, has(Flags::STRIKEOUT))
        .with(CellFlags::WIDE, has(Flags::WIDE_CHAR))
        .with(
            CellFlags::SPACER,
            has(Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER),
        )
        .with(CellFlags::WRAPPED, has(Flags::WRAPLINE))
}

fn modes(mode: TermMode) -> Modes {
    let mouse = if mode.contains(TermMode::MOUSE_MOTION) {
        MouseMode::Motion
    } else if mode.contains(TermMode::MOUSE_DRAG) {
        MouseMode::Drag
    } else if mode.contains(TermMode::MOUSE_REPORT_CLICK) {
        MouseMode::Clicks
    } else {
        MouseMode::Off
    };
    Modes {
        bracketed_paste: mode.contains(TermMode::BRACKETED_PASTE),
        application_cursor: mode.contains(TermMode::APP_CURSOR),
        focus_events: mode.contains(TermMode::FOCUS_IN_OUT),
        alternate_screen: mode.contains(TermMode::ALT_SCREEN),
        alternate_scroll: mode.contains(TermMode::ALTERNATE_SCROLL),
        newline: mode.contains(TermMode::LINE_FEED_NEW_LINE),
        mouse,
        sgr_mouse: mode.contains(TermMode::SGR_MOUSE),
        utf8_mouse: mode.contains(TermMode::UTF8_MOUSE),
    }
}

fn narrow(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The emulator's view of a size.
struct GridSize(Size);

impl Dimensions for GridSize {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        usize::from(self.0.rows)
    }

    fn columns(&self) -> usize {
        usize::from(self.0.columns)
    }
}

/// Whether a synchronised update is open; its owner keeps the time.
#[derive(Debug, Default)]
struct UpdateFlag(bool);

impl Timeout for UpdateFlag {
    fn set_timeout(&mut self, _: Duration) {
        self.0 = true;
    }

    fn clear_timeout(&mut self) {
        self.0 = false;
    }

    fn pending_timeout(&self) -> bool {
        self.0
    }
}

/// Collects what the emulator wants to tell. A lock, because the emulator holds it by reference;
/// it is only ever taken by the screen's owner.
#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Inbox>>);

#[derive(Debug, Default)]
struct Inbox {
    replies: Vec<u8>,
    is_mute: bool,
    title: String,
}

impl Inbox {
    fn reply(&mut self, text: &str) {
        if !self.is_mute && self.replies.len() + text.len() <= REPLIES_MAX {
            self.replies.extend_from_slice(text.as_bytes());
        }
    }
}

impl Listener {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventListener for Listener {
    fn send_event(&self, event: Event) {
        match event {
            Event::PtyWrite(text) => self.inbox().reply(&text),
            Event::ColorRequest(index, format) => {
                self.inbox().reply(&format(palette::colour(index)));
            }
            Event::Title(title) => {
                self.inbox().title = title
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(TITLE_MAX)
                    .collect();
            }
            Event::ResetTitle => self.inbox().title.clear(),
            Event::MouseCursorDirty
            | Event::ClipboardStore(..)
            | Event::ClipboardLoad(..)
            | Event::TextAreaSizeRequest(_)
            | Event::CursorBlinkingChange
            | Event::Wakeup
            | Event::Bell
            | Event::Exit
            | Event::ChildExit(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
