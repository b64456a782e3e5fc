//! What can happen to a dashboard, and what it can want.

use std::sync::Arc;

use crossterm::event::Event;

use crate::config::templates::Offer;
use crate::core::command::{Command, Refusal, Reply};
use crate::core::{AgentSlot, TaskId, Timestamp};
use crate::engine::View;
use crate::pty::{Size, Snapshot};

/// What can happen to a dashboard.
#[derive(Debug, Clone)]
pub enum Message {
    /// The client's user did something.
    Event(Event),
    /// The squad is different.
    View(Arc<View>),
    /// The terminal of this agent is different; `None` when it has none.
    Screen(AgentSlot, Option<Snapshot>),
    /// A second has passed.
    Tick,
    /// The client's terminal has this size, and shows nothing of ours any more.
    Redraw(Size),
    /// A command was answered.
    Answered(Purpose, Result<Reply, Refusal>),
    /// A diff came.
    Diff(TaskId, Result<String, Refusal>),
    /// The best templates for the client's repository came.
    Templates(Vec<Offer>),
    /// A look back into an agent's terminal.
    Scrollback(AgentSlot, Option<Snapshot>),
}

/// What a command was for, so that its answer can be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Submitting the text of the composer, which comes back when it is refused.
    Submit(String),
    /// Anything else; these words tell that it was done, unless they are empty.
    Other(String),
}

/// What a dashboard wants of the server or of its client.
#[derive(Debug, Clone, PartialEq)]
pub enum Want {
    /// This command.
    Command(Purpose, Command),
    /// The diff of a task.
    Diff(TaskId),
    /// The best templates for the client's repository.
    Templates,
    /// Bytes typed into an agent's terminal.
    Input(AgentSlot, Vec<u8>),
    /// An agent's terminal in this size.
    Resize(AgentSlot, Size),
    /// An agent's terminal, scrolled back.
    Scrollback(AgentSlot, usize),
    /// Text into the user's clipboard.
    Copy(String),
    /// The end of this client; work goes on.
    Detach,
    /// The client as a stopped job of its shell.
    Suspend,
    /// The end of the server, at once, to show that nothing is lost.
    KillServer,
}

/// Where time comes from; the dashboard shows how long things take.
pub type Clock = fn() -> Timestamp;
