//! Jobs that run to their end: spawned in the keeper under an id, awaited without polling.
//!
//! Because asking again for an id returns the same job, every function here can be repeated after
//! a restart: a job that went on meanwhile is found, one that ended meanwhile has its exit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::keeper::{ClientError, JobExit, JobSpec, KeeperClient, KeeperEvent};

/// The keeper's jobs as the server uses them. Clones share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    keeper: KeeperClient,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    exits: HashMap<String, Vec<oneshot::Sender<JobExit>>>,
}

impl Jobs {
    /// Wraps a connection; [`Jobs::dispatch`] must run beside it.
    pub fn new(keeper: KeeperClient) -> Self {
        Self {
            keeper,
            waiting: Arc::default(),
        }
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
