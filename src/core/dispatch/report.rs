//! What the dispatcher says of its endpoints.

use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::runners::{Ahead, ModelLoad, RunnerState};

use super::ask::{Loads, Moment, Outlook, Runner};
use super::decide::is_behind;
use super::dispatcher::{Change, Dispatcher, Phase};
use super::lane::{Lane, State};
use super::room::Fit;

/// How fast the need for an idle model fades: what was not asked for in five minutes is what
/// Ollama itself unloads.
const NEED_DECAY: Duration = Duration::from_secs(300);
/// An unload before one was measured: Ollama kills the runner and waits 0.5 to 1.5 s for memory.
const UNLOAD: Duration = Duration::from_millis(1500);

/// A runner that is not in memory: its lane, itself, and the memory that it needs.
type Wanted<'a> = (Option<usize>, &'a Runner, u64);

impl Dispatcher {
    /// What a request for this runner that came now would meet; `need` is the memory that the runner
    /// needs, bytes of VRAM, where it has not been seen in memory yet (0: nobody knows).
    pub fn outlook(&self, runner: &Runner, need: u64, now: Moment) -> Outlook {
        self.outlook_at((self.find(runner), runner, need), now)
    }

    fn outlook_at(&self, (at, runner, need): Wanted<'_>, now: Moment) -> Outlook {
        let lane = at.map(|at| &self.lanes[at]);
        if let Some(lane) = lane.filter(|lane| lane.state == State::Resident && !lane.fenced) {
            return warm(lane, now);
        }
        let own = lane.map_or(Duration::ZERO, |lane| lane.remaining(now));
        let load = self.load_estimate(lane, runner);
        let change = self.change.as_ref();
        if let Some(change) = change.filter(|change| at == Some(change.target)) {
            return Outlook {
                queue: own + self.until_load(change, now),
                load: load.saturating_sub(change.loading(now)),
                ..Outlook::default()
            };
        }
        let size = lane.map_or(0, |lane| lane.size).max(need);
        Outlook {
            queue: own + self.before((at, runner, size), now),
            load,
            eviction: self.eviction(runner, size, now),
            epoch: None,
        }
    }

    /// A load of a runner: as measured of it or of the same model with another context.
    fn load_estimate(&self, lane: Option<&Lane>, runner: &Runner) -> Duration {
        let same = || {
            let mut lanes = self.lanes.iter();
            let same = lanes.find(|lane| lane.runner.is_same_model(runner));
            same.and_then(|lane| lane.load_time)
        };
        let known = lane.map_or_else(same, |lane| lane.load_time);
        known.unwrap_or_else(|| self.swap_estimate())
    }

    /// Time until the load under way begins; nothing once it has.
    fn until_load(&self, change: &Change, now: Moment) -> Duration {
        let unload = self.unload_time.unwrap_or_default();
        match change.phase {
            Phase::Loading => Duration::ZERO,
            Phase::Unloading => unload.saturating_sub(now.saturating_sub(change.since)),
            Phase::Draining => {
                // What is loaded again counts those who run there as its own.
                let others = change.victims.iter().filter(|it| **it != change.target);
                let drains = others.map(|victim| self.lanes[*victim].draining(now));
                drains.max().map_or(Duration::ZERO, |drain| drain + unload)
            }
        }
    }

    /// Time until a runner could be loaded that is neither in memory nor on its way there: the load
    /// under way, those that are wanted and go first, and what has to leave memory for it. Where all
    /// of them have room together, only their loads hold it up.
    fn before(&self, wanted: Wanted<'_>, now: Moment) -> Duration {
        let (at, runner, size) = wanted;
        let lane = at.map(|at| (at, &self.lanes[at]));
        let coming = self.change.as_ref().map(|change| change.target);
        let is_first = |(other, it): &(usize, &Lane)| {
            Some(*other) != at
                && (Some(*other) == coming
                    || it.state == State::Installed
                        && it.is_wanted()
                        && self.goes_first((*other, it), lane, now))
        };
        let first = || self.lanes.iter().enumerate().filter(is_first);
        let sizes = self.resident().chain(first().map(|(_, lane)| lane));
        let has_room = !self.resident().any(|it| it.runner.is_same_model(runner))
            && self.room.fit(sizes.map(|it| it.size).chain([size])) == Fit::Yes;
        let change = self.change.as_ref().map_or(Duration::ZERO, |change| {
            let load = self.load_estimate(Some(&self.lanes[change.target]), runner);
            self.until_load(change, now) + load.saturating_sub(change.loading(now))
        });
        let loads = first().filter(|(other, _)| Some(*other) != coming);
        let loads = loads.map(|(_, lane)| lane.load_time.unwrap_or_else(|| self.swap_estimate()));
        let held_up = change + loads.sum::<Duration>();
        if has_room {
            return held_up;
        }
        let batches = first().map(|(_, lane)| lane.remaining(now).min(self.quantum()));
        held_up + batches.sum::<Duration>() + self.until_left(size, now)
    }

    /// What is in memory and stays there for now.
    fn resident(&self) -> impl Iterator<Item = &Lane> {
        let resident = |lane: &&Lane| lane.state == State::Resident && !lane.fenced;
        self.lanes.iter().filter(resident)
    }

    /// Whether `other`, which is wanted, is loaded before `lane`.
    fn goes_first(
        &self,
        (other, it): (usize, &Lane),
        lane: Option<(usize, &Lane)>,
        now: Moment,
    ) -> bool {
        let Some((at, lane)) = lane else {
            return true;
        };
        let came = lane.oldest().unwrap_or(now);
        if it.served_at > lane.served_at && it.served_at >= Some(came) {
            return false;
        }
        !lane.is_wanted() || is_behind(lane, it) || self.rank(other, now) > self.rank(at, now)
    }

    /// Time until so much has left memory that `size` bytes have room: what runs at the same time
    /// ends at the same time, and what is done first goes first.
    fn until_left(&self, size: u64, now: Moment) -> Duration {
        let mut stays: Vec<(Duration, u64)> = self
            .resident()
            .map(|lane| {
                let quantum = lane.batch_since.saturating_add(self.quantum());
                let left = quantum.saturating_sub(now) + lane.draining(now);
                (lane.remaining(now).min(left), lane.size)
            })
            .collect();
        stays.sort_unstable();
        let mut waited = Duration::ZERO;
        for (gone, (left, _)) in stays.iter().enumerate() {
            let rest = stays.iter().skip(gone).map(|(_, size)| *size);
            if self.room.fit(rest.chain([size])) == Fit::Yes {
                break;
            }
            waited = *left;
        }
        waited
    }

    /// What making room would cost; nothing where there is room or nobody knows.
    fn eviction(&self, wanted: &Runner, size: u64, now: Moment) -> Duration {
        let same = self.resident().find(|it| it.runner.is_same_model(wanted));
        if let Some(same) = same {
            return self.eviction_of(same, now);
        }
        let sizes = self.resident().map(|lane| lane.size).chain([size]);
        if self.room.fit(sizes) == Fit::No {
            self.cheapest_eviction(now)
        } else {
            Duration::ZERO
        }
    }

    fn cheapest_eviction(&self, now: Moment) -> Duration {
        let costs = self.resident().map(|lane| self.eviction_of(lane, now));
        costs.min().unwrap_or_default()
    }

    fn eviction_of(&self, lane: &Lane, now: Moment) -> Duration {
        let reload = lane.load_time.unwrap_or_else(|| self.swap_estimate());
        let idle = (!lane.has_work()).then(|| now.saturating_sub(lane.idle_since));
        eviction(self.unload_time.unwrap_or(UNLOAD), reload, idle)
    }

    /// What is known of endpoints, models, queues and swaps.
    pub fn load(&self, now: Moment) -> Loads {
        let mut loads = Loads {
            swaps: self.swaps,
            swap_time: self.swapping,
            avoided: self.shadow.avoided,
            ..Loads::default()
        };
        let avoided = u32::try_from(loads.avoided).unwrap_or(u32::MAX);
        let made = u32::try_from(self.swaps).unwrap_or(u32::MAX);
        let average = self.swapping.checked_div(made).unwrap_or_default();
        loads.avoided_time = average.saturating_mul(avoided);
        let (stranger, free) = (self.stranger(now), self.free());
        for (name, _) in &self.endpoints {
            let endpoint = loads.endpoints.entry(name.clone()).or_default();
            (endpoint.stranger, endpoint.free) = (stranger, free);
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            let endpoint = loads
                .endpoints
                .entry(lane.runner.endpoint.clone())
                .or_default();
            endpoint.foreign |= lane.foreign_until.is_some_and(|until| now < until);
            let model = endpoint
                .models
                .entry(lane.runner.model.clone())
                .or_default();
            self.add(model, (at, lane), now);
        }
        loads
    }

    /// What a model would meet that nobody has asked for yet, if something has to go for it. Its own
    /// load is not known here.
    fn stranger(&self, now: Moment) -> Option<Ahead> {
        let nobody = Runner {
            endpoint: EndpointName(String::new()),
            model: ModelName::new(""),
            context: 0,
        };
        (!self.lanes.is_empty()).then(|| Ahead {
            queue_ms: millis(self.before((None, &nobody, u64::MAX), now)),
            load_ms: 0,
            evict_ms: millis(self.cheapest_eviction(now)),
        })
    }

    /// Memory that no model has taken, bytes, where the room is known.
    fn free(&self) -> Option<u64> {
        let taken = self.resident().map(|lane| lane.size).sum();
        self.room.known.map(|room| room.saturating_sub(taken))
    }

    /// Runners of the same weights are one model: the one that is loaded speaks for it.
    fn add(&self, model: &mut ModelLoad, (at, lane): (usize, &Lane), now: Moment) {
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
        let outlook = self.outlook_at((Some(at), &lane.runner, 0), now);
        model.predicted_wait_ms = millis(outlook.queue + outlook.load);
        model.ahead = Some(Ahead {
            queue_ms: millis(outlook.queue),
            load_ms: millis(outlook.load),
            evict_ms: millis(outlook.eviction),
        });
        model.load_ms = lane.load_time.map(millis);
        if lane.stuck_since.is_some() {
            model.trouble = Some("it cannot be unloaded".to_owned());
        }
    }
}

/// A runner that is in memory: those who are served before it.
fn warm(lane: &Lane, now: Moment) -> Outlook {
    let is_free = lane.running.len() < usize::from(lane.slots.get()) && !lane.is_wanted();
    Outlook {
        queue: if is_free {
            Duration::ZERO
        } else {
            lane.remaining(now)
        },
        epoch: Some(lane.epoch),
        ..Outlook::default()
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
