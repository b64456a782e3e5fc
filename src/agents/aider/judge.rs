//! What an attempt came to, from git and from what Aider said, never from its exit code.
//!
//! Invariant: pure.

use super::catalogue::{Failure, FailureKind, Whose, classify};
use super::cues::Cue;
use crate::core::task::Mode;

/// What Aider said during one turn: from the prompt that was delivered to the next prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TurnRecord {
    /// Failures that nothing has made up for since.
    pub failures: Vec<Failure>,
    /// Answers whose edits could not be applied, whether or not a later one made up for them.
    pub malformed: u32,
    /// Commits reported.
    pub commits: Vec<String>,
    /// Files edited, in the order they were reported.
    pub files: Vec<String>,
    /// Beginning of the last reply.
    pub reply: Option<String>,
    /// Tokens sent and received, as Aider estimates them.
    pub tokens: (u64, u64),
}

impl TurnRecord {
    /// Takes one cue of the turn.
    pub fn observe(&mut self, cue: &Cue) {
        match cue {
            Cue::Error { text } | Cue::Warning { text } => {
                let failure = classify(text);
                let is_malformed = |it: &Failure| it.kind == FailureKind::MalformedEdit;
                self.malformed += u32::from(failure.as_ref().is_some_and(is_malformed));
                self.failures.extend(failure);
            }
            Cue::Tokens { sent, received } => {
                // A request was answered: those before it failed, but were tried again.
                self.failures
                    .retain(|failure| failure.whose != Whose::Endpoint);
                self.tokens.0 += sent;
                self.tokens.1 += received;
            }
            Cue::Commit { hash } => {
                self.failures.clear();
                self.commits.push(hash.clone());
            }
            Cue::Edited { files } => {
                for file in files {
                    if !self.files.contains(file) {
                        self.files.push(file.clone());
                    }
                }
            }
            Cue::Reply { text, .. } => self.reply = Some(text.clone()),
            Cue::Start { .. }
            | Cue::Prompt { .. }
            | Cue::Input { .. }
            | Cue::Question(_)
            | Cue::Answered { .. }
            | Cue::Retry { .. }
            | Cue::State(_)
            | Cue::Exit { .. }
            | Cue::Unknown => {}
        }
    }

    /// The failure that decides: what was not the task's fault before what was, else the last.
    fn decisive(&self) -> Option<&Failure> {
        let blameless = self
            .failures
            .iter()
            .rev()
            .find(|failure| !failure.whose.costs_an_attempt());
        blameless.or(self.failures.last())
    }
}

/// What git says about the worktree after the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GitFacts {
    /// Commits between the tip before the attempt and the tip now.
    pub commits: u32,
    /// Tracked files differ from the tip.
    pub dirty: bool,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Edited and committed.
    Edited {
        /// How many commits.
        commits: u32,
    },
    /// Answered, in ask mode.
    Answered,
    /// The model wrote no edit.
    NoChange {
        /// What it did instead.
        why: String,
    },
    /// Something failed.
    Failed(Failure),
}

/// Judges a turn that has ended.
pub fn judge(mode: Mode, turn: &TurnRecord, git: GitFacts) -> Verdict {
    if let Some(failure) = turn.decisive() {
        let harmless = failure.kind == FailureKind::EditRefused && git.commits > 0;
        if !harmless {
            return Verdict::Failed(failure.clone());
        }
    }
    if mode == Mode::Ask {
        return match &turn.reply {
            Some(_) => Verdict::Answered,
            None => no_change("there was no reply"),
        };
    }
    if git.commits > 0 {
        return Verdict::Edited {
            commits: git.commits,
        };
    }
    if git.dirty {
        let text = "Aider left its edits uncommitted";
        return Verdict::Failed(Failure::new(FailureKind::Git, Whose::Git, text));
    }
    match &turn.reply {
        Some(reply) => no_change(&format!("the reply holds no edit: {reply}")),
        None => no_change("there was no reply"),
    }
}

fn no_change(why: &str) -> Verdict {
    Verdict::NoChange { why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Cue {
        Cue::Error { text: text.into() }
    }

    fn commit() -> Cue {
        Cue::Commit {
            hash: "c0ffee".into(),
        }
    }

    fn tokens() -> Cue {
        Cue::Tokens {
            sent: 10,
            received: 2,
        }
    }

    fn reply() -> Cue {
        Cue::Reply {
            bytes: 5,
            mode: "ask".into(),
            text: "hello".into(),
        }
    }

    fn after(cues: &[Cue]) -> TurnRecord {
        let mut turn = TurnRecord::default();
        for cue in cues {
            turn.observe(cue);
        }
        turn
    }

    const REFUSED: &str = "litellm.APIConnectionError: [Errno 111] Connection refused";
    const MALFORMED: &str = "The LLM did not conform to the edit format.";
    const ONE: GitFacts = GitFacts {
        commits: 1,
        dirty: false,
    };
    const NONE: GitFacts = GitFacts {
        commits: 0,
        dirty: false,
    };

    fn failure(verdict: Verdict) -> (FailureKind, Whose) {
        match verdict {
            Verdict::Failed(failure) => (failure.kind, failure.whose),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_commit_makes_up_for_corrected_mistakes() {
        let turn = after(&[
            error(REFUSED),
            tokens(),
            error(MALFORMED),
            tokens(),
            commit(),
            reply(),
        ]);
        assert_eq!(
            judge(Mode::Code, &turn, ONE),
            Verdict::Edited { commits: 1 }
        );
    }

    #[test]
    fn half_an_edit_is_not_a_success() {
        let turn = after(&[
            error(MALFORMED),
            commit(),
            Cue::Warning {
                text: "Only 3 reflections allowed, stopping.".into(),
            },
            reply(),
        ]);
        assert_eq!(
            failure(judge(Mode::Code, &turn, ONE)),
            (FailureKind::CorrectionsExhausted, Whose::Model)
        );
    }

    #[test]
    fn an_endpoint_that_fails_after_a_commit_is_to_blame() {
        let turn = after(&[error(MALFORMED), commit(), error(MALFORMED), error(REFUSED)]);
        assert_eq!(
            failure(judge(Mode::Code, &turn, ONE)),
            (FailureKind::Request, Whose::Endpoint)
        );
    }

    #[test]
    fn a_reply_without_an_edit_is_no_change() {
        let verdict = judge(Mode::Code, &after(&[tokens(), reply()]), NONE);
        assert_eq!(
            verdict,
            Verdict::NoChange {
                why: "the reply holds no edit: hello".into()
            }
        );
    }

    #[test]
    fn an_ask_task_is_done_by_its_reply() {
        assert_eq!(
            judge(Mode::Ask, &after(&[tokens(), reply()]), NONE),
            Verdict::Answered
        );
        assert_eq!(
            failure(judge(Mode::Ask, &after(&[error(REFUSED)]), NONE)).1,
            Whose::Endpoint
        );
    }

    #[test]
    fn uncommitted_edits_are_gits_fault() {
        let dirty = GitFacts {
            commits: 0,
            dirty: true,
        };
        let verdict = judge(Mode::Architect, &after(&[tokens(), reply()]), dirty);
        assert_eq!(failure(verdict), (FailureKind::Git, Whose::Git));
    }
}
