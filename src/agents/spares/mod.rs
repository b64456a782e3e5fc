//! Agents made ahead: forked, bound, waiting at their prompt in a prepared worktree.
//!
//! The engine says which are wanted; this makes them, watches them, lets those go that nobody wants
//! any more, and gives one to a task that fits. Whoever takes one gets a job that runs already: the
//! rest is the same as finding an agent that a former server started.
//!
//! Everything that must survive a kill of the server is in the keeper's notes on the job: what the
//! spare is bound to, its worktree, and which attempt took it.

mod clear;
mod table;
mod take;
mod tend;

pub(in crate::agents) use clear::{clear_files, end, sweep};
pub use take::Taken;
pub use tend::LeftSpare;
pub(in crate::agents) use tend::{GRACE, Spares};
