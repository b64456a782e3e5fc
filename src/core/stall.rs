//! How long an endpoint may be silent before its request is given up.
//!
//! Before the first token: three times what queue, load and prefill are expected to take, and half
//! a minute. After it: eight times the 99th percentile of the gaps between pieces, at least half a
//! minute. A slow model raises its own limit; a dead one is noticed within minutes instead of
//! Aider's hour.
//!
//! Invariant: pure, bounded.

use std::time::Duration;

/// Shortest limit.
const LEAST: Duration = Duration::from_secs(30);
/// Times the expected wait for the first token.
const FIRST_TIMES: u32 = 3;
/// Times the 99th percentile of the gaps.
const GAP_TIMES: u32 = 8;
/// Longest limit of a gap: a model that speaks a word in ten minutes is stuck.
const GAP_MOST: Duration = Duration::from_secs(600);
/// Buckets of the histogram of gaps: powers of two of a millisecond.
const BUCKETS: usize = 24;
/// Gaps remembered at their full weight; older ones fade by halves.
const REMEMBERED: u64 = 4_096;

/// What was seen of the gaps between pieces.
#[derive(Debug, Clone, Default)]
pub struct Stalls {
    gaps: [u64; BUCKETS],
}

impl Stalls {
    /// Two pieces came so far apart.
    pub fn observe(&mut self, gap: Duration) {
        let millis = gap.as_millis().max(1);
        let bucket = usize::try_from(millis.ilog2())
            .unwrap_or(BUCKETS)
            .min(BUCKETS - 1);
        if let Some(count) = self.gaps.get_mut(bucket) {
            *count += 1;
        }
        if self.gaps.iter().sum::<u64>() > REMEMBERED {
            for count in &mut self.gaps {
                *count /= 2;
            }
        }
    }

    /// Longest silence before the first token, where that is expected after `expected`.
    pub fn first_token(&self, expected: Duration) -> Duration {
        expected.saturating_mul(FIRST_TIMES) + LEAST
    }

    /// Longest silence between two pieces.
    pub fn gap(&self) -> Duration {
        let learned = self.p99().saturating_mul(GAP_TIMES);
        learned.clamp(LEAST, GAP_MOST)
    }

    /// The upper end of the bucket that holds the 99th percentile.
    fn p99(&self) -> Duration {
        let all: u64 = self.gaps.iter().sum();
        let mut seen = 0;
        for (bucket, count) in self.gaps.iter().enumerate() {
            seen += count;
            if seen > 0 && seen * 100 >= all * 99 {
                return Duration::from_millis(
                    2_u64.saturating_pow(u32::try_from(bucket + 1).unwrap_or(0)),
                );
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_up_within_half_a_minute() {
        let stalls = Stalls::default();
        assert_eq!(stalls.gap(), LEAST);
        assert_eq!(
            stalls.first_token(Duration::from_secs(10)),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn a_slow_model_raises_the_limit_and_one_long_gap_does_not() {
        let mut stalls = Stalls::default();
        for _ in 0..200 {
            stalls.observe(Duration::from_millis(20));
        }
        stalls.observe(Duration::from_secs(3_600));
        assert_eq!(stalls.gap(), LEAST);
        for _ in 0..400 {
            stalls.observe(Duration::from_secs(10));
        }
        // 10 s lie in the bucket up to 16.384 s.
        assert_eq!(stalls.gap(), Duration::from_millis(16_384 * 8));
    }
}
