//! What the conductor knows, and the one lock around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::learned::Learned;
use super::memory::{Gauge, Reading};
use super::meter::Meter;
use super::ticket::Released;
use super::warmth::Warmth;
use crate::core::breaker::Breakers;
use crate::core::catalogue::Catalogue;
use crate::core::dispatch::{
    Conversations, DispatchSettings, Dispatcher, Order, Rates, RequestId, Runner,
};
use crate::core::endpoint::EndpointName;
use crate::core::failure::Failure;
use crate::core::model::ModelName;
use crate::core::retry::RetryBudget;
use crate::core::runners::GatewayReport;
use crate::core::settings::ModelSettings;
use crate::core::vram::KvCache;

/// What the conductor goes by.
#[derive(Debug, Clone, Default)]
pub struct ConductorSettings {
    /// The endpoints.
    pub seats: Vec<Seat>,
    /// Models.
    pub models: ModelSettings,
    /// The dispatchers' constants.
    pub dispatch: DispatchSettings,
    /// Where what is learned is kept; none forgets it.
    pub learned: Option<PathBuf>,
    /// Reads GPU memory; none where nobody can.
    pub gauge: Option<Gauge>,
}

/// One endpoint as the conductor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Its name.
    pub name: EndpointName,
    /// Base URL.
    pub url: String,
    /// Requests of one model that it serves at a time, where that is configured.
    pub parallel: Option<u16>,
    /// GPU memory that models may take, bytes, until the gauge has told; none where that is
    /// unknown.
    pub room: Option<u64>,
    /// Type of its key-value cache.
    pub kv_cache: KvCache,
    /// Endpoints of equal names share a GPU.
    pub gpu: String,
}

/// The conductor. Everybody shares one.
#[derive(Debug)]
pub(in crate::gateway) struct Conductor {
    pub(super) settings: ConductorSettings,
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    state: Mutex<State>,
    /// Counts changes; waiting requests look again.
    changed: watch::Sender<u64>,
    /// There is something to do for the driver.
    pub(super) work: Notify,
    pub(super) report: watch::Sender<GatewayReport>,
    /// Pieces of answers that came, all together.
    pub(super) pieces: Arc<AtomicU64>,
    began: Instant,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) gpus: Vec<Dispatcher>,
    pub(super) home: BTreeMap<EndpointName, usize>,
    pub(super) waiting: BTreeMap<RequestId, oneshot::Sender<Result<Released, Failure>>>,
    /// Loads and unloads that the driver has not begun.
    pub(super) orders: VecDeque<Order>,
    pub(super) breakers: Breakers,
    pub(super) budget: RetryBudget,
    pub(super) rates: Rates,
    pub(super) conversations: Conversations,
    pub(super) learned: Learned,
    /// How much each model is asked for.
    pub(super) warmth: Warmth,
    /// GPU memory as last read.
    pub(super) rooms: BTreeMap<EndpointName, Reading>,
    /// GPU memory that each endpoint's models took when it was last looked at, bytes.
    pub(super) taken: BTreeMap<EndpointName, u64>,
    /// Models that an endpoint denies having, until the catalogue is new.
    pub(super) absent: BTreeSet<(EndpointName, ModelName)>,
    /// Endpoints, or one model there, that are left alone until then.
    pub(super) resting: BTreeMap<(EndpointName, Option<ModelName>), Duration>,
    /// How often a runner was silent for too long, less the answers since.
    pub(super) silences: BTreeMap<(EndpointName, ModelName), u32>,
    /// What is wrong with a runner, in words.
    pub(super) trouble: BTreeMap<(EndpointName, ModelName), String>,
    /// The last request, load or answer; the endpoints are looked at while there is some.
    pub(super) active: Duration,
    /// Loads and unloads that have ended, by endpoint.
    pub(super) moves: BTreeMap<EndpointName, u64>,
    /// The last look at what is resident.
    pub(super) looked: Option<Duration>,
    /// When the driver wakes by itself.
    pub(super) wake: Option<Duration>,
    /// The catalogue that `absent` is about.
    catalogue: Arc<Catalogue>,
    /// Something has changed since the last report.
    pub(super) is_dirty: bool,
    /// How often a place was looked for.
    pub(super) decisions: u64,
    /// Something was learned that is not written yet.
    pub(super) is_unsaved: bool,
    pub(super) meter: Meter,
    pub(super) served: u64,
    pub(super) output_tokens: u64,
    pub(super) next: u64,
    pub(super) address: String,
}

impl Conductor {
    /// A conductor of the endpoints in `settings`.
    pub(in crate::gateway) fn new(
        settings: ConductorSettings,
        catalogue: watch::Receiver<Arc<Catalogue>>,
    ) -> Self {
        let learned = settings
            .learned
            .as_deref()
            .map(Learned::load)
            .unwrap_or_default();
        let (gpus, home) = gpus(&settings);
        let (changed, _) = watch::channel(0);
        let (report, _) = watch::channel(GatewayReport::default());
        let state = State {
            gpus,
            home,
            waiting: BTreeMap::new(),
            orders: VecDeque::new(),
            breakers: Breakers::default(),
            budget: RetryBudget::default(),
            rates: learned.rates.clone(),
            conversations: Conversations::default(),
            learned,
            warmth: Warmth::default(),
            rooms: BTreeMap::new(),
            taken: BTreeMap::new(),
            absent: BTreeSet::new(),
            resting: BTreeMap::new(),
            silences: BTreeMap::new(),
            trouble: BTreeMap::new(),
            active: Duration::ZERO,
            moves: BTreeMap::new(),
            looked: None,
            wake: None,
            catalogue: Arc::default(),
            is_dirty: true,
            decisions: 0,
            is_unsaved: false,
            meter: Meter::default(),
            served: 0,
            output_tokens: 0,
            next: 1,
            address: String::new(),
        };
        Self {
            settings,
            catalogue,
            state: Mutex::new(state),
            changed,
            work: Notify::new(),
            report,
            pieces: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Time since it began.
    pub(in crate::gateway) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The moment that `Conductor::now` will say so.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.began + at
    }

    /// The time of such a moment.
    pub(super) fn time_of(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// Says where the gateway listens.
    pub(in crate::gateway) fn listens_at(&self, address: String) {
        self.change(|state, _| state.address = address);
    }

    /// What it says of endpoints and models.
    pub(in crate::gateway) fn report(&self) -> watch::Receiver<GatewayReport> {
        self.report.subscribe()
    }

    /// The client that somebody looks at.
    pub(in crate::gateway) fn focus(&self, client: Option<&str>) {
        self.change(|state, _| {
            for gpu in &mut state.gpus {
                gpu.set_focus(client);
            }
        });
    }

    /// Waits until something has changed, at most this long.
    pub(in crate::gateway) async fn changed_within(&self, limit: Duration) {
        let mut changed = self.changed.subscribe();
        // The time being over is as good as a change.
        let _elapsed = tokio::time::timeout(limit, changed.changed()).await;
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State, Duration) -> T) -> T {
        look(&self.lock(), self.now())
    }

    /// Changes the state; what follows from it (requests released, loads ordered) is done before
    /// anybody else sees it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let now = self.now();
        let result = change(&mut state, now);
        state.settle(now);
        let was_dirty = std::mem::replace(&mut state.is_dirty, true);
        let is_work = !was_dirty || state.is_work();
        drop(state);
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
        if is_work {
            self.work.notify_one();
        }
        result
    }

    /// Takes something out of the state from which nothing follows.
    pub(super) fn begin<T>(&self, take: impl FnOnce(&mut State) -> T) -> T {
        take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the driver has to do something before it wakes by itself.
    fn is_work(&self) -> bool {
        let due = self.deadline();
        let sooner = |due| self.wake.is_none_or(|wake| due < wake);
        !self.orders.is_empty() || due.is_some_and(sooner)
    }

    /// The next moment in which a dispatcher has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.gpus.iter().filter_map(Dispatcher::deadline).min()
    }

    /// Takes the dispatchers' orders until there are none.
    pub(super) fn settle(&mut self, now: Duration) {
        for index in 0..self.gpus.len() {
            self.settle_gpu(index, now);
        }
    }

    fn settle_gpu(&mut self, index: usize, now: Duration) {
        loop {
            let Some(gpu) = self.gpus.get_mut(index) else {
                return;
            };
            let orders = gpu.orders(now);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                match order {
                    Order::Admit { id, epoch, swap } => {
                        self.release(index, id, Released { epoch, swap }, now);
                    }
                    Order::Load { .. } | Order::Unload { .. } => self.orders.push_back(order),
                }
            }
        }
    }

    fn release(&mut self, index: usize, id: RequestId, released: Released, now: Duration) {
        let taken = self
            .waiting
            .remove(&id)
            .is_some_and(|waiting| waiting.send(Ok(released)).is_ok());
        if !taken && let Some(gpu) = self.gpus.get_mut(index) {
            // Its client went away in this moment.
            gpu.finished(id, None, now);
        }
    }

    /// A new catalogue knows what is installed.
    pub(super) fn forget_absent(&mut self, catalogue: &Arc<Catalogue>) {
        if !Arc::ptr_eq(&self.catalogue, catalogue) {
            self.catalogue = Arc::clone(catalogue);
            self.absent.clear();
        }
    }

    /// The dispatcher of an endpoint.
    pub(super) fn gpu(&mut self, endpoint: &EndpointName) -> Option<&mut Dispatcher> {
        let index = *self.home.get(endpoint)?;
        self.gpus.get_mut(index)
    }

    /// The dispatcher of a runner, to look at.
    pub(super) fn gpu_of(&self, runner: &Runner) -> Option<&Dispatcher> {
        self.gpus.get(*self.home.get(&runner.endpoint)?)
    }
}

/// A dispatcher for each GPU; which one has an endpoint.
fn gpus(settings: &ConductorSettings) -> (Vec<Dispatcher>, BTreeMap<EndpointName, usize>) {
    let mut names: Vec<&str> = Vec::new();
    let mut home = BTreeMap::new();
    for seat in &settings.seats {
        let index = names.iter().position(|name| *name == seat.gpu);
        let index = index.unwrap_or_else(|| {
            names.push(&seat.gpu);
            names.len() - 1
        });
        home.insert(seat.name.clone(), index);
    }
    let gpus = (0..names.len())
        .map(|index| {
            let seats: Vec<_> = settings
                .seats
                .iter()
                .filter(|seat| home.get(&seat.name) == Some(&index))
                .map(|seat| (seat.name.clone(), seat.parallel, seat.room))
                .collect();
            Dispatcher::new(settings.dispatch, &seats)
        })
        .collect();
    (gpus, home)
}
