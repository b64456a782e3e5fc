//! What the dispatcher says of its endpoints.

use std::time::Duration;

use crate::core::runners::{ModelLoad, RunnerState};

use super::ask::{Loads, Moment, Runner};
use super::dispatcher::Dispatcher;
use super::lane::{Lane, State};

impl Dispatcher {
    /// What a request for this runner that came now would wait.
    pub fn predicted_wait(&self, runner: &Runner, now: Moment) -> Duration {
        let lane = self.find(runner).map(|at| &self.lanes[at]);
        match lane {
            Some(lane) if lane.state == State::Resident && !lane.fenced => {
                let is_free = lane.running.len() < usize::from(lane.slots.get());
                let is_free = is_free && !lane.is_wanted();
                if is_free {
                    Duration::ZERO
                } else {
                    lane.remaining(now)
                }
            }
            lane => {
                let own = lane.map_or(Duration::ZERO, |lane| lane.remaining(now));
                own + self.until_loaded(lane, now)
            }
        }
    }

    /// Time until a runner that is not resident is loaded, with those who go before it.
    fn until_loaded(&self, wanted: Option<&Lane>, now: Moment) -> Duration {
        let swap = self.swap_estimate();
        let load = wanted.and_then(|lane| lane.load_time).unwrap_or(swap);
        let mut before = Duration::ZERO;
        for lane in &self.lanes {
            let is_same = wanted.is_some_and(|wanted| wanted.runner == lane.runner);
            before += match lane.state {
                _ if is_same => Duration::ZERO,
                State::Resident if lane.fenced => lane.draining(now),
                State::Resident => {
                    let left = (lane.batch_since + self.quantum()).saturating_sub(now);
                    lane.remaining(now).min(left + lane.draining(now))
                }
                State::Unloading => self.unload_time.unwrap_or_default(),
                State::Loading => swap + lane.remaining(now).min(self.quantum()),
                State::Installed if lane.is_wanted() => {
                    swap + lane.remaining(now).min(self.quantum())
                }
                State::Installed => Duration::ZERO,
            };
        }
        before + load
    }

    /// What is known of endpoints, models, queues and swaps.
    pub fn load(&self, now: Moment) -> Loads {
        let mut loads = Loads {
            swaps: self.swaps,
            swap_time: self.swapping,
            avoided: self.shadow.swaps.saturating_sub(self.swaps),
            ..Loads::default()
        };
        let avoided = u32::try_from(loads.avoided).unwrap_or(u32::MAX);
        loads.avoided_time = self.swap_time.unwrap_or_default().saturating_mul(avoided);
        for (name, _) in &self.endpoints {
            loads.endpoints.entry(name.clone()).or_default();
        }
        for lane in &self.lanes {
            let endpoint = loads
                .endpoints
                .entry(lane.runner.endpoint.clone())
                .or_default();
            endpoint.foreign |= lane.foreign_until.is_some_and(|until| now < until);
            let model = endpoint
                .models
                .entry(lane.runner.model.clone())
                .or_default();
            self.add(model, lane, now);
        }
        loads
    }

    /// Runners of the same weights are one model: the one that is loaded speaks for it.
    fn add(&self, model: &mut ModelLoad, lane: &Lane, now: Moment) {
        let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
        model.running += count(lane.running.len());
        model.queued += count(lane.queued());
        if lane.state == State::Installed && model.epoch > lane.epoch {
            return;
        }
        model.state = state(lane);
        model.context = (lane.state != State::Installed).then_some(lane.runner.context);
        model.epoch = lane.epoch;
        model.slots = lane.slots.get();
        let wait = self.predicted_wait(&lane.runner, now);
        model.predicted_wait_ms = millis(wait);
        model.load_ms = lane.load_time.map(millis);
        if lane.stuck_since.is_some() {
            model.trouble = Some("it cannot be unloaded".to_owned());
        }
    }
}

fn state(lane: &Lane) -> RunnerState {
    match lane.state {
        State::Installed => RunnerState::Installed,
        State::Loading => RunnerState::Loading,
        State::Unloading => RunnerState::Unloading,
        State::Resident if lane.running.is_empty() => RunnerState::Idle,
        State::Resident => RunnerState::Busy,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
