//! When to draw: at once on the first change, then at most 60 times a second, never for nothing.
//!
//! A key may be answered by one earlier frame, so that typing into a busy terminal feels direct.

use std::time::Duration;

use tokio::time::Instant;

/// Between two frames: 60 a second.
const INTERVAL: Duration = Duration::from_millis(16);

/// Between a frame and the one that answers a key.
const KEY_INTERVAL: Duration = Duration::from_millis(2);

/// Decides when the next frame is drawn.
#[derive(Debug, Default)]
pub struct Frames {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Frames {
    /// Something changed.
    pub fn request(&mut self) {
        self.request_after(INTERVAL);
    }

    /// Something changed because of a key.
    pub fn request_for_key(&mut self) {
        self.request_after(KEY_INTERVAL);
    }

    fn request_after(&mut self, interval: Duration) {
        let now = Instant::now();
        let due = self.last.map_or(now, |last| (last + interval).max(now));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Waits for the next frame; forever while nothing was requested. Dropping it loses nothing.
    pub async fn next(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// A frame is drawn now.
    pub fn drawn(&mut self) {
        self.last = Some(Instant::now());
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn draw(frames: &mut Frames) -> Duration {
        let asked = Instant::now();
        frames.next().await;
        frames.drawn();
        asked.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_drawn_at_once() {
        let mut frames = Frames::default();
        frames.request();
        assert_eq!(draw(&mut frames).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn later_changes_wait_for_the_interval_and_share_a_frame() {
        let mut frames = Frames::default();
        frames.request();
        draw(&mut frames).await;
        for _ in 0..100 {
            frames.request();
        }
        // The timer of tokio has a granularity of one millisecond.
        let waited = draw(&mut frames).await;
        assert!(waited >= INTERVAL && waited < INTERVAL * 2, "{waited:?}");
        let idle = tokio::time::timeout(Duration::from_secs(3600), frames.next()).await;
        assert!(idle.is_err(), "nothing changed, nothing is drawn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_answered_early() {
        let mut frames = Frames::default();
        frames.request();
        draw(&mut frames).await;
        frames.request();
        frames.request_for_key();
        assert!(draw(&mut frames).await < INTERVAL);
    }
}
