//! The only place that knows colours and glyphs.
//!
//! State is a shape and a colour, so that nothing is lost without colours or Unicode.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

use super::wire::ClientHello;
use crate::core::agent::{AgentReport, AgentState};
use crate::core::health::Health;
use crate::core::settings::{Colour as ColourSetting, UiSettings};
use crate::core::task::{Task, TaskState};
use crate::pty::{Cell, CellFlags, Colour};

/// How one client sees the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    is_coloured: bool,
    is_ascii: bool,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ordinary text.
    Text,
    /// Less important.
    Faint,
    /// A heading.
    Title,
    /// A key to press.
    Key,
    /// The selected row.
    Selected,
    /// The border of what has the keyboard.
    Active,
    /// Going on.
    Working,
    /// Needs a human.
    Attention,
    /// Done well.
    Good,
    /// Failed.
    Bad,
    /// Added in a diff.
    Added,
    /// Removed in a diff.
    Removed,
    /// A hunk or file header in a diff.
    Hunk,
}

impl Theme {
    /// What the client and the configuration ask for.
    pub fn new(hello: &ClientHello, settings: &UiSettings) -> Self {
        let is_coloured = match settings.colour {
            ColourSetting::Auto => !hello.no_color && hello.term != "dumb",
            ColourSetting::Always => true,
            ColourSetting::Never => false,
        };
        Self {
            is_coloured,
            is_ascii: settings.ascii.unwrap_or(!hello.utf8),
        }
    }

    /// The style of a role.
    pub fn style(&self, role: Role) -> Style {
        let (colour, modifier) = match role {
            Role::Text => (None, Modifier::empty()),
            Role::Faint => (None, Modifier::DIM),
            Role::Title => (None, Modifier::BOLD),
            Role::Key => (Some(Color::Cyan), Modifier::BOLD),
            Role::Selected => (None, Modifier::REVERSED),
            Role::Working => (Some(Color::Blue), Modifier::empty()),
            Role::Active | Role::Attention => (Some(Color::Yellow), Modifier::BOLD),
            Role::Good | Role::Added => (Some(Color::Green), Modifier::empty()),
            Role::Bad => (Some(Color::Red), Modifier::BOLD),
            Role::Removed => (Some(Color::Red), Modifier::empty()),
            Role::Hunk => (Some(Color::Cyan), Modifier::empty()),
        };
        let style = Style::new().add_modifier(modifier);
        match colour.filter(|_| self.is_coloured) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }

    /// The glyph and role of an agent's state.
    pub fn agent(&self, state: AgentState) -> (&'static str, Role) {
        let (glyph, ascii, role) = match state {
            AgentState::Cold => ("·", "-", Role::Faint),
            AgentState::Warming => ("◌", "~", Role::Working),
            AgentState::Ready => ("○", "o", Role::Text),
            AgentState::Working => ("▶", ">", Role::Working),
            AgentState::Waiting => ("?", "?", Role::Attention),
            AgentState::Draining => ("◒", "<", Role::Faint),
            AgentState::Dead => ("✗", "X", Role::Bad),
        };
        (self.pick(glyph, ascii), role)
    }

    /// The same; an agent that is not well has a shape and a colour of its own.
    pub fn agent_health(&self, report: &AgentReport) -> (&'static str, Role) {
        match report.health {
            Health::Degraded(_) => (self.pick("▲", "!"), Role::Attention),
            Health::Down(_) => (self.pick("✗", "X"), Role::Bad),
            Health::Ok | Health::Unknown => self.agent(report.state),
        }
    }

    /// The glyph and role of a task.
    pub fn task(&self, task: &Task) -> (&'static str, Role) {
        let (glyph, ascii, role) = match task.state {
            TaskState::Blocked => ("⊘", "#", Role::Faint),
            TaskState::Queued => ("…", ".", Role::Text),
            TaskState::Assigned => ("◌", "~", Role::Working),
            TaskState::Running => ("▶", ">", Role::Working),
            TaskState::Verifying => ("◐", "%", Role::Working),
            TaskState::Review => review(task),
            TaskState::Merging => ("⇡", "^", Role::Working),
            TaskState::Merged => ("✔", "v", Role::Good),
            TaskState::Discarded => ("−", "-", Role::Faint),
            TaskState::Failed => ("↻", "@", Role::Attention),
            TaskState::Dead => ("✗", "X", Role::Bad),
            TaskState::Cancelled => ("■", "=", Role::Faint),
            TaskState::Expired => ("⌛", "t", Role::Faint),
        };
        (self.pick(glyph, ascii), role)
    }

    /// What shows that a text was cut.
    pub fn ellipsis(&self) -> char {
        if self.is_ascii { '~' } else { '…' }
    }

    /// The mark of the selected row.
    pub fn cursor(&self) -> &'static str {
        self.pick("▌", ">")
    }

    /// Between two items of a line.
    pub fn separator(&self) -> &'static str {
        self.pick(" · ", " | ")
    }

    /// The border of a box.
    pub fn border(&self) -> border::Set<'static> {
        if self.is_ascii {
            ASCII_BORDER
        } else {
            border::ROUNDED
        }
    }

    /// `text` without characters that the client cannot show.
    pub fn text(&self, text: &str) -> String {
        if self.is_ascii {
            text.chars().map(ascii).collect()
        } else {
            text.to_owned()
        }
    }

    /// A character of an agent's terminal, `width` columns wide.
    pub fn cell_text(&self, character: char, width: usize) -> String {
        if self.is_ascii && !character.is_ascii() {
            ascii(character).to_string().repeat(width)
        } else {
            character.into()
        }
    }

    /// The style of a cell of an agent's terminal.
    pub fn cell(&self, cell: &Cell) -> Style {
        const MODIFIERS: [(CellFlags, Modifier); 7] = [
            (CellFlags::BOLD, Modifier::BOLD),
            (CellFlags::DIM, Modifier::DIM),
            (CellFlags::ITALIC, Modifier::ITALIC),
            (CellFlags::UNDERLINE, Modifier::UNDERLINED),
            (CellFlags::INVERSE, Modifier::REVERSED),
            (CellFlags::HIDDEN, Modifier::HIDDEN),
            (CellFlags::STRIKEOUT, Modifier::CROSSED_OUT),
        ];
        let mut style = Style::new();
        if self.is_coloured {
            style = style
                .fg(colour(cell.foreground))
                .bg(colour(cell.background));
        }
        for (flag, modifier) in MODIFIERS {
            if cell.flags.has(flag) {
                style = style.add_modifier(modifier);
            }
        }
        style
    }

    fn pick(self, glyph: &'static str, ascii: &'static str) -> &'static str {
        if self.is_ascii { ascii } else { glyph }
    }
}

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// A result whose verification is bad or missing must not look like a good one.
fn review(task: &Task) -> (&'static str, &'static str, Role) {
    match &task.verify {
        Some(report) if report.outcome.is_success() => ("✓", "v", Role::Attention),
        Some(_) => ("!", "!", Role::Bad),
        None => ("✎", "*", Role::Attention),
    }
}

fn ascii(c: char) -> char {
    match c {
        c if c.is_ascii() => c,
        '…' => '~',
        '–' | '—' | '─' | '━' | '═' => '-',
        '·' | '│' | '┃' | '║' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' | '╭' | '╮' | '╰' | '╯' => {
            '+'
        }
        '×' => 'x',
        _ => '?',
    }
}

fn colour(colour: Colour) -> Color {
    match colour {
        Colour::Default => Color::Reset,
        Colour::Indexed(index) => Color::Indexed(index),
        Colour::Rgb(r, g, b) => Color::Rgb(r, g, b),
    }
}
