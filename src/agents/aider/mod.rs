//! Everything that is known about Aider 0.86.2, apart from the actor that drives it.
//!
//! - [`flavour`]: how it is started, as one table of arguments, environment and files.
//! - [`cues`]: what it reports, and the state that follows.
//! - [`questions`]: what it asks, and what is answered by default.
//! - [`prompt`]: how a text is handed to it.
//! - [`catalogue`]: what can go wrong, and whose fault that is.
//! - [`judge`]: what an attempt came to.
//!
//! Invariant: nothing here reads a clock or starts a process; only `Launch::write` touches the disk.

pub mod catalogue;
mod config_files;
pub mod cues;
pub mod flavour;
pub mod judge;
pub mod prompt;
pub mod questions;
