//! What the conductor says of itself: a whole report when something is new.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::state::{Conductor, State};
use crate::core::dispatch::Runner;
use crate::core::endpoint::EndpointName;
use crate::core::failure::{Failure, FailureKind};
use crate::core::model::ModelName;
use crate::core::runners::{EndpointLoad, GatewayReport, ModelLoad, RunnerState};

impl Conductor {
    /// Publishes what is new, if anything is.
    pub(super) fn publish(&self) {
        let now = self.now();
        let pieces = self.pieces.load(Ordering::Relaxed);
        let report = self.begin(|state| {
            state.is_dirty = false;
            let rate = state.meter.read(pieces, now);
            let said = self.said(state, now);
            GatewayReport { rate, ..said }
        });
        self.report.send_if_modified(|current| {
            let differs = *current != report;
            if differs {
                *current = report;
            }
            differs
        });
    }

    /// Whether anything has changed since the last report, or tokens came until then.
    pub(super) fn is_dirty(&self) -> bool {
        self.look(|state, now| state.is_dirty || state.meter.due().is_some_and(|at| at <= now))
    }

    fn said(&self, state: &State, now: Duration) -> GatewayReport {
        let mut report = state.report(now);
        for (name, endpoint) in &mut report.endpoints {
            endpoint.room = self.seat(name).and_then(|seat| state.room(seat));
        }
        report
    }
}

impl State {
    fn report(&self, now: Duration) -> GatewayReport {
        let mut report = GatewayReport {
            address: self.address.clone(),
            served: self.served,
            output_tokens: self.output_tokens,
            ..GatewayReport::default()
        };
        for gpu in &self.gpus {
            let load = gpu.load(now);
            report.endpoints.extend(load.endpoints);
            report.swaps += load.swaps;
            report.swap_ms += millis(load.swap_time);
            report.swaps_avoided += load.avoided;
            report.avoided_ms += millis(load.avoided_time);
        }
        for (name, endpoint) in &mut report.endpoints {
            endpoint.breaker = self.breakers.endpoint_state(name, now);
            for (model, load) in &mut endpoint.models {
                load.breaker = self.breakers.model_state(name, model, now);
                let key = (name.clone(), model.clone());
                load.trouble = self.trouble.get(&key).cloned();
                let runner = Runner {
                    endpoint: name.clone(),
                    model: model.clone(),
                    context: load.context.unwrap_or(0),
                };
                let rates = self.rates.of(&runner);
                load.prefill_ms = rates.prefill_ms;
                load.decode_ms = rates.decode_ms;
            }
        }
        report
    }

    /// A request or a load failed there.
    pub(super) fn failed(&mut self, runner: &Runner, failure: &Failure, now: Duration) {
        let draw = getrandom::u32().unwrap_or_default();
        if failure.kind == FailureKind::ModelMissing {
            self.absent
                .insert((runner.endpoint.clone(), runner.model.clone()));
        }
        if failure.kind == FailureKind::Stalled {
            self.was_silent(runner);
        }
        if failure.kind != FailureKind::Gone {
            let place = (&runner.endpoint, &runner.model);
            self.breakers.failed(place, failure, draw, now);
        }
    }

    /// What the dispatchers know of all endpoints.
    pub(super) fn loads(&self, now: Duration) -> BTreeMap<EndpointName, EndpointLoad> {
        let loads = self.gpus.iter().map(|gpu| gpu.load(now).endpoints);
        loads.flatten().collect()
    }
}

/// What is known of one model on one endpoint.
pub(super) fn load_of<'a>(
    loads: &'a BTreeMap<EndpointName, EndpointLoad>,
    endpoint: &EndpointName,
    model: &ModelName,
) -> Option<&'a ModelLoad> {
    loads.get(endpoint)?.models.get(model)
}

/// Its context, where it is in memory or on its way there.
pub(super) fn resident_context(load: Option<&ModelLoad>) -> Option<u32> {
    let load = load?;
    match load.state {
        RunnerState::Loading | RunnerState::Idle | RunnerState::Busy => load.context,
        RunnerState::Installed | RunnerState::Unloading => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
