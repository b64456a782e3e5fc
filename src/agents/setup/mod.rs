//! The private Aider: a virtual environment in the data directory with one pinned version.
//!
//! ```text
//! <data>/aider/lock              one setup at a time
//! <data>/aider/0.86.2            symlink to the environment in use, replaced in one step
//! <data>/aider/0.86.2-<random>   an environment, built where it stays (they cannot be moved)
//! <data>/aider/setup.log         what the installers printed last
//! ```
//! An interrupted run leaves a directory that nothing points to; the next run removes it.
//!
//! Everything here blocks: run it as a process of its own (`warpsquad setup`), or on a thread.

mod error;
mod install;
mod progress;
mod python;
mod run;

pub use error::SetupError;
pub use install::{Checked, Setup};
pub use progress::{Phase, Progress};
pub use python::{Interpreter, Interpreters, find_interpreters};
