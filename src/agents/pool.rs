//! All agents of the squad: who works on what, and how their terminals are reached.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::pool::{Forking, PoolReport, SpareOrder, takes_spares};
use crate::core::task::Task;
use crate::core::{AgentSlot, TaskId};
use crate::engine::{EngineHandle, Fact, Input};
use crate::git::{GitError, Repository};
use crate::keeper::ZygoteState;
use crate::pty::Snapshot;

use super::actor::{self, Actor, ActorHandle, AgentCommand};
use super::jobs::Birth;
use super::launch::{self, GatewayAccess, Nursery};
use super::settle::{self, Chat};
use super::spares::{self, LeftSpare, Spares, Taken};
use super::workshop::Workshop;
use super::zygote;

/// The pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Agents {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    workshop: Arc<Workshop>,
    engine: EngineHandle,
    access: GatewayAccess,
    python: watch::Receiver<Option<PathBuf>>,
    tracker: TaskTracker,
    stop: CancellationToken,
    table: Mutex<Table>,
    spares: Spares,
    counts: Mutex<Counts>,
}

/// How agents came to their tasks since the server started.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    hits: u64,
    misses: u64,
    forked: u64,
    cold: u64,
}

#[derive(Debug, Default)]
struct Table {
    actors: HashMap<(TaskId, u32), (AgentSlot, ActorHandle)>,
    by_slot: HashMap<AgentSlot, (TaskId, u32)>,
    screens: HashMap<AgentSlot, watch::Sender<Option<Snapshot>>>,
    lost: HashMap<(TaskId, u32), &'static str>,
    /// Gateway tokens of living agents; void as soon as their attempt is over.
    tokens: HashMap<(TaskId, u32), String>,
}

impl Agents {
    /// An empty pool; `python` says where Aider is once it is known.
    pub fn new(
        workshop: Arc<Workshop>,
        engine: EngineHandle,
        access: GatewayAccess,
        python: watch::Receiver<Option<PathBuf>>,
        stop: CancellationToken,
    ) -> Self {
        let tracker = TaskTracker::new();
        let spares = Spares::new(workshop.settings.agents.spare);
        if workshop.settings.agents.fork {
            workshop.jobs.will_fork();
        }
        Self {
            inner: Arc::new(Inner {
                workshop,
                engine,
                access,
                python,
                tracker,
                stop,
                table: Mutex::default(),
                spares,
                counts: Mutex::default(),
            }),
        }
    }

    /// From now on these spares are wanted.
    pub fn keep_spares(&self, orders: Vec<SpareOrder>) {
        self.inner.spares.keep(orders);
    }

    /// Goes on with spares of a former server, and removes what is left of others: `used` are the
    /// worktrees of tasks, `jobs` the jobs that run.
    pub async fn adopt_spares(
        &self,
        left: Vec<LeftSpare>,
        mut used: HashSet<PathBuf>,
        jobs: &HashSet<String>,
    ) {
        let inner = &self.inner;
        let dirs = left.iter().filter_map(|spare| spare.meta.spare.as_ref());
        used.extend(dirs.map(|spare| spare.dir.clone()));
        spares::sweep(&inner.workshop, &used, jobs).await;
        inner
            .spares
            .adopt(left, &inner.workshop, &inner.tracker, &inner.stop);
    }

    /// Puts the worktree of a task that is over away; a clean one becomes a spare's.
    ///
    /// # Errors
    /// git refuses; nothing is lost.
    pub async fn archive(&self, task: &Task, dir: &Path) -> Result<(), GitError> {
        let inner = &self.inner;
        let repository = Repository::open(&task.spec.repo).await?;
        if !inner.spares.has_place() {
            return repository.archive(task.id, dir).await.map(drop);
        }
        let parked = inner.workshop.parked_dir(task);
        let is_parked = repository.archive_and_park(task.id, dir, &parked).await;
        let checkout = (task.spec.repo.clone(), parked);
        inner
            .spares
            .park(matches!(is_parked, Ok(true)).then_some(checkout));
        is_parked.map(drop)
    }

    /// A spare for this task's attempt, if there is one that fits.
    pub async fn take_spare(&self, task: &Task) -> Option<Taken> {
        let inner = &self.inner;
        if inner.workshop.settings.agents.spare == 0 || !takes_spares(task) {
            return None;
        }
        let taken = inner.spares.take(&inner.workshop, task).await;
        let taken = taken.unwrap_or_else(|error| {
            tracing::debug!(%error, "no spare can be had");
            None
        });
        self.count(|counts| match taken {
            Some(_) => counts.hits += 1,
            None => counts.misses += 1,
        });
        taken
    }

    /// Ends a spare that was taken in vain.
    pub async fn end_spare(&self, taken: &Taken) {
        spares::end(&self.inner.workshop, taken).await;
    }

    /// Keeps the zygote and the spares until the server stops; `epoch` makes their names unique.
    pub async fn tend(&self, epoch: u64, clients: watch::Receiver<usize>) {
        let this = self.clone();
        let nursery = move || this.nursery();
        let stop = self.inner.stop.clone();
        tokio::join!(
            self.inner.spares.tend(epoch, nursery, stop.clone()),
            stop.run_until_cancelled(self.keep_zygote(clients)),
            stop.run_until_cancelled(self.report()),
        );
    }

    /// What new agents need; `None` until Aider is found.
    fn nursery(&self) -> Option<Nursery> {
        let inner = &self.inner;
        let python = inner.python.borrow().clone()?;
        Some(Nursery {
            workshop: Arc::clone(&inner.workshop),
            access: inner.access.clone(),
            python,
        })
    }

    /// Has the keeper keep a zygote once there is work, and a fresh one when it is worn.
    async fn keep_zygote(&self, clients: watch::Receiver<usize>) {
        let settings = &self.inner.workshop.settings.agents;
        if !settings.fork {
            return;
        }
        let Some(python) = self.python().await else {
            return;
        };
        self.needed(clients).await;
        self.inner.workshop.jobs.expect_zygote();
        self.inner.spares.wake();
        let mut generation = 0;
        loop {
            zygote::keep(&self.inner.workshop, &python, generation).await;
            zygote::worn(&self.inner.workshop.jobs, settings.recycle).await;
            generation += 1;
        }
    }

    /// Returns when there is work to do or somebody at a dashboard: until then nothing is held in
    /// memory for agents.
    async fn needed(&self, mut clients: watch::Receiver<usize>) {
        let mut view = self.inner.engine.view();
        loop {
            let is_wanted = view
                .borrow_and_update()
                .tasks
                .iter()
                .any(|task| !task.state.is_final());
            if is_wanted || *clients.borrow_and_update() > 0 {
                return;
            }
            let open = tokio::select! {
                changed = view.changed() => changed.is_ok(),
                changed = clients.changed() => changed.is_ok(),
            };
            if !open {
                return;
            }
        }
    }

    /// Tells the engine what is new of the pool.
    async fn report(&self) {
        let mut zygote = self.inner.workshop.jobs.zygote();
        let mut said = None;
        loop {
            let report = self.pool_report(&zygote.borrow_and_update());
            if said.as_ref() != Some(&report) {
                said = Some(report.clone());
                if self.inner.engine.report(Input::Pool(report)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = self.inner.spares.news.notified() => {}
                changed = zygote.changed() => if changed.is_err() { return },
            }
        }
    }

    fn pool_report(&self, zygote: &ZygoteState) -> PoolReport {
        let Counts {
            hits,
            misses,
            forked,
            cold,
        } = *lock(&self.inner.counts);
        PoolReport {
            forking: forking(zygote),
            spares: self.inner.spares.views(),
            hits,
            misses,
            forked,
            cold,
            enforced: self.inner.workshop.enforced(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.inner.counts));
        self.inner.spares.news.notify_one();
    }

    /// These attempts had an agent that is gone, and why: they are reported lost instead of
    /// started again.
    pub fn give_up(&self, lost: Vec<(TaskId, u32)>, why: &'static str) {
        let lost = lost.into_iter().map(|attempt| (attempt, why));
        self.table().lost.extend(lost);
    }

    /// Starts or adopts the agent of a task's attempt; asked again, it repeats what it said.
    pub fn run(&self, task: Arc<Task>) {
        let key = (task.id, task.attempt_number());
        let Some(slot) = task.slot() else { return };
        let (handle, commands) = actor::channel();
        let screen_out = {
            let mut table = self.table();
            if let Some((_, handle)) = table.actors.get(&key) {
                if handle.commands.try_send(AgentCommand::Repeat).is_err() {
                    tracing::debug!(task = %task.id, "the agent is too busy to repeat itself");
                }
                return;
            }
            table.actors.insert(key, (slot, handle));
            table.by_slot.insert(slot, key);
            table.screen(slot)
        };
        let pool = self.clone();
        self.inner.tracker.spawn(async move {
            pool.live(task, commands, screen_out).await;
            pool.table().actors.remove(&key);
        });
    }

    async fn live(
        &self,
        task: Arc<Task>,
        commands: mpsc::Receiver<AgentCommand>,
        screen_out: watch::Sender<Option<Snapshot>>,
    ) {
        let inner = &self.inner;
        let key = (task.id, task.attempt_number());
        let lost = self.table().lost.remove(&key);
        if let Some(why) = lost {
            let kept = settle::keep(&task, Chat::of(&task.attempts)).await;
            let why = why.to_owned();
            let fact = Fact::Lost { why, kept };
            let input = Input::Attempt {
                task: key.0,
                number: key.1,
                fact,
            };
            if inner.engine.report(input).await.is_err() {
                tracing::debug!(task = %key.0, "the engine has stopped");
            }
            return;
        }
        if self.python().await.is_none() {
            return;
        }
        let Some(nursery) = self.nursery() else {
            return;
        };
        // It may wait for a zygote or an endpoint. The next server finds what was begun, or begins.
        let launched = inner
            .stop
            .run_until_cancelled(launch::start(&nursery, &task));
        let Some(launched) = launched.await else {
            return;
        };
        let started = launched.map(|(started, birth)| {
            self.count(|counts| match birth {
                Some(Birth::Forked) => counts.forked += 1,
                Some(Birth::Cold) => counts.cold += 1,
                None => {}
            });
            started
        });
        if let Ok(started) = &started {
            self.table().tokens.insert(key, started.token.clone());
        }
        let actor = Actor {
            workshop: Arc::clone(&inner.workshop),
            engine: inner.engine.clone(),
            task,
            screen_out,
            stop: inner.stop.clone(),
            commands,
        };
        actor.run(started).await;
        self.void(key);
    }

    /// Makes the gateway token of an attempt worthless.
    fn void(&self, attempt: (TaskId, u32)) {
        let token = self.table().tokens.remove(&attempt);
        if let Some(token) = token {
            (self.inner.access.revoke)(&token);
        }
    }

    /// The actors of a task's attempts before `first`; their tokens are void from now on.
    pub(super) fn retire(&self, task: TaskId, first: u32) -> Vec<ActorHandle> {
        let is_old = |(of, number): &(TaskId, u32)| *of == task && *number < first;
        let old: Vec<_> = {
            let table = self.table();
            let actors = table.actors.iter().filter(|(key, _)| is_old(key));
            actors
                .map(|(key, (_, handle))| (*key, handle.clone()))
                .collect()
        };
        let retired = old.into_iter().map(|(key, handle)| {
            self.void(key);
            handle
        });
        retired.collect()
    }

    /// Where the work lies.
    pub(super) fn workshop(&self) -> &Workshop {
        &self.inner.workshop
    }

    /// Waits until it is known where Aider is.
    async fn python(&self) -> Option<PathBuf> {
        let mut python = self.inner.python.clone();
        let known = python.wait_for(Option::is_some);
        tokio::select! {
            () = self.inner.stop.cancelled() => None,
            known = known => known.ok().and_then(|path| path.clone()),
        }
    }

    /// Ends the agent of an attempt.
    pub async fn stop(&self, task: TaskId, number: u32) {
        self.void((task, number));
        let handle = self
            .table()
            .actors
            .get(&(task, number))
            .map(|(_, handle)| handle.clone());
        if let Some(handle) = handle {
            drop(handle.commands.send(AgentCommand::Stop).await);
        }
    }

    /// Tells the agent in `slot` something; false when there is none.
    pub async fn tell(&self, slot: AgentSlot, command: AgentCommand) -> bool {
        let handle = {
            let table = self.table();
            let key = table.by_slot.get(&slot);
            key.and_then(|key| table.actors.get(key))
                .map(|(_, handle)| handle.clone())
        };
        match handle {
            Some(handle) => handle.commands.send(command).await.is_ok(),
            None => false,
        }
    }

    /// The screen of `slot`, the latest wins; the last one stays after its agent is gone.
    pub fn screen(&self, slot: AgentSlot) -> watch::Receiver<Option<Snapshot>> {
        self.table().screen(slot).subscribe()
    }

    /// The screen of `slot`, `offset` lines up.
    pub async fn snapshot(&self, slot: AgentSlot, offset: usize) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        if self
            .tell(slot, AgentCommand::Snapshot { offset, reply })
            .await
            && let Ok(snapshot) = answer.await
        {
            return Some(snapshot);
        }
        self.screen(slot).borrow().clone()
    }

    /// All the text in the terminal of `slot`.
    pub async fn text(&self, slot: AgentSlot) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        if self.tell(slot, AgentCommand::Text(reply)).await
            && let Ok(text) = answer.await
        {
            return Some(text);
        }
        self.screen(slot).borrow().as_ref().map(Snapshot::text)
    }

    /// Waits until every actor has let go; agents themselves live on.
    pub async fn released(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.inner.table)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forking(zygote: &ZygoteState) -> Forking {
    match zygote {
        ZygoteState::Off | ZygoteState::Other => Forking::Off,
        ZygoteState::Starting => Forking::Starting,
        ZygoteState::Ready { pid, cpu_ms, .. } => Forking::On {
            pid: *pid,
            cpu_ms: *cpu_ms,
        },
        ZygoteState::Failed { why } => Forking::Failed { why: why.clone() },
    }
}

impl Table {
    fn screen(&mut self, slot: AgentSlot) -> watch::Sender<Option<Snapshot>> {
        self.screens
            .entry(slot)
            .or_insert_with(|| watch::channel(None).0)
            .clone()
    }
}
