//! The state of the squad and the questions that can be asked of it without changing it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::core::agent::AgentReport;
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::{EndpointHealth, EndpointName};
use crate::core::event::Event;
use crate::core::health::Health;
use crate::core::measurement::MeasurementReport;
use crate::core::pool::{AutoLimit, PoolReport, SpareOrder};
use crate::core::router::{Fits, Learned};
use crate::core::runners::{BreakerState, GatewayReport};
use crate::core::settings::{
    MaxAgents, ModelSettings, QuotaSettings, RouterSettings, TaskSettings,
};
use crate::core::task::{Task, TaskState};
use crate::core::{AgentSlot, Epoch, TaskId, Timestamp};

use super::input::Effect;
use super::journal::Loaded;
use super::view::{AgentView, Installation, View};

/// Finished tasks kept in memory; older ones are asked of the store.
pub(super) const FINISHED_KEPT: usize = 500;
/// Events kept in memory for the dashboards.
pub(super) const EVENTS_KEPT: usize = 200;

/// The settings the engine decides by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineSettings {
    /// Agents working at a time.
    pub max: MaxAgents,
    /// Requests that an endpoint serves at a time, where that is known.
    pub parallel: BTreeMap<EndpointName, u16>,
    /// Agents made ahead.
    pub spares: u16,
    /// Retry policy and limits.
    pub tasks: TaskSettings,
    /// Models.
    pub models: ModelSettings,
    /// Who gets which model.
    pub router: RouterSettings,
    /// Quotas.
    pub quota: QuotaSettings,
    /// The endpoints that are configured, before anybody has looked at them.
    pub catalogue: Arc<Catalogue>,
    /// The squad of `warpsquad demo`.
    pub demo: bool,
    /// Version shown.
    pub version: String,
    /// Process shown.
    pub pid: u32,
}

/// Everything the engine knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What it decides by.
    pub settings: EngineSettings,
    /// Its epoch.
    pub epoch: Epoch,
    /// The moment of the last update: all that was due by then is done.
    pub now: Timestamp,
    /// Unfinished tasks and the latest finished ones.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Number of the next task.
    pub next_task: u64,
    /// Number of the next event.
    pub next_event: u64,
    /// Nothing is assigned.
    pub paused: bool,
    /// What agents say of themselves.
    pub reports: BTreeMap<AgentSlot, AgentReport>,
    /// Endpoints and models.
    pub catalogue: Arc<Catalogue>,
    /// What the pool of agents says of itself.
    pub pool: PoolReport,
    /// Spares that were asked for.
    pub spares: Vec<SpareOrder>,
    /// How many agents may work, where that is not fixed.
    pub auto: AutoLimit,
    /// Load average of one minute per processor.
    pub load_per_core: f32,
    /// Memory that is available, KiB.
    pub free_kib: Option<u64>,
    /// A spare for what was assigned last.
    pub last_order: Option<SpareOrder>,
    /// What was measured of requests.
    pub measured: Arc<MeasurementReport>,
    /// Whether Aider is there.
    pub installation: Installation,
    /// What the gateway says of endpoints and models.
    pub gateway: Arc<GatewayReport>,
    /// When it said that.
    pub gateway_at: Timestamp,
    /// Which models fit where.
    pub fits: Arc<Fits>,
    /// What the router learned.
    pub learned: Learned,
    /// It learned something since the last commit.
    pub learned_dirty: bool,
    /// Why nothing new is begun: the disk has too little room.
    pub no_room: Option<String>,
    /// Why queued tasks are not assigned.
    pub waiting: BTreeMap<TaskId, String>,
    /// The last events.
    pub events: VecDeque<Arc<Event>>,
    /// Changed since the last commit.
    pub dirty: BTreeSet<TaskId>,
    /// Recorded since the last commit.
    pub fresh: Vec<Arc<Event>>,
    /// `paused` changed since the last commit.
    pub paused_dirty: bool,
}

impl State {
    /// The state after a start: what the store holds, nothing known of agents and models.
    pub fn from_loaded(settings: EngineSettings, epoch: Epoch, loaded: Loaded) -> Self {
        let tasks = loaded
            .tasks
            .into_iter()
            .map(|task| (task.id, Arc::new(task)))
            .collect();
        Self {
            catalogue: Arc::clone(&settings.catalogue),
            settings,
            epoch,
            tasks,
            next_task: loaded.next_task.max(1),
            next_event: loaded.next_event.max(1),
            paused: loaded.paused,
            learned: loaded.learned,
            events: loaded.recent.into_iter().map(Arc::new).collect(),
            ..Self::default()
        }
    }

    /// Slots that no task holds, lowest first.
    pub fn free_slots(&self) -> Vec<AgentSlot> {
        let held: BTreeSet<AgentSlot> =
            self.tasks.values().filter_map(|task| task.slot()).collect();
        (1..=self.limit())
            .map(AgentSlot)
            .filter(|slot| !held.contains(slot))
            .collect()
    }

    /// Agents that may work now.
    pub fn limit(&self) -> u16 {
        match self.settings.max {
            MaxAgents::Fixed(count) => count,
            MaxAgents::Auto => self.auto.limit(),
        }
    }

    /// Slots to show: those that may be used, and those that still are.
    fn slots(&self) -> u16 {
        let held = self.tasks.values().filter_map(|task| task.slot());
        let highest = held.map(|slot| slot.0).max().unwrap_or(0);
        self.limit().max(highest)
    }

    /// The task that holds `slot`.
    pub fn holder(&self, slot: AgentSlot) -> Option<&Arc<Task>> {
        self.tasks.values().find(|task| task.slot() == Some(slot))
    }

    /// Tasks that are not finished.
    pub fn unfinished(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values().filter(|task| !task.state.is_final())
    }

    /// The effect a task is waiting for, as after a restart; asking twice does no harm.
    pub fn outstanding(task: &Arc<Task>) -> Option<Effect> {
        let shared = Arc::clone(task);
        match task.state {
            TaskState::Assigned => Some(Effect::Prepare(shared)),
            TaskState::Running => Some(Effect::RunAgent(shared)),
            TaskState::Verifying => Some(Effect::Verify(shared)),
            TaskState::Merging => Some(Effect::Merge(shared, task.spec.strategy)),
            _ if task.archiving => Some(Effect::Archive(shared)),
            _ => None,
        }
    }

    /// The next moment at which something is due without any input.
    ///
    /// A moment that the last update has seen is not due again: a task that could start but finds
    /// no free slot waits for an input, not for the clock.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.unfinished()
            .flat_map(|task| self.deadlines(task))
            .chain(self.auto_deadline())
            .chain(self.breaker_deadline())
            .filter(|moment| *moment > self.now)
            .min()
    }

    /// When a breaker may be tried again, while a task waits for a model.
    fn breaker_deadline(&self) -> Option<Timestamp> {
        self.unfinished()
            .find(|task| task.state == TaskState::Queued)?;
        let endpoints = self.gateway.endpoints.values();
        let breakers = endpoints.flat_map(|endpoint| {
            let models = endpoint.models.values().map(|model| &model.breaker);
            models.chain([&endpoint.breaker])
        });
        let retries = breakers.filter_map(|breaker| match breaker {
            BreakerState::Open { retry_ms, .. } => {
                Some(self.gateway_at.0.saturating_add(*retry_ms))
            }
            BreakerState::Closed | BreakerState::HalfOpen => None,
        });
        retries.filter(|at| *at > self.now.0).min().map(Timestamp)
    }

    /// What the router learned since the last commit.
    pub fn take_lessons(&mut self) -> Option<Arc<Learned>> {
        let is_new = std::mem::take(&mut self.learned_dirty);
        is_new.then(|| Arc::new(self.learned.clone()))
    }

    fn auto_deadline(&self) -> Option<Timestamp> {
        let is_auto = self.settings.max == MaxAgents::Auto;
        self.auto.deadline().filter(|_| is_auto)
    }

    fn deadlines(&self, task: &Task) -> impl Iterator<Item = Timestamp> {
        let waits = matches!(task.state, TaskState::Queued | TaskState::Failed);
        let not_before = task.not_before.filter(|_| waits);
        let limit = self.time_limit_of(task);
        [not_before, task.expires_at(), limit].into_iter().flatten()
    }

    /// When the attempt under way is stopped.
    pub fn time_limit_of(&self, task: &Task) -> Option<Timestamp> {
        task.slot()?;
        let attempt = task.attempt()?;
        let limit = attempt.started.plus(self.settings.tasks.time_limit);
        Some(limit.shifted(attempt.uncounted_ms))
    }

    /// Forgets the oldest finished tasks beyond what is kept.
    pub fn forget_finished(&mut self) {
        let finished: Vec<TaskId> = self
            .tasks
            .values()
            .filter(|task| task.state.is_final() && !task.archiving)
            .map(|task| task.id)
            .collect();
        let excess = finished.len().saturating_sub(FINISHED_KEPT);
        for id in finished.into_iter().take(excess) {
            if !self.dirty.contains(&id) {
                self.tasks.remove(&id);
            }
        }
    }

    /// The snapshot for everybody else.
    pub fn view(&self, now: Timestamp, store_fault: Option<String>) -> View {
        View {
            epoch: self.epoch,
            at: now,
            version: self.settings.version.clone(),
            pid: self.settings.pid,
            paused: self.paused,
            demo: self.settings.demo,
            installation: self.installation.clone(),
            health: self.health(store_fault.as_deref()),
            store_fault,
            no_room: self.no_room.clone(),
            agents: (1..=self.slots())
                .map(|n| self.agent_view(AgentSlot(n)))
                .collect(),
            tasks: self.tasks.values().cloned().collect(),
            waiting: self.waiting.clone(),
            measured: Arc::clone(&self.measured),
            pool: self.pool.clone(),
            catalogue: Arc::clone(&self.catalogue),
            gateway: Arc::clone(&self.gateway),
            preferred: super::update::routing::preferred(self),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// How the squad is: as its worst part, except that one part does not bring it down.
    fn health(&self, store_fault: Option<&str>) -> Health {
        let part = |name: &dyn fmt::Display, why: &str| Health::Degraded(format!("{name}: {why}"));
        let installation = match &self.installation {
            Installation::Ready { .. } => Health::Ok,
            Installation::Unknown | Installation::Installing { .. } => Health::Unknown,
            Installation::Failed { why } => Health::Down(format!("Aider cannot be used: {why}")),
        };
        let store = store_fault.map_or(Health::Ok, |why| part(&"nothing is recorded", why));
        let disk = self.no_room.as_deref();
        let disk = disk.map_or(Health::Ok, |why| Health::Degraded(why.to_owned()));
        let agents = self.reports.iter().filter_map(|(slot, report)| {
            self.holder(*slot)?;
            Some(part(&format!("agent {slot}"), report.health.why()?))
        });
        let endpoints = self.catalogue.endpoints.iter();
        let endpoints = endpoints.filter_map(|(name, endpoint)| match &endpoint.health {
            EndpointHealth::Ok => None,
            unasked if !unasked.was_asked() => Some(Health::Unknown),
            EndpointHealth::Unknown { why } => Some(part(&format!("endpoint {name}"), why)),
        });
        [store, disk]
            .into_iter()
            .chain(agents)
            .chain(endpoints)
            .fold(installation, Health::worse)
    }

    fn agent_view(&self, slot: AgentSlot) -> AgentView {
        let task = self.holder(slot);
        let attempt = task.and_then(|task| task.attempt());
        AgentView {
            slot,
            task: task.map(|task| task.id),
            title: task.map(|task| task.spec.title()).unwrap_or_default(),
            model: attempt
                .map(|attempt| attempt.model.clone())
                .unwrap_or_default(),
            endpoint: attempt
                .map(|attempt| attempt.endpoint.clone())
                .unwrap_or_default(),
            since: attempt.map(|attempt| attempt.started),
            report: task
                .and_then(|_| self.reports.get(&slot).cloned())
                .unwrap_or_default(),
        }
    }
}
