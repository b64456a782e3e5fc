//! What another strategy would have chosen for the attempts of a recorded log.
//!
//! The strategy is the router's own, asked again for each attempt in the order in which they began,
//! knowing only what had ended by then. What the log cannot tell is estimated: an attempt that gets
//! another model takes its tokens at that model's rates, and succeeds as often as that model did at
//! such work in this log (the direct method of off-policy evaluation: Dudík, Langford and Li,
//! arXiv:1103.4601). An attempt counts as a success when no other one followed it.
//!
//! Invariant: pure; the same log and seed give the same choices.

mod history;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::history::{Attempt, Hindsight, Place, Speed, attempts, named, places, service_at};
use super::{
    Ask, Choice, Dice, Ending, Fits, Learned, Lesson, Rounds, Shunned, Strategy, World, choose,
    reward,
};
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::{Endpoint, EndpointHealth, EndpointName};
use crate::core::model::ModelName;
use crate::core::runners::{GatewayReport, ModelLoad, RunnerState};
use crate::core::served::Served;
use crate::core::time::Timestamp;
use crate::core::verify::VerifyOutcome;

/// A load, where the log has none: 10 to 30 s are typical.
const LOAD: Duration = Duration::from_secs(15);

/// What an endpoint can do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Requests that a model serves.
    pub slots: u16,
    /// Models in memory.
    pub room: u16,
}

/// A log, read for its attempts.
#[derive(Debug)]
pub struct History<'a> {
    requests: &'a [Served],
    attempts: Vec<Attempt>,
    places: BTreeMap<Place, Speed>,
    hindsight: Hindsight,
}

/// A log as another strategy would have had it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rerouted {
    /// The requests, with the model and the endpoint that they would have gone to and the time that
    /// they would have taken there.
    pub requests: Vec<Served>,
    /// Attempts that got another model.
    pub moved: usize,
    /// Attempts that succeed, as far as can be expected.
    pub successes: f64,
}

impl<'a> History<'a> {
    /// Of requests in the order of their arrival.
    pub fn of(requests: &'a [Served]) -> Self {
        let attempts = attempts(requests);
        Self {
            requests,
            places: places(requests),
            hindsight: Hindsight::of(&attempts),
            attempts,
        }
    }

    /// Attempts in it.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Attempts that succeeded.
    pub fn successes(&self) -> usize {
        let successes = self.attempts.iter().filter(|attempt| attempt.is_success);
        successes.count()
    }

    /// Whether there was anything to choose from.
    pub fn has_choice(&self) -> bool {
        self.places.len() > 1 && !self.attempts.is_empty()
    }

    /// The same attempts under `strategy`.
    pub fn reroute(
        &self,
        strategy: Strategy,
        seed: u64,
        capacities: &BTreeMap<EndpointName, Capacity>,
    ) -> Rerouted {
        let mut walk = Walk::new(self, capacities);
        let mut rerouted = Rerouted {
            requests: self.requests.to_vec(),
            moved: 0,
            successes: 0.0,
        };
        for attempt in &self.attempts {
            walk.forward(attempt.at);
            let choice = if attempt.is_named {
                None
            } else {
                walk.choose(attempt, strategy, seed)
            };
            let place = choice.as_ref().map_or_else(
                || attempt.place.clone(),
                |choice| (choice.endpoint.clone(), choice.model.clone()),
            );
            let took = if place == attempt.place {
                self.as_recorded(attempt)
            } else {
                self.place(attempt, &place, &mut rerouted)
            };
            let is_moved = place.1 != attempt.place.1;
            let chance = self.hindsight.chance(attempt.category, &place.1);
            let (success, expected) = if is_moved {
                // What had come of it is not known: drawn, for the strategy to learn from.
                let parts = [attempt.task.0, u64::from(attempt.number)];
                (Dice::new(!seed, parts).unit() < chance, chance)
            } else {
                let is_success = attempt.is_success;
                (is_success, f64::from(u8::from(is_success)))
            };
            rerouted.moved += usize::from(is_moved);
            rerouted.successes += expected;
            walk.began(attempt, &place, took, choice, success);
        }
        rerouted
    }

    /// What the requests of an attempt took.
    fn as_recorded(&self, attempt: &Attempt) -> Duration {
        let requests = attempt.requests.iter();
        let requests = requests.filter_map(|index| self.requests.get(*index));
        requests
            .map(|served| service_at(served, &Speed::default()))
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Moves the requests of an attempt; what they take together.
    fn place(&self, attempt: &Attempt, place: &Place, rerouted: &mut Rerouted) -> Duration {
        let speed = self.places.get(place).copied().unwrap_or_default();
        let mut all = Duration::ZERO;
        for index in &attempt.requests {
            let Some(served) = rerouted.requests.get_mut(*index) else {
                continue;
            };
            let is_there = (&served.endpoint, &served.model) == (&place.0, &place.1);
            let speed = if is_there { Speed::default() } else { speed };
            let service = service_at(served, &speed);
            served.total_us = served.queue_us.saturating_add(micros(service));
            // Its wait inside the other endpoint is no part of the service.
            served.slot_wait_us = 0;
            served.endpoint = place.0.clone();
            served.model = place.1.clone();
            all = all.saturating_add(service);
        }
        all
    }
}

/// The strategy on its way through the log.
struct Walk<'a> {
    history: &'a History<'a>,
    capacities: &'a BTreeMap<EndpointName, Capacity>,
    catalogue: Catalogue,
    learned: Learned,
    now: Timestamp,
    /// When what was chosen so far is worked off.
    busy: BTreeMap<EndpointName, Timestamp>,
    /// In memory, the latest last.
    resident: BTreeMap<EndpointName, VecDeque<ModelName>>,
    /// Outcomes that are not known yet, by the moment at which they are.
    outcomes: Vec<(Timestamp, Outcome)>,
}

/// What is learned once an attempt has ended.
struct Outcome {
    attempt: Attempt,
    place: Place,
    success: bool,
    took: Duration,
    agreed: Vec<Strategy>,
    cost: f64,
}

impl<'a> Walk<'a> {
    fn new(history: &'a History<'a>, capacities: &'a BTreeMap<EndpointName, Capacity>) -> Self {
        let mut catalogue = Catalogue::default();
        for (endpoint, model) in history.places.keys() {
            let known = catalogue
                .endpoints
                .entry(endpoint.clone())
                .or_insert_with(|| Endpoint::new(""));
            known.health = EndpointHealth::Ok;
            known.models.insert(model.clone(), named(model));
        }
        Self {
            history,
            capacities,
            catalogue,
            learned: Learned::default(),
            now: Timestamp(0),
            busy: BTreeMap::new(),
            resident: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// Until `now`: what has ended by then is learned.
    fn forward(&mut self, now: Timestamp) {
        self.now = now;
        self.outcomes.sort_by_key(|(at, _)| *at);
        let ended = self.outcomes.partition_point(|(at, _)| *at <= now);
        for (_, outcome) in self.outcomes.drain(..ended) {
            let ending = if outcome.success {
                Ending::Verified(VerifyOutcome::Passed)
            } else {
                Ending::Failed
            };
            self.learned.learn(&Lesson {
                category: outcome.attempt.category,
                model: &outcome.place.1,
                reward: reward(ending, Rounds::default()),
                seconds: outcome.success.then_some(outcome.took.as_secs_f64()),
                strategies: &outcome.agreed,
                cost: outcome.cost,
            });
        }
    }

    fn choose(&mut self, attempt: &Attempt, strategy: Strategy, seed: u64) -> Option<Choice> {
        let (gateway, fits) = (self.gateway(), Fits::default());
        let world = World {
            catalogue: &self.catalogue,
            gateway: &gateway,
            gateway_age_ms: 0,
            fits: &fits,
        };
        let ask = Ask {
            task: attempt.task,
            attempt: attempt.number,
            category: attempt.category,
            strategy,
            named: None,
            default: None,
            context: 0,
            ready: None,
            shunned: Shunned::default(),
            largest_file: None,
            seed,
            turn: self.learned.turn,
        };
        let choice = choose(&ask, &world, &self.learned).ok();
        self.learned.turn += 1;
        choice
    }

    /// What the gateway would have said.
    fn gateway(&self) -> GatewayReport {
        let mut report = GatewayReport::default();
        for ((endpoint, model), speed) in &self.history.places {
            let is_resident = self
                .resident
                .get(endpoint)
                .is_some_and(|models| models.contains(model));
            let load = ModelLoad {
                state: if is_resident {
                    RunnerState::Idle
                } else {
                    RunnerState::Installed
                },
                predicted_wait_ms: millis(self.backlog(endpoint)),
                prefill_ms: speed.prefill.map(|micros| micros / 1_000.0),
                decode_ms: speed.decode.map(|micros| micros / 1_000.0),
                load_ms: Some(millis(speed.load.unwrap_or(LOAD))),
                ..ModelLoad::default()
            };
            let at = report.endpoints.entry(endpoint.clone()).or_default();
            at.models.insert(model.clone(), load);
        }
        report
    }

    fn backlog(&self, endpoint: &EndpointName) -> Duration {
        let busy = self.busy.get(endpoint);
        busy.map_or(Duration::ZERO, |until| until.since(self.now))
    }

    /// Takes a choice into account: the queue of its endpoint, what is in memory, what comes of it.
    fn began(
        &mut self,
        attempt: &Attempt,
        place: &Place,
        took: Duration,
        choice: Option<Choice>,
        success: bool,
    ) {
        let (endpoint, model) = place;
        let capacity = self.capacities.get(endpoint).copied();
        let Capacity { slots, room } = capacity.unwrap_or(Capacity { slots: 1, room: 1 });
        let resident = self.resident.entry(endpoint.clone()).or_default();
        let load = if resident.contains(model) {
            resident.retain(|other| other != model);
            Duration::ZERO
        } else {
            let speed = self.history.places.get(place);
            speed.and_then(|speed| speed.load).unwrap_or(LOAD)
        };
        resident.push_back(model.clone());
        while resident.len() > usize::from(room.max(1)) {
            resident.pop_front();
        }
        let begin = self.backlog(endpoint).saturating_add(load);
        let took_all = begin.saturating_add(took);
        let until = begin.saturating_add(took / u32::from(slots.max(1)));
        self.busy.insert(endpoint.clone(), later(self.now, until));
        let ended = later(self.now, took_all);
        let routing = choice.map(|choice| choice.routing);
        let outcome = Outcome {
            attempt: attempt.clone(),
            place: place.clone(),
            success,
            took: took_all,
            cost: routing.as_ref().map_or(0.0, super::Routing::cost),
            agreed: routing.map(|routing| routing.agreed).unwrap_or_default(),
        };
        self.outcomes.push((ended, outcome));
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(millis(by)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
