//! One server, from start to stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agents::{Agents, Jobs, Workshop};
use crate::api::{self, ListenError, Services, call};
use crate::config::{Environment, Places, Sources};
use crate::core::catalogue::Catalogue;
use crate::core::command::{Refusal, Request};
use crate::core::demo::DemoSquad;
use crate::core::endpoint::EndpointName;
use crate::core::event::SquadEvent;
use crate::core::medic::Treatment;
use crate::core::served::Served;
use crate::core::settings::{MaxAgents, Settings};
use crate::core::{Epoch, TaskId, Timestamp};
use crate::engine::journal::JournalError;
use crate::engine::{Effect, EngineHandle, EngineLoop, EngineSettings, Fact, Input};
use crate::gateway::{Gateway, GatewayError};
use crate::keeper::{ClientError, JobSignal, KeeperClient, boot_id, sweep_orphans};
use crate::store::SqliteStore;

use super::boot::Boot;
use super::census::Census;
use super::clean::Sizes;
use super::clock::{now, read};
use super::dashboards::Dashboards;
use super::effects::Effects;
use super::fits::Fitting;
use super::installation::{InstallPolicy, Installer};
use super::{
    adopt, clean, demo, hygiene, inhibit, intake, load, log, measure, models, reads, threads,
    traffic, upgrade,
};

/// Events of a finished task are kept this long: 30 days.
const HISTORY_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// A server that ends waits this long for its own work: another one waits for its end, and nothing
/// is lost that a kill would not lose.
const LEAVE: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where everything lies.
    pub places: Places,
    /// The settings in force.
    pub settings: Settings,
    /// The environment it was started in.
    pub environment: Environment,
    /// Whether a missing Aider is installed by itself.
    pub install: InstallPolicy,
    /// Set for the squad of `warpsquad demo`.
    pub demo: Option<DemoSquad>,
    /// The keeper's socket.
    pub keeper: PathBuf,
}

/// Why a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The whole squad is to stop.
    Stopped,
    /// The keeper died: a new one is needed.
    KeeperLost,
    /// It was told to end; the keeper starts another one.
    Terminated,
    /// A newer server has taken over.
    Superseded,
}

/// A server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] JournalError),
    /// The keeper.
    #[error(transparent)]
    Keeper(#[from] ClientError),
    /// The local socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The log, a signal or a thread.
    #[error("{what}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The log.
    #[error("the log cannot be written")]
    Log(#[from] tracing_appender::rolling::InitError),
}

/// Runs a server until it is stopped, its keeper dies or a newer one takes over.
///
/// # Errors
/// It cannot start: the store, the keeper or a socket refuses.
pub async fn run(options: ServerOptions) -> Result<Ending, ServerError> {
    let _log = log::start(&options.places.logs(), &options.settings.log.level)?;
    let mut journal = upgrade::open_store(&options.places.data_dir)?;
    match journal.prune(Timestamp(now().0.saturating_sub(HISTORY_MILLIS))) {
        Ok(pruned) => tracing::debug!(pruned, "old events are forgotten"),
        Err(error) => tracing::warn!(%error, "old events stay"),
    }
    let (engine_loop, engine, effects) =
        EngineLoop::start(journal, engine_settings(&options), read)?;
    let keeper = match KeeperClient::connect(&options.keeper, engine_loop.state().epoch).await {
        Ok(keeper) => keeper,
        Err(ClientError::NoKeeper { .. }) => return Ok(Ending::KeeperLost),
        Err(error) => return Err(error.into()),
    };
    let boot = Boot::look(&options.places.data_dir, boot_id());
    let squad = Squad::build(options, engine, &keeper, engine_loop.state().epoch)?;
    let grants = squad.gateway.grants();
    let found = adopt::adopt(engine_loop.state(), &squad.workshop, grants).await?;
    let adopted = boot.said(&found);
    squad.agents.give_up(found.lost, boot.why_agents_are_gone());
    squad
        .agents
        .adopt_spares(found.spares, found.used, &found.jobs)
        .await;
    let epoch = engine_loop.state().epoch.0;
    tracing::info!(epoch, %adopted, "the server has started");
    let fenced = spawn_engine(engine_loop)?;
    squad
        .report(SquadEvent::ServerStarted { epoch, adopted })
        .await;
    if boot.was_restarted() {
        squad.begun_again(found.steps).await;
    }
    boot.remember();
    squad.serve(effects, fenced).await
}

fn engine_settings(options: &ServerOptions) -> EngineSettings {
    EngineSettings {
        max: options.settings.agents.max,
        parallel: parallel(&options.settings),
        spares: options.settings.agents.spare,
        tasks: options.settings.tasks.clone(),
        models: options.settings.models.clone(),
        router: options.settings.router,
        quota: options.settings.quota.clone(),
        catalogue: Arc::new(models::configured(&options.settings)),
        demo: options.demo.is_some(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
    }
}

/// Requests that each endpoint serves at a time, where that is configured.
fn parallel(settings: &Settings) -> BTreeMap<EndpointName, u16> {
    let known = settings.endpoints.iter();
    known
        .filter_map(|it| Some((EndpointName(it.name.clone()), it.parallel?)))
        .collect()
}

/// The engine on a thread of its own, because its commits wait for the disk.
fn spawn_engine(engine: EngineLoop<SqliteStore>) -> Result<CancellationToken, ServerError> {
    threads::spawn("engine", |runtime| {
        if let Err(error) = runtime.block_on(engine.run()) {
            tracing::warn!(%error, "the engine has ended");
        }
    })
}

/// Everything but the engine.
struct Squad {
    options: ServerOptions,
    engine: EngineHandle,
    jobs: Jobs,
    gateway: Arc<Gateway>,
    fitting: Arc<Fitting>,
    served: Option<mpsc::Receiver<Served>>,
    catalogue: Option<watch::Sender<Arc<Catalogue>>>,
    workshop: Arc<Workshop>,
    agents: Agents,
    clients: watch::Sender<usize>,
    python: watch::Sender<Option<PathBuf>>,
    stopping: mpsc::Sender<bool>,
    stop_asked: mpsc::Receiver<bool>,
    stop: CancellationToken,
    epoch: u64,
    /// Cancelled before `stop` when the squad ends for good: dashboards leave.
    farewell: CancellationToken,
    tracker: TaskTracker,
}

impl Squad {
    fn build(
        options: ServerOptions,
        engine: EngineHandle,
        keeper: &KeeperClient,
        epoch: Epoch,
    ) -> Result<Self, ServerError> {
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let traffic::Parts {
            gateway,
            served,
            catalogue,
        } = traffic::gateway(&options, &engine)?;
        let jobs = Jobs::new(keeper.clone());
        if let Some(events) = keeper.take_events() {
            let (jobs, stop) = (jobs.clone(), stop.clone());
            tracker.spawn(async move { jobs.dispatch(events, stop).await });
        }
        let settings = Arc::new(options.settings.clone());
        let data = options.places.data_dir.clone();
        let workshop = Arc::new(Workshop::new(data, jobs.clone(), settings));
        let (python, python_seen) = watch::channel(None);
        let base = format!("http://{}", keeper.welcome().gateway);
        let agents = Agents::new(
            Arc::clone(&workshop),
            engine.clone(),
            traffic::access(base, &gateway),
            python_seen,
            stop.clone(),
        );
        let fitting = Fitting::new(Arc::clone(&gateway), engine.clone());
        let (stopping, stop_asked) = mpsc::channel(1);
        let (clients, _) = watch::channel(0);
        Ok(Self {
            options,
            engine,
            jobs,
            fitting,
            gateway,
            served: Some(served),
            catalogue: Some(catalogue),
            workshop,
            agents,
            clients,
            python,
            stopping,
            stop_asked,
            stop,
            epoch: epoch.0,
            farewell: CancellationToken::new(),
            tracker,
        })
    }

    async fn report(&self, event: SquadEvent) {
        if self.engine.report(Input::Squad(event)).await.is_err() {
            tracing::debug!("the engine has stopped");
        }
    }

    /// Says of tasks that the machine's restart has cut off what is done once more.
    async fn begun_again(&self, steps: Vec<(TaskId, u32, &'static str)>) {
        for (task, number, step) in steps {
            let what = Treatment::Repeated;
            let why = format!("the machine was restarted while {step}");
            let fact = Fact::Treated { what, why };
            let input = Input::Attempt { task, number, fact };
            if self.engine.report(input).await.is_err() {
                tracing::debug!("the engine has stopped");
            }
        }
    }

    async fn serve(
        mut self,
        effects: mpsc::Receiver<Effect>,
        fenced: CancellationToken,
    ) -> Result<Ending, ServerError> {
        let failed = |source| ServerError::System {
            what: "signals cannot be taken",
            source,
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        self.start_gateway().await?;
        let listener = api::bind(&self.options.places.socket).await?;
        upgrade::serving(&self.options.places.data_dir);
        let served = api::serve(listener, self.services(), self.stop.clone());
        self.tracker.spawn(served);
        self.start_workers(effects);
        let keeper = self.jobs.keeper().clone();
        upgrade::ready(&keeper).await;
        self.limit(&keeper).await;
        let ending = tokio::select! {
            now = self.stop_asked.recv() => {
                self.end_agents(now.unwrap_or_default()).await;
                Ending::Stopped
            }
            _ = terminate.recv() => Ending::Terminated,
            _ = interrupt.recv() => Ending::Terminated,
            () = fenced.cancelled() => Ending::Superseded,
            () = keeper.disconnected() => Ending::KeeperLost,
        };
        if ending == Ending::KeeperLost && !fenced.is_cancelled() {
            self.keeper_lost().await;
        }
        self.shut_down().await;
        Ok(ending)
    }

    /// Has the kernel hold all jobs back, where the keeper can.
    async fn limit(&self, keeper: &KeeperClient) {
        if keeper.welcome().controllers.is_empty() {
            return;
        }
        if let Err(error) = keeper.limit(self.workshop.squad_limits()).await {
            tracing::warn!(%error, "the kernel does not enforce what all jobs may use");
        }
    }

    async fn start_gateway(&mut self) -> Result<(), ServerError> {
        let listener = self.jobs.keeper().gateway().await?;
        let ended = traffic::spawn(Arc::clone(&self.gateway), listener, self.stop.clone())?;
        self.tracker.spawn(async move { ended.cancelled().await });
        if let Some(served) = self.served.take() {
            self.tracker.spawn(measure::measure(
                served,
                self.gateway.unrecorded(),
                measure::recorder(&self.options),
                self.engine.clone(),
                self.stop.clone(),
            ));
        }
        if let Some(catalogue) = self.catalogue.take() {
            let (gateway, engine) = (Arc::clone(&self.gateway), self.engine.clone());
            let exchanging =
                traffic::exchange(gateway, engine, Arc::clone(&self.fitting), catalogue);
            let stop = self.stop.clone();
            self.tracker
                .spawn(stop.run_until_cancelled_owned(exchanging));
        }
        Ok(())
    }

    fn start_workers(&self, effects: mpsc::Receiver<Effect>) {
        let executor = Effects::new(
            Arc::clone(&self.workshop),
            self.agents.clone(),
            self.engine.clone(),
            self.stop.clone(),
        );
        let census = Census::new(
            Arc::clone(&self.workshop),
            self.agents.clone(),
            self.engine.clone(),
        );
        if self.workshop.settings.clean.automatic {
            let (workshop, engine) = (Arc::clone(&self.workshop), self.engine.clone());
            let tidying = hygiene::tidy(workshop, engine);
            self.tracker
                .spawn(self.stop.clone().run_until_cancelled_owned(tidying));
        }
        let demo = self.options.demo.clone();
        let data = self.options.places.data_dir.clone();
        let installer = Installer {
            workshop: Arc::clone(&self.workshop),
            home: demo.as_ref().map_or(data, |demo| demo.aider_home.clone()),
            engine: self.engine.clone(),
            environment: self.options.environment.clone(),
            policy: self.options.install,
            python: self.python.clone(),
            clients: self.clients.subscribe(),
        };
        let watching = models::watch_endpoints(
            Arc::clone(&self.workshop.settings),
            self.engine.clone(),
            Arc::clone(&self.fitting),
            Arc::clone(&self.gateway),
            self.clients.subscribe(),
            self.stop.clone(),
        );
        let stop = self.stop.clone();
        self.tracker.spawn(
            stop.clone()
                .run_until_cancelled_owned(executor.run(effects)),
        );
        self.tracker
            .spawn(stop.clone().run_until_cancelled_owned(census.run()));
        self.tracker
            .spawn(stop.run_until_cancelled_owned(installer.run()));
        self.tracker.spawn(watching);
        if self.options.settings.agents.inhibit_sleep {
            let holding = inhibit::inhibit_sleep(
                self.jobs.clone(),
                self.engine.clone(),
                self.options.places.clone(),
                self.options.environment.clone(),
            );
            self.tracker
                .spawn(self.stop.clone().run_until_cancelled_owned(holding));
        }
        if self.options.settings.agents.max == MaxAgents::Auto {
            let watching = load::watch(self.engine.clone());
            self.tracker
                .spawn(self.stop.clone().run_until_cancelled_owned(watching));
        }
        let (agents, epoch) = (self.agents.clone(), self.epoch);
        let clients = self.clients.subscribe();
        self.tracker
            .spawn(async move { agents.tend(epoch, clients).await });
        if let Some(demo) = demo {
            let simulator = demo::keep_simulator(
                self.jobs.clone(),
                demo,
                self.options.places.clone(),
                self.options.environment.clone(),
            );
            self.tracker
                .spawn(self.stop.clone().run_until_cancelled_owned(simulator));
        }
    }

    fn services(&self) -> Services {
        let (engine, agents) = (self.engine.clone(), self.agents.clone());
        let (workshop, stopping) = (Arc::clone(&self.workshop), self.stopping.clone());
        let commands = commands(&self.options, &self.engine);
        let dashboards = Dashboards {
            engine: engine.clone(),
            agents: agents.clone(),
            gateway: Arc::clone(&self.gateway),
            commands: Arc::clone(&commands),
            stopping: self.farewell.clone(),
            settings: self.options.settings.ui.clone(),
            sources: Sources::of(&self.options.places, self.options.environment.clone()),
            demo: self.options.demo.is_some(),
        };
        Services {
            engine: engine.clone(),
            command: commands,
            diff: call({
                let engine = engine.clone();
                move |id| reads::diff(engine.clone(), id)
            }),
            log: call({
                let (engine, workshop) = (engine.clone(), Arc::clone(&workshop));
                move |(id, kind)| reads::log(engine.clone(), Arc::clone(&workshop), id, kind)
            }),
            screen: call(move |slot| {
                let agents = agents.clone();
                async move { agents.text(slot).await }
            }),
            clean: call(move |request| {
                let (workshop, engine) = (Arc::clone(&workshop), engine.clone());
                async move { clean::clean(&workshop, &engine, request, Sizes::All).await }
            }),
            stop: call(move |request: api::wire::StopRequest| {
                let stopping = stopping.clone();
                async move {
                    if stopping.try_send(request.now).is_err() {
                        tracing::debug!("the squad is stopping already");
                    }
                }
            }),
            upgrade: call({
                let (jobs, data) = (self.jobs.clone(), self.options.places.data_dir.clone());
                move |request: api::wire::UpgradeRequest| {
                    let (jobs, data) = (jobs.clone(), data.clone());
                    async move { upgrade::begin(jobs.keeper(), &data, &request.program).await }
                }
            }),
            upgraded: call({
                let jobs = self.jobs.clone();
                move |()| {
                    let jobs = jobs.clone();
                    async move { upgrade::report(jobs.keeper()).await }
                }
            }),
            look: call({
                let gateway = Arc::clone(&self.gateway);
                move |()| {
                    let gateway = Arc::clone(&gateway);
                    async move { gateway.look_again().await }
                }
            }),
            attach: dashboards.attach(),
            clients: self.clients.clone(),
        }
    }

    /// `stop`: agents are interrupted, their tasks stay in the store and go on at the next start.
    async fn end_agents(&self, now: bool) {
        tracing::info!(now, "the squad stops");
        self.farewell.cancel();
        let keeper = self.jobs.keeper();
        if now {
            for job in keeper.jobs().await.unwrap_or_default() {
                drop(keeper.signal(&job.id, JobSignal::Kill).await);
            }
        }
        if let Err(error) = self.jobs.keeper().shutdown().await {
            tracing::warn!(%error, "the keeper was not told to stop");
        }
    }

    async fn keeper_lost(&self) {
        let data = self.options.places.data_dir.clone();
        let swept = tokio::task::spawn_blocking(move || sweep_orphans(&data, None)).await;
        let swept = swept.unwrap_or_default();
        let what = format!("its agents are gone, {swept} left processes were ended");
        tracing::error!(%what, "the keeper died");
        self.report(SquadEvent::KeeperLost { what }).await;
        // The server ends now: what was reported must be durable first.
        if let Err(refusal) = self.engine.flush().await {
            tracing::error!(%refusal, "the keeper's death could not be recorded");
        }
    }

    async fn shut_down(self) {
        self.stop.cancel();
        self.tracker.close();
        let ended = async {
            self.agents.released().await;
            self.tracker.wait().await;
        };
        if timeout(LEAVE, ended).await.is_err() {
            tracing::warn!("some work did not end in time");
        }
    }
}

pub(super) type Commands = api::Call<Request, Result<crate::core::command::Reply, Refusal>>;

fn commands(options: &ServerOptions, engine: &EngineHandle) -> Commands {
    let (options, engine) = (Arc::new(options.clone()), engine.clone());
    call(move |request| {
        let (options, engine) = (Arc::clone(&options), engine.clone());
        async move {
            let request =
                intake::fill(&options.places, &options.environment, now(), request).await?;
            engine.command(request).await
        }
    })
}
