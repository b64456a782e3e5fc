//! warpsquad: a terminal supervisor for a squad of Aider agents on local Ollama models.
//!
//! The map, in dependency order:
//! - [`core`]: pure state machines, settings, commands and events.
//! - [`pty`]: the terminal emulator and the encoding of keys.
//! - [`config`]: keys, layers, mistakes, trust and places.

pub mod config;
pub mod core;
pub mod pty;
