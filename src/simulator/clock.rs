//! Time of a simulated server: shown moments, and a pace that can be faster than life.
//!
//! Everything waits on tokio's clock, which tests can pause; what is shown is a base moment plus
//! what passed there. `time_scale` makes whatever the scenario says takes time go by faster;
//! durations in answers are those that a client measures.

use std::time::Duration;

use tokio::time::Instant;

/// The clock of one simulated server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    base: jiff::Timestamp,
    start: Instant,
    scale: f64,
}

impl Clock {
    /// A clock that shows `base` now, or the real moment.
    pub(super) fn new(base: Option<jiff::Timestamp>, scale: f64) -> Self {
        Self {
            base: base.unwrap_or_else(jiff::Timestamp::now),
            start: Instant::now(),
            scale,
        }
    }

    /// The moment as it is shown.
    pub(super) fn shown(&self) -> jiff::Timestamp {
        let elapsed = self.start.elapsed();
        self.base.checked_add(elapsed).unwrap_or(self.base)
    }

    /// How long something takes that the scenario says takes `duration`.
    pub(super) fn real(&self, duration: Duration) -> Duration {
        duration.div_f64(self.scale)
    }

    /// Waits as long as the scenario says.
    pub(super) async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(self.real(duration)).await;
    }

    /// The scenario's time since the server's start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed().mul_f64(self.scale)
    }

    /// When the scenario's time is `at`; `None` beyond what a clock can hold.
    pub(super) fn instant(&self, at: Duration) -> Option<Instant> {
        self.start.checked_add(self.real(at))
    }
}
