//! warpsquad: a terminal supervisor for a squad of Aider agents on local Ollama models.
//!
//! The map, in dependency order:
//! - [`core`]: pure state machines, settings, commands and events.

pub mod core;
