//! What goes from spares to tasks, and comes back: agents that wait, and checkouts of tasks that are
//! over.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::core::pool::Binding;
use crate::core::task::Task;
use crate::git::Repository;
use crate::keeper::ClientError;

use super::super::launch::AgentMeta;
use super::super::workshop::Workshop;
use super::table::{Spare, Stage};
use super::tend::Spares;

/// A spare that has become a task's.
#[derive(Debug)]
pub struct Taken {
    /// Its job.
    pub job: String,
    /// Its worktree.
    pub dir: PathBuf,
    /// The commit its worktree is at.
    pub commit: String,
    /// The repository, open.
    pub repository: Arc<Repository>,
}

/// A spare that a task is to have, once nobody watches it any more.
struct Chosen {
    job: String,
    dir: PathBuf,
    commit: String,
    meta: AgentMeta,
    released: CancellationToken,
}

impl Spares {
    /// Gives the task the warmest spare that fits, if there is one; the one that its attempt took
    /// before a restart comes first.
    pub(in crate::agents) async fn take(
        &self,
        workshop: &Workshop,
        task: &Task,
    ) -> Result<Option<Taken>, ClientError> {
        let Some(mut chosen) = self.choose(task) else {
            return Ok(None);
        };
        chosen.released.cancelled().await;
        if let Some(spare) = &mut chosen.meta.spare {
            spare.claim = Some((task.id, task.attempt_number()));
        }
        let job = chosen.job;
        let text = serde_json::to_string(&chosen.meta).unwrap_or_default();
        if let Err(error) = workshop.jobs.keeper().set_meta(&job, &text).await {
            self.forget(&job);
            if error.refusal().is_some() {
                return Ok(None);
            }
            return Err(error);
        }
        let repository = self.repository(&task.spec.repo).await;
        self.forget(&job);
        Ok(repository.ok().map(|repository| Taken {
            job,
            dir: chosen.dir,
            commit: chosen.commit,
            repository,
        }))
    }

    fn choose(&self, task: &Task) -> Option<Chosen> {
        let wanted = Binding::of_attempt(task)?;
        let claim = Some((task.id, task.attempt_number()));
        let mut table = self.table();
        let fits = |spare: &Spare| {
            let claimed = spare.meta.as_ref()?.spare.as_ref()?.claim;
            let rank = match spare.stage {
                _ if claimed.is_some() && claimed == claim => 0,
                _ if claimed.is_some() || spare.order.binding != wanted => return None,
                Stage::Ready => 1,
                Stage::Warming => 2,
                Stage::Making | Stage::Furnished | Stage::Gone => return None,
            };
            Some(rank)
        };
        let ranked = table.spares.iter();
        let (_, job) = ranked
            .filter_map(|(job, spare)| Some((fits(spare)?, job.clone())))
            .min()?;
        table.rest();
        let spare = table.spares.get_mut(&job)?;
        spare.stage = Stage::Gone;
        spare.let_go.cancel();
        let meta = spare.meta.clone()?;
        Some(Chosen {
            job,
            dir: spare.dir.clone(),
            commit: meta.spare.as_ref()?.commit.clone(),
            meta,
            released: spare.released.clone(),
        })
    }

    /// Whether the checkout of a task that is over would be of use to a spare; a place is kept for
    /// it until [`Spares::park`] says what became of it.
    pub(in crate::agents) fn has_place(&self) -> bool {
        let mut table = self.table();
        let has_place = table.parked.len() + table.parking < self.limit;
        table.parking += usize::from(has_place);
        has_place
    }

    /// A spare of this repository may be made of this checkout, or there is none after all.
    pub(in crate::agents) fn park(&self, checkout: Option<(PathBuf, PathBuf)>) {
        let mut table = self.table();
        table.parking -= 1;
        table.parked.extend(checkout);
    }
}
