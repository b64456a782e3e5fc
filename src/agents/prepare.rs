//! Making a worktree usable: checkout, copied and linked files, the setup command once.

use std::collections::BTreeMap;
use std::path::Path;

use crate::core::AgentSlot;
use crate::core::pool::Binding;
use crate::core::task::{Base, Task, Workplace};
use crate::git::{GitError, Repository, WorktreeRequest};
use crate::keeper::{ClientError, JobSpec, Limits, Origin, Output};

use super::output::{read_end, shell, tail};
use super::spares::Taken;
use super::workshop::{Workshop, slug};

/// A worktree that could not be prepared; holds the task with this reason.
#[derive(Debug, thiserror::Error)]
pub enum PrepareFault {
    /// git refused.
    #[error("{0}")]
    Git(#[from] GitError),
    /// The keeper is gone or refused.
    #[error("the setup command could not be started: {0}")]
    Keeper(#[from] ClientError),
    /// The setup command failed.
    #[error("the setup command failed ({how}): {command}\n{tail}")]
    Setup {
        /// The command.
        command: String,
        /// Exit code or time limit.
        how: String,
        /// The end of its output.
        tail: String,
    },
    /// A file could not be written.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

/// A task's worktree becomes that of a spare agent, which waits there already.
///
/// # Errors
/// git refuses; the spare is lost, the task is not.
pub async fn take(
    workshop: &Workshop,
    task: &Task,
    taken: &Taken,
) -> Result<Workplace, PrepareFault> {
    let repository = &taken.repository;
    let mut request = request(workshop, task);
    request.dir.clone_from(&taken.dir);
    if follows(task) {
        let target = format!("refs/heads/{}", task.spec.target);
        request.base = repository.resolve(&target).await?;
    }
    let dir = workshop.task_dir(task.id);
    let (made, worktree, forgotten) = tokio::join!(
        tokio::fs::create_dir_all(&dir),
        repository.take_spare(&request, &taken.commit),
        repository.forget_merges(task.id),
    );
    made?;
    forgotten?;
    let worktree = worktree?;
    tokio::fs::write(dir.join("prepared"), &worktree.branch).await?;
    Ok(Workplace {
        dir: worktree.path,
        branch: worktree.branch,
        base_commit: request.base,
    })
}

/// The worktree of a task's attempt, made or found.
///
/// # Errors
/// It cannot be made usable now; nothing is lost.
pub async fn prepare(workshop: &Workshop, task: &Task) -> Result<Workplace, PrepareFault> {
    let repository = Repository::open(&task.spec.repo).await?;
    repository.identity().await?;
    let mut request = request(workshop, task);
    let follows = follows(task);
    if follows {
        let target = format!("refs/heads/{}", task.spec.target);
        request.base = repository.resolve(&target).await?;
    }
    tokio::fs::create_dir_all(workshop.task_dir(task.id)).await?;
    if let Some(parent) = request.dir.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    if task.attempt_number() == 1 && task.workplace.is_none() {
        repository.forget_merges(task.id).await?;
    }
    let worktree = repository.add_worktree(&request).await?;
    let mark = workshop.task_dir(task.id).join("prepared");
    let done = tokio::fs::read_to_string(&mark).await.unwrap_or_default();
    if done != worktree.branch {
        let job = format!("setup-{}-{}", task.id, task.attempt_number());
        furnish_for(workshop, task, &worktree.path, &job).await?;
        tokio::fs::write(&mark, &worktree.branch).await?;
    }
    Ok(Workplace {
        dir: worktree.path,
        branch: worktree.branch,
        // Nobody has worked in it: it is where it was made, also when that was before a restart.
        base_commit: if follows {
            worktree.commit
        } else {
            task.spec.base_commit.clone()
        },
    })
}

/// It starts from what the tasks before it have left on its target, not from where it was
/// submitted.
fn follows(task: &Task) -> bool {
    task.workplace.is_none() && !task.spec.after.is_empty() && task.spec.base == Base::Head
}

/// A request for the task's own worktree.
pub(super) fn request(workshop: &Workshop, task: &Task) -> WorktreeRequest {
    WorktreeRequest {
        task: task.id,
        attempt: 1,
        slug: slug(&task.spec.title()),
        base: task.spec.base_commit.clone(),
        dir: match &task.workplace {
            Some(workplace) => workplace.dir.clone(),
            None => workshop.worktree_dir(task),
        },
    }
}

/// Gives the task's archived work a worktree again.
///
/// # Errors
/// There is no archived work, or git refuses.
pub async fn restore(workshop: &Workshop, task: &Task) -> Result<Workplace, PrepareFault> {
    let repository = Repository::open(&task.spec.repo).await?;
    let worktree = repository.restore(&request(workshop, task)).await?;
    Ok(Workplace {
        dir: worktree.path,
        branch: worktree.branch,
        base_commit: task.spec.base_commit.clone(),
    })
}

/// Where a worktree is furnished.
pub(super) struct Place<'a> {
    /// The worktree.
    pub(super) dir: &'a Path,
    /// The folder of the setup command's log.
    pub(super) logs: &'a Path,
    /// Its job.
    pub(super) job: &'a str,
}

/// As [`furnish`], for a task.
pub(super) async fn furnish_for(
    workshop: &Workshop,
    task: &Task,
    dir: &Path,
    job: &str,
) -> Result<(), PrepareFault> {
    let slot = task.attempt().map_or(AgentSlot(1), |attempt| attempt.slot);
    let logs = workshop.task_dir(task.id);
    let place = Place {
        dir,
        logs: &logs,
        job,
    };
    let binding = Binding::of(&task.spec, "", "");
    furnish(
        workshop,
        &binding,
        &workshop.environment(task, slot),
        &place,
    )
    .await
}

/// Copies, links and the setup command.
pub(super) async fn furnish(
    workshop: &Workshop,
    binding: &Binding,
    environment: &BTreeMap<String, String>,
    place: &Place<'_>,
) -> Result<(), PrepareFault> {
    let Place { dir, logs, job } = *place;
    let settings = &workshop.settings.worktree;
    if !binding.copy.is_empty() || !binding.link.is_empty() {
        let repository = Repository::open(&binding.repo).await?;
        let prepared = crate::git::prepare(&repository, dir, &binding.copy, &binding.link).await?;
        for (path, why) in prepared.skipped {
            tracing::info!(%job, %path, %why, "left out of the worktree");
        }
    }
    let setup = binding.setup.as_deref();
    let Some(command) = setup.filter(|it| !it.trim().is_empty()) else {
        return Ok(());
    };
    tokio::fs::create_dir_all(logs).await?;
    let log = logs.join(format!("{job}.log"));
    let spec = JobSpec {
        id: job.to_owned(),
        argv: shell(command),
        env: environment.clone(),
        cwd: dir.to_owned(),
        output: Output::File(log.clone()),
        nice: workshop.settings.verify.nice,
        time_limit: Some(settings.setup_timeout),
        meta: String::new(),
        origin: Origin::Program,
        limits: Limits::default(),
    };
    let exit = workshop.jobs.run(spec).await?;
    workshop.jobs.keeper().forget(job).await?;
    if exit.is_success() {
        return Ok(());
    }
    let how = match (exit.timed_out, exit.code) {
        (true, _) => format!("stopped after {} s", settings.setup_timeout.as_secs()),
        (false, Some(code)) => format!("exit code {code}"),
        (false, None) => "killed".into(),
    };
    let tail = tail(&read_end(log).await?);
    Err(PrepareFault::Setup {
        command: command.to_owned(),
        how,
        tail,
    })
}
