//! The only owner of the squad's state: inputs in, durable transactions, effects and views out.
//!
//! Architecture invariant: `update` is pure and never reads a clock, the disk or the network; the
//! loop in `run` gives it the time and carries out nothing before the store has it.

pub mod input;
pub mod journal;
mod recall;
mod run;
mod state;
mod update;
pub mod view;

pub use input::{Effect, Fact, Input, TaskFact};
pub use journal::Journal;
pub use run::{EngineHandle, EngineLoop, EngineStopped, Query, QueryReply};
pub use state::{EngineSettings, State};
pub use update::{Answer, Outcome, update};
pub use view::{Installation, View};
