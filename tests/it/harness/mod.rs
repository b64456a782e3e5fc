//! A squad of the real binary with everything of its own, for end-to-end tests.

mod squad;
mod terminal;

pub(crate) use squad::{Answer, Server, Squad};
pub(crate) use terminal::Terminal;
