//! How soon a child that ended is started again: at once, then with pauses that double, and after
//! too many times within a minute only in a minute.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// More restarts than this within [`WINDOW`] mean that restarting does not help.
const MAX_RESTARTS: usize = 5;
/// Restarts are counted over this, and it is the pause when there were too many.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Pause before the second restart within the window; doubles. The first one comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How often a child was started again lately.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    recent: VecDeque<Instant>,
}

impl Restarts {
    /// It ended or could not be started: how long to wait before the next try. [`WINDOW`] says that
    /// it was too often.
    pub(super) fn next(&mut self, now: Instant) -> Duration {
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) >= WINDOW)
        {
            self.recent.pop_front();
        }
        let pause = match u32::try_from(self.recent.len()).unwrap_or(u32::MAX) {
            0 => Duration::ZERO,
            count if self.recent.len() < MAX_RESTARTS => FIRST_PAUSE * 2u32.pow(count - 1),
            _ => {
                self.recent.clear();
                WINDOW
            }
        };
        self.recent.push_back(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(restarts: &mut Restarts, now: &mut Instant, count: usize) -> Vec<u128> {
        let mut next = || {
            let pause = restarts.next(*now);
            *now += pause;
            pause.as_millis()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn after_five_restarts_within_a_minute_it_waits_a_minute() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let expected = vec![0, 100, 200, 400, 800, 60_000, 100];
        assert_eq!(pauses(&mut restarts, &mut now, 7), expected);
    }

    #[test]
    fn an_old_restart_is_forgotten() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        assert_eq!(pauses(&mut restarts, &mut now, 2), [0, 100]);
        now += WINDOW;
        assert_eq!(pauses(&mut restarts, &mut now, 1), [0]);
    }
}
