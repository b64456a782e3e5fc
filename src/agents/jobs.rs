//! Jobs that run to their end: spawned in the keeper under an id, awaited without polling.
//!
//! Because asking again for an id returns the same job, every function here can be repeated after
//! a restart: a job that went on meanwhile is found, one that ended meanwhile has its exit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::keeper::{
    ClientError, JobExit, JobSpec, KeeperClient, KeeperEvent, Origin, RefusalKind, Spawned,
    ZygoteSpec, ZygoteState,
};

/// The keeper's jobs as the server uses them. Clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    keeper: KeeperClient,
    waiting: Arc<Mutex<Waiting>>,
    zygote: watch::Sender<ZygoteState>,
    forks: watch::Sender<u64>,
    /// Agents are to be forked: a zygote that is not asked for yet will be.
    is_forking: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Waiting {
    exits: HashMap<String, Vec<oneshot::Sender<JobExit>>>,
    starts: HashMap<String, oneshot::Sender<i32>>,
}

/// A zygote that imports is waited for: a cold start takes as long, and ten of them take ten times
/// the processor time. The keeper gives a zygote up sooner than this.
const ZYGOTE_PATIENCE: Duration = Duration::from_secs(240);

/// How a job's process came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// Forked from the zygote.
    Forked,
    /// Started as a program.
    Cold,
}

impl Jobs {
    /// Wraps a connection; [`Jobs::dispatch`] must run beside it.
    pub fn new(keeper: KeeperClient) -> Self {
        Self {
            keeper,
            waiting: Arc::default(),
            zygote: watch::channel(ZygoteState::Off).0,
            forks: watch::channel(0).0,
            is_forking: Arc::default(),
        }
    }

    /// What is known of the zygote, the latest wins.
    pub fn zygote(&self) -> watch::Receiver<ZygoteState> {
        self.zygote.subscribe()
    }

    /// Has a zygote of this kind kept.
    ///
    /// # Errors
    /// The keeper is gone, or it is an older one that knows no zygote.
    pub async fn keep_zygote(&self, spec: ZygoteSpec) -> Result<(), ClientError> {
        let state = self.keeper.zygote(spec).await?;
        self.zygote.send_replace(state);
        Ok(())
    }

    /// The connection.
    pub fn keeper(&self) -> &KeeperClient {
        &self.keeper
    }

    /// Hands exits to whoever waits for them, until the connection is lost.
    pub async fn dispatch(&self, mut events: mpsc::Receiver<KeeperEvent>, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Some(KeeperEvent::JobExited { job, exit }) => self.exited(&job, &exit),
                Some(KeeperEvent::JobStarted { job, pid }) => self.started(&job, pid),
                Some(KeeperEvent::Zygote(state)) => {
                    self.zygote.send_replace(state);
                }
                Some(KeeperEvent::Disconnected) | None => return,
            }
        }
    }

    fn exited(&self, job: &str, exit: &JobExit) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in waiting.exits.remove(job).unwrap_or_default() {
            drop(waiter.send(exit.clone()));
        }
    }

    fn started(&self, job: &str, pid: i32) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let told = waiting.starts.remove(job).map(|waiter| waiter.send(pid));
        if told != Some(Ok(())) {
            tracing::debug!(job, "nobody waits for this fork any more");
        }
    }

    /// From now on a zygote is waited for, also before it is asked for.
    pub(super) fn will_fork(&self) {
        self.is_forking.store(true, Ordering::Relaxed);
    }

    /// Jobs forked so far.
    pub(super) fn forks(&self) -> u64 {
        *self.forks.borrow()
    }

    /// Waits until so many jobs were forked.
    pub(super) async fn forked(&self, count: u64) {
        let mut forks = self.forks.subscribe();
        // The sender is our own: it is there as long as we are.
        drop(forks.wait_for(|forks| *forks >= count).await);
    }

    /// A zygote is on its way: whoever wants to fork waits for it.
    pub(super) fn expect_zygote(&self) {
        self.zygote.send_if_modified(|state| {
            let is_new = *state == ZygoteState::Off;
            if is_new {
                *state = ZygoteState::Starting;
            }
            is_new
        });
    }

    /// There is no zygote, and none is expected.
    pub(super) fn no_zygote(&self, why: &str) {
        let why = why.to_owned();
        self.zygote.send_replace(ZygoteState::Failed { why });
    }

    /// Starts a job in a terminal: forked where that is possible, else as a program.
    ///
    /// # Errors
    /// The keeper refused it or is gone.
    pub async fn start(&self, spec: JobSpec) -> Result<(Spawned, Birth), ClientError> {
        if self.zygote_is_ready().await {
            let forked = JobSpec {
                origin: Origin::Zygote,
                ..spec.clone()
            };
            match self.fork(forked).await? {
                Ok(spawned) => {
                    self.forks.send_modify(|forks| *forks += 1);
                    return Ok((spawned, Birth::Forked));
                }
                Err(why) => tracing::warn!(job = %spec.id, %why, "the agent is started cold"),
            }
        }
        Ok((self.keeper.spawn(spec).await?, Birth::Cold))
    }

    async fn zygote_is_ready(&self) -> bool {
        let mut zygote = self.zygote.subscribe();
        let settled = zygote.wait_for(|state| match state {
            ZygoteState::Starting => false,
            ZygoteState::Off => !self.is_forking.load(Ordering::Relaxed),
            ZygoteState::Ready { .. } | ZygoteState::Failed { .. } | ZygoteState::Other => true,
        });
        match tokio::time::timeout(ZYGOTE_PATIENCE, settled).await {
            Ok(Ok(state)) => matches!(*state, ZygoteState::Ready { .. }),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Forks a job and waits until it has a process; the inner error says why it has none.
    async fn fork(&self, spec: JobSpec) -> Result<Result<Spawned, String>, ClientError> {
        let id = spec.id.clone();
        let (sender, started) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .starts
            .insert(id.clone(), sender);
        let ended = self.watch(&id);
        let mut spawned = match self.keeper.spawn(spec).await {
            Ok(spawned) => spawned,
            Err(error) if error.refusal() == Some(RefusalKind::NoZygote) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if spawned.job.pid != 0 || spawned.job.exit.is_some() {
            return Ok(Ok(spawned));
        }
        tokio::select! {
            pid = started => {
                spawned.job.pid = pid.map_err(|_gone| ClientError::Disconnected)?;
                Ok(Ok(spawned))
            }
            () = self.keeper.disconnected() => Err(ClientError::Disconnected),
            exit = ended => {
                let exit = exit.map_err(|_gone| ClientError::Disconnected)?;
                match exit.refused {
                    Some(why) => {
                        self.keeper.forget(&id).await?;
                        Ok(Err(why))
                    }
                    None => Ok(Ok(spawned)),
                }
            }
        }
    }

    /// Runs a job, or finds the one of the same id, and waits for its end.
    ///
    /// # Errors
    /// The keeper refused it or is gone.
    pub async fn run(&self, spec: JobSpec) -> Result<JobExit, ClientError> {
        let exit = self.watch(&spec.id);
        let spawned = self.keeper.spawn(spec).await?;
        if let Some(exit) = spawned.job.exit {
            return Ok(exit);
        }
        exit.await.map_err(|_gone| ClientError::Disconnected)
    }

    /// Waits for the end of a job that was spawned before.
    ///
    /// # Errors
    /// The keeper is gone.
    pub async fn ended(&self, id: &str) -> Result<Option<JobExit>, ClientError> {
        let exit = self.watch(id);
        let jobs = self.keeper.jobs().await?;
        match jobs.into_iter().find(|job| job.id == id) {
            None => Ok(None),
            Some(job) if job.exit.is_some() => Ok(job.exit),
            Some(_) => exit
                .await
                .map(Some)
                .map_err(|_gone| ClientError::Disconnected),
        }
    }

    fn watch(&self, id: &str) -> oneshot::Receiver<JobExit> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = waiting.exits.entry(id.to_owned()).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        receiver
    }
}
