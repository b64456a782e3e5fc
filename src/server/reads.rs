//! What is read of a task besides its state: its diff and its logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agents::{Workshop, redact};
use crate::api::wire::LogKind;
use crate::core::TaskId;
use crate::core::command::Refusal;
use crate::core::task::Task;
use crate::engine::{EngineHandle, Query, QueryReply};
use crate::git::Repository;

/// Longest diff shown, bytes.
const DIFF_MAX: u64 = 4 << 20;
/// Longest log shown, bytes; the end of a longer one.
const LOG_MAX: usize = 4 << 20;

/// The diff between a task's base and its tip, as it is now, also after it was put away.
pub(super) async fn diff(engine: EngineHandle, id: TaskId) -> Result<String, Refusal> {
    let task = task(&engine, id).await?;
    let repository = open(&task).await?;
    let tip = tip(&repository, &task).await?;
    let diff = repository
        .diff(&task.spec.base_commit, &tip, DIFF_MAX)
        .await
        .map_err(|error| Refusal::user(error.to_string()).hint(error.hint()))?;
    Ok(format!("{}\n{}", diff.stat.trim_end(), diff.patch))
}

async fn tip(repository: &Repository, task: &Task) -> Result<String, Refusal> {
    if let Some(workplace) = &task.workplace {
        return Ok(workplace.branch.clone());
    }
    let archived = repository.latest_archive(task.id).await.ok().flatten();
    archived
        .map(|archived| archived.commit)
        .or_else(|| task.attempt().and_then(|attempt| attempt.head.clone()))
        .ok_or_else(|| {
            Refusal::user(format!("task {} has no work yet", task.id))
                .hint("wait until its agent has worked on it")
        })
}

async fn open(task: &Task) -> Result<Repository, Refusal> {
    Repository::open(&task.spec.repo)
        .await
        .map_err(|error| Refusal::user(error.to_string()).hint(error.hint()))
}

pub(super) async fn task(engine: &EngineHandle, id: TaskId) -> Result<Task, Refusal> {
    let reply = engine
        .query(Query::Task(id))
        .await
        .map_err(|error| Refusal::unavailable(error.to_string()))?;
    let QueryReply::Tasks(tasks) = reply else {
        return Err(Refusal::unavailable("the store answered something else"));
    };
    tasks.into_iter().next().ok_or_else(|| {
        Refusal::user(format!("there is no task {id}")).hint("list them with 'warpsquad task list'")
    })
}

/// A log of a task, without anything that could act on a terminal.
pub(super) async fn log(
    engine: EngineHandle,
    workshop: Arc<Workshop>,
    id: TaskId,
    kind: LogKind,
) -> Result<String, Refusal> {
    let task = task(&engine, id).await?;
    let dir = workshop.task_dir(id);
    let file = match kind {
        LogKind::Agent => Some(dir.join("chat.md")),
        LogKind::Verify => task.verify.as_ref().and_then(|report| report.log.clone()),
        LogKind::Setup => newest(&dir, "setup-").await,
    };
    let missing = || {
        Refusal::user(format!("task {id} has no such log yet"))
            .hint("see 'warpsquad task show' for what has happened")
    };
    let bytes = tokio::fs::read(file.ok_or_else(missing)?)
        .await
        .map_err(|_gone| missing())?;
    let from = bytes.len().saturating_sub(LOG_MAX);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
    let plain: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    Ok(redact(&plain))
}

async fn newest(dir: &Path, prefix: &str) -> Option<PathBuf> {
    let mut entries = tokio::fs::read_dir(dir).await.ok()?;
    let mut found: Option<PathBuf> = None;
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_log =
            name.starts_with(prefix) && entry.path().extension().is_some_and(|it| it == "log");
        if is_log && found.as_ref().is_none_or(|best| entry.path() > *best) {
            found = Some(entry.path());
        }
    }
    found
}
