//! Old refs of ours whose commits nobody would lose: archives and marks of merges.
//!
//! An archive goes only when its task is finished and old, and its commits are on a branch, or are
//! what the task's merge was made of while that merge is on a branch. Anything else is kept and
//! named, and so is every ref that git cannot tell about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::api::wire::Cleaned;
use crate::core::Timestamp;
use crate::core::task::{Task, TaskState};
use crate::git::{GitError, Repository, SquadRef, SquadRefKind};

use super::clean::{NOT_OLD, Sweep};

impl Sweep {
    /// Refs of tasks that were finished before `before`, in every repository they worked on.
    pub(super) async fn archives(&mut self, before: Timestamp) {
        let mut repositories: BTreeMap<PathBuf, Vec<Task>> = BTreeMap::new();
        for task in self.tasks.values().filter(|task| task.state.is_final()) {
            let tasks = repositories.entry(task.spec.repo.clone()).or_default();
            tasks.push(task.clone());
        }
        for (path, tasks) in repositories {
            if let Err(error) = self.archives_of(&path, &tasks, before).await {
                tracing::info!(repository = %path.display(), %error, "its archives stay");
            }
        }
    }

    async fn archives_of(
        &mut self,
        path: &Path,
        tasks: &[Task],
        before: Timestamp,
    ) -> Result<(), GitError> {
        let repository = Repository::open(path).await?;
        let mut old = Vec::new();
        for found in repository.squad_refs().await? {
            let is_kind = matches!(found.kind, SquadRefKind::Archive | SquadRefKind::Merged);
            let Some(task) = tasks.iter().find(|task| task.id == found.task && is_kind) else {
                continue;
            };
            let verdict = if task.updated < before {
                expendable(&repository, task, &found).await?
            } else {
                Err(NOT_OLD.to_owned())
            };
            let entry = |why| Cleaned {
                what: format!("{} in {}", found.name, path.display()),
                why,
                bytes: 0,
            };
            match verdict {
                Ok(why) => old.push((entry(why), found.clone())),
                Err(why) => self.report.kept.push(entry(why)),
            }
        }
        let (entries, refs): (Vec<Cleaned>, Vec<SquadRef>) = old.into_iter().unzip();
        if !self.dry_run {
            repository.delete_squad_refs(&refs).await?;
        }
        self.report.removed.extend(entries);
        Ok(())
    }
}

/// Why a ref may go, or why it may not.
async fn expendable(
    repository: &Repository,
    task: &Task,
    found: &SquadRef,
) -> Result<Result<String, String>, GitError> {
    if let Some(branch) = repository.branch_with(&found.object).await? {
        return Ok(Ok(format!("its commits are on {branch}")));
    }
    let head = task.attempt().and_then(|attempt| attempt.head.as_ref());
    let merged = task
        .merged
        .as_ref()
        .filter(|_| task.state == TaskState::Merged && head == Some(&found.object));
    if let Some(merged) = merged
        && let Some(branch) = repository.branch_with(merged).await?
    {
        return Ok(Ok(format!("it was merged into {branch}")));
    }
    Ok(Err("its commits are on no branch".to_owned()))
}
