//! `warpsquad clean`: what merged tasks and past baselines left on disk.
//!
//! Work is never removed here: a worktree goes only through `archive`, which keeps its tip under a
//! ref, and only when its task is finished; what belongs to nobody known is kept and named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::agents::Workshop;
use crate::api::wire::{CleanReport, CleanRequest, Cleaned};
use crate::core::TaskId;
use crate::core::command::Refusal;
use crate::core::task::{Task, TaskState};
use crate::engine::journal::TaskFilter;
use crate::engine::{EngineHandle, Query, QueryReply};
use crate::git::Repository;

/// Tasks looked at; older ones have nothing left.
const TASKS: usize = 100_000;

/// Removes, or only tells.
pub(super) async fn clean(
    workshop: &Workshop,
    engine: &EngineHandle,
    request: CleanRequest,
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
    let mut sweep = Sweep {
        workshop,
        tasks: tasks.into_iter().map(|task| (task.id, task)).collect(),
        dry_run: request.dry_run,
        report: CleanReport::default(),
    };
    sweep.worktrees().await;
    sweep.task_dirs().await;
    sweep.baselines().await;
    sweep.scratch().await;
    Ok(sweep.report)
}

struct Sweep<'a> {
    workshop: &'a Workshop,
    tasks: BTreeMap<TaskId, Task>,
    dry_run: bool,
    report: CleanReport,
}

impl Sweep<'_> {
    async fn worktrees(&mut self) {
        for dir in entries(&self.workshop.data.join("worktrees")).await {
            let Some(task) = owner(&dir).and_then(|id| self.tasks.get(&id)).cloned() else {
                self.keep(&dir, "it belongs to no task known here").await;
                continue;
            };
            if !task.state.is_final() {
                self.keep(&dir, &format!("task {} is {}", task.id, task.state))
                    .await;
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
        for dir in entries(&self.workshop.data.join("tasks")).await {
            let id = dir
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
                .map(TaskId);
            match id
                .and_then(|id| self.tasks.get(&id))
                .map(|task| (task.id, task.state))
            {
                Some((id, TaskState::Merged)) => {
                    self.remove(
                        &dir,
                        &format!("chat and logs of task {id}, which is merged"),
                    )
                    .await;
                }
                Some((id, state)) => {
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
        for path in entries(&self.workshop.baseline_dir()).await {
            if busy {
                self.keep(&path, "baselines are in use while tasks are unfinished")
                    .await;
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
        for path in entries(&self.workshop.data.join("scratch")).await {
            if merging {
                self.keep(&path, "a merge is under way").await;
            } else {
                self.remove(&path, "left by a merge").await;
            }
        }
    }

    async fn keep(&mut self, path: &Path, why: &str) {
        let bytes = size(path.to_owned()).await;
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
