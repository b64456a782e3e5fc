//! Which models are loaded: Ollama's scheduler.
//!
//! One pending worker loads and evicts, one request after the other; whatever waits behind it
//! waits, while requests for a loaded model with the same runner options pass it by. Runners are
//! keyed by weights, so two names on the same weights share one. Waiting for a slot is not waiting
//! in the queue, and has no limit.
//!
//! Source: `server/sched.go` of Ollama 0.32, and what a real one was seen to do.

mod cache;
mod engine;
mod memory;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::fault::{Faults, LoadFaults};
use super::request::{KeepAlive, Refusal, RunnerOptions};
use super::scenario::{FaultKind, FaultSpec, ModelSpec, ServerSpec};
pub(super) use engine::{Busy, Engine, Slot, Work};
use memory::Placement;
use state::{Held, Id, Room, State};

/// What a load that runs out of memory says.
const OUT_OF_MEMORY: &str =
    "llama-server process has terminated: exit status 2: CUDA error: out of memory";
/// What a load says that never gets on.
const LOAD_TIMED_OUT: &str = "timed out waiting for llama-server to start - ";
/// Slots that wait for the end of a batch whose client has left; one more is free at once.
const LINGERING: usize = 1_024;

/// What a request for a model needs.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) model: Arc<ModelSpec>,
    /// Name of the weights.
    pub(super) blob: String,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) options: RunnerOptions,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) load_faults: LoadFaults,
}

/// One loaded model as `/api/ps` shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loaded {
    pub(super) model: Arc<ModelSpec>,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) size_vram: u64,
    pub(super) context: u64,
    pub(super) expires_at: jiff::Timestamp,
}

struct Pending {
    wanted: Wanted,
    reply: oneshot::Sender<Result<Grant, Refusal>>,
}

/// A slot that is busy with a batch of a prompt that nobody wants any more.
type Lingering = (Instant, Grant, Slot);

/// All runners, shared by requests and the two workers.
#[derive(Clone)]
pub(super) struct Scheduler {
    clock: Clock,
    settings: Arc<ServerSpec>,
    faults: Arc<Faults>,
    state: Arc<Mutex<State>>,
    /// The completion worker has something to do.
    changed: Arc<Notify>,
    /// The number of unloads.
    unloaded: Arc<watch::Sender<u64>>,
    pending: mpsc::Sender<Pending>,
    lingering: mpsc::Sender<Lingering>,
}

/// A loaded model that stays loaded while this lives.
pub(super) struct Grant {
    scheduler: Scheduler,
    id: Id,
    engine: Arc<Engine>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        let id = self.id.clone();
        self.scheduler.with(|state| state.finish(id));
    }
}

impl Grant {
    /// Waits for a slot, first come first served, and finds what of the prompt it has cached.
    pub(super) async fn slot(&self, prompt: &str) -> Option<Slot> {
        self.engine.slot(prompt).await
    }

    /// Tokens that each slot holds: less than was asked for where memory was short.
    pub(super) fn context(&self) -> u64 {
        self.engine.context
    }

    /// Waits until the runner is dead.
    pub(super) fn death(&self) -> impl Future<Output = ()> + Send + use<> {
        self.engine.death()
    }

    /// Kills the runner: it stays listed, and the next request loads it again.
    pub(super) fn kill_runner(&self) {
        self.scheduler.with(|state| state.kill(&self.id));
    }

    /// A runner out of memory: every model goes when it is idle.
    pub(super) fn expire_all(&self) {
        self.scheduler.with(State::evict_all);
    }

    /// Keeps runner and slot busy until then: a batch of a prompt cannot be interrupted.
    pub(super) fn linger(self, slot: Slot, until: Instant) {
        let lingering = self.scheduler.lingering.clone();
        // Beyond the limit, or after the end, they are free at once.
        let _free_at_once = lingering.try_send((until, self, slot));
    }
}

/// What became of a load.
enum LoadEnd {
    Loaded(Grant),
    OutOfMemory(String),
    Failed(String),
    /// The client left.
    Aborted,
}

impl Scheduler {
    /// A scheduler and its two workers, which run until `shutdown`.
    pub(super) fn start(
        settings: &ServerSpec,
        faults: Arc<Faults>,
        clock: Clock,
        (workers, shutdown): (&TaskTracker, &CancellationToken),
    ) -> Self {
        // A full queue is Ollama's own limit: the request is refused with 503.
        let (pending, queue) = mpsc::channel(settings.max_queue);
        let (lingering, leftovers) = mpsc::channel(LINGERING);
        let settings = Arc::new(settings.clone());
        let state = State::new(Arc::clone(&settings), Arc::clone(&faults), clock);
        let scheduler = Self {
            clock,
            settings,
            faults,
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
            unloaded: Arc::new(watch::channel(0).0),
            pending,
            lingering,
        };
        let token = shutdown.clone();
        workers.spawn(token.run_until_cancelled_owned(scheduler.clone().load_pending(queue)));
        let token = shutdown.clone();
        workers.spawn(token.run_until_cancelled_owned(scheduler.clone().complete()));
        let token = shutdown.clone();
        workers.spawn(token.run_until_cancelled_owned(let_go(leftovers)));
        scheduler
    }

    /// Loads the model if need be. Dropping the future gives up the place in the queue.
    pub(super) async fn acquire(&self, wanted: Wanted) -> Result<Grant, Refusal> {
        if let Some(held) = self.with(|state| state.grant(&wanted)) {
            return Ok(self.granted(held));
        }
        let (reply, granted) = oneshot::channel();
        self.pending
            .try_send(Pending { wanted, reply })
            .map_err(|_full_or_closed| Refusal::busy())?;
        match granted.await {
            Ok(outcome) => outcome,
            // The worker only ends with the server.
            Err(_ended) => Err(Refusal::new(500, "the server is shutting down")),
        }
    }

    /// Unloads a model as soon as nobody uses it.
    pub(super) fn unload(&self, blob: &str) {
        self.with(|state| state.evict(blob));
    }

    /// Forgets everything, as a server does that starts anew.
    pub(super) fn reset(&self) {
        self.with(State::reset);
    }

    /// What `/api/ps` lists, perhaps as it was before.
    pub(super) fn loaded(&self) -> Vec<Loaded> {
        match self.faults.ps_lag() {
            Some(lag) => self.with(|state| state.loaded_before(self.clock.real(lag))),
            None => self.with(|state| state.loaded()),
        }
    }

    /// One change of the state; whoever waits for such a change hears of it.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        state.remember();
        let unloads = state.unloads;
        drop(state);
        self.changed.notify_one();
        self.unloaded
            .send_if_modified(|known| std::mem::replace(known, unloads) != unloads);
        result
    }

    fn granted(&self, held: Held) -> Grant {
        Grant {
            scheduler: self.clone(),
            id: held.id,
            engine: held.engine,
        }
    }

    /// The pending worker: one request at a time, everything else waits behind it.
    async fn load_pending(self, mut queue: mpsc::Receiver<Pending>) {
        while let Some(mut pending) = queue.recv().await {
            if pending.reply.is_closed() {
                continue;
            }
            if let Some(outcome) = self.serve(&mut pending).await {
                // A client that left meanwhile drops the grant, which releases the model.
                let _given_back = pending.reply.send(outcome);
            }
        }
    }

    /// `None`: the client left while its model was loaded. Before that nobody looks.
    async fn serve(&self, pending: &mut Pending) -> Option<Result<Grant, Refusal>> {
        let mut unloaded = self.unloaded.subscribe();
        let mut is_smaller = false;
        let mut is_alone = false;
        loop {
            unloaded.borrow_and_update();
            let room = self.with(|state| {
                if is_alone && !state.is_empty() {
                    return Room::Wait;
                }
                state.room(&pending.wanted)
            });
            let placement = match room {
                Room::Granted(held) => return Some(Ok(self.granted(held))),
                Room::Wait => {
                    // The sender lives as long as this worker.
                    unloaded.changed().await.ok()?;
                    continue;
                }
                Room::Load(placement) => placement,
            };
            match self.load(pending, placement).await {
                LoadEnd::Loaded(grant) => return Some(Ok(grant)),
                LoadEnd::Aborted => return None,
                LoadEnd::Failed(message) => return Some(Err(Refusal::new(500, message))),
                LoadEnd::OutOfMemory(message) => {
                    let smaller = pending.wanted.options.next_tier();
                    match smaller.filter(|_| !is_smaller) {
                        Some(options) => {
                            is_smaller = true;
                            pending.wanted.options = options;
                        }
                        None if !is_alone && !self.with(|state| state.is_empty()) => {
                            is_alone = true;
                            self.with(State::evict_all);
                        }
                        None => return Some(Err(Refusal::new(500, message))),
                    }
                }
            }
        }
    }

    async fn load(&self, pending: &mut Pending, placement: Placement) -> LoadEnd {
        let Pending { wanted, reply } = pending;
        let fault = self.faults.load(&wanted.load_faults);
        let time = self.with(|state| state.load_time(wanted));
        let (time, end) = self.load_end(fault.as_ref(), placement, time);
        tokio::select! {
            () = self.clock.sleep(time) => {}
            // The client left: its load is given up.
            () = reply.closed() => return LoadEnd::Aborted,
        }
        match end {
            Ok(placement) => {
                let held = self.with(|state| state.insert(wanted, placement));
                LoadEnd::Loaded(self.granted(held))
            }
            Err(failed) => failed,
        }
    }

    /// How long a load takes and how it ends.
    fn load_end(
        &self,
        fault: Option<&FaultSpec>,
        placement: Placement,
        time: Duration,
    ) -> (Duration, Result<Placement, LoadEnd>) {
        let message = |default: &str| {
            let said = fault.and_then(|fault| fault.message.clone());
            said.unwrap_or_else(|| default.to_owned())
        };
        let time = fault.and_then(|fault| fault.duration).unwrap_or(time);
        let ended = match fault.map(|fault| fault.kind) {
            Some(FaultKind::StuckLoad) => {
                let failed = LoadEnd::Failed(message(LOAD_TIMED_OUT));
                return (self.settings.load_timeout, Err(failed));
            }
            Some(FaultKind::SlowLoad) if fault.is_some_and(|f| f.duration.is_none()) => {
                return (SLOW_LOAD, Ok(placement));
            }
            Some(FaultKind::LoadError) => Err(LoadEnd::Failed(message(LOAD_FAILED))),
            Some(FaultKind::LoadOom) => Err(LoadEnd::OutOfMemory(message(OUT_OF_MEMORY))),
            Some(FaultKind::CpuOnly) => Ok(Placement {
                size_vram: 0,
                ..placement
            }),
            _ if placement.is_too_big => Err(LoadEnd::OutOfMemory(message(OUT_OF_MEMORY))),
            _ => Ok(placement),
        };
        (time, ended)
    }

    /// The completion worker: ended requests, timers, unloads.
    async fn complete(self) {
        loop {
            let next = self.tick();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Like [`Self::with`], without waking the completion worker, which this is.
    fn tick(&self) -> Option<Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.tick();
        state.remember();
        let unloads = state.unloads;
        drop(state);
        self.unloaded
            .send_if_modified(|known| std::mem::replace(known, unloads) != unloads);
        next
    }
}

/// What a load says that fails.
const LOAD_FAILED: &str = "llama-server process has terminated: exit status 1: error loading model";
/// What a slow load takes when the scenario says nothing else.
const SLOW_LOAD: Duration = Duration::from_secs(60);

/// Frees slots whose batch is over.
async fn let_go(mut leftovers: mpsc::Receiver<Lingering>) {
    let mut busy: Vec<Lingering> = Vec::new();
    loop {
        let next = busy.iter().map(|(until, _, _)| *until).min();
        let due = async {
            match next {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                let now = Instant::now();
                busy.retain(|(until, _, _)| *until > now);
            }
            more = leftovers.recv() => match more {
                Some(more) => busy.push(more),
                None => return,
            },
        }
    }
}
