//! After a start: the keeper's jobs beside the store's tasks.
//!
//! A job of an attempt that is still under way goes on; its token is in force before the gateway
//! accepts the first connection that waited in the backlog. Every other job of ours is a leftover
//! of an attempt that is over and is ended.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::agents::{AgentMeta, Jobs, job_id};
use crate::core::TaskId;
use crate::core::task::TaskState;
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
    adopted: usize,
    ended: usize,
    unfinished: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.lost.len();
        let Self {
            adopted,
            ended,
            unfinished,
            ..
        } = self;
        write!(
            f,
            "{adopted} agents adopted, {lost} lost, {ended} leftovers ended, \
             {unfinished} tasks unfinished"
        )
    }
}

/// Puts living agents' tokens in force, ends leftovers, names what is lost.
pub(super) async fn adopt(
    state: &State,
    jobs: &Jobs,
    grants: &Grants,
) -> Result<Found, ClientError> {
    let mut found = Found {
        unfinished: state.unfinished().count(),
        ..Found::default()
    };
    let mut expected: BTreeMap<String, (TaskId, u32)> = state
        .tasks
        .values()
        .filter(|task| task.state == TaskState::Running)
        .map(|task| (job_id(task), (task.id, task.attempt_number())))
        .collect();
    for job in jobs.keeper().jobs().await? {
        if expected.remove(&job.id).is_some() {
            if let Ok(meta) = serde_json::from_str::<AgentMeta>(&job.meta) {
                drop(grants.admit(&meta.token, &meta.url));
            }
            found.adopted += 1;
        } else if job.id.starts_with("agent-") {
            jobs.keeper().stop(&job.id, JobSignal::Term, GRACE).await?;
            found.ended += 1;
        }
    }
    found.lost = expected.into_values().collect();
    Ok(found)
}
