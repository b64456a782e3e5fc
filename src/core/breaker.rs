//! Circuit breaker: whether an endpoint, or one model on it, may get the next request.
//!
//! Two signals trip it: consecutive failures (fast on a hard outage) and the share of successes
//! over a window (catches an endpoint that fails every other request). An open breaker lets one
//! probe pass when its time is over; each probe that fails doubles that time. Failures also leave a
//! penalty that fades, so that an endpoint that fails fast does not look cheap to the cost model.
//!
//! Two levels: what says something about the endpoint trips the endpoint's breaker, what says
//! something about a model trips that model's there. Busy endpoints, missing models and bad
//! requests trip nothing ([`Scope`]).
//!
//! Invariant: pure. Time comes in as `now`, a time since an arbitrary start; so does the draw.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::endpoint::EndpointName;
use super::failure::{Failure, FailureKind, Scope};
use super::model::ModelName;
use super::runners::BreakerState;

/// Failures in a row. linkerd 7, envoy and olla 5; an agent's request is dear, so fewer here.
const IN_A_ROW: u32 = 3;
/// The window of the share of successes.
const WINDOW: Duration = Duration::from_secs(60);
/// Requests in the window before their share counts.
const LEAST: usize = 5;
/// Requests of the window that are kept.
const KEPT: usize = 64;
/// First time that it stays open.
const FIRST: Duration = Duration::from_secs(5);
/// Longest time that it stays open.
const LONGEST: Duration = Duration::from_secs(120);
/// A probe that says nothing is given up after this: another one may go.
const PROBE: Duration = Duration::from_secs(30);
/// What a fresh failure costs in the choice of an endpoint, and how fast that fades.
const PENALTY: Duration = Duration::from_secs(30);
const PENALTY_FADES: f64 = 30.0;
/// Breakers kept at most; those of models long gone are forgotten first.
const MOST: usize = 1_000;

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Yes,
    /// One may, to see whether others may again.
    Probe,
    /// It may not.
    No {
        /// Until then.
        until: Duration,
    },
}

/// One breaker.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    in_a_row: u32,
    /// When, and whether it went well.
    window: VecDeque<(Duration, bool)>,
    open: Option<Open>,
    /// When it was closed again, and how often it had been opened until then.
    closed: Option<(Duration, u32)>,
    penalty: f64,
    penalty_at: Duration,
    why: String,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Duration,
    /// Times that it was opened in a row.
    times: u32,
    /// When the probe was let pass.
    probe: Option<Duration>,
}

impl Breaker {
    /// Whether a request may go. Asking changes nothing.
    pub fn may(&self, now: Duration) -> Permission {
        match self.open {
            None => Permission::Yes,
            Some(Open { until, .. }) if now < until => Permission::No { until },
            Some(Open {
                probe: Some(since), ..
            }) if now < since + PROBE => Permission::No {
                until: since + PROBE,
            },
            Some(_) => Permission::Probe,
        }
    }

    /// The request that was asked about goes; a probe is the only one.
    pub fn goes(&mut self, now: Duration) {
        if self.may(now) == Permission::Probe
            && let Some(open) = &mut self.open
        {
            open.probe = Some(now);
        }
    }

    /// A request went well. One that was under way when it opened closes nothing: an endpoint that
    /// fails every other request would never stay open.
    pub fn succeeded(&mut self, now: Duration) {
        if self.open.is_some_and(|open| now < open.until) {
            return;
        }
        self.in_a_row = 0;
        if let Some(open) = self.open.take() {
            self.window.clear();
            self.closed = Some((now, open.times));
        }
        self.push(now, true);
    }

    /// The probe ended without saying anything about the endpoint.
    pub fn undecided(&mut self) {
        if let Some(open) = &mut self.open {
            open.probe = None;
        }
    }

    /// A request failed, with these words. `draw` is a random number.
    pub fn failed(&mut self, why: &str, draw: u32, now: Duration) {
        why.clone_into(&mut self.why);
        self.in_a_row += 1;
        self.penalty = self.faded(now) + PENALTY.as_secs_f64();
        self.penalty_at = now;
        self.push(now, false);
        match self.open {
            // A request that was under way when it opened says nothing new.
            Some(open) if now < open.until => {}
            Some(open) => self.open_for(open.times + 1, draw, now),
            None if self.is_bad() => self.open_for(self.times_lately(now) + 1, draw, now),
            None => {}
        }
    }

    /// What its failures cost in the choice of an endpoint.
    pub fn penalty(&self, now: Duration) -> Duration {
        Duration::from_secs_f64(self.faded(now))
    }

    /// What is shown of it.
    pub fn state(&self, now: Duration) -> BreakerState {
        match (self.may(now), self.open) {
            (Permission::Yes, _) | (_, None) => BreakerState::Closed,
            (Permission::Probe, _) => BreakerState::HalfOpen,
            (Permission::No { .. }, Some(open)) if now >= open.until => BreakerState::HalfOpen,
            (Permission::No { until }, Some(_)) => BreakerState::Open {
                why: self.why.clone(),
                retry_ms: u64::try_from(until.saturating_sub(now).as_millis()).unwrap_or(u64::MAX),
            },
        }
    }

    fn open_for(&mut self, times: u32, draw: u32, now: Duration) {
        let doubled = FIRST.saturating_mul(1 << (times - 1).min(16)).min(LONGEST);
        // 0.8…1.2, so that many squads do not probe at the same moment.
        let jitter = 0.8 + 0.4 * f64::from(draw) / f64::from(u32::MAX);
        self.open = Some(Open {
            until: now + doubled.mul_f64(jitter),
            times,
            probe: None,
        });
    }

    /// An endpoint that is well for a moment and fails again is left alone for longer each time.
    fn times_lately(&self, now: Duration) -> u32 {
        match self.closed {
            Some((at, times)) if now < at + WINDOW => times,
            Some(_) | None => 0,
        }
    }

    fn is_bad(&self) -> bool {
        let well = self.window.iter().filter(|(_, well)| *well).count();
        let share_is_bad = self.window.len() >= LEAST && well * 2 < self.window.len();
        self.in_a_row >= IN_A_ROW || share_is_bad
    }

    fn push(&mut self, now: Duration, well: bool) {
        self.window.push_back((now, well));
        while self.window.len() > KEPT
            || self
                .window
                .front()
                .is_some_and(|(at, _)| *at + WINDOW < now)
        {
            self.window.pop_front();
        }
    }

    fn faded(&self, now: Duration) -> f64 {
        let seconds = now.saturating_sub(self.penalty_at).as_secs_f64();
        self.penalty * (-seconds / PENALTY_FADES).exp()
    }
}

/// The breakers of all endpoints and of the models on them.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    endpoints: BTreeMap<EndpointName, Breaker>,
    models: BTreeMap<(EndpointName, ModelName), Breaker>,
}

impl Breakers {
    /// Whether a request for a model may go to an endpoint: both levels must let it.
    pub fn may(&self, endpoint: &EndpointName, model: &ModelName, now: Duration) -> Permission {
        let above = self
            .endpoints
            .get(endpoint)
            .map_or(Permission::Yes, |it| it.may(now));
        let below = self
            .models
            .get(&(endpoint.clone(), model.clone()))
            .map_or(Permission::Yes, |it| it.may(now));
        match (above, below) {
            (Permission::No { until }, Permission::No { until: other }) => Permission::No {
                until: until.max(other),
            },
            (no @ Permission::No { .. }, _) | (_, no @ Permission::No { .. }) => no,
            (Permission::Probe, _) | (_, Permission::Probe) => Permission::Probe,
            (Permission::Yes, Permission::Yes) => Permission::Yes,
        }
    }

    /// The request goes there.
    pub fn goes(&mut self, endpoint: &EndpointName, model: &ModelName, now: Duration) {
        if let Some(breaker) = self.endpoints.get_mut(endpoint) {
            breaker.goes(now);
        }
        if let Some(breaker) = self.models.get_mut(&(endpoint.clone(), model.clone())) {
            breaker.goes(now);
        }
    }

    /// The endpoint answered for this model.
    pub fn succeeded(&mut self, endpoint: &EndpointName, model: &ModelName, now: Duration) {
        self.endpoint(endpoint).succeeded(now);
        self.model(endpoint, model).succeeded(now);
    }

    /// It did not. What says nothing about either leaves both as they are.
    pub fn failed(
        &mut self,
        (endpoint, model): (&EndpointName, &ModelName),
        failure: &Failure,
        draw: u32,
        now: Duration,
    ) {
        match failure.scope {
            Scope::Endpoint => {
                self.endpoint(endpoint).failed(&failure.why, draw, now);
                self.model(endpoint, model).undecided();
            }
            Scope::Model => {
                // It said something: the endpoint is there. Silence may be anybody's.
                if failure.kind == FailureKind::Stalled {
                    self.endpoint(endpoint).undecided();
                } else {
                    self.endpoint(endpoint).succeeded(now);
                }
                self.model(endpoint, model).failed(&failure.why, draw, now);
            }
            Scope::Request | Scope::None => self.undecided(endpoint, model),
        }
    }

    /// The request ended without saying anything about either.
    pub fn undecided(&mut self, endpoint: &EndpointName, model: &ModelName) {
        if let Some(breaker) = self.endpoints.get_mut(endpoint) {
            breaker.undecided();
        }
        if let Some(breaker) = self.models.get_mut(&(endpoint.clone(), model.clone())) {
            breaker.undecided();
        }
    }

    /// What failures there cost in the choice of an endpoint.
    pub fn penalty(&self, endpoint: &EndpointName, model: &ModelName, now: Duration) -> Duration {
        let above = self.endpoints.get(endpoint).map(|it| it.penalty(now));
        let key = (endpoint.clone(), model.clone());
        let below = self.models.get(&key).map(|it| it.penalty(now));
        above.unwrap_or_default() + below.unwrap_or_default()
    }

    /// What is shown of an endpoint's breaker.
    pub fn endpoint_state(&self, endpoint: &EndpointName, now: Duration) -> BreakerState {
        let breaker = self.endpoints.get(endpoint);
        breaker.map_or(BreakerState::Closed, |it| it.state(now))
    }

    /// What is shown of a model's breaker.
    pub fn model_state(
        &self,
        endpoint: &EndpointName,
        model: &ModelName,
        now: Duration,
    ) -> BreakerState {
        let breaker = self.models.get(&(endpoint.clone(), model.clone()));
        breaker.map_or(BreakerState::Closed, |it| it.state(now))
    }

    fn endpoint(&mut self, endpoint: &EndpointName) -> &mut Breaker {
        self.endpoints.entry(endpoint.clone()).or_default()
    }

    fn model(&mut self, endpoint: &EndpointName, model: &ModelName) -> &mut Breaker {
        let key = (endpoint.clone(), model.clone());
        if self.models.len() >= MOST && !self.models.contains_key(&key) {
            self.models.pop_first();
        }
        self.models.entry(key).or_default()
    }
}

#[path = "breaker_tests.rs"]
#[cfg(test)]
mod tests;
