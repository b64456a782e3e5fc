//! The verdict on an attempt, read from git and from what Aider said.

use crate::core::task::{Attempt, Mode, Task, Workplace};
use crate::git::{GitError, Repository};

use super::aider::flavour::reply_file;
use super::aider::judge::{GitFacts, TurnRecord, Verdict, judge};
use super::workshop::Workshop;

/// Longest answer kept with a task, characters.
const ANSWER_MAX: usize = 64 * 1024;

/// What an attempt came to, in the engine's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    /// There is a result to verify.
    Result {
        /// The tip.
        head: String,
        /// Commits since the base.
        commits: u32,
        /// The answer, in ask mode.
        answer: Option<String>,
    },
    /// The attempt failed.
    Failed(String),
    /// A fault that is not the task's.
    Held(String),
}

struct Tip {
    head: String,
    since_base: u32,
    since_attempt: u32,
}

/// Commits what Aider left, counts, and judges.
pub(super) async fn settle(workshop: &Workshop, task: &Task, turn: &TurnRecord) -> Settled {
    let Some(workplace) = &task.workplace else {
        return Settled::Held("the task has no worktree".into());
    };
    let tip = match tip(task, workplace).await {
        Ok(tip) => tip,
        Err(error) => return Settled::Held(format!("git cannot tell the result: {error}")),
    };
    let facts = GitFacts {
        commits: tip.since_attempt,
        dirty: false,
    };
    match judge(task.spec.mode, turn, facts) {
        Verdict::Edited { .. } => Settled::Result {
            head: tip.head,
            commits: tip.since_base,
            answer: None,
        },
        Verdict::Answered => {
            let answer = answer(workshop, task, turn).await;
            Settled::Result {
                head: tip.head,
                commits: tip.since_base,
                answer,
            }
        }
        Verdict::NoChange { why } => Settled::Failed(format!("no change was made: {why}")),
        Verdict::Failed(failure) if failure.whose.costs_an_attempt() => {
            Settled::Failed(failure.text)
        }
        Verdict::Failed(failure) => Settled::Held(failure.text),
    }
}

async fn tip(task: &Task, workplace: &Workplace) -> Result<Tip, GitError> {
    let repository = Repository::open(&workplace.dir).await?;
    if task.spec.mode != Mode::Ask {
        rescue(&repository, task, workplace).await?;
    }
    let head = repository.resolve("HEAD").await?;
    let before = task
        .attempts
        .iter()
        .rev()
        .skip(1)
        .find_map(|attempt| attempt.head.clone())
        .unwrap_or_else(|| workplace.base_commit.clone());
    let count = |commits: Vec<crate::git::Commit>| u32::try_from(commits.len()).unwrap_or(u32::MAX);
    Ok(Tip {
        since_base: count(repository.commits(&workplace.base_commit, &head).await?),
        since_attempt: count(repository.commits(&before, &head).await?),
        head,
    })
}

/// Commits edits of tracked files that Aider did not commit itself.
async fn rescue(
    repository: &Repository,
    task: &Task,
    workplace: &Workplace,
) -> Result<(), GitError> {
    if repository.status(&workplace.dir).await?.changed.is_empty() {
        return Ok(());
    }
    let identity = repository.identity().await?;
    let message = format!("squad: keep uncommitted work of task {}", task.id);
    repository
        .commit_all(&workplace.dir, &message, &identity)
        .await?;
    Ok(())
}

async fn answer(workshop: &Workshop, task: &Task, turn: &TurnRecord) -> Option<String> {
    let file = reply_file(&workshop.task_dir(task.id));
    let text = match tokio::fs::read(file).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => turn.reply.clone()?,
    };
    let clean = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    Some(clean.take(ANSWER_MAX).collect())
}

/// Whether there is a chat that a further attempt can go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chat {
    /// A prompt was delivered.
    Begun,
    /// Nothing was said.
    Empty,
}

impl Chat {
    /// The chat after these attempts.
    pub(super) fn of(attempts: &[Attempt]) -> Self {
        let begun = attempts.iter().any(|attempt| attempt.delivered.is_some());
        if begun { Self::Begun } else { Self::Empty }
    }
}

/// Keeps what a lost agent left behind; in words.
pub(super) async fn keep(task: &Task, chat: Chat) -> String {
    let Some(workplace) = &task.workplace else {
        return "nothing was begun".into();
    };
    let commits = match tip(task, workplace).await {
        Ok(tip) => match tip.since_base {
            0 => "no commit was made yet".into(),
            1 => "1 commit kept".into(),
            many => format!("{many} commits kept"),
        },
        Err(error) => format!("its worktree is kept, git cannot tell what it holds: {error}"),
    };
    match chat {
        Chat::Begun => format!("{commits}, its chat goes on"),
        Chat::Empty => commits,
    }
}
