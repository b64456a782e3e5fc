//! The one address all model traffic of the agents goes through: `/agent/TOKEN/…`.
//!
//! The keeper owns the listening socket, so the address never changes while agents live; each
//! server accepts on it in turn. A request is forwarded unchanged to the endpoint its agent is
//! bound to, flushed chunk by chunk, and seen on the way: open requests, first byte, rate, tokens.
//!
//! Invariant: gateway requests never pass through the engine's loop; only [`Traffic`](crate::core::traffic::Traffic) does, and
//! that at most twice a second for each agent.

mod forward;
mod grants;
mod observe;
mod upstream;

pub use forward::{GatewayError, serve};
pub use grants::{Grant, Grants};
pub use upstream::{Patience, Upstream};
