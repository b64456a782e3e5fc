//! A terminal far away: bytes are collected, the size is what the client says.
//!
//! ratatui's own backend asks the tty of the process it runs in, which here is the server's, and it
//! writes its resets also where no cell has changed: here a frame like the one before is no bytes
//! at all, so that an idle client sleeps.

use std::io;

use crossterm::cursor::MoveTo;
use crossterm::queue;
use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size as Extent};

use super::sink::Sink;
use crate::pty::Size;

/// The backend of one attached client.
#[derive(Debug)]
pub struct RemoteBackend {
    inner: CrosstermBackend<Sink>,
    sink: Sink,
    size: Size,
    position: Position,
    cursor: Cursor,
}

/// What the client's cursor was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Nothing, or something else has been done to the terminal since.
    Unknown,
    Hidden,
    /// Visible; where, unless drawing has moved it.
    Shown(Option<Position>),
}

impl RemoteBackend {
    /// For a client of this size.
    pub fn new(size: Size) -> Self {
        let sink = Sink::default();
        Self {
            inner: CrosstermBackend::new(sink.clone()),
            sink,
            size,
            position: Position::ORIGIN,
            cursor: Cursor::Unknown,
        }
    }

    /// The client's terminal changed.
    pub fn set_size(&mut self, size: Size) {
        self.size = size;
    }

    /// The bytes since the last call.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        self.sink.take()
    }
}

impl Backend for RemoteBackend {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut content = content.peekable();
        if content.peek().is_none() {
            return Ok(());
        }
        if let Cursor::Shown(position) = &mut self.cursor {
            *position = None;
        }
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if self.cursor == Cursor::Hidden {
            return Ok(());
        }
        self.cursor = Cursor::Hidden;
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        if matches!(self.cursor, Cursor::Shown(_)) {
            return Ok(());
        }
        self.cursor = Cursor::Shown(None);
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.position)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.position = position.into();
        if self.cursor == Cursor::Shown(Some(self.position)) {
            return Ok(());
        }
        if let Cursor::Shown(position) = &mut self.cursor {
            *position = Some(self.position);
        }
        queue!(self.sink, MoveTo(self.position.x, self.position.y))
    }

    fn clear(&mut self) -> io::Result<()> {
        self.cursor = Cursor::Unknown;
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.cursor = Cursor::Unknown;
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Extent> {
        Ok(Extent::new(self.size.columns, self.size.rows))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Extent::new(0, 0),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;

    use super::*;

    fn frame(terminal: &mut Terminal<RemoteBackend>, text: &str, cursor: Option<u16>) -> String {
        terminal
            .draw(|frame| {
                frame.render_widget(text, frame.area());
                if let Some(column) = cursor {
                    frame.set_cursor_position((column, 0));
                }
            })
            .unwrap();
        String::from_utf8(terminal.backend_mut().take_bytes()).unwrap()
    }

    #[test]
    fn a_frame_like_the_one_before_is_no_bytes() {
        let mut terminal = Terminal::new(RemoteBackend::new(Size::new(20, 2))).unwrap();
        assert!(frame(&mut terminal, "same", None).contains("same"));
        assert_eq!(frame(&mut terminal, "same", None), "");
        assert_eq!(frame(&mut terminal, "same", Some(3)), "\x1b[?25h\x1b[1;4H");
        assert_eq!(frame(&mut terminal, "same", Some(3)), "");
        assert_eq!(frame(&mut terminal, "same", Some(1)), "\x1b[1;2H");
        assert_eq!(frame(&mut terminal, "same", None), "\x1b[?25l");
    }

    #[test]
    fn drawing_moves_the_cursor_so_it_is_put_back() {
        let mut terminal = Terminal::new(RemoteBackend::new(Size::new(20, 2))).unwrap();
        frame(&mut terminal, "old", Some(3));
        assert!(frame(&mut terminal, "new", Some(3)).ends_with("\x1b[1;4H"));
    }

    #[test]
    fn a_cleared_terminal_gets_everything_again() {
        let mut terminal = Terminal::new(RemoteBackend::new(Size::new(20, 2))).unwrap();
        frame(&mut terminal, "same", Some(3));
        terminal.clear().unwrap();
        terminal.backend_mut().take_bytes();
        let again = frame(&mut terminal, "same", Some(3));
        assert!(
            again.contains("same") && again.contains("\x1b[?25h"),
            "{again:?}"
        );
    }
}
