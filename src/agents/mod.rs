//! Agents: real Aider processes that work on tasks, and the jobs around them.
//!
//! - [`aider`]: everything that is known about Aider itself.
//! - [`setup`]: the private installation of Aider.
//! - [`Workshop`]: where the work lies; [`Jobs`]: jobs in the keeper.
//! - [`prepare`], [`verify`]: worktrees made usable, results checked.
//! - [`Agents`]: the pool; one actor per attempt reads its terminal and reports to the engine.

mod actor;
pub mod aider;
mod jobs;
mod launch;
mod output;
mod pool;
pub mod prepare;
mod settle;
pub mod setup;
mod turn;
pub mod verify;
mod workshop;

pub use actor::AgentCommand;
pub use jobs::Jobs;
pub use launch::{AgentMeta, GatewayAccess, job_id};
pub use pool::Agents;
pub use workshop::{Workshop, slug};
