//! The pure heart: ids, state machines, settings, commands and events.
//!
//! Architecture invariant: no tokio, no IO, no clock, no randomness. Time comes in as an argument.

pub mod agent;
pub mod breaker;
pub mod catalogue;
pub mod clock;
pub mod command;
pub mod context;
pub mod demo;
pub mod dispatch;
pub mod endpoint;
pub mod event;
pub mod failure;
pub mod health;
pub mod ids;
pub mod measure;
pub mod measurement;
pub mod medic;
pub mod model;
pub mod pool;
pub mod quota;
pub mod retry;
pub mod router;
pub mod runners;
pub mod served;
pub mod settings;
pub mod size;
pub mod stall;
pub mod task;
pub mod time;
pub mod traffic;
mod transition;
pub mod upgrade;
pub mod verdict;
pub mod verify;
pub mod vram;

pub use ids::{AgentSlot, Epoch, TaskId};
pub use time::Timestamp;
