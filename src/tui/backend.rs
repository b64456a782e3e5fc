//! A terminal far away: bytes are collected, the size is what the client says.
//!
//! ratatui's own backend asks the tty of the process it runs in, which here is the server's.

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
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.position)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.position = position.into();
        queue!(self.sink, MoveTo(self.position.x, self.position.y))
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
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
