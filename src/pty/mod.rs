//! Terminals of agents and jobs: the emulator behind our own type, and keys as bytes.
//!
//! Bytes of a pty go through [`guard`] into [`screen`]; what is shown is a [`snapshot`]; what a
//! human types is encoded by [`input`] in the modes that the screen reports.

pub mod guard;
pub mod input;
mod palette;
pub mod screen;
pub mod size;
pub mod snapshot;
pub mod spawn;

pub use guard::Guard;
pub use screen::Screen;
pub use size::Size;
pub use snapshot::{Cell, CellFlags, Colour, Cursor, CursorShape, Modes, MouseMode, Row, Snapshot};
