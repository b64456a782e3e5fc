//! What was measured of all requests that passed the gateway since the server started, summed up.
//!
//! The single requests are in the flight recorder's file ([`super::served`]); this is what a
//! person looks at.
//!
//! Invariant: pure data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointName;
use super::ids::AgentSlot;
use super::model::ModelName;

/// Everything that was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeasurementReport {
    /// All requests.
    pub all: Figures,
    /// By model, wherever it ran.
    pub models: BTreeMap<ModelName, Figures>,
    /// By endpoint.
    pub endpoints: BTreeMap<EndpointName, Figures>,
    /// By model on each endpoint: machines differ, and so does the same model on them.
    pub places: BTreeMap<EndpointName, BTreeMap<ModelName, Figures>>,
    /// By agent's slot.
    pub agents: BTreeMap<AgentSlot, Figures>,
    /// By the word of the kind of work.
    pub categories: BTreeMap<String, Figures>,
    /// Series that were given up because there were too many.
    pub dropped_series: u64,
    /// The flight recorder.
    pub recorder: RecorderReport,
}

impl MeasurementReport {
    /// What was measured of a model on an endpoint; none where it served nothing there.
    pub fn place(&self, endpoint: &EndpointName, model: &ModelName) -> Option<&Figures> {
        self.places.get(endpoint)?.get(model)
    }
}

/// What was measured of some requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Requests that ended.
    pub requests: u64,
    /// Of them, those with a whole answer.
    pub answered: u64,
    /// Of them, those that failed, in part or whole.
    pub failed: u64,
    /// Of them, those refused without asking an endpoint.
    pub refused: u64,
    /// Of them, those whose client went away.
    pub cancelled: u64,
    /// Of them, those whose prompt was cut by the endpoint.
    pub cut: u64,
    /// Requests that were sent more than once.
    pub retried: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of them, those that were in a cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// From arrival until a slot was free, milliseconds.
    pub queue_ms: Quantiles,
    /// Waiting for a load, of the requests that waited for one, milliseconds.
    pub load_ms: Quantiles,
    /// From arrival to the first token, milliseconds.
    pub first_token_ms: Quantiles,
    /// From arrival to the end, milliseconds.
    pub total_ms: Quantiles,
    /// Reading the prompt, tokens a second, those in a cache apart.
    pub prefill_rate: Quantiles,
    /// Generating, tokens a second.
    pub decode_rate: Quantiles,
}

/// Where the middle and the tail of many measurements lie, within one percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Measurements; with none the rest says nothing.
    pub count: u64,
    /// Half are not above.
    pub p50: f64,
    /// 95 of 100 are not above.
    pub p95: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
}

/// The flight recorder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecorderReport {
    /// Requests written since the server started.
    pub written: u64,
    /// Requests that were not: the disk was too slow, or refused.
    pub lost: u64,
    /// What the disk says, while it refuses.
    pub fault: Option<String>,
}

impl Quantiles {
    /// `p50/p95/p99`, each as `form` writes it; nothing when nothing was measured.
    pub fn words(&self, form: impl Fn(f64) -> String) -> Option<String> {
        (self.count > 0).then(|| {
            let [p50, p95, p99] = [self.p50, self.p95, self.p99].map(form);
            format!("{p50}/{p95}/{p99}")
        })
    }
}

/// Milliseconds as a person reads them: `640ms`, `2.4s`, `95s`, `12m`.
pub fn brief(millis: f64) -> String {
    if millis < 999.5 {
        format!("{millis:.0}ms")
    } else if millis < 9_950.0 {
        format!("{:.1}s", millis / 1_000.0)
    } else if millis < 599_500.0 {
        format!("{:.0}s", millis / 1_000.0)
    } else {
        format!("{:.0}m", millis / 60_000.0)
    }
}

/// Tokens a second as a person reads them.
pub fn rate(tokens: f64) -> String {
    if tokens < 9.95 {
        format!("{tokens:.1}")
    } else {
        format!("{tokens:.0}")
    }
}

impl fmt::Display for RecorderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests recorded", self.written)?;
        if self.lost > 0 {
            write!(f, ", {} lost", self.lost)?;
        }
        match &self.fault {
            Some(fault) => write!(f, " ({fault})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_at_a_glance() {
        let table = [
            (0.4, "0ms"),
            (640.0, "640ms"),
            (2_400.0, "2.4s"),
            (9_999.0, "10s"),
            (95_000.0, "95s"),
            (720_000.0, "12m"),
        ];
        for (millis, expected) in table {
            assert_eq!(brief(millis), expected);
        }
    }

    #[test]
    fn nothing_measured_says_nothing() {
        assert_eq!(Quantiles::default().words(brief), None);
        let some = Quantiles {
            count: 1,
            p50: 10.0,
            p95: 20.0,
            p99: 30.0,
        };
        assert_eq!(some.words(brief).unwrap(), "10ms/20ms/30ms");
    }

    #[test]
    fn a_recorder_that_loses_says_so() {
        let report = RecorderReport {
            written: 3,
            lost: 2,
            fault: Some("no space".into()),
        };
        assert_eq!(report.to_string(), "3 requests recorded, 2 lost (no space)");
    }

    #[test]
    fn a_report_without_fields_is_an_empty_one() {
        let report: MeasurementReport = serde_json::from_str("{}").unwrap();
        assert_eq!(report, MeasurementReport::default());
    }
}
