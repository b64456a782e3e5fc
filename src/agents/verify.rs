//! Verify jobs: the command on the result, and once for each base commit on that commit.
//!
//! The baseline runs in a worktree of its own, so it sees no edit, whatever agents do meanwhile;
//! its result is kept on disk under a hash of repository, commit and command.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::core::AgentSlot;
use crate::core::task::Task;
use crate::core::verify::{VerifyOutcome, VerifyReport, VerifyRun, failing_tests, judge};
use crate::git::Repository;
use crate::keeper::{ClientError, JobSpec, Limits, Origin, Output};

use super::output::{read_end, shell, tail};
use super::prepare;
use super::workshop::Workshop;

/// A verification that could not be carried out; not the task's fault.
#[derive(Debug, thiserror::Error)]
pub enum VerifyFault {
    /// The keeper is gone or refused.
    #[error("the verify command could not be started: {0}")]
    Keeper(#[from] ClientError),
    /// The base could not be checked out or prepared.
    #[error("the baseline could not be prepared: {0}")]
    Baseline(String),
    /// The output could not be read.
    #[error("the output of the verify command cannot be read: {0}")]
    Output(#[from] std::io::Error),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// Verifies the task's result as it stands in its worktree.
///
/// # Errors
/// It could not be carried out at all.
pub async fn verify(workshop: &Arc<Workshop>, task: &Task) -> Result<VerifyReport, VerifyFault> {
    let command = task.spec.verify.clone().unwrap_or_default();
    let (Some(workplace), false) = (&task.workplace, command.trim().is_empty()) else {
        return Ok(not_verified());
    };
    if task.commits == 0 {
        return Ok(not_verified());
    }
    let baseline = if workshop.settings.verify.baseline {
        Some(baseline(workshop, task).await?)
    } else {
        None
    };
    let head = task
        .attempt()
        .and_then(|attempt| attempt.head.clone())
        .unwrap_or_default();
    let name = format!(
        "verify-{}-{}-{}",
        task.id,
        task.attempt_number(),
        short(&head)
    );
    let log = workshop.task_dir(task.id).join(format!("{name}.log"));
    let run = run(workshop, task, &name, &workplace.dir, &log).await?;
    let outcome = judge(baseline.as_ref(), &run);
    Ok(VerifyReport {
        command,
        outcome,
        baseline,
        run: Some(run),
        log: Some(log),
    })
}

fn not_verified() -> VerifyReport {
    VerifyReport {
        command: String::new(),
        outcome: VerifyOutcome::NotVerified,
        baseline: None,
        run: None,
        log: None,
    }
}

/// The run on the task's base commit, made once and remembered.
///
/// # Errors
/// The base could not be checked out, or the job not run.
pub async fn baseline(workshop: &Arc<Workshop>, task: &Task) -> Result<VerifyRun, VerifyFault> {
    let key = baseline_key(task);
    let cell = workshop.baseline(&key);
    let run = cell
        .get_or_try_init(|| run_baseline(workshop, task, &key))
        .await?;
    Ok(run.clone())
}

fn baseline_key(task: &Task) -> String {
    let mut hash = Sha256::new();
    for part in [
        task.spec.repo.to_string_lossy().as_ref(),
        &task.spec.base_commit,
        task.spec.verify.as_deref().unwrap_or_default(),
        task.spec.setup.as_deref().unwrap_or_default(),
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    super::workshop::hex(digest.get(..8).unwrap_or_default())
}

async fn run_baseline(
    workshop: &Arc<Workshop>,
    task: &Task,
    key: &str,
) -> Result<VerifyRun, VerifyFault> {
    let result = workshop.baseline_dir().join(format!("{key}.json"));
    if let Ok(text) = tokio::fs::read(&result).await
        && let Ok(run) = serde_json::from_slice(&text)
    {
        return Ok(run);
    }
    let dir = workshop.baseline_dir().join(key);
    tokio::fs::create_dir_all(workshop.baseline_dir()).await?;
    let log = workshop.baseline_dir().join(format!("{key}.log"));
    let fault = |error: &dyn std::fmt::Display| VerifyFault::Baseline(error.to_string());
    let repository = Repository::open(&task.spec.repo)
        .await
        .map_err(|error| fault(&error))?;
    repository
        .add_detached(&task.spec.base_commit, &dir)
        .await
        .map_err(|error| fault(&error))?;
    prepare::furnish_for(workshop, task, &dir, &format!("baseline-setup-{key}"))
        .await
        .map_err(|error| fault(&error))?;
    let run = run(workshop, task, &format!("baseline-{key}"), &dir, &log).await?;
    if let Ok(text) = serde_json::to_vec(&run) {
        write_atomically(&result, &text).await?;
    }
    if let Err(error) = repository.remove_detached(&dir).await {
        tracing::warn!(%error, dir = %dir.display(), "the baseline's worktree stays");
    }
    Ok(run)
}

async fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    tokio::fs::write(&draft, bytes).await?;
    tokio::fs::rename(&draft, path).await
}

async fn run(
    workshop: &Arc<Workshop>,
    task: &Task,
    job: &str,
    dir: &Path,
    log: &Path,
) -> Result<VerifyRun, VerifyFault> {
    let settings = &workshop.settings.verify;
    let slot = task.attempt().map_or(AgentSlot(1), |attempt| attempt.slot);
    let _slot = workshop
        .verify_slots
        .acquire()
        .await
        .map_err(|_closed| VerifyFault::Stopping)?;
    if let Some(parent) = log.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let spec = JobSpec {
        id: job.to_owned(),
        argv: shell(task.spec.verify.as_deref().unwrap_or_default()),
        env: workshop.environment(task, slot),
        cwd: dir.to_owned(),
        output: Output::File(log.to_owned()),
        nice: settings.nice,
        time_limit: Some(settings.timeout),
        meta: String::new(),
        origin: Origin::Program,
        limits: Limits::default(),
    };
    let started = tokio::time::Instant::now();
    let exit = workshop.jobs.run(spec).await?;
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let output = read_end(log.to_owned()).await?;
    workshop.jobs.keeper().forget(job).await?;
    Ok(VerifyRun {
        code: exit.code.filter(|_| !exit.timed_out),
        failing: failing_tests(&output),
        tail: tail(&output),
        millis,
        timed_out: exit.timed_out,
    })
}

fn short(hash: &str) -> String {
    hash.chars().take(8).collect()
}
