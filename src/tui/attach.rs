//! One attached client in the server: its events in, frames of its dashboard out.
//!
//! A session waits for its client; nothing else in the server does. Views and screens are
//! `watch` channels, so that a slow client skips what it cannot show in time.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::Event;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ratatui::Terminal;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

use super::backend::RemoteBackend;
use super::frames::Frames;
use super::message::{Message, Purpose, Want};
use super::model::Model;
use super::update::update;
use super::view;
use super::wire::{
    ClientHello, ClientMessage, ExitReason, LINE_MAX, ServerFrame, WireError, write_frame,
};
use crate::config::templates::Offer;
use crate::core::command::{Command, Refusal, Reply};
use crate::core::settings::UiSettings;
use crate::core::{AgentSlot, TaskId, Timestamp};
use crate::engine::View;
use crate::pty::{Size, Snapshot};

/// Bytes of one frame on the wire; a larger drawing is several.
const CHUNK: usize = 1024 * 1024;

/// Finds the terminal of a slot: a channel with its latest snapshot, `None` in it while the slot
/// has no process. `None` itself: there is no such slot, or not yet; asked again when the view
/// changes.
pub type Screens =
    Arc<dyn Fn(AgentSlot) -> Option<watch::Receiver<Option<Snapshot>>> + Send + Sync>;

/// What a dashboard asks of the server.
///
/// Inputs and sizes come in the order of the user's keys and must be carried out in that order.
#[derive(Debug)]
pub enum Ask {
    /// Carry this out in the name of the client's user. New tasks name the directory of the client
    /// as their repository, and neither a base commit nor a target branch: the server finds them.
    Command {
        /// The command.
        command: Command,
        /// The answer.
        reply: oneshot::Sender<Result<Reply, Refusal>>,
    },
    /// The changes of a task.
    Diff {
        /// Which.
        task: TaskId,
        /// The diff as git writes it.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// The best templates for the repository of the client.
    Templates {
        /// The best first.
        reply: oneshot::Sender<Vec<Offer>>,
    },
    /// Write into an agent's terminal, by the hand of a human.
    Input {
        /// Whose.
        slot: AgentSlot,
        /// What.
        bytes: Vec<u8>,
    },
    /// A human looks at this agent now.
    Watch {
        /// Whose terminal is shown; none when nobody's is.
        slot: Option<AgentSlot>,
    },
    /// Give an agent's terminal this size.
    Resize {
        /// Whose.
        slot: AgentSlot,
        /// The size.
        size: Size,
    },
    /// An agent's terminal, scrolled back ([`crate::pty::Screen::snapshot`]).
    Scrollback {
        /// Whose.
        slot: AgentSlot,
        /// Lines back.
        offset: usize,
        /// The snapshot; `None` when there is no terminal.
        reply: oneshot::Sender<Option<Snapshot>>,
    },
    /// Kill the server at once (only in the demo).
    KillServer,
}

/// Everything a session needs of the server.
#[derive(Clone)]
pub struct Desk {
    /// The squad.
    pub view: watch::Receiver<Arc<View>>,
    /// The agents' terminals.
    pub screens: Screens,
    /// Where to ask; a session waits while it is full.
    pub asks: mpsc::Sender<Ask>,
    /// Cancelled when the squad is told to stop: clients leave and do not come back.
    pub stopping: CancellationToken,
    /// `[ui]`
    pub settings: UiSettings,
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The connection failed, or the client sent what is not understood.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message of the client is too long or not text.
    #[error("a message of the client cannot be read")]
    Line(#[from] LinesCodecError),
    /// Drawing failed.
    #[error("the dashboard cannot be drawn")]
    Draw(#[from] std::io::Error),
}

/// Runs one client until it leaves, its connection ends or the server stops. `hello` was read
/// from `io` with [`super::wire::read_hello`].
///
/// # Errors
/// The connection failed; the client sees it as lost.
pub async fn run_client<IO>(
    io: IO,
    hello: ClientHello,
    desk: Desk,
) -> Result<ExitReason, AttachError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // The NO_COLOR of the server's environment says nothing about the client.
    crossterm::style::force_color_output(true);
    let (reader, writer) = tokio::io::split(io);
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LINE_MAX));
    let mut session = Session::new(writer, &hello, desk)?;
    let reason = session.run(lines).await?;
    write_frame(&mut session.writer, &ServerFrame::Exit(reason.clone())).await?;
    Ok(reason)
}

type Lines<IO> = FramedRead<ReadHalf<IO>, LinesCodec>;

struct Session<IO> {
    model: Model,
    frames: Frames,
    terminal: Terminal<RemoteBackend>,
    writer: WriteHalf<IO>,
    desk: Desk,
    screen: Option<(AgentSlot, watch::Receiver<Option<Snapshot>>)>,
    answers: FuturesUnordered<BoxFuture<'static, Message>>,
    next_tick: Instant,
}

/// What wakes a session.
enum Wake {
    Client(ClientMessage),
    Gone,
    ServerStopping,
    Message(Message),
    Frame,
}

impl<IO> Session<IO>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn new(
        writer: WriteHalf<IO>,
        hello: &ClientHello,
        mut desk: Desk,
    ) -> Result<Self, AttachError> {
        let view = Arc::clone(&desk.view.borrow_and_update());
        let model = Model::new(hello, &desk.settings, view, now());
        let mut session = Self {
            terminal: Terminal::new(RemoteBackend::new(model.size))?,
            model,
            frames: Frames::default(),
            writer,
            desk,
            screen: None,
            answers: FuturesUnordered::new(),
            next_tick: Instant::now() + TICK,
        };
        session.terminal.clear()?;
        session.watch_screen();
        session.frames.request();
        Ok(session)
    }

    async fn run(&mut self, mut lines: Lines<IO>) -> Result<ExitReason, AttachError> {
        loop {
            let wake = tokio::select! {
                line = lines.next() => match line {
                    Some(line) => Wake::Client(serde_json::from_str(&line?).map_err(WireError::from)?),
                    None => Wake::Gone,
                },
                changed = self.desk.view.changed() => match changed {
                    Ok(()) => Wake::Message(Message::View(Arc::clone(&self.desk.view.borrow_and_update()))),
                    Err(_) => Wake::ServerStopping,
                },
                () = self.desk.stopping.cancelled() => Wake::ServerStopping,
                message = screen_changed(&mut self.screen) => Wake::Message(message),
                Some(message) = self.answers.next() => Wake::Message(message),
                () = tokio::time::sleep_until(self.next_tick), if self.model.is_ticking() => {
                    self.next_tick = Instant::now() + TICK;
                    Wake::Message(Message::Tick)
                }
                () = self.frames.next() => Wake::Frame,
            };
            let end = match wake {
                Wake::Frame => self.draw().await.map(|()| None)?,
                Wake::Gone => Some(ExitReason::ConnectionLost),
                Wake::ServerStopping => Some(ExitReason::ServerStopping),
                Wake::Message(message) => {
                    self.frames.request();
                    self.apply(message).await?
                }
                Wake::Client(message) => {
                    self.frames.request_for_key();
                    self.client(message).await?
                }
            };
            if let Some(reason) = end {
                return Ok(reason);
            }
        }
    }

    async fn client(&mut self, message: ClientMessage) -> Result<Option<ExitReason>, AttachError> {
        match message {
            ClientMessage::Event(Event::Resize(columns, rows)) => {
                self.resize(Size::new(columns, rows));
                self.apply(Message::Event(Event::Resize(columns, rows)))
                    .await
            }
            ClientMessage::Event(event) => self.apply(Message::Event(event)).await,
            ClientMessage::Redraw { size } => {
                self.resize(size);
                self.terminal.clear()?;
                self.apply(Message::Redraw(size)).await
            }
        }
    }

    fn resize(&mut self, size: Size) {
        self.terminal.backend_mut().set_size(size.clamped());
    }

    async fn apply(&mut self, message: Message) -> Result<Option<ExitReason>, AttachError> {
        let is_view = matches!(message, Message::View(_));
        let wants = update(&mut self.model, message, now());
        let selected = self.model.agent().map(|agent| agent.slot);
        let watched = self.screen.as_ref().map(|(slot, _)| *slot);
        if selected != watched || (is_view && watched.is_none()) {
            self.watch_screen();
        }
        // The first agent is shown to everybody; who goes to another one looks at it.
        if selected != watched && watched.is_some() {
            self.ask(Ask::Watch { slot: selected }).await;
        }
        for want in wants {
            if let Some(reason) = self.carry_out(want).await? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    /// Watches the terminal of the selected agent.
    fn watch_screen(&mut self) {
        let selected = self.model.agent().map(|agent| agent.slot);
        self.screen = selected.and_then(|slot| {
            let mut screen = (self.desk.screens)(slot)?;
            screen.mark_changed();
            Some((slot, screen))
        });
    }

    async fn carry_out(&mut self, want: Want) -> Result<Option<ExitReason>, AttachError> {
        match want {
            Want::Detach => return Ok(Some(ExitReason::Detached)),
            Want::Suspend => write_frame(&mut self.writer, &ServerFrame::Suspend).await?,
            Want::Copy(text) => {
                write_frame(&mut self.writer, &ServerFrame::Clipboard(text)).await?;
            }
            Want::Command(purpose, command) => self.command(purpose, command).await,
            Want::Diff(task) => self.diff(task).await,
            Want::Templates => self.templates().await,
            Want::Scrollback(slot, offset) => self.scrollback(slot, offset).await,
            Want::Input(slot, bytes) => self.ask(Ask::Input { slot, bytes }).await,
            Want::Resize(slot, size) => self.ask(Ask::Resize { slot, size }).await,
            Want::KillServer => self.ask(Ask::KillServer).await,
        }
        Ok(None)
    }

    /// When nobody listens the reply's other end is dropped with the question: the answer says so.
    async fn ask(&mut self, ask: Ask) {
        if self.desk.asks.send(ask).await.is_err() {
            tracing::debug!("the server takes no more questions of dashboards");
        }
    }

    async fn command(&mut self, purpose: Purpose, command: Command) {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Command { command, reply }).await;
        self.answers.push(Box::pin(async move {
            Message::Answered(purpose, answer.await.unwrap_or_else(|_| Err(gone())))
        }));
    }

    async fn diff(&mut self, task: TaskId) {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Diff { task, reply }).await;
        self.answers.push(Box::pin(async move {
            Message::Diff(task, answer.await.unwrap_or_else(|_| Err(gone())))
        }));
    }

    async fn templates(&mut self) {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Templates { reply }).await;
        self.answers.push(Box::pin(async move {
            Message::Templates(answer.await.unwrap_or_default())
        }));
    }

    async fn scrollback(&mut self, slot: AgentSlot, offset: usize) {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Scrollback {
            slot,
            offset,
            reply,
        };
        self.ask(ask).await;
        self.answers.push(Box::pin(async move {
            Message::Scrollback(slot, answer.await.unwrap_or(None))
        }));
    }

    async fn draw(&mut self) -> Result<(), AttachError> {
        let model = &self.model;
        self.terminal.draw(|frame| view::draw(frame, model))?;
        self.frames.drawn();
        let drawn = self.terminal.backend_mut().take_bytes();
        if drawn.is_empty() {
            return Ok(());
        }
        // A terminal that knows mode 2026 shows the frame at once, the others ignore it.
        let bytes = [b"\x1b[?2026h".as_slice(), &drawn, b"\x1b[?2026l"].concat();
        for chunk in bytes.chunks(CHUNK) {
            write_frame(&mut self.writer, &ServerFrame::Bytes(chunk.to_vec())).await?;
        }
        Ok(())
    }
}

/// How often elapsed times are drawn anew.
const TICK: Duration = Duration::from_secs(1);

async fn screen_changed(
    screen: &mut Option<(AgentSlot, watch::Receiver<Option<Snapshot>>)>,
) -> Message {
    let Some((slot, receiver)) = screen else {
        return std::future::pending().await;
    };
    let slot = *slot;
    if receiver.changed().await.is_ok() {
        return Message::Screen(slot, receiver.borrow_and_update().clone());
    }
    *screen = None;
    Message::Screen(slot, None)
}

fn gone() -> Refusal {
    Refusal::unavailable("the server is stopping").hint("try again")
}

fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "attach_tests.rs"]
mod tests;
