//! A faithful Ollama, for demos and tests: real HTTP, real queueing and loading, no weights.
//!
//! What it imitates: VRAM and eviction, slots, the pending queue, keep-alive, reloads by runner
//! options, streaming at a set pace with headers only at the first token, Ollama's error texts.
//! Models, server settings, scripted replies and faults come from a scenario file. Answers come
//! from the [`coder`], so that real Aider edits real files without a model.
//!
//! Architecture invariant: a client cannot tell it from Ollama except by what the text means.

mod admission;
mod chat;
mod clock;
pub mod coder;
mod fault;
mod fields;
mod generation;
mod go;
mod hosts;
mod in_process;
mod json;
mod openai;
mod outage;
mod prompt;
mod request;
mod routes;
mod scenario;
mod scheduler;
mod server;
mod simulated;
#[cfg(test)]
mod tests;
mod text;
mod units;

pub use in_process::{InProcess, Refused};
pub use scenario::{Scenario, ScenarioError};
pub use server::{Args, RunError, run, serve};
