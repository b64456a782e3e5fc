//! The one place that prints: lines, tables, JSON.
//!
//! A reader that goes away (`warpsquad task list | head -1`) is no error; a full disk is. Text for
//! people is cleaned of control characters, because prompts, answers and file names come from
//! elsewhere and must not act on the terminal.

use std::io::{ErrorKind, IsTerminal as _, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::report::Report;

/// Where a command's answer goes.
pub struct Output {
    sink: Box<dyn Write + Send>,
    is_terminal: bool,
    state: State,
}

/// Whether writing still makes sense.
enum State {
    Open,
    /// The reader has gone.
    Closed,
    Failed(std::io::Error),
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::to(Box::new(std::io::stdout()), std::io::stdout().is_terminal())
    }

    /// Any other sink.
    pub fn to(sink: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self {
            sink,
            is_terminal,
            state: State::Open,
        }
    }

    /// Whether a person reads it.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the reader has gone, so that a long command may end early.
    pub fn is_closed(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// Prints a line of text.
    pub fn line(&mut self, text: &str) {
        let mut clean = clean(text);
        clean.push('\n');
        self.write(clean.as_bytes());
    }

    /// Prints text as it is into a file or pipe, and cleaned onto a terminal.
    pub fn text(&mut self, text: &str) {
        if self.is_terminal {
            self.write(clean(text).as_bytes());
        } else {
            self.write(text.as_bytes());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            self.write(b"\n");
        }
    }

    /// Prints one JSON document, indented.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.write(format!("{text}\n").as_bytes()),
            Err(error) => self.state = State::Failed(error.into()),
        }
    }

    /// Prints one JSON document on one line.
    pub fn json_line<T: Serialize + ?Sized>(&mut self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => self.write(format!("{text}\n").as_bytes()),
            Err(error) => self.state = State::Failed(error.into()),
        }
    }

    /// Prints a table; its first row is the head.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        for line in table(rows) {
            self.line(&line);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.is_closed() {
            return;
        }
        let written = self.sink.write_all(bytes).and_then(|()| self.sink.flush());
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.state = State::Closed,
            Err(error) => self.state = State::Failed(error),
        }
    }

    /// Says whether all was printed that somebody wanted to read.
    pub fn finish(self) -> Result<(), Report> {
        match self.state {
            State::Open | State::Closed => Ok(()),
            State::Failed(error) => {
                let text = format!("standard output cannot be written: {error}");
                Err(Report::unavailable(text).hint("check the free space where it goes"))
            }
        }
    }
}

/// The text with every control character but tab and newline replaced.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '�',
            // Marks that change the direction of writing can make text lie about itself.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '�',
            c => c,
        })
        .collect()
}

/// Columns as wide as their widest cell, two spaces between them.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let one_line = |cell: &str| clean(cell).replace(['\n', '\t'], " ");
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// `1.5 GiB`, for people.
pub fn bytes(count: u64) -> String {
    crate::core::size::Bytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
        for (kind, is_fine) in [
            (ErrorKind::BrokenPipe, true),
            (ErrorKind::StorageFull, false),
        ] {
            let mut output = Output::to(Box::new(Broken(kind)), false);
            output.line("x");
            assert!(output.is_closed());
            assert_eq!(output.finish().is_ok(), is_fine);
        }
    }

    #[test]
    fn nothing_that_is_printed_can_act_on_the_terminal() {
        assert_eq!(
            clean("a\u{1b}[31mb\rc\td\u{9b}1m\u{202e}e"),
            "a�[31mb�c\td�1m�e"
        );
    }

    #[test]
    fn columns_line_up_even_with_wide_characters() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let lines = table(&[row("name", "x"), row("日本", "y"), row("a\nb", "")]);
        assert_eq!(lines, ["name  x", "日本  y", "a b"]);
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
    }
}
