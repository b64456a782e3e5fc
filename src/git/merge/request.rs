//! What is asked of a merge and why it may be refused.

use std::path::PathBuf;

use super::super::GitError;
use super::super::error::quoted;
use crate::core::TaskId;
use crate::core::settings::MergeStrategy;

/// A merge that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    /// The task.
    pub task: TaskId,
    /// The commit the task started from.
    pub base: String,
    /// The commit (or branch) with the task's work.
    pub tip: String,
    /// Name of the branch that receives it, checked out somewhere or not.
    pub target: String,
    /// How.
    pub strategy: MergeStrategy,
    /// Message of the final commit; a rebase keeps the commits' own.
    pub message: String,
    /// Added to the final commit.
    pub trailers: Trailers,
    /// Folder for a temporary checkout, which is made only where a hook needs one.
    pub scratch: PathBuf,
}

/// Facts about the task in the final commit's message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailers {
    /// `Warpsquad-Model`
    pub model: Option<String>,
    /// `Warpsquad-Verified`
    pub verified: Option<String>,
}

impl Trailers {
    /// `Key: value`, one for each line of the message.
    pub(super) fn lines(&self, task: TaskId) -> Vec<String> {
        let one_line = |value: &String| value.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines = vec![format!("Warpsquad-Task: {task}")];
        lines.extend(
            self.model
                .iter()
                .map(|m| format!("Warpsquad-Model: {}", one_line(m))),
        );
        lines.extend(
            self.verified
                .iter()
                .map(|v| format!("Warpsquad-Verified: {}", one_line(v))),
        );
        lines
    }
}

/// A merge that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The final commit; the branch points to it.
    pub commit: String,
    /// The checkout that was brought up to date, if the branch is checked out.
    pub checkout: Option<PathBuf>,
}

/// Why nothing was merged or undone. Nothing has changed, neither refs nor files.
#[derive(Debug, thiserror::Error)]
pub enum MergeRefused {
    /// Both sides changed the same lines.
    #[error("conflicts in {}", files.join(", "))]
    Conflict {
        /// The files.
        files: Vec<String>,
        /// The branch that receives.
        target: String,
        /// The task's work.
        tip: String,
    },
    /// Files of the checkout that are not committed would be overwritten.
    #[error("uncommitted files in {} would be overwritten: {}", checkout.display(), files.join(", "))]
    Overlap {
        /// The checkout.
        checkout: PathBuf,
        /// The files.
        files: Vec<String>,
    },
    /// The target is no branch.
    #[error("{target} is not a branch")]
    NotABranch {
        /// What was asked for.
        target: String,
    },
    /// The user is in the middle of something on that branch.
    #[error("{operation} is in progress on {target} in {}", checkout.display())]
    Busy {
        /// The branch.
        target: String,
        /// Where.
        checkout: PathBuf,
        /// `a rebase`, `a merge`, …
        operation: &'static str,
    },
    /// The task changed nothing that the branch does not have.
    #[error("there is nothing to merge")]
    Nothing,
    /// The task started from uncommitted work, which only a squash can leave out.
    #[error("the task started from uncommitted work, which this strategy would merge too")]
    UncommittedBase,
    /// A hook of the user said no.
    #[error("the {hook} hook refused: {output}")]
    Hook {
        /// Its name.
        hook: String,
        /// What it said.
        output: String,
    },
    /// The commit could not be signed.
    #[error("the commit could not be signed: {output}")]
    Signing {
        /// What git said.
        output: String,
    },
    /// The branch moved every time it was tried.
    #[error("{target} moved while it was merged")]
    Moving {
        /// The branch.
        target: String,
    },
    /// There is no merge to undo.
    #[error("task {task} is not merged")]
    NotMerged {
        /// The task.
        task: TaskId,
    },
    /// Commits came after the merge.
    #[error("{target} has moved on since the merge")]
    MovedOn {
        /// The branch.
        target: String,
        /// The merge's commit.
        commit: String,
    },
    /// Git cannot do it at all.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl MergeRefused {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Conflict { target, tip, .. } => format!(
                "send the task back so that it works on the present {target}, or merge by hand: git switch {target} && git merge {tip}"
            ),
            Self::Overlap { checkout, .. } => format!(
                "commit or stash them first: git -C {} stash --include-untracked",
                quoted(checkout)
            ),
            Self::NotABranch { .. } => {
                "name the branch that shall receive the work, or make one: git switch -c NAME".into()
            }
            Self::Busy { checkout, .. } => format!(
                "finish or abort it first; git -C {} status says how",
                quoted(checkout)
            ),
            Self::Nothing => "discard the task, or send it back with a comment".into(),
            Self::UncommittedBase => "use the strategy \"squash\", or commit that work first".into(),
            Self::Hook { .. } => "send the task back with what the hook said, or fix it by hand in the task's worktree".into(),
            Self::Signing { .. } => "unlock the signing key (for example: echo | gpg --sign > /dev/null) and merge again".into(),
            Self::Moving { .. } => "merge again".into(),
            Self::NotMerged { .. } => "only a merged task can be undone".into(),
            Self::MovedOn { commit, .. } => format!("take it back with a new commit: git revert {commit}"),
            Self::Git(error) => error.hint(),
        }
    }
}
