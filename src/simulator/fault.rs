//! Decides which request, load, unload or look gets which fault.
//!
//! Matches are counted where the fault happens: `nth = 2` of a load fault is the second load.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::request::Ask;
use super::scenario::{Every, FaultKind, FaultSpec, Stage};
use super::text::Numbers;
use crate::core::model::ModelName;

/// All faults of a scenario, with what they have seen.
pub(super) struct Faults {
    clock: Clock,
    faults: Mutex<Vec<Counted>>,
}

struct Counted {
    spec: FaultSpec,
    seen: u64,
    done: u64,
    numbers: Numbers,
}

/// Faults of loads that a request's load may meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LoadFaults(Vec<usize>);

impl Faults {
    pub(super) fn new(specs: &[FaultSpec], seed: u64, clock: Clock) -> Self {
        let mut seeds = Numbers::new(seed);
        let counted = specs.iter().map(|spec| Counted {
            spec: spec.clone(),
            seen: 0,
            done: 0,
            numbers: Numbers::new(seeds.next()),
        });
        Self {
            clock,
            faults: Mutex::new(counted.collect()),
        }
    }

    /// The fault of this request; the first one that applies.
    pub(super) fn of(&self, path: &str, ask: &Ask) -> Option<FaultSpec> {
        let now = self.clock.elapsed();
        let mut faults = self.lock();
        let mut chosen = None;
        for fault in faults.iter_mut().filter(|fault| fault.matches(path, ask)) {
            // Every fault counts every request that it matches, also those that another one takes.
            match fault.spec.kind.stage() {
                Stage::Request if fault.is_outage() => {}
                Stage::Request => {
                    if fault.is_due(now) && chosen.is_none() {
                        fault.done += 1;
                        chosen = Some(fault.spec.clone());
                    }
                }
                Stage::Catalogue if !fault.spec.is_timed() => {
                    if fault.is_due(now) {
                        fault.done += 1;
                    }
                }
                Stage::Catalogue | Stage::Load | Stage::Unload | Stage::Ps => {}
            }
        }
        chosen
    }

    /// The load faults that this request's load may meet.
    pub(super) fn loads(&self, path: &str, ask: &Ask) -> LoadFaults {
        let faults = self.lock();
        let mut loads = LoadFaults::default();
        for (index, fault) in faults.iter().enumerate() {
            if fault.spec.kind.stage() == Stage::Load && fault.matches(path, ask) {
                loads.0.push(index);
            }
        }
        loads
    }

    /// The fault of a load that begins.
    pub(super) fn load(&self, candidates: &LoadFaults) -> Option<FaultSpec> {
        let is_candidate = |index: usize, _: &Counted| candidates.0.contains(&index);
        self.choose(is_candidate)
    }

    /// The fault of an unload that begins.
    pub(super) fn unload(&self, model: &str) -> Option<FaultSpec> {
        self.choose(|_, fault| fault.spec.kind.stage() == Stage::Unload && fault.is_about(model))
    }

    /// How old the answer of this look at `/api/ps` is.
    pub(super) fn ps_lag(&self) -> Option<Duration> {
        let fault = self.choose(|_, fault| fault.spec.kind == FaultKind::PsLag)?;
        // An interval at which clients look; anything above it is seen.
        Some(fault.duration.unwrap_or(Duration::from_secs(5)))
    }

    /// What has become of a model; the first that applies.
    pub(super) fn catalogue(&self, model: &str) -> Option<FaultSpec> {
        let now = self.clock.elapsed();
        let faults = self.lock();
        let found = faults.iter().find(|fault| {
            fault.spec.kind.stage() == Stage::Catalogue
                && fault.is_about(model)
                && if fault.spec.is_timed() {
                    fault.spec.is_open(now)
                } else {
                    fault.done > 0
                }
        });
        found.map(|fault| fault.spec.clone())
    }

    /// The next time that the server is gone, in the scenario's time: from, until.
    pub(super) fn outage(&self) -> Option<(Duration, Duration)> {
        let now = self.clock.elapsed();
        let faults = self.lock();
        let outages = faults.iter().filter(|fault| fault.is_outage());
        outages.filter_map(|fault| fault.spec.window(now)).min()
    }

    fn choose(&self, concerns: impl Fn(usize, &Counted) -> bool) -> Option<FaultSpec> {
        let now = self.clock.elapsed();
        let mut chosen = None;
        for (index, fault) in self.lock().iter_mut().enumerate() {
            if concerns(index, fault) && fault.is_due(now) && chosen.is_none() {
                fault.done += 1;
                chosen = Some(fault.spec.clone());
            }
        }
        chosen
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Counted>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn is_about(&self, model: &str) -> bool {
        let only = self.spec.model.as_deref();
        only.is_none_or(|only| ModelName::new(only).is_same(&ModelName::new(model)))
    }

    /// Whether the server's absence is planned by time alone.
    fn is_outage(&self) -> bool {
        self.spec.kind == FaultKind::Down && self.spec.is_timed() && self.spec.model.is_none()
    }

    fn matches(&self, path: &str, ask: &Ask) -> bool {
        let spec = &self.spec;
        let says = |text: &String| ask.messages.iter().any(|m| m.content.contains(text));
        spec.path.as_deref().is_none_or(|only| only == path)
            && self.is_about(&ask.model)
            && spec.prompt.as_ref().is_none_or(says)
    }

    fn is_due(&mut self, now: Duration) -> bool {
        let spec = &self.spec;
        if !spec.is_open(now) {
            return false;
        }
        self.seen += 1;
        let drawn = spec
            .probability
            .map(|share| self.numbers.fraction() < share);
        let is_turn = match spec.every {
            Some(Every::Matches(every)) => every > 0 && self.seen.is_multiple_of(every),
            Some(Every::Period(_)) | None => true,
        };
        spec.times.is_none_or(|times| self.done < times)
            && spec.nth.is_none_or(|nth| self.seen == nth)
            && is_turn
            && drawn.unwrap_or(true)
    }
}
