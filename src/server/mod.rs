//! The composition root: builds everything in order, adopts what lives, shuts down in reverse.
//!
//! - [`run`]: one server from start to stop.
//! - `adopt`: what the keeper holds and the store remembers, put together.
//! - `boot`: whether the machine was restarted since the last server.
//! - `clock`: the machine's clocks, read together.
//! - `dashboards`: attached clients and what they ask.
//! - `demo`: the simulator of the demo's squad.
//! - `upgrade`: handing over to another server program, and the way back.
//! - `effects`: what the engine asks for, carried out; every effect may be asked for again.
//! - `fits`: what fits into GPUs, told to the engine in time.
//! - `intake`: what a submission leaves open, filled in from the repository and its settings.

mod adopt;
mod boot;
mod census;
mod clean;
mod clock;
mod dashboards;
mod demo;
mod effects;
mod fits;
mod hygiene;
mod inhibit;
mod installation;
mod intake;
mod load;
mod log;
mod measure;
mod merge;
mod models;
mod old_archives;
mod reads;
mod run;
mod threads;
mod traffic;
mod upgrade;

pub use demo::demo_of;
pub use installation::InstallPolicy;
pub use run::{Ending, ServerError, ServerOptions, run};
