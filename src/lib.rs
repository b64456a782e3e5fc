//! warpsquad: a terminal supervisor for a squad of Aider agents on local Ollama models.
//!
//! The map, in dependency order:
//! - [`core`]: pure state machines, settings, commands and events.
//! - [`pty`]: the terminal emulator and the encoding of keys.

pub mod core;
pub mod pty;
