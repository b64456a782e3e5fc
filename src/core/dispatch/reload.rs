//! Loading a runner again that came into memory in part only.
//!
//! Ollama decides at the load how much of a model runs on the GPU and never looks again, so a model
//! that was loaded while another program had the memory stays slow for as long as it is resident.

use std::time::Duration;

use super::ask::{Moment, Runner};
use super::dispatcher::{Change, Dispatcher, Going};
use super::lane::State;

/// A runner is not loaded again for this reason more often than this: if the first time did not
/// help, whoever has the memory has not given it back.
const AGAIN: Duration = Duration::from_secs(600);

impl Dispatcher {
    /// A part of this runner runs on the CPU although all of it would fit now: it is fenced,
    /// drained, unloaded and, as soon as somebody wants it, loaded. At most once in ten minutes,
    /// and not while another change is under way. Whether it was begun.
    pub fn reload(&mut self, runner: &Runner, now: Moment) -> bool {
        let resident = self.lanes.iter().position(|lane| {
            lane.state == State::Resident && lane.runner.is_same_model(runner) && !lane.fenced
        });
        let Some(at) = resident.filter(|_| self.change.is_none()) else {
            return false;
        };
        let lane = &mut self.lanes[at];
        let is_early = |before: Moment| now < before.saturating_add(AGAIN);
        if lane.stuck_since.is_some() || lane.reloaded_at.is_some_and(is_early) {
            return false;
        }
        lane.reloaded_at = Some(now);
        self.begin(at, vec![at], Going::Unloaded, now);
        true
    }
}

impl Change {
    /// Whether it unloads what it is to load.
    pub(super) fn is_reload(&self) -> bool {
        self.victims.contains(&self.target)
    }
}
