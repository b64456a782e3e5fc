//! One actor per attempt: it starts or adopts the agent's job, reads its terminal, carries out
//! what the [`Turn`] asks for and reports facts to the engine.
//!
//! Everything it does can be repeated after a restart: the job is found by its id, the screen and
//! the cues are rebuilt from the ring, a prompt or an answer is delivered under a key that the
//! keeper remembers, and the verdict is read from git.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::agent::AgentReport;
use crate::core::medic::Vitals;
use crate::core::task::{Task, Tokens};
use crate::core::traffic::Traffic;
use crate::engine::{EngineHandle, Fact, Input};
use crate::keeper::{AttachedPty, ClientError, JobSignal};
use crate::pty::screen::UPDATE_TIMEOUT;
use crate::pty::{Screen, Size, Snapshot};

use super::aider::cues::{AgentScreenState, CueParser};
use super::aider::prompt;
use super::launch::{self, Started};
use super::medic::Ward;
use super::redact::Redactor;
use super::settle::{self, Chat, Settled};
use super::spares;
use super::turn::{Step, Turn};
use super::workshop::Workshop;

#[path = "actor_frames.rs"]
mod frames;

/// Commands waiting for an actor; senders wait when it is full.
const COMMANDS: usize = 64;
/// Screens are published at most this often after the first change.
const FRAME: Duration = Duration::from_millis(16);
/// Nothing is typed into a pane in which a human has typed this recently.
const HANDS_OFF: Duration = Duration::from_secs(3);
/// An agent that is told to end is killed after this.
const GRACE: Duration = Duration::from_secs(2);

/// What an actor can be told.
#[derive(Debug)]
pub enum AgentCommand {
    /// Keys of a human, encoded for its terminal.
    Type(Bytes),
    /// An answer to the question it asks.
    Answer(String),
    /// A line at its prompt.
    SendLine(String),
    /// Another size.
    Resize(Size),
    /// The screen with `offset` lines of history.
    Snapshot {
        /// Lines above the bottom.
        offset: usize,
        /// Where to.
        reply: oneshot::Sender<Snapshot>,
    },
    /// All the text there is.
    Text(oneshot::Sender<String>),
    /// Its processes were measured.
    Measured(Vitals),
    /// It has to end for the sake of a quota of the squad.
    OverQuota(String),
    /// Say again what was said last.
    Repeat,
    /// End the process; the attempt is over.
    Stop,
    /// Kill the process; the attempt is lost.
    Kill,
}

/// How an actor is reached.
#[derive(Debug, Clone)]
pub(super) struct ActorHandle {
    pub(super) commands: mpsc::Sender<AgentCommand>,
}

impl ActorHandle {
    /// Tells the actor to end its agent and waits until it has let go of everything.
    pub(super) async fn ended(&self) {
        drop(self.commands.send(AgentCommand::Stop).await);
        self.commands.closed().await;
    }
}

/// Everything an actor works with.
pub(super) struct Actor {
    pub(super) workshop: Arc<Workshop>,
    pub(super) engine: EngineHandle,
    pub(super) task: Arc<Task>,
    pub(super) screen_out: watch::Sender<Option<Snapshot>>,
    pub(super) stop: CancellationToken,
    pub(super) commands: mpsc::Receiver<AgentCommand>,
}

pub(super) fn channel() -> (ActorHandle, mpsc::Receiver<AgentCommand>) {
    let (commands, receiver) = mpsc::channel(COMMANDS);
    (ActorHandle { commands }, receiver)
}

/// How watching a terminal ended.
pub(super) enum Ending {
    /// The server stops; the agent lives on.
    Abandoned,
    /// The process ended.
    Exited,
    /// It was told to end.
    Stopped,
    /// It is stuck, and is ended here.
    GivenUp(String),
}

impl Actor {
    /// Runs the attempt to its end, or until the server stops.
    pub(super) async fn run(mut self, started: Result<Started, launch::StartFault>) {
        match started {
            Ok(started) => self.live(started).await,
            // The keeper is gone, and the server is about to say so.
            Err(launch::StartFault::Keeper(ClientError::Disconnected)) => {}
            Err(fault) => {
                self.say(Fact::Held {
                    why: fault.to_string(),
                })
                .await;
            }
        }
    }

    async fn live(&mut self, started: Started) {
        let job = started.job.clone();
        let keeper = self.workshop.jobs.keeper().clone();
        match keeper.attach(&job).await {
            Ok(pty) => {
                let mut watched = Watched::new(self, started, pty);
                match watched.rebuild() {
                    Ok(()) => {}
                    Err(error) => tracing::warn!(%job, %error, "the ring could not be read"),
                }
                let ending = watched.watch(self).await;
                let delivered = watched.turn.is_delivered();
                drop(watched);
                self.ended(&job, &ending, delivered).await;
            }
            Err(ClientError::Disconnected) => {}
            Err(error) if self.exists(&job).await => {
                tracing::warn!(%job, %error, "the terminal could not be attached");
                self.ended(&job, &Ending::Exited, true).await;
            }
            Err(error) => {
                self.say(Fact::Held {
                    why: error.to_string(),
                })
                .await;
            }
        }
    }

    async fn exists(&self, job: &str) -> bool {
        let jobs = self.workshop.jobs.keeper().jobs().await.unwrap_or_default();
        jobs.iter().any(|known| known.id == job)
    }

    async fn ended(&mut self, job: &str, ending: &Ending, delivered: bool) {
        match ending {
            Ending::Abandoned => return,
            Ending::Exited => {
                let (when, chat) = if delivered {
                    ("while it worked", Chat::Begun)
                } else {
                    ("before its prompt", Chat::of(&self.task.attempts))
                };
                let kept = settle::keep(&self.task, chat).await;
                let fact = launch::loss(&self.workshop, job, when, kept).await;
                self.say(fact).await;
            }
            Ending::Stopped => {}
            Ending::GivenUp(why) => {
                self.end(job).await;
                let kept = settle::keep(&self.task, Chat::Begun).await;
                let why = why.clone();
                self.say(Fact::Lost { why, kept }).await;
            }
        }
        self.end(job).await;
        let keeper = self.workshop.jobs.keeper();
        if let Ok(exit) = self.workshop.jobs.ended(job).await {
            drop(keeper.forget(job).await);
            spares::clear_files(&self.workshop, job).await;
            if let Some(exit) = exit {
                self.say(launch::ended(&exit)).await;
            }
        }
    }

    /// Ends the job and waits until it has.
    async fn end(&self, job: &str) {
        let keeper = self.workshop.jobs.keeper();
        if let Err(error) = keeper.stop(job, JobSignal::Term, GRACE).await {
            tracing::debug!(%job, %error, "the job could not be stopped");
        }
        if let Err(error) = self.workshop.jobs.ended(job).await {
            tracing::debug!(%job, %error, "the end of the job was not seen");
        }
    }

    pub(super) async fn say(&self, fact: Fact) {
        let (task, number) = (self.task.id, self.task.attempt_number());
        if self
            .engine
            .report(Input::Attempt { task, number, fact })
            .await
            .is_err()
        {
            tracing::debug!(%task, "the engine has stopped");
        }
    }
}

/// A terminal being watched.
pub(super) struct Watched {
    pub(super) job: String,
    pty: AttachedPty,
    screen: Screen,
    redactor: Redactor,
    cues: CueParser,
    pub(super) turn: Turn,
    pub(super) ward: Ward,
    traffic: watch::Receiver<Traffic>,
    charged: Tokens,
    adopted: bool,
    last_human: Option<Instant>,
    last_frame: Option<Instant>,
    frame_due: Option<Instant>,
    /// When an update that Aider has begun and not ended is shown as it is.
    update_due: Option<Instant>,
    start_limit: Instant,
    reported: Option<AgentReport>,
    verdict: Option<Fact>,
}

impl Watched {
    fn new(actor: &Actor, started: Started, pty: AttachedPty) -> Self {
        let attached = pty.attached();
        let settings = &actor.workshop.settings.agents;
        let size = Size {
            columns: attached.cols,
            rows: attached.rows,
        };
        let mut turn = Turn::new(started.prompt, settings.answers.clone());
        turn.set_pid(started.pid);
        if started.delivered {
            turn.mark_delivered();
        }
        let charged = started.traffic.borrow().used;
        Self {
            job: started.job,
            pty,
            screen: Screen::new(size, settings.scrollback),
            redactor: Redactor::default(),
            cues: CueParser::new(&started.nonce),
            turn,
            ward: Ward::of(actor),
            traffic: started.traffic,
            charged,
            adopted: !started.fresh,
            last_human: None,
            last_frame: None,
            frame_due: None,
            update_due: None,
            start_limit: Instant::now() + settings.start_timeout,
            reported: None,
            verdict: None,
        }
    }

    /// Screen and cues from what the terminal said before; replies stay unsaid.
    fn rebuild(&mut self) -> std::io::Result<()> {
        let (start, history) = self.pty.history()?;
        self.screen.set_replies(false);
        let history = self.redactor.clean(&history);
        self.screen.feed(&history);
        for signal in self.cues.feed(&history) {
            self.turn.observe(&signal, self.cues.state());
        }
        self.screen.set_replies(true);
        self.time_update();
        if start > 0 {
            self.turn.history_is_cut();
        }
        self.frame_due = Some(Instant::now());
        Ok(())
    }

    async fn watch(&mut self, actor: &mut Actor) -> Ending {
        if self.adopted && !matches!(self.cues.state(), AgentScreenState::Starting) {
            // A chunk may have been lost with the last reader: the launcher says its state again.
            drop(
                actor
                    .workshop
                    .jobs
                    .keeper()
                    .signal(&self.job, JobSignal::Usr1)
                    .await,
            );
        }
        loop {
            if let Some(ending) = self.proceed(actor).await {
                return ending;
            }
            let wake = self.wake();
            tokio::select! {
                () = actor.stop.cancelled() => return Ending::Abandoned,
                bytes = self.pty.read() => match bytes {
                    Ok(Some(bytes)) => self.output(actor, &bytes).await,
                    Ok(None) => { self.publish(actor); return Ending::Exited }
                    Err(error) => {
                        tracing::info!(job = %self.job, %error, "reading ended");
                        return Ending::Abandoned;
                    }
                },
                command = actor.commands.recv() => {
                    let Some(command) = command else { return Ending::Abandoned };
                    if let Some(ending) = self.command(actor, command).await {
                        return ending;
                    }
                }
                changed = self.traffic.changed() => {
                    // Its token is void: a fence was put up, and nobody wants it any more.
                    if changed.is_err() { return Ending::Stopped }
                    self.ward.traffic(&self.traffic.borrow());
                    self.charge(actor).await;
                }
                () = sleep_until(wake) => self.woken(actor),
            }
        }
    }

    async fn output(&mut self, actor: &Actor, bytes: &[u8]) {
        let bytes = &*self.redactor.clean(bytes);
        self.screen.feed(bytes);
        self.time_update();
        let replies = self.screen.take_replies();
        if !replies.is_empty() {
            self.write(actor, &replies).await;
        }
        let signals = self.cues.feed(bytes);
        self.ward.output(&signals);
        for signal in signals {
            self.turn.observe(&signal, self.cues.state());
        }
        self.draw_soon(actor);
    }

    pub(super) async fn write(&self, actor: &Actor, bytes: &[u8]) {
        if let Err(error) = actor.workshop.jobs.keeper().write(&self.job, bytes).await {
            tracing::debug!(job = %self.job, %error, "keys could not be typed");
        }
    }

    /// Does what the terminal asks for and says what is new.
    async fn proceed(&mut self, actor: &Actor) -> Option<Ending> {
        let hands_off = self
            .last_human
            .is_none_or(|typed| typed.elapsed() >= HANDS_OFF);
        if hands_off {
            let ending = self.attend(actor).await;
            if ending.is_some() {
                return ending;
            }
        }
        let starting = matches!(self.cues.state(), AgentScreenState::Starting);
        if starting && Instant::now() >= self.start_limit && self.verdict.is_none() {
            let seconds = actor.workshop.settings.agents.start_timeout.as_secs();
            let why = format!("Aider did not reach its prompt within {seconds} s");
            self.conclude(actor, Fact::Held { why }).await;
        }
        let report = self.turn.report(&self.traffic.borrow());
        let report = self.ward.complete(report);
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            actor.say(Fact::Reported(report)).await;
        }
        None
    }

    pub(super) async fn step(&mut self, actor: &Actor, step: Step) {
        let keeper = actor.workshop.jobs.keeper();
        match step {
            Step::Deliver => {
                let bytes = self.turn.prompt().bytes.clone();
                match keeper.deliver(&self.job, "prompt", &bytes).await {
                    Ok(_) => actor.say(Fact::Delivered).await,
                    Err(error) => {
                        tracing::warn!(job = %self.job, %error, "the prompt was not delivered");
                    }
                }
            }
            Step::Answer {
                number,
                keys,
                text,
                answer,
            } => {
                let key = format!("question-{number}");
                match keeper.deliver(&self.job, &key, keys).await {
                    Ok(delivery) if delivery.fresh => {
                        actor.say(Fact::Answered { text, answer }).await;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(job = %self.job, %error, "the answer was not typed");
                    }
                }
            }
            Step::Settle => {
                let fact =
                    match settle::settle(&actor.workshop, &actor.task, self.turn.record()).await {
                        Settled::Result {
                            head,
                            commits,
                            answer,
                        } => Fact::Settled {
                            head,
                            commits,
                            answer,
                        },
                        Settled::Failed(why) => Fact::Failed { why },
                        Settled::Held(why) => Fact::Held { why },
                    };
                let malformed = self.turn.record().malformed;
                if malformed > 0 {
                    actor.say(Fact::Malformed(malformed)).await;
                }
                self.charge(actor).await;
                self.conclude(actor, fact).await;
            }
        }
    }

    pub(super) async fn conclude(&mut self, actor: &Actor, fact: Fact) {
        self.ward.discharge();
        self.verdict = Some(fact.clone());
        actor.say(fact).await;
    }

    /// Reports tokens that were used since the last time.
    pub(super) async fn charge(&mut self, actor: &Actor) {
        let used = self.traffic.borrow_and_update().used;
        let fresh = Tokens {
            sent: used.sent.saturating_sub(self.charged.sent),
            received: used.received.saturating_sub(self.charged.received),
            requests: used.requests.saturating_sub(self.charged.requests),
        };
        self.charged = used;
        if fresh.requests > 0 {
            actor.say(Fact::Used(fresh)).await;
        }
    }

    async fn command(&mut self, actor: &Actor, command: AgentCommand) -> Option<Ending> {
        match command {
            AgentCommand::Type(bytes) => {
                self.last_human = Some(Instant::now());
                self.ward.human();
                self.write(actor, &bytes).await;
            }
            AgentCommand::Answer(text) => {
                if self.turn.open_question().is_some() {
                    let keys = format!("{}\r", prompt::clean(&text).replace('\n', " "));
                    self.write(actor, keys.as_bytes()).await;
                }
            }
            AgentCommand::SendLine(text) => {
                self.write(actor, &prompt::line(&text).bytes).await;
            }
            AgentCommand::Resize(size) => self.resize(actor, size).await,
            AgentCommand::Snapshot { offset, reply } => {
                drop(reply.send(self.screen.snapshot(offset)));
            }
            AgentCommand::Text(reply) => drop(reply.send(self.screen.text())),
            AgentCommand::Measured(vitals) => self.ward.measured(&vitals),
            AgentCommand::OverQuota(why) => self.ward.over_quota(why),
            AgentCommand::Repeat => self.repeat(actor).await,
            AgentCommand::Stop => return Some(Ending::Stopped),
            AgentCommand::Kill => {
                drop(
                    actor
                        .workshop
                        .jobs
                        .keeper()
                        .signal(&self.job, JobSignal::Kill)
                        .await,
                );
            }
        }
        None
    }

    async fn resize(&mut self, actor: &Actor, size: Size) {
        let size = size.clamped();
        if size == self.screen.size() {
            return;
        }
        self.screen.resize(size);
        let keeper = actor.workshop.jobs.keeper();
        if let Err(error) = keeper.resize(&self.job, size.columns, size.rows).await {
            tracing::debug!(job = %self.job, %error, "the terminal could not be resized");
        }
        self.draw_soon(actor);
    }

    async fn repeat(&mut self, actor: &Actor) {
        if self.turn.is_delivered() {
            actor.say(Fact::Delivered).await;
        }
        self.reported = None;
        if let Some(fact) = self.verdict.clone() {
            actor.say(fact).await;
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
