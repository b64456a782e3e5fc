//! Why a task got the model it got, as it is stored and shown.
//!
//! Invariant: bounded: at most [`OTHERS_MAX`] alternatives and [`REJECTED_MAX`] refusals, whatever
//! is installed. Numbers are whole, so that what is stored can be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::strategy::{Strategy, time_cost};
use crate::core::task::Category;

/// Alternatives kept, the best ones.
pub(super) const OTHERS_MAX: usize = 4;
/// Refused places kept.
pub(super) const REJECTED_MAX: usize = 5;

/// One choice, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// What chose.
    pub strategy: Strategy,
    /// The strategies that would have chosen the same model.
    #[serde(default)]
    pub agreed: Vec<Strategy>,
    /// The kind of work it was chosen for.
    pub category: Category,
    /// Why, in words.
    pub why: String,
    /// What was chosen.
    pub chosen: Considered,
    /// What else there was, the best first.
    #[serde(default)]
    pub others: Vec<Considered>,
    /// What could not be used.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
    /// How many more could not be used.
    #[serde(default)]
    pub rejected_more: u32,
    /// The edit format that was chosen for the model and the files.
    #[serde(default)]
    pub edit_format: Option<String>,
}

/// A place that could be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The endpoint.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// Predicted wait for other requests, milliseconds.
    pub wait_ms: u64,
    /// Predicted unloading and loading, milliseconds.
    pub load_ms: u64,
    /// Predicted work on the requests of the task, milliseconds.
    pub service_ms: u64,
    /// Share of such tasks that the model is believed to finish well, in thousandths.
    pub success: u16,
    /// How likely this model was to be chosen, in thousandths; none where nothing is drawn.
    #[serde(default)]
    pub chance: Option<u16>,
}

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.model, self.endpoint)?;
        write!(f, "{} wait, ", seconds(self.wait_ms))?;
        write!(f, "{} load, ", seconds(self.load_ms))?;
        write!(f, "{} work, ", seconds(self.service_ms))?;
        write!(f, "{} success", percent(self.success))?;
        match self.chance {
            Some(chance) => write!(f, ", model chosen in {}", percent(chance)),
            None => Ok(()),
        }
    }
}

/// A place that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The endpoint.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// Why.
    pub why: String,
}

impl Routing {
    /// Why, and what decided so where the reason does not name it.
    pub fn reason(&self) -> String {
        match self.strategy {
            Strategy::Fastest | Strategy::MostCapable | Strategy::Named => self.why.clone(),
            Strategy::RoundRobin
            | Strategy::LeastLoaded
            | Strategy::Random
            | Strategy::Performance
            | Strategy::Affinity
            | Strategy::Hybrid => format!("{} ({})", self.why, self.strategy.as_str()),
        }
    }

    /// What the predicted time of the choice costs, in units of success.
    pub fn cost(&self) -> f64 {
        let Considered {
            wait_ms,
            load_ms,
            service_ms,
            ..
        } = &self.chosen;
        let all = [wait_ms, load_ms, service_ms].map(|millis| *millis as f64);
        time_cost(all.iter().sum(), *load_ms as f64)
    }

    /// One line: what decided, and what it costs.
    pub fn summary(&self) -> String {
        let Considered {
            wait_ms,
            load_ms,
            success,
            ..
        } = &self.chosen;
        let (wait, load) = (seconds(*wait_ms), seconds(*load_ms));
        let success = percent(*success);
        format!("{}; {wait} wait, {load} load, {success} success", self.why)
    }
}

/// `120 ms`, `4.2 s`.
fn seconds(millis: u64) -> String {
    if millis < 1_000 {
        return format!("{millis} ms");
    }
    format!("{:.1} s", millis as f64 / 1_000.0)
}

/// Of thousandths: `58 %`.
fn percent(thousandths: u16) -> String {
    format!("{} %", (thousandths + 5) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_its_strategy_once() {
        let routing = |strategy: &str, why: &str| -> Routing {
            serde_json::from_value(serde_json::json!({
                "strategy": strategy, "category": "coding", "why": why,
                "chosen": {"endpoint": "gpu", "model": "m:7b", "wait_ms": 0, "load_ms": 0,
                    "service_ms": 0, "success": 0},
            }))
            .unwrap()
        };
        let table = [
            ("named", "named by the task", "named by the task"),
            ("fastest", "the soonest answer", "the soonest answer"),
            (
                "least-loaded",
                "the least wait",
                "the least wait (least-loaded)",
            ),
        ];
        for (strategy, why, expected) in table {
            assert_eq!(routing(strategy, why).reason(), expected);
        }
    }

    #[test]
    fn an_alternative_is_said_in_times_and_shares() {
        let considered = Considered {
            endpoint: "gpu".into(),
            model: "coder:7b".into(),
            wait_ms: 120,
            load_ms: 4_200,
            service_ms: 31_000,
            success: 584,
            chance: Some(915),
        };
        assert_eq!(
            considered.to_string(),
            "coder:7b on gpu: 120 ms wait, 4.2 s load, 31.0 s work, 58 % success, model chosen in 92 %"
        );
    }
}
