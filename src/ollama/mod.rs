//! Ollama's HTTP API: wire types (shared with the simulator), client, stream decoder.
//!
//! Architecture invariant: knows the API and nothing of squads, tasks or routing.

pub mod answers;
mod architecture;
mod client;
mod convert;
mod error;
mod host;
mod lines;
pub mod wire;

pub use client::{ChatStream, Client};
pub use convert::{model_from, residency_from};
pub use error::OllamaError;
pub use host::{HostError, base_url};
pub use lines::{LineDecoder, LineTooLong};
