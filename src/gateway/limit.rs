//! A limit for each of many waits, with one timer.
//!
//! An answer comes in thousands of pieces and each may take so long at most. A timer for each piece
//! would be made, entered, and taken out again for nothing; this one is set anew only when it has
//! run out, and then it looks whether the wait that it was set for is still the same.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// One timer for waits that follow each other.
#[derive(Debug)]
pub(super) struct Limit {
    timer: Pin<Box<Sleep>>,
}

/// The wait took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Limit {
    pub(super) fn new() -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Waits for `event`, `limit` at most.
    pub(super) async fn within<T>(
        &mut self,
        limit: Duration,
        event: impl Future<Output = T>,
    ) -> Result<T, TooLong> {
        let due = Instant::now() + limit;
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
        tokio::pin!(event);
        loop {
            tokio::select! {
                biased;
                happened = &mut event => return Ok(happened),
                () = self.timer.as_mut() => {
                    if Instant::now() >= due {
                        return Err(TooLong);
                    }
                    self.timer.as_mut().reset(due);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_whole_limit_whatever_the_timer_was_set_to() {
        let mut limit = Limit::new();
        for (wait, most) in [(3, 5), (4, 5), (1, 2), (9, 10)] {
            let event = tokio::time::sleep(wait * SECOND);
            assert_eq!(limit.within(most * SECOND, event).await, Ok(()));
            let begun = Instant::now();
            let never = limit.within(most * SECOND, pending::<()>());
            assert_eq!(never.await, Err(TooLong));
            assert_eq!(begun.elapsed(), most * SECOND);
        }
    }
}
