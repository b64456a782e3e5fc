//! The fence of a lease: before anything works in a task's worktree, whatever worked there for an
//! earlier attempt is gone.
//!
//! The engine ignores what an old attempt says; this is about what an old attempt *does*. All
//! attempts of a task share one worktree, so an agent that is told to end and has not ended yet
//! could still commit there. Its gateway token is void at once, its actor lets go (a commit that
//! the actor itself was making is done by then), and its job has ended with all its processes,
//! or nothing new begins.

use std::time::Duration;

use crate::core::TaskId;
use crate::core::task::{Attempt, Task};
use crate::keeper::{ClientError, JobSignal, JobView};

use super::launch::AgentMeta;
use super::pool::Agents;
use super::spares;
use super::workshop::Workshop;

/// Told to end, a job of an old attempt is killed after this.
const GRACE: Duration = Duration::from_secs(2);
/// A killed process is gone at once unless the disk holds it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The worktree cannot be had: something of an old attempt is still there.
#[derive(Debug, thiserror::Error)]
pub enum FenceFault {
    /// It does not end.
    #[error("an earlier attempt has not ended within {} s and could still write", PATIENCE.as_secs())]
    StillThere,
    /// The keeper is gone or refused.
    #[error("whether an earlier attempt has ended is unknown: {0}")]
    Keeper(#[from] ClientError),
}

/// Whose work is to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Agents, verify and setup jobs of every attempt before this one.
    Before(u32),
    /// Agents of this attempt and every one before it; its other jobs may run.
    Agents(u32),
}

impl Fence {
    fn ends(self, kind: &str, attempt: u32) -> bool {
        match self {
            Self::Before(number) => attempt < number,
            Self::Agents(number) => kind == "agent" && attempt <= number,
        }
    }

    /// The first attempt whose agent may work.
    fn first_allowed(self) -> u32 {
        match self {
            Self::Before(number) => number,
            Self::Agents(number) => number.saturating_add(1),
        }
    }
}

impl Agents {
    /// Ends what `fence` names of a task and returns when nothing is left of it.
    ///
    /// # Errors
    /// Something is left, or the keeper cannot tell.
    pub async fn fence(&self, task: &Task, fence: Fence) -> Result<(), FenceFault> {
        let ended = async {
            for actor in self.retire(task.id, fence.first_allowed()) {
                actor.ended().await;
            }
            end_jobs(self.workshop(), task, fence).await
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .map_err(|_elapsed| FenceFault::StillThere)?
    }
}

async fn end_jobs(workshop: &Workshop, task: &Task, fence: Fence) -> Result<(), FenceFault> {
    let jobs = &workshop.jobs;
    for job in jobs.keeper().jobs().await? {
        let meant = part(&job, task).is_some_and(|(kind, attempt)| fence.ends(kind, attempt));
        if !meant {
            continue;
        }
        if job.exit.is_none() {
            tracing::info!(job = %job.id, "a job of an attempt that is over is ended");
            jobs.keeper().stop(&job.id, JobSignal::Term, GRACE).await?;
            jobs.ended(&job.id).await?;
        }
        jobs.keeper().forget(&job.id).await?;
        spares::clear_files(workshop, &job.id).await;
    }
    Ok(())
}

/// What a job is of `task`, and of which attempt: a spare that an attempt took or was about to
/// take, or `agent-3-2`, `verify-3-2-1a2b3c4d`, `setup-3-2`.
fn part<'a>(job: &'a JobView, task: &Task) -> Option<(&'a str, u32)> {
    let taken = |attempt: &&Attempt| attempt.job.as_ref() == Some(&job.id);
    if let Some(attempt) = task.attempts.iter().find(taken) {
        return Some(("agent", attempt.number));
    }
    let meta = serde_json::from_str::<AgentMeta>(&job.meta).ok();
    let claim = meta.and_then(|meta| meta.spare?.claim);
    if let Some((of, attempt)) = claim {
        return (of == task.id).then_some(("agent", attempt));
    }
    named(&job.id, task.id)
}

fn named(job: &str, task: TaskId) -> Option<(&str, u32)> {
    let mut parts = job.split('-');
    let kind = parts
        .next()
        .filter(|kind| matches!(*kind, "agent" | "verify" | "setup"))?;
    let number = parts.next()?.parse().ok()?;
    let attempt = parts.next()?.parse().ok()?;
    (TaskId(number) == task).then_some((kind, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_its_task_and_attempt() {
        let task = TaskId(3);
        assert_eq!(named("agent-3-2", task), Some(("agent", 2)));
        assert_eq!(named("verify-3-1-1a2b3c4d", task), Some(("verify", 1)));
        for other in ["agent-33-2", "baseline-3-2", "agent-3", "agent-3-x", ""] {
            assert_eq!(named(other, task), None, "{other}");
        }
    }

    #[test]
    fn a_new_attempt_spares_its_own_jobs_and_a_verification_spares_itself() {
        let prepare = Fence::Before(2);
        assert!(prepare.ends("agent", 1) && prepare.ends("verify", 1) && prepare.ends("setup", 1));
        assert!(!prepare.ends("agent", 2) && !prepare.ends("setup", 2));
        let verify = Fence::Agents(2);
        assert!(verify.ends("agent", 2) && verify.ends("agent", 1));
        assert!(!verify.ends("verify", 2) && !verify.ends("agent", 3));
    }
}
