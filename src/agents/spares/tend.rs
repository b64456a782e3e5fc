//! Makes, watches, gives and lets go of spares.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::pool::{SpareOrder, SpareView};
use crate::git::{GitError, Repository};
use crate::keeper::{AttachedPty, ClientError, JobSignal};

use super::super::aider::cues::{AgentScreenState, CueParser};
use super::super::launch::{self, AgentMeta, Newborn, Nursery, SpareMeta, StartFault};
use super::super::prepare::{self, PrepareFault};
use super::super::workshop::Workshop;
use super::clear::clear_files;
use super::table::{Spare, Stage, Table};

/// Worktrees that are made at the same time: more of them only wait for the same disk.
const MAKING: usize = 3;
/// A spare that is told to end is killed after this.
pub(in crate::agents) const GRACE: Duration = Duration::from_secs(2);

/// A spare that a former server made.
#[derive(Debug, Clone)]
pub struct LeftSpare {
    /// Its job.
    pub job: String,
    /// What the keeper remembers of it.
    pub meta: AgentMeta,
}

/// Why a spare came to nothing.
#[derive(Debug, thiserror::Error)]
enum SpareFault {
    #[error("{0}")]
    Git(#[from] GitError),
    #[error("{0}")]
    Prepare(#[from] PrepareFault),
    #[error("{0}")]
    Start(#[from] StartFault),
    #[error("{0}")]
    Keeper(#[from] ClientError),
    #[error("it ended before its prompt")]
    Ended,
}

/// All spares. Clones share them.
#[derive(Debug, Clone)]
pub(in crate::agents) struct Spares {
    table: Arc<Mutex<Table>>,
    /// Something is to be made or let go.
    work: Arc<Notify>,
    /// What others see of the spares is new.
    pub(in crate::agents) news: Arc<Notify>,
    pub(super) limit: usize,
}

impl Spares {
    pub(in crate::agents) fn new(limit: u16) -> Self {
        Self {
            table: Arc::default(),
            work: Arc::default(),
            news: Arc::default(),
            limit: usize::from(limit),
        }
    }

    /// From now on these are wanted.
    pub(in crate::agents) fn keep(&self, mut orders: Vec<SpareOrder>) {
        orders.truncate(self.limit);
        self.table().orders = orders;
        self.work.notify_one();
    }

    /// Something that new spares need is there now.
    pub(in crate::agents) fn wake(&self) {
        self.work.notify_one();
    }

    /// What others see.
    pub(in crate::agents) fn views(&self) -> Vec<SpareView> {
        let table = self.table();
        let living = table
            .spares
            .iter()
            .filter(|(_, spare)| matches!(spare.stage, Stage::Warming | Stage::Ready));
        living
            .map(|(job, spare)| SpareView {
                job: job.clone(),
                repo: spare.order.binding.repo.clone(),
                model: spare.order.binding.model.clone(),
                endpoint: spare.order.binding.endpoint.clone(),
                mode: spare.order.binding.mode,
                is_ready: spare.stage == Stage::Ready,
                pid: spare.pid,
            })
            .collect()
    }

    pub(super) fn forget(&self, job: &str) {
        self.table().spares.remove(job);
        self.work.notify_one();
        self.news.notify_one();
    }

    /// Makes and lets go of spares until `stop`; `nursery` says what they need, as it is then.
    pub(in crate::agents) async fn tend<F>(&self, epoch: u64, nursery: F, stop: CancellationToken)
    where
        F: Fn() -> Option<Nursery> + Clone + Send + Sync + 'static,
    {
        let mut work = tokio::task::JoinSet::new();
        loop {
            while work.try_join_next().is_some() {}
            let pause = match nursery() {
                Some(nursery) => self.begin(epoch, &nursery, &mut work, &stop),
                None => None,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.work.notified() => {}
                Some(_) = work.join_next() => {}
                () = until(pause) => {}
            }
        }
        work.shutdown().await;
    }

    /// Begins what is to be done; when to look again although nothing happens.
    fn begin(
        &self,
        epoch: u64,
        nursery: &Nursery,
        work: &mut tokio::task::JoinSet<()>,
        stop: &CancellationToken,
    ) -> Option<Instant> {
        let mut table = self.table();
        let missing = table.missing();
        for job in table.too_many(missing.len(), self.limit) {
            let (this, nursery) = (self.clone(), nursery.clone());
            work.spawn(async move { this.let_go(&nursery, &job).await });
        }
        if let Some(rest) = table.rests_until() {
            return Some(rest);
        }
        let mut again: Option<Instant> = None;
        for order in missing {
            if let Some(later) = table.not_before(&order.binding) {
                again = Some(again.map_or(later, |it| it.min(later)));
                continue;
            }
            if table.count(Stage::Making) >= MAKING || table.spares.len() >= self.limit {
                break;
            }
            let job = table.add(epoch, order, &nursery.workshop);
            let (this, nursery, stop) = (self.clone(), nursery.clone(), stop.clone());
            work.spawn(async move { this.live(&nursery, &job, stop).await });
        }
        again
    }

    /// One spare, from its worktree to whoever takes it.
    async fn live(&self, nursery: &Nursery, job: &str, stop: CancellationToken) {
        let Some((order, dir, let_go, released)) = self.parts(job) else {
            return;
        };
        let released = released.drop_guard();
        let made = stop
            .run_until_cancelled(self.make(nursery, job, &order, &dir))
            .await;
        let watched = match made {
            None => return,
            Some(Ok(pty)) => {
                let nonce = self.nonce(job);
                self.watch(job, pty, &nonce, [stop, let_go]).await
            }
            Some(Err(fault)) => Err(fault),
        };
        match watched {
            Ok(()) => self.table().forgive(&order.binding),
            Err(fault) => {
                tracing::warn!(%job, %fault, "a spare agent came to nothing");
                self.table().blame(&order.binding);
                self.clear_away(nursery, job, &order, &dir).await;
                self.forget(job);
            }
        }
        drop(released);
    }

    fn parts(
        &self,
        job: &str,
    ) -> Option<(SpareOrder, PathBuf, CancellationToken, CancellationToken)> {
        let table = self.table();
        let spare = table.spares.get(job)?;
        Some((
            spare.order.clone(),
            spare.dir.clone(),
            spare.let_go.clone(),
            spare.released.clone(),
        ))
    }

    fn nonce(&self, job: &str) -> String {
        let table = self.table();
        let meta = table.spares.get(job).and_then(|spare| spare.meta.as_ref());
        meta.map(|meta| meta.nonce.clone()).unwrap_or_default()
    }

    /// The worktree, then the process.
    async fn make(
        &self,
        nursery: &Nursery,
        job: &str,
        order: &SpareOrder,
        dir: &Path,
    ) -> Result<AttachedPty, SpareFault> {
        let workshop = &nursery.workshop;
        let repository = self.repository(&order.binding.repo).await?;
        if let Some(parent) = dir.parent() {
            tokio::fs::create_dir_all(parent)
                .await
                .map_err(PrepareFault::from)?;
        }
        let parked = self.table().unpark(&order.binding.repo);
        match parked {
            Some(parked) => {
                let commit = &order.base_commit;
                repository.add_spare_from(&parked, commit, dir).await?;
            }
            None => repository.add_spare(&order.base_commit, dir).await?,
        }
        let agent_dir = workshop.agent_dir(job);
        tokio::fs::create_dir_all(&agent_dir)
            .await
            .map_err(PrepareFault::from)?;
        let place = prepare::Place {
            dir,
            logs: &agent_dir,
            job: &format!("setup-{job}"),
        };
        prepare::furnish(workshop, &order.binding, &order.binding.environment, &place).await?;
        self.furnished(job);
        let spare = SpareMeta {
            binding: order.binding.clone(),
            dir: dir.to_owned(),
            commit: order.base_commit.clone(),
            settings: workshop.fingerprint(),
            claim: None,
        };
        let newborn = Newborn {
            job: job.to_owned(),
            binding: &order.binding,
            worktree: dir,
            agent_dir,
            task: None,
            spare: Some(spare),
        };
        let spec = launch::spec(nursery, newborn).await?;
        let meta = serde_json::from_str(&spec.meta).ok();
        let (spawned, _) = workshop.jobs.start(spec).await?;
        self.born(job, meta, spawned.job.pid);
        Ok(workshop.jobs.keeper().attach(job).await?)
    }

    fn furnished(&self, job: &str) {
        if let Some(spare) = self.table().spares.get_mut(job) {
            spare.stage = Stage::Furnished;
        }
        self.work.notify_one();
    }

    fn born(&self, job: &str, meta: Option<AgentMeta>, pid: i32) {
        if let Some(spare) = self.table().spares.get_mut(job) {
            spare.stage = Stage::Warming;
            spare.pid = u32::try_from(pid).ok();
            spare.meta = meta;
        }
        self.work.notify_one();
        self.news.notify_one();
    }

    /// Reads its terminal until it is taken, let go or ends. Nobody looks at the screen: the ring
    /// keeps it for whoever takes the agent.
    async fn watch(
        &self,
        job: &str,
        mut pty: AttachedPty,
        nonce: &str,
        [stop, let_go]: [CancellationToken; 2],
    ) -> Result<(), SpareFault> {
        let mut cues = CueParser::new(nonce);
        let (_, history) = pty.history().unwrap_or_default();
        cues.feed(&history);
        loop {
            if matches!(cues.state(), AgentScreenState::Prompt { reading: true, .. }) {
                self.is_ready(job);
            }
            let bytes = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = let_go.cancelled() => return Ok(()),
                bytes = pty.read() => bytes,
            };
            match bytes {
                Ok(Some(bytes)) => drop(cues.feed(&bytes)),
                Ok(None) => return Err(SpareFault::Ended),
                Err(_) => return Ok(()),
            }
        }
    }

    fn is_ready(&self, job: &str) {
        let mut table = self.table();
        let spare = table.spares.get_mut(job);
        if let Some(spare) = spare.filter(|spare| spare.stage == Stage::Warming) {
            spare.stage = Stage::Ready;
            drop(table);
            self.news.notify_one();
        }
    }

    /// Ends a spare that nobody wants any more.
    async fn let_go(&self, nursery: &Nursery, job: &str) {
        let Some((order, dir, let_go, released)) = self.parts(job) else {
            return;
        };
        let_go.cancel();
        released.cancelled().await;
        self.clear_away(nursery, job, &order, &dir).await;
        self.forget(job);
    }

    /// Its process, its worktree (which holds no work) and its files.
    async fn clear_away(&self, nursery: &Nursery, job: &str, order: &SpareOrder, dir: &Path) {
        let workshop = &nursery.workshop;
        let keeper = workshop.jobs.keeper();
        if let Some(token) = self.token(job) {
            (nursery.access.revoke)(&token);
        }
        if keeper.stop(job, JobSignal::Term, GRACE).await.is_ok()
            && workshop.jobs.ended(job).await.is_ok()
        {
            drop(keeper.forget(job).await);
        }
        let removed = match self.repository(&order.binding.repo).await {
            Ok(repository) => repository.remove_detached(dir).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(%job, %error, "a spare's worktree could not be removed");
        }
        clear_files(workshop, job).await;
    }

    fn token(&self, job: &str) -> Option<String> {
        let table = self.table();
        let meta = table.spares.get(job)?.meta.as_ref()?;
        Some(meta.token.clone())
    }

    pub(super) async fn repository(&self, path: &Path) -> Result<Arc<Repository>, GitError> {
        let known = self.table().repositories.get(path).cloned();
        if let Some(repository) = known {
            return Ok(repository);
        }
        let repository = Arc::new(Repository::open(path).await?);
        self.table()
            .repositories
            .insert(path.to_owned(), Arc::clone(&repository));
        Ok(repository)
    }

    /// Goes on with spares of a former server; they are watched, and taken like any other.
    pub(in crate::agents) fn adopt(
        &self,
        left: Vec<LeftSpare>,
        workshop: &Arc<Workshop>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) {
        for LeftSpare { job, meta } in left {
            let Some(spare) = Spare::left(&meta) else {
                continue;
            };
            let (let_go, released) = (spare.let_go.clone(), spare.released.clone());
            self.table().spares.insert(job.clone(), spare);
            let (this, stop, workshop) = (self.clone(), stop.clone(), Arc::clone(workshop));
            tracker.spawn(async move {
                let _released = released.drop_guard();
                let ended = match workshop.jobs.keeper().attach(&job).await {
                    Ok(pty) => this.watch(&job, pty, &meta.nonce, [stop, let_go]).await,
                    Err(error) => Err(error.into()),
                };
                if ended.is_err() {
                    this.forget(&job);
                }
            });
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
