//! The words and values that options accept, so that help and refusal come from one place.

use std::time::Duration;

use crate::core::dispatch::DispatchSettings;
use crate::core::dispatch::simulation::Strategy;
use crate::core::router;
use crate::core::task::{Category, Mode};

/// How Aider works.
pub const MODES: [&str; 3] = Mode::WORDS;

/// Kinds of work.
pub const CATEGORIES: [&str; 7] = Category::WORDS;

/// Urgencies, the highest first.
pub const PRIORITIES: [&str; 5] = ["critical", "high", "normal", "low", "background"];

/// How far a task goes by itself.
pub const AUTONOMIES: [&str; 2] = ["review", "merge"];

/// How a task is merged.
pub const STRATEGIES: [&str; 3] = ["squash", "merge", "rebase"];

/// States of a task.
pub const STATES: [&str; 13] = [
    "blocked",
    "queued",
    "assigned",
    "running",
    "verifying",
    "review",
    "merging",
    "merged",
    "discarded",
    "failed",
    "dead",
    "cancelled",
    "expired",
];

/// `90s`, `5m`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; for example 90s or 5m"))
}

/// A duration that is not zero.
pub fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() {
        return Err("more than 0; for example 500ms or 15s".to_owned());
    }
    Ok(time)
}

/// `section.key=value`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE, for example agents.max=3".to_owned()),
    }
}

/// An order of service of `route replay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOfService {
    /// As it was.
    Recorded,
    /// As this would have done it.
    Simulated(Strategy),
    /// With the models and endpoints that this strategy of the router would have chosen, and the
    /// dispatcher's order.
    Routed(router::Strategy),
}

/// Orders of service that `route replay` compares.
pub const ORDERS: [&str; 5] = ["recorded", "unpinned-fifo", "fifo", "collate", "quantum"];

/// `fifo`, `quantum`, `quantum-8`.
pub fn order_of_service(text: &str) -> Result<OrderOfService, String> {
    let strategy = match text {
        "recorded" => return Ok(OrderOfService::Recorded),
        "unpinned-fifo" => Strategy::UnpinnedFifo,
        "fifo" => Strategy::Fifo,
        "collate" => Strategy::Collate,
        "quantum" => Strategy::Quantum(DispatchSettings::default().quantum),
        other => {
            if let Some(strategy) = router::Strategy::from_word(other) {
                return Ok(OrderOfService::Routed(strategy));
            }
            let quantum = other.strip_prefix("quantum-").and_then(|k| k.parse().ok());
            let quantum = quantum.filter(|k| (1..=1000).contains(k));
            Strategy::Quantum(quantum.ok_or_else(|| {
                format!(
                    "one of {}, {}; quantum-8 for a quantum of 8 swaps",
                    ORDERS.join(", "),
                    router::Strategy::WORDS.join(", ")
                )
            })?)
        }
    };
    Ok(OrderOfService::Simulated(strategy))
}

/// The value of one of our own words: they are the names that serde knows.
pub fn value<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::MergeStrategy;
    use crate::core::task::{Autonomy, Priority, TaskState};

    #[test]
    fn every_word_is_one_that_tasks_know() {
        assert!(MODES.iter().all(|word| value::<Mode>(word).is_some()));
        assert!(
            CATEGORIES
                .iter()
                .all(|word| value::<Category>(word).is_some())
        );
        assert!(
            PRIORITIES
                .iter()
                .all(|word| value::<Priority>(word).is_some())
        );
        assert!(
            AUTONOMIES
                .iter()
                .all(|word| value::<Autonomy>(word).is_some())
        );
        assert!(
            STRATEGIES
                .iter()
                .all(|word| value::<MergeStrategy>(word).is_some())
        );
        assert_eq!(MODES, Mode::ALL.map(Mode::as_str));
        assert_eq!(CATEGORIES, Category::ALL.map(Category::as_str));
        assert_eq!(STATES, TaskState::ALL.map(TaskState::as_str));
        assert!(value::<Mode>("think").is_none());
    }

    #[test]
    fn some_time_is_not_none() {
        assert_eq!(some_time("15s"), Ok(Duration::from_secs(15)));
        for text in ["0s", "0ms"] {
            assert!(some_time(text).unwrap_err().contains("more than 0"));
        }
    }
}
