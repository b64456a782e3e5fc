//! After a start: the keeper's jobs beside the store's tasks.
//!
//! A job of an attempt that is still under way goes on; its token is in force before the gateway
//! accepts the first connection that waited in the backlog. Every other job of ours is a leftover
//! of an attempt that is over and is ended.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::agents::{AgentMeta, LeftSpare, Workshop, job_id};
use crate::core::TaskId;
use crate::core::task::{Task, TaskState};
use crate::core::traffic::Work;
use crate::engine::State;
use crate::gateway::Grants;
use crate::keeper::{ClientError, JobSignal};

/// Told to end, a leftover is killed after this.
const GRACE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Attempts whose agent is gone, with the keeper or the machine.
    pub(super) lost: Vec<(TaskId, u32)>,
    /// Attempts at a step without an agent, and what was under way.
    pub(super) steps: Vec<(TaskId, u32, &'static str)>,
    /// Agents made ahead.
    pub(super) spares: Vec<LeftSpare>,
    /// Worktrees of tasks.
    pub(super) used: HashSet<PathBuf>,
    /// Jobs that go on.
    pub(super) jobs: HashSet<String>,
    adopted: usize,
    ended: usize,
    unfinished: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, spares) = (self.lost.len(), self.spares.len());
        let Self {
            adopted,
            ended,
            unfinished,
            ..
        } = self;
        write!(
            f,
            "{adopted} agents and {spares} spares adopted, {lost} lost, {ended} leftovers ended, \
             {unfinished} tasks unfinished"
        )
    }
}

/// Puts living agents' tokens in force, ends leftovers, names what is lost.
pub(super) async fn adopt(
    state: &State,
    workshop: &Workshop,
    grants: &Grants,
) -> Result<Found, ClientError> {
    let places = state
        .tasks
        .values()
        .filter_map(|task| task.workplace.as_ref());
    let mut found = Found {
        unfinished: state.unfinished().count(),
        steps: state.tasks.values().filter_map(|task| step(task)).collect(),
        used: places.map(|workplace| workplace.dir.clone()).collect(),
        ..Found::default()
    };
    let mut expected: BTreeMap<String, &Arc<Task>> = state
        .tasks
        .values()
        .filter(|task| task.state == TaskState::Running)
        .map(|task| (job_id(task), task))
        .collect();
    let keeper = workshop.jobs.keeper();
    for job in keeper.jobs().await? {
        let is_agent = job.id.starts_with("agent-") || job.id.starts_with("spare-");
        let meta = serde_json::from_str::<AgentMeta>(&job.meta).ok();
        let task = expected.remove(&job.id);
        if task.is_some() {
            found.adopted += 1;
        } else if let Some(meta) = meta.clone().filter(|meta| is_of_use(state, workshop, meta)) {
            let job = job.id.clone();
            found.spares.push(LeftSpare { job, meta });
        } else if is_agent {
            keeper.stop(&job.id, JobSignal::Term, GRACE).await?;
            found.ended += 1;
            continue;
        }
        if let Some(meta) = meta {
            admit(grants, &job.id, &meta, task);
        }
        found.jobs.insert(job.id);
    }
    // Who had no prompt yet has nothing to lose: the same attempt gets an agent.
    let lost = expected.into_values().filter(|task| {
        let attempt = task.attempt();
        attempt.is_some_and(|attempt| attempt.delivered.is_some())
    });
    found.lost = lost.map(|task| (task.id, task.attempt_number())).collect();
    Ok(found)
}

/// What a task does that any server begins again.
fn step(task: &Task) -> Option<(TaskId, u32, &'static str)> {
    let step = match task.state {
        TaskState::Assigned => "its worktree was prepared",
        TaskState::Verifying => "it was verified",
        TaskState::Blocked
        | TaskState::Queued
        | TaskState::Running
        | TaskState::Review
        | TaskState::Merging
        | TaskState::Merged
        | TaskState::Discarded
        | TaskState::Failed
        | TaskState::Dead
        | TaskState::Cancelled
        | TaskState::Expired => return None,
    };
    Some((task.id, task.attempt_number(), step))
}

/// Puts the token of an agent that lives in force.
fn admit(grants: &Grants, job: &str, meta: &AgentMeta, task: Option<&Arc<Task>>) {
    let attempt = task.and_then(|task| task.attempt());
    let binding = meta.spare.as_ref().map(|spare| &spare.binding);
    let (endpoint, model) = match (attempt, binding) {
        (Some(attempt), _) => (&attempt.endpoint, &attempt.model),
        (None, Some(binding)) => (&binding.endpoint, &binding.model),
        (None, None) => return,
    };
    drop(grants.admit(&meta.token, meta.bond_of(job, endpoint, model)));
    if let Some(task) = task {
        grants.assign(&meta.token, Work::of(task));
    }
}

/// A spare that nobody has taken and that would be made the same way now, or that was taken by an
/// attempt whose worktree is still being prepared.
fn is_of_use(state: &State, workshop: &Workshop, meta: &AgentMeta) -> bool {
    let Some(spare) = &meta.spare else {
        return false;
    };
    match spare.claim {
        None => spare.settings == workshop.fingerprint(),
        Some((task, number)) => state.tasks.get(&task).is_some_and(|task| {
            task.state == TaskState::Assigned && task.attempt_number() == number
        }),
    }
}
