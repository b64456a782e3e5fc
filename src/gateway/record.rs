//! One request's record while it is served: what its agent shows, and what is written at its end.
//!
//! Dropping it ends it, because that is how a client that went away is noticed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::lines::End;
use crate::core::served::{Outcome, Served};
use crate::core::traffic::{Phase, Traffic};

/// The rate is published at most this often.
const PUBLISH: Duration = Duration::from_millis(500);
/// Silences kept of one answer.
const GAPS: usize = 256;

/// Where records go. Whoever is behind loses some, never a request; how many is counted.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    records: mpsc::Sender<Served>,
    missed: Arc<AtomicU64>,
}

impl Outbox {
    pub(super) fn new(records: mpsc::Sender<Served>) -> Self {
        Self {
            records,
            missed: Arc::default(),
        }
    }

    /// Records that found no place, so far.
    pub(super) fn missed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.missed)
    }

    fn put(&self, served: Served) {
        if let Err(error) = self.records.try_send(served) {
            tracing::debug!(%error, "a request was not recorded");
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) served: Served,
    traffic: Option<watch::Sender<Traffic>>,
    out: Outbox,
    arrived: Instant,
    sent: Option<Instant>,
    first: Option<Instant>,
    pieces: u32,
    last: Option<Instant>,
    /// Silences between pieces, as many as are needed to learn from.
    pub(super) gaps: Vec<Duration>,
    published: Instant,
    /// Pieces of all requests.
    all: OnceLock<Arc<AtomicU64>>,
    ended: bool,
}

impl Record {
    /// The record of a request that has just arrived.
    pub(super) fn begin(
        served: Served,
        traffic: Option<watch::Sender<Traffic>>,
        out: Outbox,
    ) -> Self {
        let arrived = Instant::now();
        let record = Self {
            served,
            traffic,
            out,
            arrived,
            sent: None,
            first: None,
            pieces: 0,
            last: None,
            gaps: Vec::new(),
            published: arrived,
            all: OnceLock::new(),
            ended: false,
        };
        record.publish(|traffic| {
            traffic.open += 1;
            traffic.phase = Phase::Queued(0);
            traffic.refusal = None;
            traffic.trouble = None;
        });
        record
    }

    /// How long it has been here, microseconds.
    pub(super) fn waited_us(&self) -> u64 {
        micros(self.arrived.elapsed())
    }

    /// It waits behind so many others.
    pub(super) fn queued(&self, ahead: u32) {
        self.phase(Phase::Queued(ahead));
    }

    /// Its model is being loaded.
    pub(super) fn loading(&self) {
        self.phase(Phase::Loading);
    }

    /// Its pieces count among those of all requests.
    pub(super) fn count_among(&self, all: &Arc<AtomicU64>) {
        self.all.get_or_init(|| Arc::clone(all));
    }

    /// It goes to an endpoint.
    pub(super) fn send(&mut self) {
        let now = Instant::now();
        if self.sent.is_none() {
            self.served.queue_us = micros(now - self.arrived);
        }
        self.sent = Some(now);
        self.served.tries += 1;
        self.phase(Phase::Prefill);
    }

    /// A piece of the answer came.
    pub(super) fn piece(&mut self) {
        let now = Instant::now();
        let is_first = self.first.is_none();
        let first = *self.first.get_or_insert(now);
        if is_first {
            self.served.first_token_us = Some(micros(now - self.arrived));
        }
        self.pieces = self.pieces.saturating_add(1);
        if let Some(all) = self.all.get() {
            all.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(last) = self.last.replace(now)
            && self.gaps.len() < GAPS
        {
            self.gaps.push(now - last);
        }
        if is_first || now - self.published >= PUBLISH {
            self.published = now;
            let seconds = (now - first).as_secs_f32();
            let rate = if seconds > 0.0 {
                self.pieces as f32 / seconds
            } else {
                0.0
            };
            self.phase(Phase::Generating(rate));
        }
    }

    /// Says what is wrong although it goes on.
    pub(super) fn trouble(&self, what: &str) {
        self.publish(|traffic| traffic.trouble = Some(what.to_owned()));
    }

    /// The endpoint's own figures.
    pub(super) fn figures(&mut self, end: &End) {
        let timings = end.timings;
        let micros = |nanos: u64| nanos / 1_000;
        let known = timings.load_duration + timings.prompt_eval_duration + timings.eval_duration;
        self.served.prompt_tokens = timings.prompt_eval_count;
        self.served.output_tokens = timings.eval_count;
        self.served.runner_load_us = micros(timings.load_duration);
        self.served.prefill_us = micros(timings.prompt_eval_duration);
        self.served.decode_us = micros(timings.eval_duration);
        self.served.slot_wait_us = micros(timings.total_duration.saturating_sub(known));
    }

    /// It ends like this.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.conclude(outcome);
    }

    /// It will end like this, once it is dropped.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        if let Outcome::Refused { why } | Outcome::Failed { why } | Outcome::Broken { why } =
            &outcome
        {
            let why = why.clone();
            self.publish(|traffic| traffic.refusal = Some(why));
        }
        self.served.outcome = outcome;
        self.ended = true;
    }

    fn phase(&self, phase: Phase) {
        self.publish(|traffic| traffic.phase = phase);
    }

    fn publish(&self, change: impl FnOnce(&mut Traffic)) {
        if let Some(traffic) = &self.traffic {
            traffic.send_modify(change);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.served.outcome = Outcome::Cancelled;
        }
        self.served.total_us = micros(self.arrived.elapsed());
        let (sent, received) = (self.served.prompt_tokens, self.served.output_tokens);
        self.publish(|traffic| {
            traffic.open = traffic.open.saturating_sub(1);
            if traffic.open == 0 {
                traffic.phase = Phase::Idle;
            }
            traffic.used.requests += 1;
            traffic.used.sent += sent;
            traffic.used.received += received;
        });
        self.out.put(self.served.clone());
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::core::task::{Category, Priority, Tokens};
    use crate::ollama::wire::Timings;

    fn served() -> Served {
        serde_json::from_value(serde_json::json!({
            "id": 1, "at": Timestamp(0), "client": "c", "model": "m:latest", "endpoint": "e",
            "category": Category::General, "priority": Priority::Normal, "total_us": 0,
            "outcome": {"ended": "cancelled"},
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_recorded_with_its_figures_when_it_ends() {
        let (traffic, seen) = watch::channel(Traffic::default());
        let (out, mut records) = mpsc::channel(1);
        let mut record = Record::begin(served(), Some(traffic), Outbox::new(out));
        assert_eq!(seen.borrow().phase, Phase::Queued(0));
        tokio::time::advance(Duration::from_millis(20)).await;
        record.send();
        assert_eq!(seen.borrow().phase, Phase::Prefill);
        tokio::time::advance(Duration::from_millis(5)).await;
        record.piece();
        let end = End {
            timings: Timings {
                total_duration: 10_000_000,
                load_duration: 1_000_000,
                prompt_eval_count: 7,
                prompt_eval_duration: 2_000_000,
                eval_count: 3,
                eval_duration: 3_000_000,
            },
            ..End::default()
        };
        record.figures(&end);
        record.end(Outcome::Done);
        let served = records.recv().await.unwrap();
        assert_eq!(
            (served.queue_us, served.first_token_us, served.slot_wait_us),
            (20_000, Some(25_000), 4_000)
        );
        assert_eq!(served.outcome, Outcome::Done);
        let expected = Tokens {
            sent: 7,
            received: 3,
            requests: 1,
        };
        let now = seen.borrow();
        assert_eq!((now.used, now.open, now.phase), (expected, 0, Phase::Idle));
    }

    #[tokio::test]
    async fn the_pieces_of_all_requests_are_counted_together() {
        let (out, _records) = mpsc::channel(2);
        let (out, all) = (Outbox::new(out), Arc::default());
        let [mut one, mut two] = [(); 2].map(|()| Record::begin(served(), None, out.clone()));
        one.count_among(&all);
        two.count_among(&all);
        one.piece();
        two.piece();
        two.piece();
        assert_eq!(all.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_record_that_is_dropped_was_given_up_by_its_client() {
        let (out, mut records) = mpsc::channel(1);
        drop(Record::begin(served(), None, Outbox::new(out)));
        assert_eq!(records.recv().await.unwrap().outcome, Outcome::Cancelled);
    }

    #[tokio::test]
    async fn records_that_find_no_place_are_counted() {
        let (out, mut records) = mpsc::channel(1);
        let out = Outbox::new(out);
        for _ in 0..3 {
            drop(Record::begin(served(), None, out.clone()));
        }
        assert_eq!(out.missed().load(Ordering::Relaxed), 2);
        assert_eq!(records.recv().await.unwrap().outcome, Outcome::Cancelled);
    }
}
