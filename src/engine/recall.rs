//! Brings finished tasks back into memory that an input speaks of.
//!
//! Memory holds the latest finished tasks only; a key, a dependency or a `restore` may name an
//! older one. Afterwards it is forgotten again like the others.

use std::sync::Arc;

use crate::core::TaskId;
use crate::core::command::{Command, NewTask};
use crate::core::task::Task;

use super::input::Input;
use super::journal::{Journal, JournalError, TaskFilter};
use super::state::State;

/// Loads what `input` names and memory lacks.
pub(super) fn recall(
    journal: &mut impl Journal,
    state: &mut State,
    input: &Input,
) -> Result<(), JournalError> {
    match input {
        Input::Command(request) => match &request.command {
            Command::Submit { tasks } => submission(journal, state, tasks),
            Command::Cancel { task }
            | Command::Retry { task }
            | Command::Revise { task, .. }
            | Command::Merge { task, .. }
            | Command::Discard { task }
            | Command::Restore { task }
            | Command::MarkSeen { task } => by_id(journal, state, *task),
            Command::Pause
            | Command::Resume
            | Command::StopAll
            | Command::Answer { .. }
            | Command::SendLine { .. }
            | Command::KillAgent { .. } => Ok(()),
        },
        Input::Task { task, .. } => by_id(journal, state, *task),
        Input::Attempt { .. }
        | Input::Catalogue { .. }
        | Input::Installation(_)
        | Input::Pool(_)
        | Input::Gateway(_)
        | Input::Fits(_)
        | Input::Machine { .. }
        | Input::Measured(_)
        | Input::Squad(_)
        | Input::Room(_)
        | Input::Jumped(_)
        | Input::Tick => Ok(()),
    }
}

fn submission(
    journal: &mut impl Journal,
    state: &mut State,
    tasks: &[NewTask],
) -> Result<(), JournalError> {
    for new in tasks {
        for earlier in &new.spec.after {
            by_id(journal, state, *earlier)?;
        }
        if let Some(key) = &new.spec.key {
            by_key(journal, state, key)?;
        }
    }
    Ok(())
}

fn by_id(journal: &mut impl Journal, state: &mut State, id: TaskId) -> Result<(), JournalError> {
    if id.0 < state.next_task && !state.tasks.contains_key(&id) {
        let found = journal.task(id)?;
        state.tasks.extend(found.map(|task| (id, Arc::new(task))));
    }
    Ok(())
}

fn by_key(journal: &mut impl Journal, state: &mut State, key: &str) -> Result<(), JournalError> {
    let known = |task: &Arc<Task>| task.spec.key.as_deref() == Some(key);
    if !state.tasks.values().any(known) {
        let filter = TaskFilter {
            key: Some(key.to_owned()),
            limit: 1,
            ..TaskFilter::default()
        };
        let found = journal.tasks(&filter)?.into_iter();
        state
            .tasks
            .extend(found.map(|task| (task.id, Arc::new(task))));
    }
    Ok(())
}
