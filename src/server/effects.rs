//! What the engine asks for, carried out: one task of the runtime for each effect.
//!
//! Every effect may be asked for again, after a restart or after the store failed; each is found
//! again by its key: a job id, a worktree, a ref. One that is still under way is not started twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agents::{AgentCommand, Agents, Fence, Workshop, prepare, verify};
use crate::core::TaskId;
use crate::core::medic::Treatment;
use crate::core::task::{Task, Workplace};
use crate::core::verify::VerifyReport;
use crate::engine::{Effect, EngineHandle, Fact, Input, TaskFact};

use super::census::lack_of_room;
use super::merge;

/// Between two looks at a disk without room.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);

type Key = (TaskId, u32, &'static str);

/// Carries out effects. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Effects {
    pub(super) workshop: Arc<Workshop>,
    pub(super) agents: Agents,
    pub(super) engine: EngineHandle,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    under_way: Arc<Mutex<HashSet<Key>>>,
    /// Whoever removes or makes a worktree again holds its task's lock.
    places: Arc<Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Effects {
    pub(super) fn new(
        workshop: Arc<Workshop>,
        agents: Agents,
        engine: EngineHandle,
        stop: CancellationToken,
    ) -> Self {
        let tracker = TaskTracker::new();
        Self {
            workshop,
            agents,
            engine,
            tracker,
            stop,
            under_way: Arc::default(),
            places: Arc::default(),
        }
    }

    /// Takes effects until the engine has stopped.
    pub(super) async fn run(self, mut effects: mpsc::Receiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            self.carry_out(effect);
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::KeepSpares(orders) => self.agents.keep_spares(orders),
            Effect::Prepare(task) => self.once(&task, "prepare", Self::prepare),
            Effect::RunAgent(task) => self.agents.run(task),
            Effect::Verify(task) => self.once(&task, "verify", Self::verify),
            Effect::Archive(task) => self.once(&task, "archive", Self::archive),
            Effect::Restore(task) => self.once(&task, "restore", Self::restore),
            Effect::Merge(task, strategy) => {
                self.once(&task, "merge", move |this, task| async move {
                    let fact = merge::merge(&this.workshop, &task, strategy).await;
                    Some(about_task(&task, fact))
                });
            }
            Effect::StopAgent { task, number } => {
                let agents = self.agents.clone();
                self.tracker
                    .spawn(async move { agents.stop(task, number).await });
            }
            Effect::Answer { slot, text } => self.tell(slot, AgentCommand::Answer(text)),
            Effect::SendLine { slot, text } => self.tell(slot, AgentCommand::SendLine(text)),
            Effect::KillAgent { slot } => self.tell(slot, AgentCommand::Kill),
        }
    }

    fn tell(&self, slot: crate::core::AgentSlot, command: AgentCommand) {
        let agents = self.agents.clone();
        self.tracker.spawn(async move {
            if !agents.tell(slot, command).await {
                tracing::debug!(%slot, "there is no agent to tell");
            }
        });
    }

    /// Runs `work` unless the same one is under way and reports what it found; given up when the
    /// server stops.
    ///
    /// It counts as over before it is reported: the engine may ask again as soon as it knows, or
    /// because a full disk made it drop the report.
    fn once<F, W>(&self, task: &Arc<Task>, step: &'static str, work: W)
    where
        W: FnOnce(Self, Arc<Task>) -> F + Send + 'static,
        F: Future<Output = Option<Input>> + Send + 'static,
    {
        let key = (task.id, task.attempt_number(), step);
        if !self.keys().insert(key) {
            return;
        }
        let (this, task) = (self.clone(), Arc::clone(task));
        self.tracker.spawn(async move {
            let stop = this.stop.clone();
            let found = stop.run_until_cancelled(work(this.clone(), task)).await;
            this.keys().remove(&key);
            if let Some(input) = found.flatten()
                && this.engine.report(input).await.is_err()
            {
                tracing::debug!(task = %key.0, "the engine has stopped");
            }
        });
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self, task: &Task) -> tokio::sync::OwnedMutexGuard<()> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(task.id).or_default())
        };
        place.lock_owned().await
    }

    async fn prepare(self, task: Arc<Task>) -> Option<Input> {
        if let Some(why) = lack_of_room(&self.workshop).await {
            // The engine holds the others back before they begin, until the census finds room.
            let told = self.engine.report(Input::Room(Some(why.clone()))).await;
            if told.is_err() {
                tracing::debug!(task = %task.id, "the engine has stopped");
            }
            return Some(about_attempt(&task, Fact::Held { why }));
        }
        let fact = match self.place_for(&task).await {
            Ok((workplace, job)) => Fact::Prepared { workplace, job },
            Err(why) => Fact::Held { why },
        };
        let verified = task
            .spec
            .verify
            .as_deref()
            .is_some_and(|it| !it.trim().is_empty());
        if verified && self.workshop.settings.verify.baseline {
            self.once(&task, "baseline", Self::baseline);
        }
        Some(about_attempt(&task, fact))
    }

    /// A worktree with an agent in it, if there is one that fits, else one alone; nothing of an
    /// earlier attempt works in it any more.
    async fn place_for(&self, task: &Task) -> Result<(Workplace, Option<String>), String> {
        let fence = Fence::Before(task.attempt_number());
        let fenced = self.agents.fence(task, fence).await;
        fenced.map_err(|fault| fault.to_string())?;
        if let Some(taken) = self.agents.take_spare(task).await {
            match prepare::take(&self.workshop, task, &taken).await {
                Ok(workplace) => return Ok((workplace, Some(taken.job))),
                Err(fault) => {
                    tracing::warn!(job = taken.job, %fault, "a spare could not be used");
                    self.agents.end_spare(&taken).await;
                }
            }
        }
        let workplace = prepare::prepare(&self.workshop, task).await;
        Ok((workplace.map_err(|fault| fault.to_string())?, None))
    }

    async fn baseline(self, task: Arc<Task>) -> Option<Input> {
        if lack_of_room(&self.workshop).await.is_some() {
            return None;
        }
        if let Err(fault) = verify::baseline(&self.workshop, &task).await {
            tracing::info!(task = %task.id, %fault, "the baseline is left to the verification");
        }
        None
    }

    /// Waits until the disk has room; the work is done, so the task keeps its place.
    async fn await_room(&self, task: &Task) {
        let mut is_told = false;
        while let Some(why) = lack_of_room(&self.workshop).await {
            if !is_told {
                is_told = true;
                let what = Treatment::HeldBack;
                let told = about_attempt(task, Fact::Treated { what, why });
                if self.engine.report(told).await.is_err() {
                    tracing::debug!(task = %task.id, "the engine has stopped");
                }
            }
            tokio::time::sleep(ROOM_INTERVAL).await;
        }
    }

    async fn verify(self, task: Arc<Task>) -> Option<Input> {
        self.await_room(&task).await;
        let fact = match self.verified(&task).await {
            Ok(report) => Fact::Verified(report),
            Err(why) => Fact::Held { why },
        };
        Some(about_attempt(&task, fact))
    }

    /// What is verified holds still: its agent has ended.
    async fn verified(&self, task: &Task) -> Result<VerifyReport, String> {
        let fence = Fence::Agents(task.attempt_number());
        let fenced = self.agents.fence(task, fence).await;
        fenced.map_err(|fault| fault.to_string())?;
        let report = verify::verify(&self.workshop, task).await;
        report.map_err(|fault| fault.to_string())
    }

    async fn archive(self, task: Arc<Task>) -> Option<Input> {
        let _place = self.place(&task).await;
        let fact = match self.put_away(&task).await {
            Ok(()) => TaskFact::Archived,
            Err(why) => TaskFact::ArchiveFailed(why),
        };
        Some(about_task(&task, fact))
    }

    async fn put_away(&self, task: &Task) -> Result<(), String> {
        let Some(workplace) = &task.workplace else {
            return Ok(());
        };
        // The agent may still be writing: nothing is put away before its process is gone.
        let everything = Fence::Before(task.attempt_number().saturating_add(1));
        let fenced = self.agents.fence(task, everything).await;
        fenced.map_err(|fault| fault.to_string())?;
        self.agents
            .archive(task, &workplace.dir)
            .await
            .map_err(|error| format!("{error}; {}", error.hint()))?;
        let mark = self.workshop.task_dir(task.id).join("prepared");
        match tokio::fs::remove_file(mark).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn restore(self, task: Arc<Task>) -> Option<Input> {
        let _place = self.place(&task).await;
        let fact = match prepare::restore(&self.workshop, &task).await {
            Ok(workplace) => TaskFact::Restored(workplace),
            Err(fault) => TaskFact::RestoreFailed(fault.to_string()),
        };
        Some(about_task(&task, fact))
    }
}

fn about_attempt(task: &Task, fact: Fact) -> Input {
    let (task, number) = (task.id, task.attempt_number());
    Input::Attempt { task, number, fact }
}

fn about_task(task: &Task, fact: TaskFact) -> Input {
    Input::Task {
        task: task.id,
        fact,
    }
}
