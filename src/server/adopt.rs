//! After a start: the keeper's jobs beside the store's tasks.
//!
//! A job of an attempt that is still under way goes on; its token is in force before the gateway
//! accepts the first connection that waited in the backlog. Every other job of ours is a leftover
//! of an attempt that is over and is ended.

use std::time::Duration;

use crate::agents::{AgentMeta, Jobs, job_id};
use crate::core::task::TaskState;
use crate::engine::State;
use crate::gateway::Grants;
use crate::keeper::{ClientError, JobSignal};

/// Told to end, a leftover is killed after this.
const GRACE: Duration = Duration::from_secs(2);

/// What was found, in words.
pub(super) async fn adopt(
    state: &State,
    jobs: &Jobs,
    grants: &Grants,
) -> Result<String, ClientError> {
    let mut adopted = 0_usize;
    let mut ended = 0_usize;
    for job in jobs.keeper().jobs().await? {
        let current = state.tasks.values().any(|task| {
            task.state == TaskState::Running && job_id(task) == job.id
        });
        if current {
            if let Ok(meta) = serde_json::from_str::<AgentMeta>(&job.meta) {
                drop(grants.admit(&meta.token, &meta.url));
            }
            adopted += 1;
        } else if job.id.starts_with("agent-") {
            jobs.keeper().stop(&job.id, JobSignal::Term, GRACE).await?;
            ended += 1;
        }
    }
    let unfinished = state.unfinished().count();
    Ok(format!("{adopted} agents adopted, {ended} leftovers ended, {unfinished} tasks unfinished"))
}
