//! Looks at the endpoints that somebody waits for.
//!
//! Discovery rests while there is no work. Whoever asks for a model that nobody knows, or for a list,
//! wants to know what is there now.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::serve::Gateway;

/// Looks are asked for at most this often.
const EVERY: Duration = Duration::from_secs(5);
/// Longest wait for what a look shows.
const WITHIN: Duration = Duration::from_secs(2);

/// Who wants one.
#[derive(Debug, Default)]
pub(super) struct Looks {
    asked: watch::Sender<u64>,
    last: Mutex<Option<Duration>>,
}

impl Looks {
    /// Asks for a look; false where one was asked for a moment ago.
    fn ask(&self, now: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now < last + EVERY) {
            return false;
        }
        *last = Some(now);
        self.asked.send_modify(|count| *count += 1);
        true
    }
}

impl Gateway {
    /// Changes when a look at the endpoints is wanted.
    pub fn looks_wanted(&self) -> watch::Receiver<u64> {
        self.looks.asked.subscribe()
    }

    /// Asks for a look at the endpoints, unless one was asked for a moment ago.
    pub(super) fn want_look(&self) {
        self.looks.ask(self.conductor.now());
    }

    /// The same, and waits for what it shows, two seconds at most.
    pub async fn look_again(&self) {
        let mut known = self.catalogue.clone();
        known.mark_unchanged();
        let endpoints = known.borrow().endpoints.len();
        if !self.looks.ask(self.conductor.now()) {
            return;
        }
        let all = async {
            for _ in 0..endpoints {
                if known.changed().await.is_err() {
                    return;
                }
            }
        };
        // An endpoint that does not answer keeps nobody waiting for longer.
        let _elapsed = tokio::time::timeout(WITHIN, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_asked_for_together_are_one() {
        let looks = Looks::default();
        let asked = looks.asked.subscribe();
        let second = Duration::from_secs(1);
        let granted = [1, 2, 5, 6, 7, 11].map(|at| looks.ask(second * at));
        assert_eq!(granted, [true, false, false, true, false, true]);
        assert_eq!(*asked.borrow(), 3);
    }
}
