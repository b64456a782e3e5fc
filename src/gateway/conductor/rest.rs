//! Endpoints that are left alone for a while: those that said they are busy, and for how long.
//!
//! A full queue is no illness, so no breaker opens; but asking again at once makes it no shorter.

use std::time::Duration;

use super::place::Placed;
use super::state::{Conductor, State};
use crate::core::breaker::Permission;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;

/// First pause where the endpoint names none; it doubles each time that it is still busy. Also the
/// shortest one: `Retry-After: 0` is no reason to ask without end.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);
/// Longest pause that an endpoint is granted: somebody may have helped it meanwhile.
const GRANTED: Duration = Duration::from_secs(300);

impl Conductor {
    /// The endpoint is busy, for the `times`th time in a row as this request saw it. A model on
    /// another host is busy for itself.
    pub(in crate::gateway) fn rest(&self, placed: &Placed, asked: Option<Duration>, times: u32) {
        let pause = pause(asked, times);
        let model = placed.remote.then(|| placed.runner.model.clone());
        let key = (placed.runner.endpoint.clone(), model);
        self.change(|state, now| {
            state.resting.retain(|_, until| *until > now);
            state.resting.insert(key, now + pause);
        });
    }
}

fn pause(asked: Option<Duration>, times: u32) -> Duration {
    let own = FIRST.saturating_mul(1 << times.saturating_sub(1).min(8));
    asked.map_or(own.min(LONGEST), |asked| asked.clamp(FIRST, GRANTED))
}

impl State {
    /// Until when a model on an endpoint is left alone.
    pub(super) fn rests_until(
        &self,
        endpoint: &EndpointName,
        model: &ModelName,
        now: Duration,
    ) -> Option<Duration> {
        let of = |model| self.resting.get(&(endpoint.clone(), model)).copied();
        let until = of(None).max(of(Some(model.clone())))?;
        (until > now).then_some(until)
    }

    /// Whether a request may go there now.
    pub(super) fn may(
        &self,
        endpoint: &EndpointName,
        model: &ModelName,
        now: Duration,
    ) -> Permission {
        let may = self.breakers.may(endpoint, model, now);
        match (self.rests_until(endpoint, model, now), may) {
            (Some(rest), Permission::No { until }) => Permission::No {
                until: until.max(rest),
            },
            (Some(until), Permission::Yes | Permission::Probe) => Permission::No { until },
            (None, may) => may,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_what_an_endpoint_asks_for_has_bounds() {
        let seconds =
            |asked: Option<u64>, times| pause(asked.map(Duration::from_secs), times).as_secs();
        let own = [1, 2, 3, 4, 5, 99].map(|times| seconds(None, times));
        assert_eq!(own, [1, 2, 4, 8, 15, 15]);
        let asked = [0, 30, 86_400].map(|asked| seconds(Some(asked), 1));
        assert_eq!(asked, [1, 30, 300]);
    }
}
