//! `warpsquad clean`: what merged tasks and past baselines left on disk.
//!
//! Work is never removed here: a worktree goes only through `archive`, which keeps its tip under a
//! ref, and only when its task is finished; what belongs to nobody known is kept and named. With an
//! age, as the squad does it by itself, a task that died keeps its worktree, folders that are
//! caches by their own word go, and so do archives whose commits are on a branch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::agents::Workshop;
use crate::api::wire::{CleanReport, CleanRequest, Cleaned};
use crate::core::command::Refusal;
use crate::core::task::{Task, TaskState};
use crate::core::{TaskId, Timestamp};
use crate::engine::journal::TaskFilter;
use crate::engine::{EngineHandle, Query, QueryReply};
use crate::git::Repository;

use super::clock::now;

/// Why something is kept that will go one day.
pub(super) const NOT_OLD: &str = "it is not old enough";

/// Tasks looked at; older ones have nothing left.
const TASKS: usize = 100_000;

/// Whether the sizes of what is kept are wanted: they cost a walk through all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// For everything.
    All,
    /// Only for what is removed.
    Removed,
}

/// Removes, or only tells.
pub(super) async fn clean(
    workshop: &Workshop,
    engine: &EngineHandle,
    request: CleanRequest,
    sizes: Sizes,
) -> Result<CleanReport, Refusal> {
    let filter = TaskFilter {
        limit: TASKS,
        ..TaskFilter::default()
    };
    let reply = engine
        .query(Query::Tasks(filter))
        .await
        .map_err(|error| Refusal::unavailable(error.to_string()))?;
    let QueryReply::Tasks(tasks) = reply else {
        return Ok(CleanReport::default());
    };
    let mut sweep = Sweep::new(workshop.data.clone(), tasks, request, sizes);
    sweep.everything().await;
    Ok(sweep.report)
}

pub(super) struct Sweep {
    /// The data directory.
    data: PathBuf,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) dry_run: bool,
    /// Only what was left alone since before this.
    before: Option<Timestamp>,
    sizes: Sizes,
    pub(super) report: CleanReport,
}

impl Sweep {
    fn new(data: PathBuf, tasks: Vec<Task>, request: CleanRequest, sizes: Sizes) -> Self {
        Self {
            data,
            tasks: tasks.into_iter().map(|task| (task.id, task)).collect(),
            dry_run: request.dry_run,
            before: request
                .older_than_ms
                .map(|age| Timestamp(now().0.saturating_sub(age))),
            sizes,
            report: CleanReport::default(),
        }
    }

    async fn everything(&mut self) {
        self.worktrees().await;
        self.task_dirs().await;
        self.baselines().await;
        self.scratch().await;
        if let Some(before) = self.before {
            self.archives(before).await;
        }
    }

    /// The task that works in this worktree: its own, or that of a spare that it took.
    fn worker_in(&self, dir: &Path) -> Option<&Task> {
        let works_here = |task: &&Task| {
            let workplace = task.workplace.as_ref();
            workplace.is_some_and(|workplace| workplace.dir == dir)
        };
        let taken = self.tasks.values().find(works_here);
        taken.or_else(|| self.tasks.get(&owner(dir)?))
    }

    async fn worktrees(&mut self) {
        for dir in entries(&self.data.join("worktrees")).await {
            let Some(task) = self.worker_in(&dir).cloned() else {
                self.keep(&dir, stranger(&dir)).await;
                continue;
            };
            let is_unmerged = self.before.is_some() && task.state == TaskState::Dead;
            if !task.state.is_final() || is_unmerged {
                self.keep(&dir, &format!("task {} is {}", task.id, task.state))
                    .await;
                self.caches(&task, &dir).await;
            } else if !self.is_old(task.updated) {
                self.keep(&dir, NOT_OLD).await;
            } else if self.dry_run {
                self.remove(&dir, &format!("task {} is {}", task.id, task.state_label()))
                    .await;
            } else {
                let bytes = size(dir.clone()).await;
                match put_away(&task, &dir).await {
                    Ok(why) => self.report.removed.push(entry(&dir, &why, bytes)),
                    Err(why) => self.report.kept.push(entry(&dir, &why, bytes)),
                }
            }
        }
    }

    async fn task_dirs(&mut self) {
        for dir in entries(&self.data.join("tasks")).await {
            let id = dir
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
                .map(TaskId);
            match id
                .and_then(|id| self.tasks.get(&id))
                .map(|task| (task.id, task.state, self.is_old(task.updated)))
            {
                Some((_, TaskState::Merged, false)) => self.keep(&dir, NOT_OLD).await,
                Some((id, TaskState::Merged, true)) => {
                    self.remove(
                        &dir,
                        &format!("chat and logs of task {id}, which is merged"),
                    )
                    .await;
                }
                Some((id, state, _)) => {
                    self.keep(
                        &dir,
                        &format!("chat and logs of task {id}, which is {state}"),
                    )
                    .await;
                }
                None => self.keep(&dir, "it belongs to no task known here").await,
            }
        }
    }

    async fn baselines(&mut self) {
        let busy = self.tasks.values().any(|task| !task.state.is_final());
        for path in entries(&self.data.join("baselines")).await {
            if busy {
                self.keep(&path, "baselines are in use while tasks are unfinished")
                    .await;
            } else if !self.is_old(touched(&path).await) {
                self.keep(&path, NOT_OLD).await;
            } else {
                self.remove(&path, "the result of a verify command on a base commit")
                    .await;
            }
        }
    }

    async fn scratch(&mut self) {
        let merging = self
            .tasks
            .values()
            .any(|task| task.state == TaskState::Merging);
        for path in entries(&self.data.join("scratch")).await {
            if merging {
                self.keep(&path, "a merge is under way").await;
            } else if !self.is_old(touched(&path).await) {
                self.keep(&path, NOT_OLD).await;
            } else {
                self.remove(&path, "left by a merge").await;
            }
        }
    }

    /// Caches in the worktree of a task that nothing works on and that was long left alone.
    async fn caches(&mut self, task: &Task, worktree: &Path) {
        let rests = matches!(task.state, TaskState::Review | TaskState::Dead);
        if self.before.is_none() || !rests || !self.is_old(task.updated) {
            return;
        }
        let found = match Repository::open(worktree).await {
            Ok(repository) => repository.cache_folders(worktree).await,
            Err(error) => Err(error),
        };
        for folder in found.unwrap_or_default() {
            let why = format!("a cache in the worktree of task {}", task.id);
            self.remove(&folder, &why).await;
        }
    }

    fn is_old(&self, moment: Timestamp) -> bool {
        self.before.is_none_or(|before| moment < before)
    }

    async fn keep(&mut self, path: &Path, why: &str) {
        let bytes = match self.sizes {
            Sizes::All => size(path.to_owned()).await,
            Sizes::Removed => 0,
        };
        self.report.kept.push(entry(path, why, bytes));
    }

    async fn remove(&mut self, path: &Path, why: &str) {
        let bytes = size(path.to_owned()).await;
        if !self.dry_run
            && let Err(error) = remove(path).await
        {
            self.report
                .kept
                .push(entry(path, &error.to_string(), bytes));
            return;
        }
        self.report.removed.push(entry(path, why, bytes));
    }
}

fn entry(path: &Path, why: &str, bytes: u64) -> Cleaned {
    Cleaned {
        what: path.display().to_string(),
        why: why.to_owned(),
        bytes,
    }
}

/// Why a worktree that no task has is kept.
fn stranger(dir: &Path) -> &'static str {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("spare-") {
        return "an agent made ahead waits there; what a squad left of those goes at its next start";
    }
    "it belongs to no task known here"
}

/// `worktrees/12-name` → 12
fn owner(dir: &Path) -> Option<TaskId> {
    let name = dir.file_name()?.to_str()?;
    name.split('-').next()?.parse().ok().map(TaskId)
}

async fn put_away(task: &Task, dir: &Path) -> Result<String, String> {
    let repository = Repository::open(&task.spec.repo)
        .await
        .map_err(|error| error.to_string())?;
    let archived = repository
        .archive(task.id, dir)
        .await
        .map_err(|error| error.to_string())?;
    Ok(archived.map_or_else(
        || "it held nothing".to_owned(),
        |archived| format!("its tip is kept as {}", archived.reference),
    ))
}

async fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(mut entries) = tokio::fs::read_dir(dir).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// When something was last written; what does not tell was written now.
async fn touched(path: &Path) -> Timestamp {
    let modified = tokio::fs::symlink_metadata(path).await;
    let since = modified
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or_else(now, |since| {
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}

async fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() && !path.is_symlink() {
        tokio::fs::remove_dir_all(path).await
    } else {
        tokio::fs::remove_file(path).await
    }
}

async fn size(path: PathBuf) -> u64 {
    tokio::task::spawn_blocking(move || size_of(&path))
        .await
        .unwrap_or_default()
}

fn size_of(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else {
        return 0;
    };
    if !meta.is_dir() {
        return meta.len();
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries.flatten().map(|entry| size_of(&entry.path())).sum()
}

#[cfg(test)]
#[path = "clean_tests.rs"]
mod tests;
