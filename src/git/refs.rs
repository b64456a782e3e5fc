//! Names of our refs and the one transaction that moves several of them.

use std::path::Path;

use super::command::Git;
use super::{GitError, Repository};
use crate::core::TaskId;

/// Everything of ours.
pub(super) const ROOT: &str = "refs/warpsquad/";

/// The ref of `task` under `kind` (`base`, `merged`, …).
pub(super) fn task_ref(kind: &str, task: TaskId) -> String {
    format!("{ROOT}{kind}/{task}")
}

/// One line of `git update-ref --stdin`.
#[derive(Debug, Clone)]
pub(super) enum RefChange {
    /// Moves or creates; `old` is checked when given.
    Set {
        name: String,
        new: String,
        old: Option<String>,
    },
    /// Creates; fails when it exists.
    Create { name: String, new: String },
    /// Deletes; `old` is checked when given, and a ref that is not there is fine when not.
    Delete { name: String, old: Option<String> },
}

impl RefChange {
    fn line(&self) -> String {
        match self {
            Self::Set { name, new, old } => {
                let old = old.as_deref().map(|old| format!(" {old}"));
                format!("update {name} {new}{}\n", old.unwrap_or_default())
            }
            Self::Create { name, new } => format!("create {name} {new}\n"),
            Self::Delete { name, old } => {
                let old = old.as_deref().map(|old| format!(" {old}"));
                format!("delete {name}{}\n", old.unwrap_or_default())
            }
        }
    }
}

/// How a transaction ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    /// All of it happened.
    Done,
    /// A checked value was another, or the user's hook said no: nothing happened.
    Refused(String),
}

/// Applies all `changes` or none. `hooks` lets the user's reference hooks see it.
pub(super) async fn transaction(
    git: &Git,
    dir: &Path,
    reason: &str,
    changes: &[RefChange],
    hooks: Option<&Path>,
) -> Result<Transaction, GitError> {
    let lines: String = changes.iter().map(RefChange::line).collect();
    let mut call = git
        .write(dir)
        .args(["update-ref", "-m", reason, "--stdin"])
        .stdin(format!("start\n{lines}prepare\ncommit\n"))
        .outlives();
    if let Some(hooks) = hooks {
        call = call.hooks(hooks);
    }
    let output = call.output().await?;
    if output.is_success() {
        return Ok(Transaction::Done);
    }
    Ok(Transaction::Refused(output.said()))
}

impl Repository {
    /// The object that `name` points to, none when there is no such ref.
    pub(super) async fn ref_value(&self, name: &str) -> Result<Option<String>, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["for-each-ref", "--format=%(refname) %(objectname)", name])
            .run()
            .await?;
        // A pattern also matches refs below it.
        Ok(output.text().lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.to_owned())
        }))
    }

    /// Applies `changes` without any hook; a refusal is an error.
    pub(super) async fn change_refs(
        &self,
        reason: &str,
        changes: &[RefChange],
    ) -> Result<(), GitError> {
        match transaction(&self.git, &self.top, reason, changes, None).await? {
            Transaction::Done => Ok(()),
            Transaction::Refused(stderr) => Err(GitError::Failed {
                command: "update-ref".into(),
                code: Some(128),
                stderr,
            }),
        }
    }
}
