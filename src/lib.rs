//! warpsquad: a terminal supervisor for a squad of Aider agents on local Ollama models.
//!
//! The map, in dependency order:
//! - [`core`]: pure state machines, settings, commands and events.
//! - [`engine`]: the only owner of the squad's state.
//! - [`store`]: the journal on SQLite, and in memory.
//! - [`config`]: keys, layers, mistakes, trust and places.
//! - [`pty`]: the terminal emulator and the encoding of keys.
//! - [`gateway`]: the address all model traffic of the agents goes through.
//! - [`tui`]: the dashboard, drawn in the server for each client.
//! - [`api`]: the local HTTP face.
//! - [`server`]: the composition root.
//! - [`keeper`]: the process that outlives servers, and its client.
//! - [`agents`]: Aider processes: how they are started, read, answered and judged.
//! - [`ollama`]: Ollama's HTTP API: wire types, client, stream.
//! - [`discovery`]: looks at endpoints and reports their models and residency.
//! - [`git`]: worktrees, diffs and merges through the git command line.
//! - [`simulator`]: a faithful Ollama for demos and tests.
//! - [`telemetry`]: what the machine's GPUs and processors do.
//! - [`cli`]: the command line.
//! - [`demo`]: the whole thing on a throwaway repository.
//! - [`programs`]: what the command line leads to besides its own answers.

pub mod agents;
pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod demo;
pub mod discovery;
pub mod engine;
pub mod gateway;
pub mod git;
pub mod keeper;
pub mod ollama;
pub mod programs;
pub mod pty;
pub mod server;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod tui;
