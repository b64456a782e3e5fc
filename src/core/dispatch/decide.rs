//! What to do now: whom to admit, what to load, what has to go for it.
//!
//! Service goes in rounds: a model that was served since the oldest request of another arrived is
//! not chosen before that other. So between the arrival of a request and the batch in which its
//! model is served, each other model has at most one batch, and everybody's wait is bounded by
//! (models − 1) × ((k + 1) × swap + hold + longest request) + what is ahead of it in its model.
//!
//! A batch that nobody was served in was a load for nothing, so whoever waits for a model that has
//! just come is admitted before anything else is decided, however short the quantum and however
//! urgent another model. Only those who are less urgent are left behind by an urgent request.
//!
//! A swap is fenced (nothing is admitted to what has to go), drained, unloaded, confirmed, loaded
//! and released; there is one at a time.

use std::cmp::Reverse;
use std::time::Duration;

use super::ask::{Moment, Order, Runner};
use super::dispatcher::{Change, Dispatcher, Going, Phase, Place};
use super::lane::{Lane, State};
use super::room::Fit;

/// An unload that got stuck is tried again after this long.
const STUCK: Duration = Duration::from_secs(30);

/// The last quarter of a quantum is for those who have waited for the batch, not for those who
/// came while it ran: whoever is left over waits a whole round more. In the simulation of
/// `benches/dispatch.rs` it shortens the longest wait by a tenth for 2 % of the throughput.
const RESERVE: u32 = 4;

/// When a resident runner may be left for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Leave {
    /// Now, and nobody there minds.
    Idle,
    /// Now, its batch is over.
    Spent,
    /// Not before this moment.
    At(Moment),
}

/// A resident runner: when it may be left, and the end of its last batch.
type Leaving = (Leave, Option<Moment>, usize);

impl Dispatcher {
    pub(super) fn decide(&mut self, now: Moment, orders: &mut Vec<Order>) {
        self.wake = None;
        self.go_on(now, orders);
        self.admit(now, orders, Lane::is_fresh);
        self.consider_and_go_on(now, orders);
        self.admit(now, orders, |_| true);
        // Once those who have waited for a batch are admitted, its time may be over.
        self.consider_and_go_on(now, orders);
        self.shadow
            .catch_up(&mut self.lanes, &self.room, self.swaps);
    }

    fn consider_and_go_on(&mut self, now: Moment, orders: &mut Vec<Order>) {
        if self.change.is_none() {
            self.consider(now);
            self.go_on(now, orders);
        }
    }

    /// Takes the change under way as far as it comes.
    fn go_on(&mut self, now: Moment, orders: &mut Vec<Order>) {
        let Some(change) = &mut self.change else {
            return;
        };
        let is_wanted = self.lanes[change.target].is_wanted();
        if change.phase == Phase::Draining {
            if !is_wanted && !change.is_reload() {
                for victim in &change.victims {
                    self.lanes[*victim].fenced = false;
                }
                self.change = None;
                return;
            }
            if change
                .victims
                .iter()
                .any(|victim| !self.lanes[*victim].running.is_empty())
            {
                return;
            }
            change.enter(Phase::Unloading, now);
            let going = change.going;
            for victim in change.victims.iter().filter(|_| going == Going::Unloaded) {
                let lane = &mut self.lanes[*victim];
                lane.served_at = Some(now);
                if lane.state == State::Resident {
                    lane.state = State::Unloading;
                    orders.push(Order::Unload {
                        runner: lane.runner.clone(),
                    });
                }
            }
        }
        if change.phase == Phase::Unloading {
            let is_there = |victim: &usize| self.lanes[*victim].state == State::Unloading;
            if change.victims.iter().any(is_there) {
                return;
            }
            if !is_wanted {
                // What is unloaded stays so; a trial has unloaded nothing yet.
                for victim in &change.victims {
                    self.lanes[*victim].fenced = false;
                }
                self.change = None;
                return;
            }
            change.enter(Phase::Loading, now);
            let target = change.target;
            self.lanes[target].state = State::Loading;
            let resident = self
                .lanes
                .iter()
                .filter(|lane| lane.state == State::Resident);
            let beside = resident.count();
            orders.push(Order::Load {
                runner: self.lanes[target].runner.clone(),
                beside,
            });
        }
    }

    /// Decides whether something is to be loaded, and what has to go for it.
    fn consider(&mut self, now: Moment) {
        let Some(target) = self.choose(now) else {
            return;
        };
        let urgent = self.may_pre_empt(target);
        let mut leaving: Vec<Leaving> = Vec::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            if lane.state == State::Resident {
                leaving.push((self.leave_when(lane, now, urgent), lane.served_at, at));
            }
        }
        leaving.sort();
        let Some((victims, going)) = self.make_room(target, &leaving) else {
            let later = leaving.iter().filter_map(|(leave, _, _)| match leave {
                Leave::Idle | Leave::Spent => None,
                Leave::At(moment) => Some(*moment),
            });
            self.wake = later.min();
            return;
        };
        let cut_short = |victim: &usize| {
            let lane = &self.lanes[*victim];
            lane.has_work() && self.leave_when(lane, now, None) > Leave::Spent
        };
        if victims.iter().any(cut_short) {
            self.pre_empted_at = Some(now);
        }
        self.begin(target, victims, going, now);
    }

    pub(super) fn begin(&mut self, target: usize, victims: Vec<usize>, going: Going, now: Moment) {
        for victim in &victims {
            self.lanes[*victim].fenced = true;
        }
        self.change = Some(Change {
            target,
            victims,
            going,
            phase: Phase::Draining,
            since: now,
            unloading: Duration::ZERO,
        });
    }

    /// Whether everything resident could be left now for this runner, which is wanted.
    pub(super) fn could_leave_for(&self, runner: &Runner) -> bool {
        let wanted = self.find(runner).map(|at| &self.lanes[at]);
        self.change.is_none()
            && wanted.is_some_and(|lane| lane.state == State::Installed && lane.is_wanted())
    }

    /// Leaves everything resident for this runner, whatever the rules say: for simulations.
    pub(super) fn leave_for(&mut self, runner: &Runner, now: Moment) {
        let Some(target) = self.find(runner).filter(|_| self.could_leave_for(runner)) else {
            return;
        };
        let resident = self.lanes.iter().enumerate();
        let resident = resident.filter(|(_, lane)| lane.state == State::Resident);
        let victims = resident.map(|(at, _)| at).collect();
        self.begin(target, victims, Going::Unloaded, now);
    }

    /// The runner that is to be loaded next: by rounds, then by how much waits how long.
    fn choose(&self, now: Moment) -> Option<usize> {
        let wanted = |lane: &&Lane| lane.state == State::Installed && lane.is_wanted();
        let chosen = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| wanted(lane))
            .filter(|(_, lane)| {
                let mut others = self.lanes.iter().filter(wanted);
                others.all(|other| !is_behind(lane, other))
            });
        chosen
            .map(|(at, _)| at)
            .max_by_key(|at| self.rank(*at, now))
    }

    /// Which runner comes first within a round: the one with the greater rank.
    pub(super) fn rank(&self, at: usize, now: Moment) -> (bool, u128, Reverse<usize>) {
        let lane = &self.lanes[at];
        let pressure = lane.pressure(now, self.swap_estimate());
        (lane.has_critical(), pressure, Reverse(at))
    }

    /// What has to go so that `target` can be loaded; none while that may not go.
    fn make_room(&self, target: usize, leaving: &[Leaving]) -> Option<(Vec<usize>, Going)> {
        let wanted = &self.lanes[target];
        let mut victims = Vec::new();
        for (leave, _, at) in leaving {
            if self.lanes[*at].runner.is_same_model(&wanted.runner) {
                if *leave > Leave::Spent {
                    return None;
                }
                victims.push(*at);
            }
        }
        let fits = |victims: &[usize]| {
            let stays = |at: &usize| !victims.contains(at);
            let sizes = leaving.iter().map(|(_, _, at)| *at).filter(stays);
            self.room
                .fit(sizes.map(|at| self.lanes[at].size).chain([wanted.size]))
        };
        for (leave, _, at) in leaving {
            match fits(&victims) {
                Fit::Yes => return Some((victims, Going::Unloaded)),
                Fit::Unknown if victims.is_empty() => return try_beside(leaving),
                Fit::Unknown | Fit::No => {}
            }
            if *leave > Leave::Spent {
                return None;
            }
            if !victims.contains(at) {
                victims.push(*at);
            }
        }
        Some((victims, Going::Unloaded))
    }

    /// When a resident runner may be left; `urgent` is when a request that may end its batch early
    /// has come. That does not push aside what is as critical and came before it, or has waited for
    /// this batch.
    fn leave_when(&self, lane: &Lane, now: Moment, urgent: Option<Moment>) -> Leave {
        let retry = lane.stuck_since.map(|since| since + STUCK);
        if let Some(retry) = retry.filter(|retry| now < *retry) {
            return Leave::At(retry);
        }
        let has_waited = lane
            .oldest()
            .is_some_and(|oldest| oldest <= lane.batch_since);
        let part = if has_waited { RESERVE } else { RESERVE - 1 };
        let spent = lane
            .batch_since
            .saturating_add(self.quantum() / RESERVE * part);
        let is_urgent =
            urgent.is_some_and(|came| !lane.has_critical_by(came.max(lane.batch_since)));
        let is_foreign = lane.foreign_until.is_some_and(|until| now < until);
        if lane.has_work() || is_foreign {
            let is_over = now >= spent || is_urgent;
            return if is_over {
                Leave::Spent
            } else {
                Leave::At(spent)
            };
        }
        let idle = (lane.idle_since + self.hold()).min(spent);
        if now >= idle || is_urgent {
            Leave::Idle
        } else {
            Leave::At(idle)
        }
    }

    /// When the critical request has come for which a batch may end early. Once a round: everything
    /// that waited when it was last done has been served since.
    fn may_pre_empt(&self, target: usize) -> Option<Moment> {
        let is_new_round = self.pre_empted_at.is_none_or(|before| {
            let others = self
                .lanes
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != target);
            others
                .filter_map(|(_, lane)| lane.oldest())
                .all(|oldest| oldest > before)
        });
        let came = self.lanes[target].waits_critically();
        came.filter(|_| is_new_round)
    }

    fn admit(&mut self, now: Moment, orders: &mut Vec<Order>, may: impl Fn(&Lane) -> bool) {
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.state != State::Resident || lane.fenced || !may(lane) {
                continue;
            }
            while lane.running.len() < usize::from(lane.slots.get()) {
                let Some(stamp) = lane.next(self.focused.as_deref()) else {
                    break;
                };
                let Some(admitted) = lane.admit(stamp, now) else {
                    break;
                };
                self.shadow.admitted(stamp.1, at);
                let swap = lane
                    .swap
                    .as_ref()
                    .filter(|(_, loaded)| admitted.arrived <= *loaded);
                let swap = swap.map(|(swap, _)| swap.clone());
                self.live.insert(
                    admitted.id,
                    Place {
                        lane: at,
                        stamp: None,
                    },
                );
                orders.push(Order::Admit {
                    id: admitted.id,
                    epoch: lane.epoch,
                    swap,
                });
            }
        }
    }

    /// A swap as measured, or as expected before one was.
    pub(super) fn swap_estimate(&self) -> Duration {
        self.swap_time.unwrap_or(self.settings.swap)
    }

    pub(super) fn quantum(&self) -> Duration {
        self.swap_estimate().saturating_mul(self.settings.quantum)
    }

    fn hold(&self) -> Duration {
        self.settings
            .hold
            .min(self.swap_estimate() / self.settings.hold_part.max(1))
    }
}

/// Whether `lane` was served since the oldest request of `other` arrived, and later than it.
pub(super) fn is_behind(lane: &Lane, other: &Lane) -> bool {
    lane.served_at > other.served_at && lane.served_at >= other.oldest()
}

/// Nobody knows whether there is room beside what is resident: tried when all of it may go.
fn try_beside(leaving: &[Leaving]) -> Option<(Vec<usize>, Going)> {
    let may_go = leaving.iter().all(|(leave, _, _)| *leave <= Leave::Spent);
    may_go.then(|| (leaving.iter().map(|(_, _, at)| *at).collect(), Going::Tried))
}
