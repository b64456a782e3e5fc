//! The conductor: where each request goes and when, with full knowledge of all of them.
//!
//! One owner holds everything that decides: a [`Dispatcher`](crate::core::dispatch::Dispatcher) for
//! each GPU, the breakers, the retry budget, the learned rates, contexts and needs of memory. All
//! of it changes under one lock that is never held across a wait, so a slot, a fence and a half-open
//! probe have one owner, and placing a request between GPUs sees them all in one state. The machines
//! themselves are pure and live in `core`.
//!
//! What takes time (loading, unloading, looking at `/api/ps`) is done by the driver, on connections
//! of its own: a load dies with the request that asked for it, so no agent's request ever loads.

mod drive;
mod learned;
mod look;
mod memory;
mod meter;
mod patience;
mod place;
mod report;
mod rest;
mod state;
mod ticket;
mod warmth;

pub use memory::Gauge;
pub use state::{ConductorSettings, Seat};

pub(super) use drive::{drive, root_cause};
pub(super) use place::{Placed, Placement, Request};
pub(super) use state::Conductor;
pub(super) use ticket::{Released, Ticket};
