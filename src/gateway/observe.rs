//! What can be seen of a request while it passes: phase, rate, tokens.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::traffic::{Phase, Traffic};

/// Only the end of an answer is kept, to read its counters.
const TAIL: usize = 64 * 1024;
/// The rate is published at most this often.
const PUBLISH: Duration = Duration::from_millis(500);

/// One request on its way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Observation {
    traffic: watch::Sender<Traffic>,
    tail: Vec<u8>,
    lines: u32,
    first_byte: Option<Instant>,
    published: Instant,
}

#[derive(Deserialize)]
struct Counters {
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
}

impl Observation {
    pub(super) fn begin(traffic: watch::Sender<Traffic>) -> Self {
        traffic.send_modify(|traffic| {
            traffic.open += 1;
            traffic.phase = Phase::Awaiting;
            traffic.refusal = None;
        });
        let published = Instant::now();
        Self {
            traffic,
            tail: Vec::new(),
            lines: 0,
            first_byte: None,
            published,
        }
    }

    pub(super) fn refused(&self, why: String) {
        self.traffic
            .send_modify(|traffic| traffic.refusal = Some(why));
    }

    pub(super) fn chunk(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let first = *self.first_byte.get_or_insert(now);
        let lines = bytes.split(|&byte| byte == b'\n').count() - 1;
        self.lines = self
            .lines
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.tail.extend_from_slice(bytes);
        let excess = self.tail.len().saturating_sub(TAIL);
        if excess > 0 {
            self.tail.drain(..excess);
        }
        if now - self.published >= PUBLISH || first == now {
            self.published = now;
            let seconds = (now - first).as_secs_f32();
            let rate = if seconds > 0.0 {
                self.lines as f32 / seconds
            } else {
                0.0
            };
            self.traffic
                .send_modify(|traffic| traffic.phase = Phase::Generating(rate));
        }
    }

    fn counters(&self) -> Option<Counters> {
        let end = self.tail.trim_ascii_end();
        let start = end
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        serde_json::from_slice(end.get(start..)?).ok()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let counters = self.counters();
        self.traffic.send_modify(|traffic| {
            traffic.open = traffic.open.saturating_sub(1);
            if traffic.open == 0 {
                traffic.phase = Phase::Idle;
            }
            traffic.used.requests += 1;
            if let Some(counters) = counters {
                traffic.used.sent += counters.prompt_eval_count;
                traffic.used.received += counters.eval_count;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::task::Tokens;

    #[test]
    fn tokens_are_read_from_the_last_line_however_it_is_cut() {
        let (traffic, seen) = watch::channel(Traffic::default());
        let mut observation = Observation::begin(traffic);
        assert_eq!(seen.borrow().phase, Phase::Awaiting);
        let text = b"{\"done\":false}\n{\"done\":true,\"prompt_eval_count\":7,\"eval_count\":3}\n";
        for part in text.chunks(5) {
            observation.chunk(part);
        }
        assert!(matches!(seen.borrow().phase, Phase::Generating(_)));
        drop(observation);
        let traffic = seen.borrow();
        assert_eq!(
            traffic.used,
            Tokens {
                sent: 7,
                received: 3,
                requests: 1
            }
        );
        assert_eq!((traffic.open, traffic.phase), (0, Phase::Idle));
    }

    #[test]
    fn an_answer_without_counters_counts_as_a_request_only() {
        let (traffic, seen) = watch::channel(Traffic::default());
        let mut observation = Observation::begin(traffic);
        observation.chunk(b"not json");
        drop(observation);
        assert_eq!(
            seen.borrow().used,
            Tokens {
                sent: 0,
                received: 0,
                requests: 1
            }
        );
    }
}
