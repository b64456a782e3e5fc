//! What the engine needs from a store: one durable transaction a batch, and the way back.
//!
//! The trait stands here and not in `store`, so that the engine imports nothing but `core`.
//! It is synchronous: the engine owns a thread, and a batch of inputs is one commit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::event::Event;
use crate::core::router::Learned;
use crate::core::task::{Task, TaskState};
use crate::core::{Epoch, TaskId};

/// The durable side of the engine.
pub trait Journal: Send {
    /// Takes the next epoch; every older one is refused from now on.
    fn begin_epoch(&mut self) -> Result<Epoch, JournalError>;

    /// Everything unfinished, the most recent finished tasks (at most `finished`), and counters.
    fn load(&mut self, finished: usize) -> Result<Loaded, JournalError>;

    /// Writes all of it or nothing, durable when it returns.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), JournalError>;

    /// One task, however old.
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, JournalError>;

    /// Tasks by filter, newest first.
    fn tasks(&mut self, filter: &TaskFilter) -> Result<Vec<Task>, JournalError>;

    /// Events by filter, oldest first.
    fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>, JournalError>;
}

/// One batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Tasks as they are now; each replaces the stored one.
    pub tasks: Vec<Arc<Task>>,
    /// New events, in order.
    pub events: Vec<Arc<Event>>,
    /// The queue is paused (written every time, it is one row).
    pub paused: bool,
    /// The number of the next task.
    pub next_task: u64,
    /// What the router learned, when that is other than before.
    pub learned: Option<Arc<Learned>>,
}

impl Transaction {
    /// There is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.events.is_empty() && self.learned.is_none()
    }
}

/// What a new engine starts from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Tasks, any order.
    pub tasks: Vec<Task>,
    /// The number of the next task.
    pub next_task: u64,
    /// The number of the next event.
    pub next_event: u64,
    /// The last events, oldest first, at most 200.
    pub recent: Vec<Event>,
    /// The queue was paused.
    pub paused: bool,
    /// What the router learned.
    pub learned: Learned,
}

/// Which tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    /// In one of these states; empty means any.
    pub states: Vec<TaskState>,
    /// With this idempotency key.
    pub key: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// At most this many; 0 means 1,000.
    pub limit: usize,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// After this sequence number.
    pub after: u64,
    /// At most this many; 0 means 1,000.
    pub limit: usize,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer server has taken over.
    #[error("epoch {mine} is over: epoch {current} has taken over")]
    Fenced {
        /// The writer's epoch.
        mine: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// The disk is full.
    #[error("the disk is full: nothing can be recorded")]
    Full,
    /// The database was made by a newer warpsquad.
    #[error("the task database has schema {found}, this warpsquad knows up to {known}")]
    Newer {
        /// Schema found.
        found: u32,
        /// Newest schema known.
        known: u32,
    },
    /// Anything else.
    #[error("the task database cannot be used: {0}")]
    Broken(String),
}
