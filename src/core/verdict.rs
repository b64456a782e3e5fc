//! Refusals that are meant: said once to whoever asks the same thing again.
//!
//! Aider asks every refusal nine times over 66 s. A refusal that will not change is worded so that
//! Aider stops at once: litellm turns an error that holds [`FINAL`] into a bad request, which Aider
//! does not try again (litellm 1.81, Aider 0.86). Whoever asks the same again nevertheless gets the
//! same answer for as long as Aider would go on, and no endpoint is asked.
//!
//! Invariant: pure. Time comes in as `now`, a time since an arbitrary start.

use std::collections::VecDeque;
use std::time::Duration;

/// What makes litellm raise an error that Aider does not try again.
pub const FINAL: &str = "Invalid response object from API";
/// Aider gives up after 66 s.
const KEPT: Duration = Duration::from_secs(70);
/// Verdicts kept at most.
const MOST: usize = 1_000;

/// Words that end the asking.
pub fn message(why: &str) -> String {
    format!("{why} [{FINAL}]")
}

/// A refusal that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// HTTP status.
    pub status: u16,
    /// Words that end the asking.
    pub text: String,
}

/// The verdicts in force.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    given: VecDeque<Given>,
}

#[derive(Debug, Clone)]
struct Given {
    client: String,
    hash: u64,
    verdict: Verdict,
    until: Duration,
}

impl Verdicts {
    /// The verdict on the same request of the same client, while it is in force.
    pub fn given(&self, client: &str, hash: u64, now: Duration) -> Option<Verdict> {
        let same = |it: &&Given| it.hash == hash && it.client == client && it.until > now;
        let found = self.given.iter().rev().find(same);
        found.map(|it| it.verdict.clone())
    }

    /// Remembers a verdict.
    pub fn remember(&mut self, client: &str, hash: u64, verdict: Verdict, now: Duration) {
        self.given.retain(|it| it.until > now);
        if self.given.len() >= MOST {
            self.given.pop_front();
        }
        self.given.push_back(Given {
            client: client.to_owned(),
            hash,
            verdict,
            until: now + KEPT,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no() -> Verdict {
        Verdict {
            status: 400,
            text: message("no"),
        }
    }

    #[test]
    fn a_verdict_holds_for_the_same_request_of_the_same_client_and_then_lapses() {
        let mut verdicts = Verdicts::default();
        let second = Duration::from_secs(1);
        verdicts.remember("a", 7, no(), second);
        assert_eq!(verdicts.given("a", 7, second * 70), Some(no()));
        assert_eq!(verdicts.given("a", 7, second * 71), None);
        assert_eq!(verdicts.given("a", 8, second), None);
        assert_eq!(verdicts.given("b", 7, second), None);
    }

    #[test]
    fn they_are_bounded() {
        let mut verdicts = Verdicts::default();
        for hash in 0..5_000 {
            verdicts.remember("a", hash, no(), Duration::ZERO);
        }
        assert_eq!(verdicts.given.len(), MOST);
        assert!(verdicts.given("a", 4_999, Duration::ZERO).is_some());
    }
}
