//! All that may be asked of the squad, and what is answered.

use serde::{Deserialize, Serialize};

use super::event::Actor;
use super::ids::{AgentSlot, TaskId};
use super::settings::MergeStrategy;
use super::task::TaskSpec;

/// A command with its asker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub by: Actor,
    /// What is asked.
    pub command: Command,
}

/// All that may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Accept these tasks, all or none; `after_index` names earlier ones of the same list.
    Submit {
        /// The tasks.
        tasks: Vec<NewTask>,
    },
    /// Stop a task, wherever it stands.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// Start a dead, cancelled or expired task again.
    Retry {
        /// Which.
        task: TaskId,
    },
    /// Send a task in review back to its agent with a comment.
    Revise {
        /// Which.
        task: TaskId,
        /// What to do.
        comment: String,
    },
    /// Merge a task in review.
    Merge {
        /// Which.
        task: TaskId,
        /// Instead of the task's own strategy.
        strategy: Option<MergeStrategy>,
    },
    /// Throw a task away; its work is archived.
    Discard {
        /// Which.
        task: TaskId,
    },
    /// Bring a discarded, cancelled or dead task back to review.
    Restore {
        /// Which.
        task: TaskId,
    },
    /// The task's result was looked at.
    MarkSeen {
        /// Which.
        task: TaskId,
    },
    /// Assign nothing more.
    Pause,
    /// Assign again.
    Resume,
    /// Cancel everything that is not finished.
    StopAll,
    /// Answer the question of an agent.
    Answer {
        /// Whose.
        slot: AgentSlot,
        /// `y`, `n`, or a text.
        text: String,
    },
    /// Type a line into an agent at its prompt.
    SendLine {
        /// Whose.
        slot: AgentSlot,
        /// The line.
        text: String,
    },
    /// Kill an agent's process; its task goes back to the queue.
    KillAgent {
        /// Whose.
        slot: AgentSlot,
    },
}

/// A task to submit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NewTask {
    /// What is asked; `after` names tasks that exist.
    pub spec: TaskSpec,
    /// Indexes of tasks in the same submission that must be merged first.
    #[serde(default)]
    pub after_index: Vec<usize>,
}

/// A command's answer, sent after its effect is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Accepted under these numbers, in the order given.
    Submitted {
        /// The numbers.
        tasks: Vec<TaskId>,
    },
    /// Done.
    Done,
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: RefusalKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Refusal {
    /// The user asked for something that cannot be.
    pub fn user(message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::User,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Something needed is not there.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Unavailable,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Whose fault a refusal is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// A bug.
    Internal,
    /// Wrong use.
    User,
    /// Something needed is unavailable.
    Unavailable,
}
