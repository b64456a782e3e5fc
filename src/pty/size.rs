//! The size of a terminal, always within bounds that the emulator can bear.

use serde::{Deserialize, Serialize};

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Characters per line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Size {
    /// A size as it is; see [`Size::clamped`].
    pub const fn new(columns: u16, rows: u16) -> Self {
        Self { columns, rows }
    }

    /// The nearest size that an emulator accepts: 2×1 (a wide character must fit) to 1000×500
    /// (bounds the memory that a hostile or broken client can ask for).
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            columns: self.columns.clamp(2, 1000),
            rows: self.rows.clamp(1, 500),
        }
    }
}

impl Default for Size {
    fn default() -> Self {
        Self::new(120, 40)
    }
}
