//! How long an endpoint may be silent, and what follows from a failure for the next try.

use std::time::Duration;

use super::place::{Placed, Request};
use super::state::{Conductor, State};
use crate::core::dispatch::Runner;
use crate::gateway::answer::Patience;

/// How often the limit of silence is doubled for a runner that was silent for too long: 30 s become
/// 16 minutes.
const SILENCES_MAX: u32 = 5;
/// How often it is doubled where others use the endpoint.
const FOREIGN: u32 = 2;

impl Conductor {
    /// How long the endpoint may be silent with this request. Where it was silent for longer before,
    /// or serves others as well, whose requests are in its own queue, it is given more time.
    pub(in crate::gateway) fn patience(&self, placed: &Placed, request: &Request) -> Patience {
        let runner = &placed.runner;
        let key = (runner.endpoint.clone(), runner.model.clone());
        self.look(|state, now| {
            let prefill = state.rates.prefill(runner, request.tokens);
            let silences = state.silences.get(&key).copied().unwrap_or(0);
            let loads = state.gpu_of(runner).map(|gpu| gpu.load(now).endpoints);
            let endpoint = loads.as_ref().and_then(|it| it.get(&runner.endpoint));
            let doublings = silences
                + if endpoint.is_some_and(|it| it.foreign) {
                    FOREIGN
                } else {
                    0
                };
            let times = 1 << doublings.min(SILENCES_MAX);
            Patience {
                first: state
                    .learned
                    .stalls
                    .first_token(prefill)
                    .saturating_mul(times),
                gap: state.learned.stalls.gap(),
            }
        })
    }

    /// The pause before another try; none when there have been enough.
    pub(in crate::gateway) fn retry(&self, tries: u32) -> Option<Duration> {
        let draw = getrandom::u32().unwrap_or_default();
        self.change(|state, now| state.budget.retry(tries, draw, now))
    }

    /// The endpoint counted the prompt, or said at least that it does not fit: false where that is
    /// nothing new.
    pub(in crate::gateway) fn too_long(
        &self,
        request: &mut Request,
        placed: &Placed,
        counted: Option<u64>,
    ) -> bool {
        if let Some(tokens) = counted {
            self.begin(|state| {
                state.learned.counted(&request.model, request.chars, tokens);
                state.is_unsaved = true;
            });
        }
        let least = u64::from(placed.runner.context) + 1;
        let tokens = counted.unwrap_or(least);
        let is_new = tokens > request.tokens;
        request.tokens = request.tokens.max(tokens);
        is_new
    }
}

impl State {
    /// A runner was silent for too long.
    pub(super) fn was_silent(&mut self, runner: &Runner) {
        let key = (runner.endpoint.clone(), runner.model.clone());
        let silences = self.silences.entry(key).or_default();
        *silences = (*silences + 1).min(SILENCES_MAX);
    }

    /// A runner answered in time.
    pub(super) fn heard(&mut self, runner: &Runner) {
        let key = (runner.endpoint.clone(), runner.model.clone());
        if let Some(silences) = self.silences.get_mut(&key) {
            *silences -= 1;
            if *silences == 0 {
                self.silences.remove(&key);
            }
        }
    }
}
