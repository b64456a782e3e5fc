//! Which endpoint will have finished a request first: the sum of what is expected to pass until
//! then, term by term, so that the choice can be explained.
//!
//! With a handful of endpoints all of them are looked at; drawing two at random and taking the
//! better one is for fleets in which nobody knows everything.
//!
//! Invariant: pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::Runner;

/// What is known of one endpoint for one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The runner that would serve it.
    pub runner: Runner,
    /// What is served before it.
    pub queue: Duration,
    /// Loading the model, zero where it is resident.
    pub load: Duration,
    /// Unloading what has to go for it, and loading that again later.
    pub evict: Duration,
    /// Reading the whole prompt.
    pub prefill: Duration,
    /// Share of the prompt that need not be read, 0…1.
    pub hit: f64,
    /// Writing the answer.
    pub decode: Duration,
    /// What failures there cost.
    pub penalty: Duration,
}

/// The terms of one candidate, milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The endpoint.
    pub endpoint: String,
    /// What is served before it.
    pub queue: u64,
    /// Loading the model.
    pub load: u64,
    /// Unloading what has to go for it.
    pub evict: u64,
    /// Reading what is not cached.
    pub prefill: u64,
    /// Writing.
    pub decode: u64,
    /// Failures.
    pub penalty: u64,
}

impl Terms {
    /// Of one candidate.
    fn of(candidate: &Candidate) -> Self {
        let unread = (1.0 - candidate.hit).clamp(0.0, 1.0);
        Self {
            endpoint: candidate.runner.endpoint.to_string(),
            queue: millis(candidate.queue),
            load: millis(candidate.load),
            evict: millis(candidate.evict),
            prefill: millis(candidate.prefill.mul_f64(unread)),
            decode: millis(candidate.decode),
            penalty: millis(candidate.penalty),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.queue + self.load + self.evict + self.prefill + self.decode + self.penalty
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ms (queue {}, load {}, evict {}, prefill {}, decode {}, failures {})",
            self.endpoint,
            self.total(),
            self.queue,
            self.load,
            self.evict,
            self.prefill,
            self.decode,
            self.penalty
        )
    }
}

/// A choice with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which candidate.
    pub index: usize,
    /// The terms of all candidates, in their order.
    pub terms: Vec<Terms>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, terms) in self.terms.iter().enumerate() {
            let mark = if index == self.index { "" } else { "not " };
            let gap = if index == 0 { "" } else { ", " };
            write!(f, "{gap}{mark}{terms}")?;
        }
        Ok(())
    }
}

/// The candidate that is expected to be complete first; of equals the first.
pub fn choose(candidates: &[Candidate]) -> Option<Choice> {
    let terms: Vec<Terms> = candidates.iter().map(Terms::of).collect();
    let (index, _) = terms
        .iter()
        .enumerate()
        .min_by_key(|(index, terms)| (terms.total(), *index))?;
    Some(Choice { index, terms })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(endpoint: &str) -> Candidate {
        Candidate {
            runner: Runner {
                endpoint: endpoint.into(),
                model: "m".into(),
                context: 8_192,
            },
            queue: Duration::ZERO,
            load: Duration::ZERO,
            evict: Duration::ZERO,
            prefill: Duration::from_secs(4),
            hit: 0.0,
            decode: Duration::from_secs(6),
            penalty: Duration::ZERO,
        }
    }

    fn chosen(candidates: &[Candidate]) -> usize {
        choose(candidates).unwrap().index
    }

    #[test]
    fn a_warm_endpoint_is_better_than_an_empty_one_until_its_queue_costs_more_than_the_load() {
        let cold = Candidate {
            load: Duration::from_secs(15),
            ..candidate("cold")
        };
        let busy = |seconds| Candidate {
            queue: Duration::from_secs(seconds),
            ..candidate("warm")
        };
        assert_eq!(chosen(&[cold.clone(), busy(14)]), 1);
        assert_eq!(chosen(&[cold, busy(16)]), 0);
    }

    #[test]
    fn a_conversation_stays_where_it_was_read_until_that_costs_more_than_reading_it_again() {
        let read = |queue| Candidate {
            hit: 1.0,
            queue: Duration::from_secs(queue),
            ..candidate("read")
        };
        assert_eq!(chosen(&[candidate("other"), read(3)]), 1);
        assert_eq!(chosen(&[candidate("other"), read(5)]), 0);
    }

    #[test]
    fn failures_that_answer_fast_do_not_attract() {
        let failing = Candidate {
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            penalty: Duration::from_secs(30),
            ..candidate("failing")
        };
        assert_eq!(chosen(&[failing, candidate("slow")]), 1);
        assert_eq!(choose(&[]), None);
    }
}
