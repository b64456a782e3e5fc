//! The one address all model traffic of the agents goes through: `/agent/TOKEN/…`.
//!
//! The keeper owns the listening socket, so the address never changes while agents live; each
//! server accepts on it in turn. A request is pinned (model, context, no keep-alive), placed on the
//! endpoint where it is expected to be complete first, queued until its model's turn comes, sent,
//! and passed on chunk by chunk; what is seen on the way is learned from.
//!
//! - `serve`: routes; `callers`: who may ask, and for what; `grants`: the tokens
//! - `ask`, `prompt`, `openai`, `lines`, `reply`: the shapes of requests and answers
//! - `course`: the life of one request; `answer`: its answer; `record`: what is kept of it
//! - `upstream`, `http`: the way to the endpoints; `limit`: how long they may be silent
//! - `conductor`: where each request goes and when
//!
//! Invariants: gateway requests never pass through the engine's loop; nothing is sent to an
//! endpoint twice once a byte of its answer has been passed on; no agent's request loads a model.

mod answer;
mod ask;
mod callers;
mod catalogue;
mod conductor;
mod course;
mod grants;
mod http;
mod limit;
mod lines;
mod looks;
mod openai;
mod prompt;
mod record;
mod reply;
mod serve;
mod upstream;
mod virtual_models;

pub use conductor::{ConductorSettings, Gauge, Seat};
pub use grants::Grants;
pub use serve::{Accepted, Gateway, GatewayError, GatewaySettings};
pub use upstream::{Clocks, Patience, Upstream};
