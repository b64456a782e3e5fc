//! How fast tokens come: pieces of answers that came in a window, whoever they were for.
//!
//! A rate that was learned says what a model can do, not what it does: reading a prompt and a stream
//! that stands still bring nothing.

use std::time::Duration;

/// Short enough to show a stream that stands still, long enough for a token a second.
const WINDOW: Duration = Duration::from_secs(2);

/// The pieces counted so far, and the rate of the last window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    counted: u64,
    since: Duration,
    rate: f32,
}

impl Meter {
    /// Pieces a second, when so many have come by now.
    pub(super) fn read(&mut self, counted: u64, now: Duration) -> f32 {
        let window = now.saturating_sub(self.since);
        if window >= WINDOW {
            let came = counted.saturating_sub(self.counted);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a rate that is shown rounded"
            )]
            let rate = (came as f64 / window.as_secs_f64()) as f32;
            *self = Self {
                counted,
                since: now,
                rate,
            };
        }
        self.rate
    }

    /// When it is to be read again although nothing else is new; never while nothing comes.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.rate > 0.0).then(|| self.since + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_rate_is_what_came_in_the_last_window() {
        let mut meter = Meter::default();
        let rates: Vec<f32> = [(0, 0), (30, 2_000), (60, 3_000), (130, 4_000), (130, 6_000)]
            .into_iter()
            .map(|(counted, millis)| meter.read(counted, at(millis)))
            .collect();
        // 30 in 2 s; then 100 in 2 s, told at their end; then none.
        assert_eq!(rates, [0.0, 15.0, 15.0, 50.0, 0.0]);
    }

    #[test]
    fn it_is_read_again_until_nothing_comes() {
        let mut meter = Meter::default();
        assert_eq!(meter.due(), None);
        meter.read(8, at(2_000));
        assert_eq!(meter.due(), Some(at(4_000)));
        meter.read(8, at(4_000));
        assert_eq!(meter.due(), None, "an idle squad does not wake");
    }
}
