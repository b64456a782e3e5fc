//! What each command does to the state.

use crate::core::command::{Command, Refusal, Reply, Request};
use crate::core::event::{SquadEvent, TaskEvent};
use crate::core::settings::MergeStrategy;
use crate::core::task::{IllegalTransition, Mode, TaskState};
use crate::core::{AgentSlot, TaskId};

use super::super::input::Effect;
use super::{Answer, Step, submit};

pub(super) fn command(step: &mut Step<'_>, request: Request) {
    step.by = request.by;
    let answer = match request.command {
        Command::Submit { tasks } => Answer::Now(submit::submit(step, tasks)),
        Command::Cancel { task } => Answer::Now(cancel(step, task)),
        Command::Retry { task } => Answer::Now(retry(step, task)),
        Command::Revise { task, comment } => Answer::Now(revise(step, task, comment)),
        Command::Merge { task, strategy } => merge(step, task, strategy),
        Command::Discard { task } => Answer::Now(discard(step, task)),
        Command::Restore { task } => restore(step, task),
        Command::MarkSeen { task } => Answer::Now(simple(step, task, TaskEvent::Seen)),
        Command::Pause => Answer::Now(Ok(set_queue(step, Queue::Paused))),
        Command::Resume => Answer::Now(Ok(set_queue(step, Queue::Running))),
        Command::StopAll => Answer::Now(stop_all(step)),
        Command::Answer { slot, text } => {
            Answer::Now(to_agent(step, slot, Effect::Answer { slot, text }))
        }
        Command::SendLine { slot, text } => {
            Answer::Now(to_agent(step, slot, Effect::SendLine { slot, text }))
        }
        Command::KillAgent { slot } => {
            Answer::Now(to_agent(step, slot, Effect::KillAgent { slot }))
        }
    };
    step.outcome.answer = Some(answer);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Paused,
    Running,
}

fn known(step: &Step<'_>, id: TaskId) -> Result<(), Refusal> {
    if step.task(id).is_some() {
        return Ok(());
    }
    Err(
        Refusal::user(format!("there is no task {id} that could still change"))
            .hint("list them with 'warpsquad task list'"),
    )
}

fn illegal(error: &IllegalTransition) -> Refusal {
    let hint = match error.state {
        TaskState::Review => "merge it, send it back with 'revise', or discard it",
        TaskState::Merged => "a merged task is finished; submit a new one",
        TaskState::Discarded | TaskState::Cancelled | TaskState::Dead => {
            "bring it back with 'warpsquad task restore' or start it again with 'task retry'"
        }
        _ => "see what it is doing with 'warpsquad task show'",
    };
    Refusal::user(error.to_string()).hint(hint)
}

fn simple(step: &mut Step<'_>, id: TaskId, event: TaskEvent) -> Result<Reply, Refusal> {
    known(step, id)?;
    step.record(id, event).map_err(|error| illegal(&error))?;
    Ok(Reply::Done)
}

fn cancel(step: &mut Step<'_>, id: TaskId) -> Result<Reply, Refusal> {
    let number = step
        .task(id)
        .filter(|task| task.state.holds_slot() || task.state == TaskState::Verifying)
        .map(|task| task.attempt_number());
    simple(step, id, TaskEvent::Cancelled)?;
    if let Some(number) = number {
        step.effect(Effect::StopAgent { task: id, number });
    }
    step.proceed(id);
    Ok(Reply::Done)
}

fn retry(step: &mut Step<'_>, id: TaskId) -> Result<Reply, Refusal> {
    let archiving = step.task(id).is_some_and(|task| task.archiving);
    if archiving {
        return Err(Refusal::user(format!("task {id} is still being archived"))
            .hint("try again in a moment"));
    }
    simple(step, id, TaskEvent::Retried)
}

fn revise(step: &mut Step<'_>, id: TaskId, comment: String) -> Result<Reply, Refusal> {
    if comment.trim().is_empty() {
        return Err(Refusal::user("the comment is empty").hint("say what is to be different"));
    }
    let ask = step.task(id).is_some_and(|task| task.workplace.is_none());
    if ask {
        return Err(
            Refusal::user(format!("task {id} has no worktree to go back to"))
                .hint("submit a new task"),
        );
    }
    simple(step, id, TaskEvent::Revised { comment })
}

fn merge(step: &mut Step<'_>, id: TaskId, strategy: Option<MergeStrategy>) -> Answer {
    match start_merge(step, id, strategy) {
        Ok(Started::Merging) => Answer::When(id),
        Ok(Started::Finished) => Answer::Now(Ok(Reply::Done)),
        Err(refusal) => Answer::Now(Err(refusal)),
    }
}

pub(super) enum Started {
    Merging,
    Finished,
}

/// Starts a merge, or finishes a task that has nothing to merge.
pub(super) fn start_merge(
    step: &mut Step<'_>,
    id: TaskId,
    strategy: Option<MergeStrategy>,
) -> Result<Started, Refusal> {
    known(step, id)?;
    let empty = step
        .task(id)
        .is_some_and(|task| task.state == TaskState::Review && !task.has_commits());
    if empty {
        simple(step, id, TaskEvent::Merged { commit: None })?;
        finished(step, id);
        return Ok(Started::Finished);
    }
    if let Some(strategy) = strategy
        && let Some(task) = step.state.tasks.get_mut(&id)
        && task.state == TaskState::Review
    {
        std::sync::Arc::make_mut(task).spec.strategy = strategy;
    }
    simple(step, id, TaskEvent::MergeStarted)?;
    step.proceed(id);
    Ok(Started::Merging)
}

/// Unblocks what waited for `id` and lets its worktree go.
pub(super) fn finished(step: &mut Step<'_>, id: TaskId) {
    step.proceed(id);
    super::schedule::unblock(step, id);
}

fn discard(step: &mut Step<'_>, id: TaskId) -> Result<Reply, Refusal> {
    simple(step, id, TaskEvent::Discarded)?;
    step.proceed(id);
    Ok(Reply::Done)
}

fn restore(step: &mut Step<'_>, id: TaskId) -> Answer {
    let Some(task) = step.task(id).cloned() else {
        return Answer::Now(known(step, id).map(|()| Reply::Done));
    };
    if !matches!(
        task.state,
        TaskState::Discarded | TaskState::Cancelled | TaskState::Dead
    ) {
        return Answer::Now(Err(Refusal::user(format!(
            "task {id} is {}: only a discarded, cancelled or dead task can be restored",
            task.state
        ))));
    }
    if task.spec.mode == Mode::Ask && task.commits == 0 && task.attempts.is_empty() {
        return Answer::Now(Err(Refusal::user(format!(
            "task {id} never ran: nothing to restore"
        ))
        .hint("start it again with 'warpsquad task retry'")));
    }
    step.effect(Effect::Restore(task));
    Answer::When(id)
}

fn set_queue(step: &mut Step<'_>, queue: Queue) -> Reply {
    let paused = queue == Queue::Paused;
    if step.state.paused != paused {
        step.state.paused = paused;
        step.state.paused_dirty = true;
        step.record_squad(if paused {
            SquadEvent::Paused
        } else {
            SquadEvent::Resumed
        });
    }
    Reply::Done
}

fn stop_all(step: &mut Step<'_>) -> Result<Reply, Refusal> {
    let active: Vec<TaskId> = step
        .state
        .unfinished()
        .filter(|task| !matches!(task.state, TaskState::Review | TaskState::Merging))
        .map(|task| task.id)
        .collect();
    for id in active {
        cancel(step, id)?;
    }
    Ok(Reply::Done)
}

fn to_agent(step: &mut Step<'_>, slot: AgentSlot, effect: Effect) -> Result<Reply, Refusal> {
    if step.state.holder(slot).is_none() {
        return Err(
            Refusal::user(format!("agent {slot} has no task")).hint("see 'warpsquad agent list'")
        );
    }
    step.effect(effect);
    Ok(Reply::Done)
}
