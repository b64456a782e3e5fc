//! The engine's loop: a batch of inputs, one durable transaction, then effects, replies, a view.
//!
//! It owns a thread (see [`EngineLoop::run`]), because a commit waits for the disk. While it waits,
//! inputs gather, so that the next transaction carries all of them: group commit without a delay.
//!
//! When the store fails (a full disk) nothing of the batch has happened: the state is loaded again,
//! commands and facts are refused until the store works, and then everything outstanding is asked
//! for again, which makes the actors repeat what they reported. Memory is never ahead of the disk,
//! and nobody is answered before the commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::clock::{Clock, Jump, Reading};
use crate::core::command::{Refusal, Reply, Request};
use crate::core::event::Event;
use crate::core::task::Task;
use crate::core::{TaskId, Timestamp};

use super::input::{Effect, Input};
use super::journal::{EventFilter, Journal, JournalError, TaskFilter, Transaction};
use super::recall::recall;
use super::state::{EngineSettings, FINISHED_KEPT, State};
use super::update::{Answer, update};
use super::view::View;

/// Inputs waiting at most; senders wait when it is full.
const INPUTS: usize = 1_024;
/// Inputs taken into one transaction.
const BATCH: usize = 256;
/// Effects waiting at most; the engine waits when it is full.
const EFFECTS: usize = 4_096;
/// Between two tries to use a store that failed.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// Reads all clocks.
type ReadClocks = Box<dyn Fn() -> Reading + Send + Sync>;

type ReplyTo = oneshot::Sender<Result<Reply, Refusal>>;

enum Message {
    Input(Box<Input>, Option<ReplyTo>),
    Query(Query, oneshot::Sender<Result<QueryReply, JournalError>>),
}

/// A question to the store, answered by the engine's thread.
#[derive(Debug, Clone)]
pub enum Query {
    /// One task.
    Task(TaskId),
    /// Tasks.
    Tasks(TaskFilter),
    /// Events.
    Events(EventFilter),
}

/// The answer.
#[derive(Debug, Clone)]
pub enum QueryReply {
    /// Tasks; one or none for [`Query::Task`].
    Tasks(Vec<Task>),
    /// Events.
    Events(Vec<Event>),
}

/// The engine has stopped; nothing more is accepted.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

/// How everybody else talks to the engine.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View>>,
}

impl EngineHandle {
    /// Asks for something; answered when it is durable.
    pub async fn command(&self, request: Request) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Input(Box::new(Input::Command(request)), Some(reply));
        let gone = || Refusal::unavailable("the server is stopping").hint("try again");
        if self.messages.send(message).await.is_err() {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Reports a fact.
    pub async fn report(&self, input: Input) -> Result<(), EngineStopped> {
        let message = Message::Input(Box::new(input), None);
        self.messages
            .send(message)
            .await
            .map_err(|_closed| EngineStopped)
    }

    /// Returns when everything reported before is durable.
    pub async fn flush(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Input(Box::new(Input::Tick), Some(reply));
        let gone = || Refusal::unavailable("the engine has stopped");
        self.messages
            .send(message)
            .await
            .map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?.map(|_done| ())
    }

    /// Asks the store.
    pub async fn query(&self, query: Query) -> Result<QueryReply, JournalError> {
        let gone = || JournalError::Broken("the engine has stopped".into());
        let (reply, answer) = oneshot::channel();
        self.messages
            .send(Message::Query(query, reply))
            .await
            .map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }

    /// The latest view, and a way to wait for the next.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
}

/// The loop and what it owns.
pub struct EngineLoop<J> {
    journal: J,
    state: State,
    settings: EngineSettings,
    messages: mpsc::Receiver<Message>,
    effects: mpsc::Sender<Effect>,
    view: watch::Sender<Arc<View>>,
    store_fault: Option<String>,
    later: HashMap<TaskId, Vec<ReplyTo>>,
    clock: ReadClocks,
    told: Clock,
    /// The moment of the turn under way.
    now: Timestamp,
    /// A jump that is not durable yet.
    unrecorded: Option<Jump>,
}

impl<J: Journal> EngineLoop<J> {
    /// Takes an epoch, loads the state; effects come out of the receiver.
    pub fn start(
        mut journal: J,
        settings: EngineSettings,
        clock: impl Fn() -> Reading + Send + Sync + 'static,
    ) -> Result<(Self, EngineHandle, mpsc::Receiver<Effect>), JournalError> {
        let epoch = journal.begin_epoch()?;
        let loaded = journal.load(FINISHED_KEPT)?;
        let state = State::from_loaded(settings.clone(), epoch, loaded);
        let (sender, messages) = mpsc::channel(INPUTS);
        let (effects, effects_out) = mpsc::channel(EFFECTS);
        let (view, view_out) = watch::channel(Arc::new(state.view(clock().wall, None)));
        let engine = Self {
            journal,
            state,
            settings,
            messages,
            effects,
            view,
            store_fault: None,
            later: HashMap::new(),
            now: clock().wall,
            told: Clock::new(clock()),
            clock: Box::new(clock),
            unrecorded: None,
        };
        Ok((
            engine,
            EngineHandle {
                messages: sender,
                view: view_out,
            },
            effects_out,
        ))
    }

    /// The state as loaded, for adoption before the loop runs.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs until every handle is gone or a newer epoch has taken over.
    ///
    /// # Errors
    /// The store was fenced by a newer server.
    pub async fn run(mut self) -> Result<(), JournalError> {
        self.resume().await;
        loop {
            let Some(batch) = self.gather().await else {
                return Ok(());
            };
            self.turn(batch).await?;
        }
    }

    /// Asks again for everything outstanding.
    async fn resume(&mut self) {
        let effects: Vec<Effect> = self
            .state
            .tasks
            .values()
            .filter_map(State::outstanding)
            .collect();
        for effect in effects {
            self.emit(effect).await;
        }
    }

    async fn emit(&self, effect: Effect) {
        if self.effects.send(effect).await.is_err() {
            tracing::debug!("nobody carries out effects any more");
        }
    }

    /// Waits for the first message or deadline, then takes what is there.
    async fn gather(&mut self) -> Option<Vec<Message>> {
        let first = match self.wait_for() {
            None => self.messages.recv().await?,
            Some(wait) => match tokio::time::timeout(wait, self.messages.recv()).await {
                Ok(message) => message?,
                Err(_) => Message::Input(Box::new(Input::Tick), None),
            },
        };
        let mut batch = vec![first];
        while batch.len() < BATCH {
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            batch.push(message);
        }
        Some(batch)
    }

    fn wait_for(&self) -> Option<Duration> {
        if self.store_fault.is_some() {
            return Some(STORE_RETRY);
        }
        // The timer counts time awake, on a clock that nobody can set.
        let now = self.told.steady(&(self.clock)());
        self.state.deadline().map(|moment| moment.since(now))
    }

    /// The moment of this turn; what was not lived through moves all deadlines first.
    fn tell_time(&mut self, effects: &mut Vec<Effect>) -> Timestamp {
        let reading = (self.clock)();
        if let Some(jump) = self.told.tell(reading) {
            let before = self.unrecorded.unwrap_or_default();
            self.unrecorded = Some(before.and(jump));
        }
        if self.store_fault.is_none()
            && let Some(jump) = self.unrecorded
        {
            let outcome = update(&mut self.state, Input::Jumped(jump), reading.wall);
            effects.extend(outcome.effects);
        }
        reading.wall
    }

    async fn turn(&mut self, batch: Vec<Message>) -> Result<(), JournalError> {
        if self.store_fault.is_some() {
            self.recover().await?;
        }
        let mut replies = Vec::new();
        let mut effects = Vec::new();
        let mut queries = Vec::new();
        self.now = self.tell_time(&mut effects);
        for message in batch {
            match message {
                Message::Query(query, reply) => queries.push((query, reply)),
                Message::Input(input, reply) => {
                    self.apply(*input, reply, &mut replies, &mut effects);
                }
            }
        }
        match self.commit() {
            Ok(()) => {
                if self.store_fault.is_none() {
                    self.unrecorded = None;
                }
                self.carry_out(effects, replies).await;
            }
            Err(fenced @ JournalError::Fenced { .. }) => return Err(fenced),
            Err(error) => self.fail(&error, replies),
        }
        self.publish();
        for (query, reply) in queries {
            let answer = self.answer(&query);
            drop(reply.send(answer));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        input: Input,
        reply: Option<ReplyTo>,
        replies: &mut Vec<(ReplyTo, Result<Reply, Refusal>)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(input) = self.admit(input) else {
            let fault = self.store_fault.as_deref().unwrap_or_default();
            replies.extend(reply.map(|reply| (reply, Err(store_refusal(fault)))));
            return;
        };
        let outcome = update(&mut self.state, input, self.now);
        effects.extend(outcome.effects);
        for (task, result) in outcome.later {
            for waiting in self.later.remove(&task).unwrap_or_default() {
                replies.push((waiting, result.clone()));
            }
        }
        match (outcome.answer, reply) {
            (Some(Answer::Now(result)), Some(reply)) => replies.push((reply, result)),
            (Some(Answer::When(task)), Some(reply)) => {
                self.later.entry(task).or_default().push(reply);
            }
            (None, Some(reply)) => replies.push((reply, Ok(Reply::Done))),
            (None | Some(_), None) => {}
        }
    }

    /// Lets an input through when it can be recorded. What is never recorded is kept either way:
    /// nobody reports it again.
    fn admit(&mut self, input: Input) -> Option<Input> {
        if self.store_fault.is_none() {
            let recalled = recall(&mut self.journal, &mut self.state, &input);
            match recalled {
                Ok(()) => return Some(input),
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    self.store_fault = Some(error.to_string());
                }
            }
        }
        match input {
            Input::Catalogue { catalogue, .. } => self.state.catalogue = catalogue,
            Input::Installation(installation) => self.state.installation = installation,
            Input::Gateway(report) => self.state.gateway = report,
            Input::Pool(pool) => self.state.pool = pool,
            Input::Fits(fits) => self.state.fits = fits,
            Input::Room(no_room) => self.state.no_room = no_room,
            Input::Measured(report) => self.state.measured = report,
            Input::Command(_)
            | Input::Attempt { .. }
            | Input::Task { .. }
            | Input::Squad(_)
            | Input::Machine { .. }
            | Input::Jumped(_)
            | Input::Tick => {}
        }
        None
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let transaction = Transaction {
            epoch: self.state.epoch,
            tasks: std::mem::take(&mut self.state.dirty)
                .into_iter()
                .filter_map(|id| self.state.tasks.get(&id).cloned())
                .collect(),
            events: std::mem::take(&mut self.state.fresh),
            paused: self.state.paused,
            next_task: self.state.next_task,
            learned: self.state.take_lessons(),
        };
        if transaction.is_empty() {
            return Ok(());
        }
        self.journal.commit(&transaction)
    }

    async fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        replies: Vec<(ReplyTo, Result<Reply, Refusal>)>,
    ) {
        for effect in effects {
            self.emit(effect).await;
        }
        for (reply, result) in replies {
            drop(reply.send(result));
        }
        self.state.forget_finished();
    }

    fn fail(&mut self, error: &JournalError, replies: Vec<(ReplyTo, Result<Reply, Refusal>)>) {
        tracing::error!(%error, "the store failed; nothing is accepted until it works again");
        let fault = error.to_string();
        for (reply, _) in replies {
            drop(reply.send(Err(store_refusal(&fault))));
        }
        self.refuse_waiting(&fault);
        self.store_fault = Some(fault);
        // A full disk can still be read: show what is recorded, not what was hoped for.
        if let Err(error) = self.reload() {
            tracing::error!(%error, "the store cannot be read either");
        }
    }

    /// Tries to use the store again; on success asks again for everything outstanding.
    async fn recover(&mut self) -> Result<(), JournalError> {
        match self.reload().and_then(|()| self.probe()) {
            Ok(()) => {
                tracing::info!("the store works again");
                let fault = self.store_fault.take().unwrap_or_default();
                self.refuse_waiting(&fault);
                self.resume().await;
                Ok(())
            }
            Err(fenced @ JournalError::Fenced { .. }) => Err(fenced),
            Err(error) => {
                self.store_fault = Some(error.to_string());
                Ok(())
            }
        }
    }

    /// Answers those who wait for a merge or a restoration: its end may have gone unheard.
    fn refuse_waiting(&mut self, fault: &str) {
        for reply in self.later.drain().flat_map(|(_, waiting)| waiting) {
            drop(reply.send(Err(store_refusal(fault))));
        }
    }

    fn reload(&mut self) -> Result<(), JournalError> {
        let loaded = self.journal.load(FINISHED_KEPT)?;
        let old = std::mem::take(&mut self.state);
        self.state = State::from_loaded(self.settings.clone(), old.epoch, loaded);
        self.state.catalogue = old.catalogue;
        self.state.installation = old.installation;
        self.state.reports = old.reports;
        self.state.pool = old.pool;
        self.state.auto = old.auto;
        self.state.no_room = old.no_room;
        self.state.gateway = old.gateway;
        self.state.gateway_at = old.gateway_at;
        self.state.fits = old.fits;
        Ok(())
    }

    /// A transaction that changes nothing and shows whether anything can be written.
    fn probe(&mut self) -> Result<(), JournalError> {
        let probe = Transaction {
            epoch: self.state.epoch,
            paused: self.state.paused,
            next_task: self.state.next_task,
            ..Transaction::default()
        };
        self.journal.commit(&probe)
    }

    fn answer(&mut self, query: &Query) -> Result<QueryReply, JournalError> {
        match query {
            Query::Task(id) => {
                if let Some(task) = self.state.tasks.get(id) {
                    return Ok(QueryReply::Tasks(vec![Task::clone(task)]));
                }
                Ok(QueryReply::Tasks(
                    self.journal.task(*id)?.into_iter().collect(),
                ))
            }
            Query::Tasks(filter) => Ok(QueryReply::Tasks(self.journal.tasks(filter)?)),
            Query::Events(filter) => Ok(QueryReply::Events(self.journal.events(filter)?)),
        }
    }

    fn publish(&self) {
        let view = self.state.view(self.now, self.store_fault.clone());
        self.view.send_replace(Arc::new(view));
    }
}

fn store_refusal(fault: &str) -> Refusal {
    Refusal::unavailable(format!("nothing can be recorded at the moment: {fault}"))
        .hint("free some disk space; agents go on, and the squad goes on by itself afterwards")
}
