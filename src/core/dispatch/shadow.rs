//! Swaps that serving in the order of arrival would have made: the same requests, the same room,
//! one after the other. The difference to those that were made is what the dispatcher has saved.
//!
//! What is not known to need an eviction is taken as fitting, so savings are never overstated.

use super::lane::Lane;
use super::room::{Fit, Room};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shadow {
    clock: u64,
    /// Loads that have pushed something out.
    pub(super) swaps: u64,
}

impl Shadow {
    /// A request for `lanes[at]` arrives.
    pub(super) fn serve(&mut self, lanes: &mut [Lane], at: usize, room: &Room) {
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
