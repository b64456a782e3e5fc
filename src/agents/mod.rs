//! Agents: real Aider processes that work on tasks, and the jobs around them.
//!
//! - [`aider`]: everything that is known about Aider itself.
//! - [`setup`]: the private installation of Aider.
//! - [`Workshop`]: where the work lies; [`Jobs`]: jobs in the keeper.
//! - [`zygote`], `spares`: agents forked from a process that has imported Aider, and made ahead.
//! - [`prepare`], [`verify`]: worktrees made usable, results checked.
//! - [`Agents`]: the pool; one actor per attempt reads its terminal and reports to the engine.

mod actor;
pub mod aider;
mod fence;
mod jobs;
mod launch;
mod medic;
mod output;
mod pool;
pub mod prepare;
mod redact;
mod settle;
pub mod setup;
mod spares;
mod turn;
pub mod verify;
mod workshop;
pub mod zygote;

pub use actor::AgentCommand;
pub use fence::{Fence, FenceFault};
pub use jobs::{Birth, Jobs};
pub use launch::{AgentMeta, GatewayAccess, SpareMeta, job_id};
pub use pool::Agents;
pub use redact::redact;
pub use spares::{LeftSpare, Taken};
pub use workshop::{Workshop, slug};
