//! Histograms of what passed the gateway: waits, times and rates by model, endpoint, agent and
//! kind of work.
//!
//! Invariant: memory is bounded. A histogram takes some kilobytes, and of more than
//! `SERIES_MAX` series of one kind the one that was quiet longest is given up and counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::core::AgentSlot;
use crate::core::endpoint::EndpointName;
use crate::core::measurement::{Figures, MeasurementReport, Quantiles};
use crate::core::model::ModelName;
use crate::core::served::{Outcome, Served};

/// Series of one kind: more models or agents than anybody has.
const SERIES_MAX: usize = 128;
/// Two significant digits: within one percent.
const DIGITS: u8 = 2;
/// Longer than an hour is an hour, µs.
const TIME_MAX: u64 = 3_600_000_000;
/// Ollama times phases in nanoseconds but a runner answers in milliseconds; what is shorter, µs,
/// gives no rate.
const PHASE_LEAST: u64 = 1_000;
/// Rates are counted in tenths of a token a second, up to this.
const RATE_MAX: u64 = 10_000_000;

/// All that was measured since the server started.
#[derive(Debug, Default)]
pub struct Measurements {
    all: Series,
    models: Kind<ModelName>,
    endpoints: Kind<EndpointName>,
    places: Kind<(EndpointName, ModelName)>,
    agents: Kind<AgentSlot>,
    categories: Kind<String>,
    dropped: u64,
}

/// The series of one kind.
#[derive(Debug)]
struct Kind<K> {
    by_key: BTreeMap<K, Series>,
    /// Counts records, to know who was quiet longest.
    turn: u64,
}

#[derive(Debug, Default)]
struct Series {
    turn: u64,
    counts: Figures,
    queue: Spread,
    load: Spread,
    first_token: Spread,
    total: Spread,
    prefill: Spread,
    decode: Spread,
}

/// One histogram; it takes memory from its first value on.
#[derive(Debug, Default)]
struct Spread(Option<Histogram<u32>>);

impl Measurements {
    /// Takes in a request that has ended.
    pub fn record(&mut self, served: &Served) {
        self.all.record(served);
        let category = served.category.as_str().to_owned();
        let place = (served.endpoint.clone(), served.model.clone());
        self.dropped += self.models.record(served.model.clone(), served)
            + self.endpoints.record(served.endpoint.clone(), served)
            + self.places.record(place, served)
            + self.categories.record(category, served);
        if let Some(agent) = served.agent {
            self.dropped += self.agents.record(agent, served);
        }
    }

    /// Everything, summed up; what the recorder does is its owner's to add.
    pub fn report(&self) -> MeasurementReport {
        MeasurementReport {
            all: self.all.figures(),
            models: self.models.figures(),
            endpoints: self.endpoints.figures(),
            places: by_endpoint(self.places.figures()),
            agents: self.agents.figures(),
            categories: self.categories.figures(),
            dropped_series: self.dropped,
            ..MeasurementReport::default()
        }
    }
}

fn by_endpoint(
    places: BTreeMap<(EndpointName, ModelName), Figures>,
) -> BTreeMap<EndpointName, BTreeMap<ModelName, Figures>> {
    let mut all: BTreeMap<EndpointName, BTreeMap<ModelName, Figures>> = BTreeMap::new();
    for ((endpoint, model), figures) in places {
        all.entry(endpoint).or_default().insert(model, figures);
    }
    all
}

impl<K> Default for Kind<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            turn: 0,
        }
    }
}

impl<K: Ord + Clone> Kind<K> {
    /// How many series had to go for it.
    fn record(&mut self, key: K, served: &Served) -> u64 {
        let mut gone = 0;
        if self.by_key.len() >= SERIES_MAX && !self.by_key.contains_key(&key) {
            let quietest = self.by_key.iter().min_by_key(|(_, series)| series.turn);
            if let Some(quietest) = quietest.map(|(key, _)| key.clone()) {
                self.by_key.remove(&quietest);
                gone = 1;
            }
        }
        self.turn += 1;
        let series = self.by_key.entry(key).or_default();
        series.turn = self.turn;
        series.record(served);
        gone
    }

    fn figures(&self) -> BTreeMap<K, Figures> {
        let all = self.by_key.iter();
        all.map(|(key, series)| (key.clone(), series.figures()))
            .collect()
    }
}

impl Series {
    fn record(&mut self, served: &Served) {
        self.count(served);
        // A refusal takes no time: among the times it would only hide the others.
        if matches!(served.outcome, Outcome::Refused { .. }) {
            return;
        }
        self.queue.time(served.queue_us);
        if served.load_us > 0 {
            self.load.time(served.load_us);
        }
        if let Some(first) = served.first_token_us {
            self.first_token.time(first);
        }
        if served.outcome.is_answered() {
            self.total.time(served.total_us);
        }
        let read = served.prompt_tokens.saturating_sub(served.cached_tokens);
        self.prefill.rate(read, served.prefill_us);
        self.decode.rate(served.output_tokens, served.decode_us);
    }

    fn count(&mut self, served: &Served) {
        let counts = &mut self.counts;
        counts.requests += 1;
        match &served.outcome {
            Outcome::Done | Outcome::Length => counts.answered += 1,
            Outcome::Cancelled => counts.cancelled += 1,
            Outcome::Refused { .. } => counts.refused += 1,
            Outcome::Failed { .. } | Outcome::Broken { .. } => counts.failed += 1,
        }
        counts.cut += u64::from(served.cut);
        counts.retried += u64::from(served.tries > 1);
        counts.prompt_tokens += served.prompt_tokens;
        counts.cached_tokens += served.cached_tokens;
        counts.output_tokens += served.output_tokens;
    }

    fn figures(&self) -> Figures {
        Figures {
            queue_ms: self.queue.quantiles(1_000.0),
            load_ms: self.load.quantiles(1_000.0),
            first_token_ms: self.first_token.quantiles(1_000.0),
            total_ms: self.total.quantiles(1_000.0),
            prefill_rate: self.prefill.quantiles(10.0),
            decode_rate: self.decode.quantiles(10.0),
            ..self.counts.clone()
        }
    }
}

impl Spread {
    fn time(&mut self, micros: u64) {
        self.add(micros.min(TIME_MAX));
    }

    /// `tokens` in `micros`, where both are enough to tell a rate.
    fn rate(&mut self, tokens: u64, micros: u64) {
        if tokens > 0 && micros >= PHASE_LEAST {
            let tenths = u128::from(tokens) * 10_000_000 / u128::from(micros);
            self.add(u64::try_from(tenths).unwrap_or(RATE_MAX).min(RATE_MAX));
        }
    }

    fn add(&mut self, value: u64) {
        if self.0.is_none() {
            self.0 = Histogram::new(DIGITS).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.auto(true);
            if let Err(error) = histogram.record(value) {
                tracing::debug!(%error, value, "a measurement does not fit its histogram");
            }
        }
    }

    /// The quantiles, divided by `unit`.
    fn quantiles(&self, unit: f64) -> Quantiles {
        let Some(histogram) = &self.0 else {
            return Quantiles::default();
        };
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
        Quantiles {
            count: histogram.len(),
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn served(model: &str, total_ms: u64) -> Served {
        serde_json::from_value(serde_json::json!({
            "id": 1, "at": 0, "client": "c", "agent": 2, "category": "coding",
            "model": model, "endpoint": "e",
            "queue_us": 1_000 * total_ms / 2, "first_token_us": 1_000 * total_ms * 3 / 4,
            "total_us": 1_000 * total_ms,
            "prompt_tokens": 1_000, "cached_tokens": 200, "prefill_us": 400_000,
            "output_tokens": 50, "decode_us": 1_000_000, "tries": 1,
            "outcome": {"ended": "done"},
        }))
        .unwrap()
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.01
    }

    #[test]
    fn the_quantiles_of_a_known_spread_are_right_within_one_percent() {
        let mut measurements = Measurements::default();
        for total in 1..=1_000 {
            measurements.record(&served("m:1b", total));
        }
        let report = measurements.report();
        let figures = report.models.values().next().unwrap();
        let total = figures.total_ms;
        assert_eq!(total.count, 1_000);
        assert!(near(total.p50, 500.0), "{total:?}");
        assert!(near(total.p95, 950.0), "{total:?}");
        assert!(near(total.p99, 990.0), "{total:?}");
        assert!(near(figures.queue_ms.p50, 250.0));
        assert!(near(figures.first_token_ms.p50, 375.0));
        // 800 tokens were read in 0.4 s, 50 generated in one.
        assert!(near(figures.prefill_rate.p50, 2_000.0));
        assert!(near(figures.decode_rate.p50, 50.0));
        assert_eq!(figures.load_ms.count, 0);
    }

    #[test]
    fn each_request_counts_for_its_model_endpoint_agent_and_kind_of_work() {
        let mut measurements = Measurements::default();
        measurements.record(&served("a:1b", 5));
        measurements.record(&served("b:1b", 5));
        let report = measurements.report();
        assert_eq!(report.all.requests, 2);
        assert_eq!(report.models.len(), 2);
        assert_eq!(report.endpoints[&EndpointName::from("e")].requests, 2);
        assert_eq!(report.agents[&AgentSlot(2)].answered, 2);
        assert_eq!(report.categories["coding"].output_tokens, 100);
    }

    #[test]
    fn a_model_has_its_own_figures_on_each_endpoint() {
        let mut measurements = Measurements::default();
        let on = |endpoint: &str, total| Served {
            endpoint: endpoint.into(),
            ..served("a:1b", total)
        };
        measurements.record(&on("fast", 100));
        measurements.record(&on("slow", 900));
        let report = measurements.report();
        let total = |endpoint: &str| {
            let figures = report.place(&endpoint.into(), &"a:1b".into());
            figures.map(|figures| figures.total_ms)
        };
        assert!(near(total("fast").unwrap().p50, 100.0));
        assert!(near(total("slow").unwrap().p50, 900.0));
        assert_eq!(total("idle"), None);
        assert_eq!(report.place(&"fast".into(), &"b:1b".into()), None);
    }

    #[test]
    fn what_failed_or_was_refused_does_not_make_a_model_look_fast() {
        let mut measurements = Measurements::default();
        let mut refused = served("a:1b", 0);
        refused.outcome = Outcome::Refused { why: "no".into() };
        let mut failed = served("a:1b", 1);
        failed.outcome = Outcome::Failed { why: "no".into() };
        failed.first_token_us = None;
        measurements.record(&refused);
        measurements.record(&failed);
        let all = measurements.report().all;
        assert_eq!((all.refused, all.failed, all.answered), (1, 1, 0));
        assert_eq!((all.total_ms.count, all.first_token_ms.count), (0, 0));
        assert_eq!(all.queue_ms.count, 1);
    }

    #[test]
    fn of_too_many_series_the_quietest_goes_and_is_counted() {
        let mut measurements = Measurements::default();
        for model in 0..=SERIES_MAX {
            measurements.record(&served(&format!("m{model}:1b"), 1));
            measurements.record(&served("m0:1b", 1));
        }
        let report = measurements.report();
        assert_eq!(report.models.len(), SERIES_MAX);
        // The model, and the model there.
        assert_eq!(report.dropped_series, 2);
        assert!(report.models.contains_key(&ModelName::new("m0:1b")));
        assert!(!report.models.contains_key(&ModelName::new("m1:1b")));
    }

    #[test]
    fn hours_and_nonsense_are_taken_in_without_growing() {
        let mut measurements = Measurements::default();
        measurements.record(&served("a:1b", u64::MAX / 10_000));
        let total = measurements.report().all.total_ms;
        assert!(near(total.p99, 3_600_000.0), "{total:?}");
    }
}
