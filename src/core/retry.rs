//! How often a request is tried again, and after which pause.
//!
//! Retries multiply load when an endpoint is weak, so they are paid for out of a budget: every
//! request adds a fifth of a retry, and ten a minute are free (the shape of tower's budget and the
//! shares of Google's SRE book). The pause is drawn between zero and a bound that doubles ("full
//! jitter"), so that clients that failed together do not come back together.
//!
//! Invariant: pure. Time and the draw come in as arguments.

use std::time::Duration;

/// Times that a request is sent at most.
pub const TRIES: u32 = 3;
/// One retry, in the unit of the budget: whole numbers do not drift.
const ONE: u64 = 60_000;
/// For each request: a fifth of a retry.
const SHARE: u64 = ONE / 5;
/// Retries a minute that are free.
const PER_MINUTE: u64 = 10;
/// What can be saved up.
const SAVED: u64 = 20 * ONE;
/// First bound of the pause.
const BASE: Duration = Duration::from_millis(250);
/// Largest bound of the pause.
const CAP: Duration = Duration::from_secs(8);

/// What is left for retries.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    left: u64,
    at: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            left: PER_MINUTE * ONE,
            at: Duration::ZERO,
        }
    }
}

impl RetryBudget {
    /// A request was sent for the first time.
    pub fn sent(&mut self, now: Duration) {
        self.refill(now);
        self.left = (self.left + SHARE).min(SAVED);
    }

    /// The pause before the next try of a request that was sent `tries` times; none when there
    /// have been enough of them. `draw` is a random number.
    pub fn retry(&mut self, tries: u32, draw: u32, now: Duration) -> Option<Duration> {
        self.refill(now);
        if tries >= TRIES || self.left < ONE {
            return None;
        }
        self.left -= ONE;
        Some(pause(tries, draw))
    }

    fn refill(&mut self, now: Duration) {
        // A millisecond is worth ten parts of the sixty thousand that a retry costs.
        let millis = now.saturating_sub(self.at).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.at = now;
        self.left = (self.left + millis.saturating_mul(PER_MINUTE)).min(SAVED);
    }
}

/// A pause between zero and a bound that doubles with each try.
pub fn pause(tries: u32, draw: u32) -> Duration {
    let bound = BASE
        .saturating_mul(1 << tries.saturating_sub(1).min(16))
        .min(CAP);
    bound.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_request_is_sent_three_times_at_most() {
        let mut budget = RetryBudget::default();
        assert!(budget.retry(1, 0, MINUTE).is_some());
        assert!(budget.retry(2, 0, MINUTE).is_some());
        assert_eq!(budget.retry(3, 0, MINUTE), None);
    }

    #[test]
    fn when_everything_fails_a_fifth_and_ten_a_minute_are_tried_again() {
        let mut budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.sent(Duration::ZERO);
            retries += u32::from(budget.retry(1, 0, Duration::ZERO).is_some());
        }
        assert_eq!(retries, 200 + 10);
        // A minute later there are ten more.
        let more = (0..100).filter(|_| budget.retry(1, 0, MINUTE).is_some());
        assert_eq!(more.count(), 10);
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        assert_eq!(pause(1, u32::MAX), Duration::from_millis(250));
        assert_eq!(pause(3, u32::MAX), Duration::from_secs(1));
        assert_eq!(pause(30, u32::MAX), Duration::from_secs(8));
        assert_eq!(pause(30, 0), Duration::ZERO);
    }
}
