//! All agents of the squad: who works on what, and how their terminals are reached.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::task::Task;
use crate::core::{AgentSlot, TaskId};
use crate::engine::{EngineHandle, Fact, Input};
use crate::pty::Snapshot;

use super::actor::{self, Actor, ActorHandle, AgentCommand};
use super::launch::{self, GatewayAccess};
use super::settle;
use super::workshop::Workshop;

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
}

#[derive(Debug, Default)]
struct Table {
    actors: HashMap<(TaskId, u32), (AgentSlot, ActorHandle)>,
    by_slot: HashMap<AgentSlot, (TaskId, u32)>,
    screens: HashMap<AgentSlot, watch::Sender<Option<Snapshot>>>,
    lost: HashSet<(TaskId, u32)>,
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
        let table = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                workshop,
                engine,
                access,
                python,
                tracker,
                stop,
                table,
            }),
        }
    }

    /// These attempts had an agent that is gone: they are reported lost instead of started again.
    pub fn give_up(&self, lost: Vec<(TaskId, u32)>) {
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
        if self.table().lost.remove(&key) {
            let kept = settle::keep(&task).await;
            let why = "the agent ended with its keeper".to_owned();
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
        let Some(python) = self.python().await else {
            return;
        };
        let catalogue = Arc::clone(&inner.engine.view().borrow().catalogue);
        let started =
            launch::start(&inner.workshop, &inner.access, &python, &catalogue, &task).await;
        let token = started.as_ref().ok().map(|started| started.token.clone());
        let actor = Actor {
            workshop: Arc::clone(&inner.workshop),
            engine: inner.engine.clone(),
            task,
            screen_out,
            stop: inner.stop.clone(),
            commands,
        };
        actor.run(started).await;
        if let Some(token) = token {
            (inner.access.revoke)(&token);
        }
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

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.inner
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
