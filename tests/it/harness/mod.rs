//! A squad of the real binary with everything of its own, for end-to-end tests.

mod dice;
mod squad;
mod terminal;

pub(crate) use dice::Dice;
pub(crate) use squad::{Answer, Server, Squad};
pub(crate) use terminal::Terminal;
