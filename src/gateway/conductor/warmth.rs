//! How long a model is kept in memory by its endpoint when nobody asks for it.
//!
//! Ollama evicts the model with the shortest `keep_alive` first, so it is a priority as well: a
//! model that most of the recent requests went to stays longest, one that was asked once goes
//! first. It is set by our own loads only; what is written into traffic would change it while a
//! model is on its way out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;

/// Longer than a pause at the keyboard.
const LEAST: Duration = Duration::from_secs(1_800);
/// Shorter than a night.
const MOST: Duration = Duration::from_secs(4 * 3_600);
/// A request counts half as much after this.
const HALF_LIFE: Duration = Duration::from_secs(1_800);
/// Models that are remembered; the one asked least recently is forgotten.
const CAPACITY: usize = 64;

type Key = (EndpointName, ModelName);

/// Recent requests of each model, older ones counting less.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    counts: BTreeMap<Key, Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    requests: f64,
    at: Duration,
}

impl Count {
    fn at(&self, now: Duration) -> f64 {
        let halves = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.requests * (-halves).exp2()
    }
}

impl Warmth {
    /// Counts a request.
    pub(super) fn asked(&mut self, key: Key, now: Duration) {
        if self.counts.len() >= CAPACITY && !self.counts.contains_key(&key) {
            let coldest = self.counts.iter().min_by_key(|(_, count)| count.at);
            if let Some(coldest) = coldest.map(|(key, _)| key.clone()) {
                self.counts.remove(&coldest);
            }
        }
        let count = self.counts.entry(key).or_default();
        *count = Count {
            requests: count.at(now) + 1.0,
            at: now,
        };
    }

    /// What a load of the model says now: by its share of the endpoint's recent requests.
    pub(super) fn keep_alive(&self, key: &Key, now: Duration) -> Duration {
        let of = |wanted: &dyn Fn(&Key) -> bool| -> f64 {
            let counts = self.counts.iter().filter(|(key, _)| wanted(key));
            counts.map(|(_, count)| count.at(now)).sum()
        };
        let all = of(&|other| other.0 == key.0);
        let share = if all > 0.0 {
            of(&|other| other == key) / all
        } else {
            0.0
        };
        LEAST + (MOST.saturating_sub(LEAST)).mul_f64(share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(endpoint: &str, model: &str) -> Key {
        (endpoint.into(), ModelName::new(model))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_model_that_is_asked_most_stays_longest_and_each_endpoint_counts_for_itself() {
        let mut warmth = Warmth::default();
        for _ in 0..3 {
            warmth.asked(key("a", "often"), at(0));
        }
        warmth.asked(key("a", "once"), at(0));
        warmth.asked(key("b", "once"), at(0));
        let stays = |endpoint, model| warmth.keep_alive(&key(endpoint, model), at(0));
        assert_eq!(stays("b", "once"), MOST);
        assert!(stays("a", "often") > stays("a", "once"));
        assert!(stays("a", "once") > stays("a", "never"));
        assert_eq!(stays("a", "never"), LEAST);
    }

    #[test]
    fn what_was_asked_long_ago_counts_for_less() {
        let mut warmth = Warmth::default();
        for _ in 0..4 {
            warmth.asked(key("a", "morning"), at(0));
        }
        let noon = HALF_LIFE * 8;
        warmth.asked(key("a", "noon"), noon);
        let stays = |model| warmth.keep_alive(&key("a", model), noon);
        assert!(stays("noon") > stays("morning"));
    }

    #[test]
    fn no_more_models_are_remembered_than_there_is_place_for() {
        let mut warmth = Warmth::default();
        for number in 0..200_u64 {
            warmth.asked(key("a", &number.to_string()), at(number));
        }
        assert_eq!(warmth.counts.len(), CAPACITY);
        assert!(warmth.counts.contains_key(&key("a", "199")));
    }
}
