//! Decides which request gets which fault.

use std::sync::{Mutex, PoisonError};

use super::request::Ask;
use super::scenario::FaultSpec;
use super::text::Numbers;

/// All faults of a scenario, with what they have seen.
pub(super) struct Faults {
    faults: Mutex<Vec<Counted>>,
}

struct Counted {
    spec: FaultSpec,
    seen: u64,
    done: u64,
    numbers: Numbers,
}

impl Faults {
    pub(super) fn new(specs: &[FaultSpec], seed: u64) -> Self {
        let mut seeds = Numbers::new(seed);
        let counted = specs.iter().map(|spec| Counted {
            spec: spec.clone(),
            seen: 0,
            done: 0,
            numbers: Numbers::new(seeds.next()),
        });
        Self {
            faults: Mutex::new(counted.collect()),
        }
    }

    /// The fault of this request; the first one that applies.
    pub(super) fn of(&self, path: &str, ask: &Ask) -> Option<FaultSpec> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chosen = None;
        for fault in faults.iter_mut().filter(|fault| fault.matches(path, ask)) {
            // Every fault counts every request that it matches, also those that another one takes.
            let is_due = fault.is_due();
            if is_due && chosen.is_none() {
                fault.done += 1;
                chosen = Some(fault.spec.clone());
            }
        }
        chosen
    }
}

impl Counted {
    fn matches(&self, path: &str, ask: &Ask) -> bool {
        let spec = &self.spec;
        let says = |text: &String| ask.messages.iter().any(|m| m.content.contains(text));
        spec.path.as_deref().is_none_or(|only| only == path)
            && spec.model.as_deref().is_none_or(|only| only == ask.model)
            && spec.prompt.as_ref().is_none_or(says)
    }

    fn is_due(&mut self) -> bool {
        self.seen += 1;
        let spec = &self.spec;
        let drawn = spec
            .probability
            .map(|share| self.numbers.fraction() < share);
        spec.times.is_none_or(|times| self.done < times)
            && spec.nth.is_none_or(|nth| self.seen == nth)
            && spec
                .every
                .is_none_or(|every| every > 0 && self.seen.is_multiple_of(every))
            && drawn.unwrap_or(true)
    }
}
