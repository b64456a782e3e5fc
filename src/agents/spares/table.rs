//! Which spares there are, which are missing, and which are too many.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::launch::AgentMeta;
use super::super::workshop::Workshop;
use crate::core::TaskId;
use crate::core::pool::{Binding, SpareOrder};
use crate::git::Repository;

/// After a spare that came to nothing, the next one of its kind waits; doubles, at most a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// After a task took one: a hand-over takes some tenths of a second on a machine that is busy.
const REST: Duration = Duration::from_secs(1);

/// How far a spare is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its worktree is being made.
    Making,
    /// Its worktree is there, its process is not: it waits for its fork.
    Furnished,
    /// Aider starts.
    Warming,
    /// At its prompt.
    Ready,
    /// A task has it, or it is let go.
    Gone,
}

#[derive(Debug)]
pub(super) struct Spare {
    pub(super) order: SpareOrder,
    pub(super) dir: PathBuf,
    pub(super) stage: Stage,
    pub(super) pid: Option<u32>,
    pub(super) meta: Option<AgentMeta>,
    /// Tells whoever watches it to let go.
    pub(super) let_go: CancellationToken,
    /// Cancelled once nobody watches it.
    pub(super) released: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) orders: Vec<SpareOrder>,
    pub(super) spares: BTreeMap<String, Spare>,
    pub(super) repositories: HashMap<PathBuf, Arc<Repository>>,
    /// Clean checkouts of tasks that are over, by repository: the next spares are made of them.
    pub(super) parked: Vec<(PathBuf, PathBuf)>,
    /// Those that are on their way there.
    pub(super) parking: usize,
    /// When a task took one last.
    taken: Option<Instant>,
    failures: Vec<(Binding, u32, Instant)>,
    made: u64,
}

impl Table {
    /// Orders that no spare fills, in their order.
    pub(super) fn missing(&self) -> Vec<SpareOrder> {
        let mut have: Vec<&Binding> = self.living().map(|(_, it)| &it.order.binding).collect();
        let is_missing = |order: &&SpareOrder| {
            let at = have.iter().position(|it| **it == order.binding);
            at.map(|at| have.swap_remove(at)).is_none()
        };
        self.orders.iter().filter(is_missing).cloned().collect()
    }

    /// Spares to let go: those that fill no order, as far as their place is needed.
    pub(super) fn too_many(&mut self, missing: usize, limit: usize) -> Vec<String> {
        let mut orders: Vec<&Binding> = self.orders.iter().map(|it| &it.binding).collect();
        let mut idle = Vec::new();
        for (job, spare) in self.living() {
            let at = orders.iter().position(|it| **it == spare.order.binding);
            match at {
                Some(at) => drop(orders.swap_remove(at)),
                None if spare.has_process() && !spare.is_claimed() => idle.push(job.clone()),
                None => {}
            }
        }
        let count = self.living().count();
        idle.truncate((count + missing).saturating_sub(limit));
        for job in &idle {
            if let Some(spare) = self.spares.get_mut(job) {
                spare.stage = Stage::Gone;
            }
        }
        idle
    }

    pub(super) fn living(&self) -> impl Iterator<Item = (&String, &Spare)> {
        self.spares
            .iter()
            .filter(|(_, spare)| spare.stage != Stage::Gone)
    }

    pub(super) fn count(&self, stage: Stage) -> usize {
        self.spares.values().filter(|it| it.stage == stage).count()
    }

    pub(super) fn add(&mut self, epoch: u64, order: SpareOrder, workshop: &Workshop) -> String {
        self.made += 1;
        let job = format!("spare-{epoch}-{}", self.made);
        let spare = Spare {
            dir: workshop.spare_dir(&job, &order.binding.repo),
            order,
            stage: Stage::Making,
            pid: None,
            meta: None,
            let_go: CancellationToken::new(),
            released: CancellationToken::new(),
        };
        self.spares.insert(job.clone(), spare);
        job
    }

    /// A task has taken a spare. Where one follows the other, spares are made half of the time.
    pub(super) fn rest(&mut self) {
        if self.taken.is_none_or(|taken| taken.elapsed() > 2 * REST) {
            self.taken = Some(Instant::now());
        }
    }

    /// Until when nothing is made: whoever has just taken a spare needs the machine more.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        let until = self.taken.map(|taken| taken + REST);
        until.filter(|until| *until > Instant::now())
    }

    /// Takes a parked checkout of the repository.
    pub(super) fn unpark(&mut self, repo: &Path) -> Option<PathBuf> {
        let at = self.parked.iter().position(|(of, _)| of == repo)?;
        Some(self.parked.swap_remove(at).1)
    }

    pub(super) fn not_before(&self, binding: &Binding) -> Option<Instant> {
        let failed = self.failures.iter().find(|(it, ..)| it == binding);
        failed
            .map(|(_, _, later)| *later)
            .filter(|later| *later > Instant::now())
    }

    pub(super) fn blame(&mut self, binding: &Binding) {
        let count = self
            .failures
            .iter()
            .find(|(it, ..)| it == binding)
            .map_or(0, |(_, count, _)| *count);
        self.forgive(binding);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << count.min(8))
            .min(LONGEST_PAUSE);
        self.failures
            .push((binding.clone(), count + 1, Instant::now() + pause));
    }

    pub(super) fn forgive(&mut self, binding: &Binding) {
        self.failures.retain(|(it, ..)| it != binding);
    }
}

impl Spare {
    pub(super) fn left(meta: &AgentMeta) -> Option<Self> {
        let spare = meta.spare.clone()?;
        Some(Self {
            order: SpareOrder {
                binding: spare.binding,
                base_commit: spare.commit,
            },
            dir: spare.dir,
            stage: Stage::Warming,
            pid: None,
            meta: Some(meta.clone()),
            let_go: CancellationToken::new(),
            released: CancellationToken::new(),
        })
    }

    pub(super) fn claim(&self) -> Option<(TaskId, u32)> {
        self.meta.as_ref()?.spare.as_ref()?.claim
    }

    fn has_process(&self) -> bool {
        match self.stage {
            Stage::Warming | Stage::Ready => true,
            Stage::Making | Stage::Furnished | Stage::Gone => false,
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claim().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hand_over_comes_before_the_next_spare_but_never_for_ever() {
        let mut table = Table::default();
        assert_eq!(table.rests_until(), None);
        table.rest();
        assert!(table.rests_until().is_some());
        // Another one every tenth of a second.
        for _ in 0..10 {
            tokio::time::advance(REST / 10).await;
            table.rest();
        }
        assert_eq!(table.rests_until(), None);
        tokio::time::advance(2 * REST).await;
        table.rest();
        assert!(table.rests_until().is_some());
    }
}
