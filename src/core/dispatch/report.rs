//! What the dispatcher says of its endpoints.

use std::time::Duration;

use crate::core::runners::{ModelLoad, RunnerState};

use super::ask::{Loads, Moment, Outlook, Runner};
use super::dispatcher::Dispatcher;
use super::lane::{Lane, State};
use super::room::Fit;

/// How fast the need for an idle model fades: what was not asked for in five minutes is what
/// Ollama itself unloads.
const NEED_DECAY: Duration = Duration::from_secs(300);
/// An unload before one was measured: Ollama kills the runner and waits 0.5 to 1.5 s for memory.
const UNLOAD: Duration = Duration::from_millis(1500);

impl Dispatcher {
    /// What a request for this runner that came now would wait.
    pub fn predicted_wait(&self, runner: &Runner, now: Moment) -> Duration {
        let outlook = self.outlook(runner, now);
        outlook.queue + outlook.load
    }

    /// What a request for this runner that came now would meet.
    pub fn outlook(&self, runner: &Runner, now: Moment) -> Outlook {
        let at = self.find(runner);
        let lane = at.map(|at| &self.lanes[at]);
        if let Some(lane) = lane.filter(|lane| lane.state == State::Resident && !lane.fenced) {
            let is_free = lane.running.len() < usize::from(lane.slots.get());
            let is_free = is_free && !lane.is_wanted();
            return Outlook {
                queue: if is_free {
                    Duration::ZERO
                } else {
                    lane.remaining(now)
                },
                epoch: Some(lane.epoch),
                ..Outlook::default()
            };
        }
        let size = lane.map_or(0, |lane| lane.size);
        let own = lane.map_or(Duration::ZERO, |lane| lane.remaining(now));
        Outlook {
            queue: own + self.before(at, now),
            load: lane
                .and_then(|lane| lane.load_time)
                .unwrap_or_else(|| self.swap_estimate()),
            eviction: self.eviction(runner, size, now),
            epoch: None,
        }
    }

    /// Time until a runner that is not resident could be loaded: those who go before it.
    fn before(&self, wanted: Option<usize>, now: Moment) -> Duration {
        let swap = self.swap_estimate();
        let quantum = self.quantum();
        let used = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.is_used());
        let others = used.filter(|(at, _)| Some(*at) != wanted);
        let each = others.map(|(_, lane)| match lane.state {
            State::Resident if lane.fenced => lane.draining(now),
            State::Resident => {
                let left = lane.batch_since.saturating_add(quantum).saturating_sub(now);
                lane.remaining(now).min(left + lane.draining(now))
            }
            State::Unloading => self.unload_time.unwrap_or_default(),
            State::Loading => swap + lane.remaining(now).min(quantum),
            State::Installed if lane.is_wanted() => swap + lane.remaining(now).min(quantum),
            State::Installed => Duration::ZERO,
        });
        each.sum()
    }

    /// What making room would cost; nothing where there is room or nobody knows.
    fn eviction(&self, wanted: &Runner, size: u64, now: Moment) -> Duration {
        let resident = || {
            self.lanes
                .iter()
                .filter(|lane| lane.state == State::Resident)
        };
        let same = resident().find(|lane| lane.runner.is_same_model(wanted));
        let sizes = resident().map(|lane| lane.size).chain([size]);
        if same.is_none() && self.room.fit(sizes) != Fit::No {
            return Duration::ZERO;
        }
        let costs = resident().map(|lane| {
            let reload = lane.load_time.unwrap_or_else(|| self.swap_estimate());
            let idle = (!lane.has_work()).then(|| now.saturating_sub(lane.idle_since));
            eviction(self.unload_time.unwrap_or(UNLOAD), reload, idle)
        });
        costs.min().unwrap_or_default()
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

/// What unloading a runner costs: the unload, and its reload as far as it will be needed.
fn eviction(unload: Duration, reload: Duration, idle: Option<Duration>) -> Duration {
    let need = idle.map_or(1.0, |idle| {
        (-idle.as_secs_f64() / NEED_DECAY.as_secs_f64()).exp()
    });
    unload + reload.mul_f64(need)
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
