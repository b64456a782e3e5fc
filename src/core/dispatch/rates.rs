//! How fast models read and write on each endpoint, learned per token.
//!
//! Raw latency says little: an answer of four thousand tokens is not a slow server. So what is
//! averaged are milliseconds per token, by peak-EWMA: a slower value counts at once, a faster one
//! with a weight that grows with the time since the last (tower and linkerd do so with raw round
//! trips and a decay of 10 s).
//!
//! Prefill is timed for what was not cached, while all tokens are counted, and the endpoint does not
//! tell the one from the other. A prompt is taken for cached only as far as its runner is known to
//! have read it; whatever else is fast says that reading has become faster.
//!
//! Invariant: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::{Moment, Runner, ServiceTiming};
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;

/// Decay, 120 s: rates per token move slower than round trips.
const DECAY: f64 = 120.0;
/// Prefill before anything was seen, milliseconds a token: a 7B model on a mid-range GPU.
const PREFILL_PRIOR: f64 = 0.5;
/// Generation before anything was seen, milliseconds a token.
const DECODE_PRIOR: f64 = 20.0;
/// Prompts below this say nothing about prefill: their time is overhead.
const PROMPT_LEAST: u64 = 64;
/// A prompt read in less than this part of its usual time was cached.
const CACHED_BELOW: f64 = 0.5;
/// Rates kept at most.
const MOST: usize = 1_000;

/// A prompt and the answer that is expected, tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Tokens to read.
    pub prompt: u64,
    /// Tokens to write.
    pub output: u64,
}

/// A prompt that was served.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: u64,
    /// The share of them, 0…1, that its runner had read in the same epoch.
    pub hit: f64,
}

/// Milliseconds per token of one model on one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// Reading, none before the first.
    pub prefill_ms: Option<f64>,
    /// Writing, none before the first.
    pub decode_ms: Option<f64>,
    #[serde(skip)]
    read_at: Moment,
    #[serde(skip)]
    written_at: Moment,
}

/// All rates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Row>", into = "Vec<Row>")]
pub struct Rates {
    by_runner: BTreeMap<(EndpointName, ModelName), Rate>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    endpoint: EndpointName,
    model: ModelName,
    #[serde(flatten)]
    rate: Rate,
}

impl From<Vec<Row>> for Rates {
    fn from(rows: Vec<Row>) -> Self {
        let by_runner = rows
            .into_iter()
            .map(|row| ((row.endpoint, row.model), row.rate))
            .collect();
        Self { by_runner }
    }
}

impl From<Rates> for Vec<Row> {
    fn from(rates: Rates) -> Self {
        let rows = rates.by_runner.into_iter();
        rows.map(|((endpoint, model), rate)| Row {
            endpoint,
            model,
            rate,
        })
        .collect()
    }
}

impl Rates {
    /// What was seen of a runner.
    pub fn of(&self, runner: &Runner) -> Rate {
        let key = (runner.endpoint.clone(), runner.model.clone());
        self.by_runner.get(&key).copied().unwrap_or_default()
    }

    /// A request was served: its prompt had so many tokens, of which its runner had read the share
    /// `hit` before, as far as is known.
    pub fn observe(
        &mut self,
        runner: &Runner,
        prompt: Prompt,
        timing: &ServiceTiming,
        now: Moment,
    ) {
        let usual = self.of(runner).prefill_ms;
        let key = (runner.endpoint.clone(), runner.model.clone());
        if self.by_runner.len() >= MOST && !self.by_runner.contains_key(&key) {
            self.by_runner.pop_first();
        }
        let rate = self.by_runner.entry(key).or_default();
        if let Some(seen) = read(prompt, timing, usual) {
            let seconds = now.saturating_sub(rate.read_at).as_secs_f64();
            rate.prefill_ms = Some(peak(usual, seen, seconds));
            rate.read_at = now;
        }
        if timing.output_tokens > 0 && !timing.decode.is_zero() {
            let seen = millis(timing.decode) / timing.output_tokens as f64;
            let seconds = now.saturating_sub(rate.written_at).as_secs_f64();
            rate.decode_ms = Some(peak(rate.decode_ms, seen, seconds));
            rate.written_at = now;
        }
    }

    /// Tokens of a prompt that were in the runner's cache: no more than it is known to have read.
    pub fn cached_tokens(&self, runner: &Runner, prompt: Prompt, timing: &ServiceTiming) -> u64 {
        let Some(usual) = self.of(runner).prefill_ms else {
            return 0;
        };
        if !is_cached(prompt, timing, usual) {
            return 0;
        }
        let unread = whole(millis(timing.prefill) / usual);
        let known = whole(prompt.hit * prompt.tokens as f64);
        prompt.tokens.saturating_sub(unread).min(known)
    }

    /// Reading so many tokens.
    pub fn prefill(&self, runner: &Runner, tokens: u64) -> Duration {
        let rate = self.of(runner).prefill_ms;
        let rate = rate.or_else(|| self.usual(runner, |it| it.prefill_ms));
        of_millis(rate.unwrap_or(PREFILL_PRIOR) * tokens as f64)
    }

    /// Writing so many tokens.
    pub fn decode(&self, runner: &Runner, tokens: u64) -> Duration {
        let rate = self.of(runner).decode_ms;
        let rate = rate.or_else(|| self.usual(runner, |it| it.decode_ms));
        of_millis(rate.unwrap_or(DECODE_PRIOR) * tokens as f64)
    }

    /// Serving a request once it is admitted.
    pub fn work(&self, runner: &Runner, size: Size) -> Duration {
        self.prefill(runner, size.prompt) + self.decode(runner, size.output)
    }

    /// The median of the same model elsewhere, else of all models: what nobody has tried yet is
    /// taken for average, so it gets tried.
    fn usual(&self, runner: &Runner, of: impl Fn(&Rate) -> Option<f64>) -> Option<f64> {
        let same = self
            .by_runner
            .iter()
            .filter(|((_, model), _)| model.is_same(&runner.model));
        median(same.filter_map(|(_, rate)| of(rate)))
            .or_else(|| median(self.by_runner.values().filter_map(of)))
    }
}

/// Whether the part that a runner had read was in its cache: then it took much less than usual.
fn is_cached(prompt: Prompt, timing: &ServiceTiming, usual: f64) -> bool {
    let expected = usual * prompt.tokens as f64;
    prompt.hit > 0.0
        && prompt.tokens >= PROMPT_LEAST
        && millis(timing.prefill) < expected * CACHED_BELOW
}

/// Milliseconds a token of what was read; none where that was too little to tell. Where a part may
/// have come from the cache, a token took something between what it did if all was read and what it
/// did if only the rest was: that says so much as that the usual is no less and no more.
fn read(prompt: Prompt, timing: &ServiceTiming, usual: Option<f64>) -> Option<f64> {
    if prompt.tokens < PROMPT_LEAST || timing.prefill.is_zero() {
        return None;
    }
    let took = millis(timing.prefill);
    let least = took / prompt.tokens as f64;
    let Some(usual) = usual.filter(|_| prompt.hit > 0.0) else {
        return Some(least);
    };
    let unread = (1.0 - prompt.hit) * prompt.tokens as f64;
    let most = took / unread;
    if unread >= PROMPT_LEAST as f64 && most < usual {
        Some(most)
    } else {
        (least > usual).then_some(least)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count of tokens, not negative"
)]
fn whole(tokens: f64) -> u64 {
    tokens.max(0.0) as u64
}

fn peak(old: Option<f64>, seen: f64, seconds: f64) -> f64 {
    match old {
        Some(old) if seen < old => {
            let kept = (-seconds / DECAY).exp();
            old * kept + seen * (1.0 - kept)
        }
        _ => seen,
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A duration of so many milliseconds; what is no sensible number is none.
fn of_millis(millis: f64) -> Duration {
    Duration::try_from_secs_f64(millis / 1_000.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(endpoint: &str, model: &str) -> Runner {
        Runner {
            endpoint: endpoint.into(),
            model: model.into(),
            context: 8_192,
        }
    }

    fn timing(prefill_ms: u64, decode_ms: u64, output_tokens: u64) -> ServiceTiming {
        ServiceTiming {
            prefill: Duration::from_millis(prefill_ms),
            decode: Duration::from_millis(decode_ms),
            output_tokens,
            ..ServiceTiming::default()
        }
    }

    /// A prompt of 1,000 tokens.
    fn prompt(hit: f64) -> Prompt {
        Prompt { tokens: 1_000, hit }
    }

    fn decayed(from: f64, to: f64) -> f64 {
        to + (from - to) / std::f64::consts::E
    }

    #[test]
    fn slower_counts_at_once_and_faster_with_time() {
        let mut rates = Rates::default();
        let (here, second) = (runner("e", "m"), Duration::from_secs(1));
        rates.observe(&here, prompt(0.0), &timing(500, 1_000, 100), second);
        assert_eq!(rates.of(&here).decode_ms, Some(10.0));
        rates.observe(&here, prompt(0.0), &timing(500, 2_000, 100), second);
        assert_eq!(rates.of(&here).decode_ms, Some(20.0));
        rates.observe(&here, prompt(0.0), &timing(500, 1_000, 100), second * 121);
        assert!((rates.of(&here).decode_ms.unwrap() - decayed(20.0, 10.0)).abs() < 1e-9);
    }

    #[test]
    fn a_cached_prompt_is_noticed_and_does_not_make_prefill_look_fast() {
        let mut rates = Rates::default();
        let here = runner("e", "m");
        rates.observe(&here, prompt(0.0), &timing(1_000, 0, 0), Duration::ZERO);
        let cached = timing(100, 0, 0);
        assert_eq!(rates.cached_tokens(&here, prompt(0.9), &cached), 900);
        rates.observe(&here, prompt(0.9), &cached, Duration::from_secs(1_000));
        assert_eq!(rates.of(&here).prefill_ms, Some(1.0));
    }

    #[test]
    fn a_prompt_of_which_a_part_may_have_been_read_says_what_the_usual_is_not() {
        let mut rates = Rates::default();
        let here = runner("e", "m");
        let after = |times: u64| Duration::from_secs(120 * times);
        rates.observe(&here, prompt(0.0), &timing(1_000, 0, 0), after(0));
        // 400 of 1,000 tokens read before: 0.7 to 1.17 ms for each of those that were not.
        rates.observe(&here, prompt(0.4), &timing(700, 0, 0), after(1));
        assert_eq!(rates.of(&here).prefill_ms, Some(1.0));
        // More than 1.2 ms, whatever was read before.
        rates.observe(&here, prompt(0.4), &timing(1_200, 0, 0), after(2));
        assert_eq!(rates.of(&here).prefill_ms, Some(1.2));
    }

    #[test]
    fn one_slow_prompt_is_forgotten_when_it_is_not_confirmed() {
        let mut rates = Rates::default();
        let here = runner("e", "m");
        let after = |times: u64| Duration::from_secs(120 * times);
        rates.observe(&here, prompt(0.0), &timing(1_540, 0, 0), after(0));
        let usual = timing(154, 0, 0);
        assert_eq!(
            rates.cached_tokens(&here, prompt(0.0), &usual),
            0,
            "nobody had read it"
        );
        rates.observe(&here, prompt(0.0), &usual, after(1));
        let once = decayed(1.54, 0.154);
        assert!((rates.of(&here).prefill_ms.unwrap() - once).abs() < 1e-9);
        // Half of it was read before, so 77 ms are 500 tokens at 0.154 ms.
        let half = timing(77, 0, 0);
        assert_eq!(rates.cached_tokens(&here, prompt(0.5), &half), 500);
        rates.observe(&here, prompt(0.5), &half, after(2));
        let twice = decayed(once, 0.154);
        assert!((rates.of(&here).prefill_ms.unwrap() - twice).abs() < 1e-9);
    }

    #[test]
    fn what_nobody_has_tried_is_taken_for_average() {
        let mut rates = Rates::default();
        for (endpoint, decode) in [("a", 100), ("b", 200), ("c", 900)] {
            let seen = timing(0, decode, 10);
            rates.observe(
                &runner(endpoint, "m"),
                Prompt::default(),
                &seen,
                Duration::ZERO,
            );
        }
        let new = runner("d", "m");
        assert_eq!(rates.decode(&new, 10), Duration::from_millis(200));
    }

    #[test]
    fn they_survive_being_written() {
        let mut rates = Rates::default();
        rates.observe(
            &runner("e", "m"),
            prompt(0.0),
            &timing(500, 10, 1),
            Duration::ZERO,
        );
        let text = serde_json::to_string(&rates).unwrap();
        assert_eq!(serde_json::from_str::<Rates>(&text).unwrap(), rates);
    }
}
