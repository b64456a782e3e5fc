//! Which models are loaded: Ollama's scheduler.
//!
//! One pending worker loads and evicts, one request after the other; requests for a loaded model
//! with the same runner options pass it by. Runners are keyed by weights, so two names on the same
//! weights share one. The victim is the runner with the shortest keep-alive, then the smallest
//! blob name, idle before busy. Waiting for a slot is not waiting in the queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::{KeepAlive, RunnerOptions};
use super::scenario::{ModelSpec, ServerSpec};

/// What a request for a model needs.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) model: Arc<ModelSpec>,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) options: RunnerOptions,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) load_time: Option<Duration>,
}

impl Wanted {
    fn blob(&self) -> String {
        self.model
            .blob
            .clone()
            .unwrap_or_else(|| self.model.name.clone())
    }
}

/// The queue of loads is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

/// One loaded model as `/api/ps` shows it.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) model: Arc<ModelSpec>,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) size_vram: u64,
    pub(super) context: u64,
    pub(super) expires_at: jiff::Timestamp,
}

struct Runner {
    model: Arc<ModelSpec>,
    name: String,
    digest: String,
    options: RunnerOptions,
    session: KeepAlive,
    users: usize,
    expires: Expiry,
    size: u64,
    size_vram: u64,
    is_dead: bool,
    slots: Arc<Semaphore>,
    prompts: Arc<Mutex<Vec<String>>>,
}

/// The same moment on both clocks; `None` is never.
#[derive(Clone, Copy)]
struct Expiry {
    shown: jiff::Timestamp,
    at: Option<Instant>,
}

struct Pending {
    wanted: Wanted,
    reply: oneshot::Sender<Grant>,
}

/// All runners, shared by requests and the two workers.
#[derive(Clone)]
pub(super) struct Scheduler {
    settings: Arc<ServerSpec>,
    runners: Arc<Mutex<BTreeMap<String, Runner>>>,
    changed: Arc<Notify>,
    pending: mpsc::Sender<Pending>,
}

/// A loaded model that stays loaded while this lives.
pub(super) struct Grant {
    scheduler: Scheduler,
    blob: String,
    slots: Arc<Semaphore>,
    prompts: Arc<Mutex<Vec<String>>>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.scheduler.release(&self.blob);
    }
}

/// One slot of a runner.
pub(super) struct Slot {
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) cached_chars: usize,
}

impl Grant {
    /// Waits for a slot, first come first served, and finds what of the prompt it has cached.
    pub(super) async fn slot(&self, prompt: &str) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let mut prompts = lock(&self.prompts);
        let common = |old: &String| {
            old.bytes()
                .zip(prompt.bytes())
                .take_while(|(a, b)| a == b)
                .count()
        };
        let best = prompts
            .iter()
            .map(common)
            .enumerate()
            .max_by_key(|(_, n)| *n);
        let (index, cached) = best.unwrap_or((0, 0));
        // llama-server takes the slot with a common prefix above a tenth, else the oldest one.
        let is_hit = cached * 10 > prompt.len();
        if is_hit {
            prompts.remove(index);
        } else if prompts.len() >= self.scheduler.settings.num_parallel {
            prompts.remove(0);
        }
        prompts.push(prompt.to_owned());
        Some(Slot {
            _permit: permit,
            cached_chars: if is_hit { cached } else { 0 },
        })
    }

    /// Kills the runner: it stays listed, and the next request loads it again.
    pub(super) fn kill_runner(&self) {
        if let Some(runner) = self.scheduler.lock().get_mut(&self.blob) {
            runner.is_dead = true;
        }
    }
}

/// A lock that no panic can have left in a half-written state: every write is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scheduler {
    /// A scheduler and its two workers, which run until `shutdown`.
    pub(super) fn start(
        settings: ServerSpec,
        workers: &tokio_util::task::TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        // A full queue is Ollama's own limit: the request is refused with 503.
        let (pending, queue) = mpsc::channel(settings.max_queue);
        let scheduler = Self {
            settings: Arc::new(settings),
            runners: Arc::default(),
            changed: Arc::new(Notify::new()),
            pending,
        };
        let token = shutdown.clone();
        workers.spawn(token.run_until_cancelled_owned(scheduler.clone().load_pending(queue)));
        let token = shutdown.clone();
        workers.spawn(token.run_until_cancelled_owned(scheduler.clone().expire()));
        scheduler
    }

    /// Loads the model if need be. Dropping the future gives up the place in the queue.
    pub(super) async fn acquire(&self, wanted: Wanted) -> Result<Option<Grant>, QueueFull> {
        if let Some(grant) = self.try_grant(&wanted) {
            return Ok(Some(grant));
        }
        let (reply, granted) = oneshot::channel();
        self.pending
            .try_send(Pending { wanted, reply })
            .map_err(|_full_or_closed| QueueFull)?;
        // The worker only ends with the server.
        Ok(granted.await.ok())
    }

    /// Unloads a model as soon as nobody uses it.
    pub(super) fn unload(&self, wanted: &Wanted) {
        let mut runners = self.lock();
        let blob = wanted.blob();
        let Some(runner) = runners.get_mut(&blob) else {
            return;
        };
        runner.session = KeepAlive::For(Duration::ZERO);
        runner.expires = Expiry::after(runner.session);
        if runner.users == 0 {
            runners.remove(&blob);
        }
        drop(runners);
        self.changed.notify_waiters();
    }

    /// What `/api/ps` lists, the latest expiry first (by whole seconds, as Ollama sorts).
    pub(super) fn loaded(&self) -> Vec<Loaded> {
        let runners = self.lock();
        let mut loaded: Vec<Loaded> = runners
            .values()
            .map(|runner| Loaded {
                model: Arc::clone(&runner.model),
                name: runner.name.clone(),
                digest: runner.digest.clone(),
                size: runner.size,
                size_vram: runner.size_vram,
                context: runner.options.num_ctx,
                expires_at: runner.expires.shown,
            })
            .collect();
        loaded.sort_by_key(|model| std::cmp::Reverse(model.expires_at.as_second()));
        loaded
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Runner>> {
        lock(&self.runners)
    }

    fn try_grant(&self, wanted: &Wanted) -> Option<Grant> {
        let blob = wanted.blob();
        let mut runners = self.lock();
        let runner = runners.get_mut(&blob)?;
        if runner.is_dead || !runner.options.serves(&wanted.options) {
            return None;
        }
        runner.users += 1;
        if let Some(keep_alive) = wanted.keep_alive {
            runner.session = keep_alive;
        }
        let (slots, prompts) = (Arc::clone(&runner.slots), Arc::clone(&runner.prompts));
        drop(runners);
        Some(Grant {
            scheduler: self.clone(),
            blob,
            slots,
            prompts,
        })
    }

    fn release(&self, blob: &str) {
        let mut runners = self.lock();
        let Some(runner) = runners.get_mut(blob) else {
            return;
        };
        runner.users = runner.users.saturating_sub(1);
        if runner.users == 0 {
            if runner.session == KeepAlive::For(Duration::ZERO) {
                runners.remove(blob);
            } else {
                runner.expires = Expiry::after(runner.session);
            }
        }
        drop(runners);
        self.changed.notify_waiters();
    }

    /// The pending worker: one request at a time, everything else waits behind it.
    async fn load_pending(self, mut queue: mpsc::Receiver<Pending>) {
        while let Some(mut pending) = queue.recv().await {
            let served = {
                let Pending { wanted, reply } = &mut pending;
                tokio::select! {
                    grant = self.load(wanted) => Some(grant),
                    // The client left: its load is given up.
                    () = reply.closed() => None,
                }
            };
            if let Some(grant) = served {
                // A client that left meanwhile drops the grant, which releases the model.
                let _given_back = pending.reply.send(grant);
            }
        }
    }

    async fn load(&self, wanted: &Wanted) -> Grant {
        loop {
            if let Some(grant) = self.try_grant(wanted) {
                return grant;
            }
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.make_room(wanted) {
                Room::Free => {
                    tokio::time::sleep(wanted.load_time.unwrap_or(wanted.model.load_time)).await;
                    return self.insert(wanted);
                }
                Room::Evicted => tokio::time::sleep(self.settings.evict_time).await,
                Room::Draining => changed.await,
            }
        }
    }

    /// Evicts the victim if there must be one; a busy one is told to go when it is idle.
    fn make_room(&self, wanted: &Wanted) -> Room {
        let mut runners = self.lock();
        let blob = wanted.blob();
        let needed = self.size(wanted);
        let used: u64 = runners.values().map(|runner| runner.size_vram).sum();
        let is_crowded = runners.len() >= self.settings.max_loaded
            || (self.settings.vram > 0 && used + needed > self.settings.vram);
        let victim = if runners.contains_key(&blob) {
            Some(blob)
        } else if is_crowded {
            let order = |(blob, runner): &(&String, &Runner)| {
                (runner.users > 0, runner.session, (*blob).clone())
            };
            runners
                .iter()
                .min_by_key(order)
                .map(|(blob, _)| blob.clone())
        } else {
            None
        };
        let Some(victim) = victim else {
            return Room::Free;
        };
        let Some(runner) = runners.get_mut(&victim) else {
            return Room::Free;
        };
        if runner.users == 0 {
            runners.remove(&victim);
            return Room::Evicted;
        }
        if runner.session != KeepAlive::For(Duration::ZERO) {
            runner.session = KeepAlive::For(Duration::ZERO);
            runner.expires = Expiry::after(runner.session);
        }
        Room::Draining
    }

    fn size(&self, wanted: &Wanted) -> u64 {
        let slots = u64::try_from(self.settings.num_parallel).unwrap_or(1);
        wanted.model.size + wanted.model.kv_per_token * wanted.options.num_ctx * slots
    }

    /// The loaded model, already in use: an unused one without keep-alive would go at once.
    fn insert(&self, wanted: &Wanted) -> Grant {
        let session = wanted
            .keep_alive
            .unwrap_or(KeepAlive::For(self.settings.keep_alive));
        let size = self.size(wanted);
        let runner = Runner {
            model: Arc::clone(&wanted.model),
            name: wanted.name.clone(),
            digest: wanted.digest.clone(),
            options: wanted.options.clone(),
            session,
            users: 1,
            expires: Expiry::after(session),
            size,
            size_vram: size.min(self.settings.vram),
            is_dead: false,
            slots: Arc::new(Semaphore::new(self.settings.num_parallel)),
            prompts: Arc::default(),
        };
        let grant = Grant {
            scheduler: self.clone(),
            blob: wanted.blob(),
            slots: Arc::clone(&runner.slots),
            prompts: Arc::clone(&runner.prompts),
        };
        self.lock().insert(wanted.blob(), runner);
        self.changed.notify_waiters();
        grant
    }

    /// Unloads idle runners when their time is over.
    async fn expire(self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = self.unload_expired();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = changed => {}
            }
        }
    }

    /// The next expiry among those that stay.
    fn unload_expired(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut runners = self.lock();
        runners.retain(|_, runner| runner.users > 0 || runner.expires.at.is_none_or(|at| at > now));
        let idle = runners.values().filter(|runner| runner.users == 0);
        idle.filter_map(|runner| runner.expires.at).min()
    }
}

enum Room {
    Free,
    Evicted,
    Draining,
}

impl Expiry {
    fn after(session: KeepAlive) -> Self {
        let now = jiff::Timestamp::now();
        match session {
            KeepAlive::For(duration) => Self {
                shown: now.checked_add(duration).unwrap_or(now),
                at: Instant::now().checked_add(duration),
            },
            // Ollama adds the longest duration that Go has: 292 years.
            KeepAlive::Forever => Self {
                shown: now
                    .checked_add(jiff::SignedDuration::from_nanos(i64::MAX))
                    .unwrap_or(now),
                at: None,
            },
        }
    }
}
