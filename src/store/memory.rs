//! The journal without a disk, for tests and benchmarks: same contract, gone with its last handle.
//!
//! A clone is a second handle on the same records, as a second process would have; that is how
//! fencing and reloading are tested.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::event::{Event, What};
use crate::core::router::Learned;
use crate::core::task::Task;
use crate::core::{Epoch, TaskId, Timestamp};
use crate::engine::journal::{EventFilter, Journal, JournalError, Loaded, TaskFilter, Transaction};

use super::query::{RECENT_EVENTS, is_open, limit};

/// A journal in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<Records>>,
}

#[derive(Debug, Clone, Default)]
struct Records {
    epoch: Epoch,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    events: BTreeMap<u64, Arc<Event>>,
    next_task: u64,
    next_event: u64,
    paused: bool,
    learned: Learned,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deletes events before `before`, except those of tasks for which something is still to be
    /// done; says how many.
    pub fn prune(&mut self, before: Timestamp) -> Result<u64, JournalError> {
        let mut guard = self.lock();
        let Records { tasks, events, .. } = &mut *guard;
        let kept = events.len();
        events.retain(|_, event| {
            let open = task_of(event)
                .and_then(|id| tasks.get(&id))
                .is_some_and(|t| is_open(t));
            open || event.at >= before
        });
        Ok((kept - events.len()) as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn check(&self, transaction: &Transaction) -> Result<(), JournalError> {
        if transaction.epoch != self.epoch {
            return Err(JournalError::Fenced {
                mine: transaction.epoch,
                current: self.epoch,
            });
        }
        let mut last = self.next_event.saturating_sub(1);
        for event in &transaction.events {
            let known = |id: TaskId| {
                self.tasks.contains_key(&id) || transaction.tasks.iter().any(|task| task.id == id)
            };
            if let Some(id) = task_of(event).filter(|id| !known(*id)) {
                return Err(JournalError::Broken(format!(
                    "an event of task {id}, not stored"
                )));
            }
            if event.sequence <= last {
                return Err(JournalError::Broken(format!(
                    "event {} twice",
                    event.sequence
                )));
            }
            last = event.sequence;
        }
        Ok(())
    }

    fn write(&mut self, transaction: &Transaction) {
        for task in &transaction.tasks {
            self.tasks.insert(task.id, Arc::clone(task));
        }
        for event in &transaction.events {
            self.events.insert(event.sequence, Arc::clone(event));
            self.next_event = event.sequence + 1;
        }
        self.paused = transaction.paused;
        self.next_task = transaction.next_task;
        if let Some(learned) = &transaction.learned {
            self.learned = Learned::clone(learned);
        }
    }
}

fn task_of(event: &Event) -> Option<TaskId> {
    match &event.what {
        What::Task { task, .. } => Some(*task),
        What::Squad { .. } => None,
    }
}

impl Journal for MemoryStore {
    fn begin_epoch(&mut self) -> Result<Epoch, JournalError> {
        let mut records = self.lock();
        records.epoch.0 += 1;
        Ok(records.epoch)
    }

    fn load(&mut self, finished: usize) -> Result<Loaded, JournalError> {
        let records = self.lock();
        let all = || records.tasks.values().rev();
        let open = all().filter(|task| is_open(task));
        let closed = all().filter(|task| !is_open(task)).take(finished);
        let tasks = open.chain(closed).map(|task| Task::clone(task)).collect();
        let skipped = records.events.len().saturating_sub(RECENT_EVENTS);
        let recent = records
            .events
            .values()
            .skip(skipped)
            .map(|event| Event::clone(event));
        Ok(Loaded {
            tasks,
            next_task: records.next_task.max(1),
            next_event: records.next_event.max(1),
            recent: recent.collect(),
            paused: records.paused,
            learned: records.learned.clone(),
        })
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), JournalError> {
        let mut records = self.lock();
        records.check(transaction)?;
        records.write(transaction);
        Ok(())
    }

    fn task(&mut self, id: TaskId) -> Result<Option<Task>, JournalError> {
        Ok(self.lock().tasks.get(&id).map(|task| Task::clone(task)))
    }

    fn tasks(&mut self, filter: &TaskFilter) -> Result<Vec<Task>, JournalError> {
        let fits = |task: &&Arc<Task>| {
            (filter.states.is_empty() || filter.states.contains(&task.state))
                && (filter.key.is_none() || filter.key == task.spec.key)
                && (filter.name.is_none() || filter.name == task.spec.name)
        };
        let records = self.lock();
        let found = records
            .tasks
            .values()
            .rev()
            .filter(fits)
            .take(limit(filter.limit));
        Ok(found.map(|task| Task::clone(task)).collect())
    }

    fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>, JournalError> {
        let records = self.lock();
        let later = records
            .events
            .values()
            .filter(|event| event.sequence > filter.after);
        let fits = |event: &&Arc<Event>| filter.task.is_none() || filter.task == task_of(event);
        let found = later.filter(fits).take(limit(filter.limit));
        Ok(found.map(|event| Event::clone(event)).collect())
    }
}
