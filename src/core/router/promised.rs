//! Attempts that were given a place and have not asked there yet.
//!
//! What the gateway reports is as old as its last look, and an agent takes seconds to its first
//! request. Ten tasks that come at once would all go to the place that is free in the report; so
//! each that was given a place counts there as the request that it will make, and as the load that
//! it will cause.
//!
//! Invariant: pure; what is kept is bounded by the agents.

use super::candidate::{Candidate, Times, World, times};
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::runners::{EndpointLoad, ModelLoad};

/// The place of such an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The model.
    pub model: ModelName,
}

/// Adds what was promised to the times of the places: they are in the order of their endpoints.
pub(super) fn add(places: &mut [Candidate<'_>], promised: &[Promise], world: &World<'_>) {
    for (at, promise) in promised.iter().enumerate() {
        let (before, rest) = promised.split_at(at);
        if before.contains(promise) {
            continue;
        }
        let count = rest.iter().filter(|other| *other == promise).count();
        let from = places.partition_point(|place| *place.endpoint < promise.endpoint);
        let beside = places.iter_mut().skip(from);
        let mut beside = beside.take_while(|place| *place.endpoint == promise.endpoint);
        if let Some(promised) = Promised::of(promise, count, world) {
            beside.by_ref().for_each(|place| promised.count_at(place));
        }
    }
}

/// A place with the attempts that will ask there.
struct Promised<'a> {
    model: &'a ModelName,
    size: u64,
    times: Times,
    /// Attempts, by the slots of the model.
    rounds: f64,
    /// The same of those that find no free slot, with one more.
    queued: f64,
    /// Memory that nobody has taken, bytes.
    free: Option<u64>,
}

impl<'a> Promised<'a> {
    fn of(promise: &'a Promise, count: usize, world: &World<'_>) -> Option<Self> {
        let endpoint = world.catalogue.endpoints.get(&promise.endpoint)?;
        let model = endpoint.models.get(&promise.model)?;
        let load = world.gateway.endpoints.get(&promise.endpoint);
        let runner = load.and_then(|load: &EndpointLoad| load.models.get(&promise.model));
        let slots = runner.map_or(1, |runner| runner.slots.max(1));
        let idle = runner.map_or(u32::from(slots), |runner| idle(runner, slots));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let waits = (count + 1).saturating_sub(idle);
        Some(Self {
            model: &promise.model,
            size: model.size,
            times: times(endpoint, load, runner, model),
            rounds: f64::from(count) / f64::from(slots),
            queued: f64::from(waits) / f64::from(slots),
            free: load.and_then(|load| load.free),
        })
    }

    fn count_at(&self, place: &mut Candidate<'_>) {
        let times = &mut place.times;
        if place.model.name == *self.model {
            // They wait for the same load.
            times.wait += times.load + self.queued * self.times.service;
            times.load = 0.0;
            return;
        }
        let comes = |load: f64, size: u64| if load > 0.0 { size } else { 0 };
        let needed = comes(times.load, place.model.size) + comes(self.times.load, self.size);
        let is_beside = needed == 0 || self.free.is_some_and(|free| needed <= free);
        if !is_beside {
            times.wait += self.times.load + self.rounds * self.times.service;
        }
    }
}

/// Slots that nobody has and nobody waits for.
fn idle(runner: &ModelLoad, slots: u16) -> u32 {
    if runner.queued > 0 {
        0
    } else {
        u32::from(slots).saturating_sub(runner.running)
    }
}
