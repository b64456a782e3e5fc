//! What an agent's model traffic looks like from the gateway.
//!
//! Invariant: pure data.

use super::task::Tokens;

/// An agent's traffic so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests that generate and are open now.
    pub open: u32,
    /// What the open one does.
    pub phase: Phase,
    /// Tokens and ended requests.
    pub used: Tokens,
    /// The endpoint's last refusal, if its last request was one.
    pub refusal: Option<String>,
}

/// What an open request does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Phase {
    /// None is open.
    #[default]
    Idle,
    /// No byte has come back yet.
    Awaiting,
    /// Tokens per second.
    Generating(f32),
}
