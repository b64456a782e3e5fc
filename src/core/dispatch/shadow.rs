//! Swaps that serving in the order of arrival would have made: the same requests, the same room,
//! one after the other. The difference to those that were made is what the dispatcher has saved.
//!
//! A request counts once it is served, and in the order of arrival: whoever is admitted before
//! somebody older is kept until that one is admitted or has given up. So nothing is credited that
//! never came to be served, and what is credited is never taken back. What is not known to need an
//! eviction is taken as fitting, so savings are never overstated.

use std::collections::BTreeMap;

use super::lane::Lane;
use super::room::{Fit, Room};

/// Served requests that are kept for older ones; beyond it the order of arrival is given up.
const KEPT: usize = 1_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Shadow {
    clock: u64,
    /// Loads that have pushed something out.
    swaps: u64,
    /// The most that there were beyond those that were made.
    pub(super) avoided: u64,
    /// Lanes of requests that were served before older ones, by number.
    ahead: BTreeMap<u64, usize>,
}

impl Shadow {
    /// A request is served whose number is given.
    pub(super) fn admitted(&mut self, number: u64, at: usize) {
        self.ahead.insert(number, at);
    }

    /// Serves those before whom nobody waits; so many swaps were made in truth.
    pub(super) fn catch_up(&mut self, lanes: &mut [Lane], room: &Room, made: u64) {
        if self.ahead.is_empty() {
            return;
        }
        let oldest = lanes.iter().filter_map(Lane::first_number).min();
        while let Some((number, at)) = self.ahead.pop_first() {
            let is_early = oldest.is_some_and(|oldest| oldest < number);
            if is_early && self.ahead.len() < KEPT {
                self.ahead.insert(number, at);
                break;
            }
            self.serve(lanes, at, room);
        }
        self.avoided = self.avoided.max(self.swaps.saturating_sub(made));
    }

    /// Serves all of them: lanes are about to be forgotten.
    pub(super) fn flush(&mut self, lanes: &mut [Lane], room: &Room) {
        for at in std::mem::take(&mut self.ahead).into_values() {
            self.serve(lanes, at, room);
        }
    }

    fn serve(&mut self, lanes: &mut [Lane], at: usize, room: &Room) {
        self.clock += 1;
        let is_loaded = lanes[at].shadow > 0;
        lanes[at].shadow = self.clock;
        if is_loaded {
            return;
        }
        let mut has_pushed_out = false;
        let wanted = lanes[at].runner.clone();
        for (other, lane) in lanes.iter_mut().enumerate() {
            if other != at && lane.shadow > 0 && lane.runner.is_same_model(&wanted) {
                lane.shadow = 0;
                has_pushed_out = true;
            }
        }
        while room.fit(sizes(lanes)) == Fit::No {
            let loaded = lanes
                .iter_mut()
                .enumerate()
                .filter(|(other, lane)| *other != at && lane.shadow > 0);
            let Some((_, longest_unused)) = loaded.min_by_key(|(_, lane)| lane.shadow) else {
                break;
            };
            longest_unused.shadow = 0;
            has_pushed_out = true;
        }
        self.swaps += u64::from(has_pushed_out);
    }
}

fn sizes(lanes: &[Lane]) -> impl Iterator<Item = u64> {
    lanes
        .iter()
        .filter(|lane| lane.shadow > 0)
        .map(|lane| lane.size)
}
