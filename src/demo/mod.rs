//! `warpsquad demo`: the whole thing on a throwaway repository, with real Aider and the simulator.
//!
//! - [`run`]: from the command to the exit code.
//! - `stage`: the folder with the repository, the configuration and the scenario.
//! - `tasks`: which tasks are submitted.
//! - `follow`: progress lines until nothing is under way.
//! - `outcome`: what came out of it, as text and as JSON.

mod follow;
mod outcome;
mod run;
mod stage;
mod tasks;

pub use run::run;
