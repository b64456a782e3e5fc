//! What spares leave behind, and what a killed server left of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::workshop::Workshop;
use super::{GRACE, Taken};
use crate::git::Repository;
use crate::keeper::JobSignal;

/// Ends a spare that was taken in vain.
pub(in crate::agents) async fn end(workshop: &Workshop, taken: &Taken) {
    let keeper = workshop.jobs.keeper();
    if keeper
        .stop(&taken.job, JobSignal::Term, GRACE)
        .await
        .is_ok()
        && workshop.jobs.ended(&taken.job).await.is_ok()
    {
        drop(keeper.forget(&taken.job).await);
    }
    if let Err(error) = taken.repository.discard_spare(&taken.dir).await {
        tracing::warn!(job = taken.job, %error, "a spare's worktree stays");
    }
    clear_files(workshop, &taken.job).await;
}

/// What a killed server left of spares that no process belongs to: their worktrees hold no work,
/// and where a task had begun to take one, its tip is kept.
pub(in crate::agents) async fn sweep(
    workshop: &Workshop,
    used: &HashSet<PathBuf>,
    jobs: &HashSet<String>,
) {
    for dir in entries(&workshop.data.join("worktrees")).await {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("spare-") || used.contains(&dir) {
            continue;
        }
        let removed = match Repository::open(&dir).await {
            Ok(repository) => repository.discard_spare(&dir).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::info!(dir = %dir.display(), %error, "a left worktree stays");
        }
    }
    for dir in entries(&workshop.data.join("agents")).await {
        let job = dir.file_name().unwrap_or_default().to_string_lossy();
        if !jobs.contains(job.as_ref()) {
            clear_files(workshop, &job).await;
        }
    }
}

async fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(mut entries) = tokio::fs::read_dir(dir).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            found.push(entry.path());
        }
    }
    found
}

/// The private files of an agent that is gone.
pub(in crate::agents) async fn clear_files(workshop: &Workshop, job: &str) {
    let dir = workshop.agent_dir(job);
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%job, %error, "an agent's files stay");
        }
        Ok(()) | Err(_) => {}
    }
}
