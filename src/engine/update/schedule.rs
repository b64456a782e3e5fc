//! What is due by time, and who gets a free slot: priority, then age.

use std::sync::Arc;

use crate::core::event::TaskEvent;
use crate::core::pool::SpareOrder;
use crate::core::router::Choice;
use crate::core::task::{Task, TaskState};
use crate::core::{AgentSlot, TaskId};

use super::super::input::Effect;
use super::super::view::Installation;
use super::{Step, routing, submit};

/// Retries, expiries and time limits that have come.
pub(super) fn due(step: &mut Step<'_>) {
    let ids: Vec<TaskId> = step.state.unfinished().map(|task| task.id).collect();
    for id in ids {
        let Some(task) = step.task(id).cloned() else {
            continue;
        };
        if is_expired(step, &task) {
            recorded(step, id, TaskEvent::Expired);
            step.proceed(id);
        } else if task.state == TaskState::Failed && is_ripe(step, &task) {
            recorded(step, id, TaskEvent::Requeued);
        } else if step
            .state
            .time_limit_of(&task)
            .is_some_and(|limit| limit <= step.now)
        {
            let limit = step.state.settings.tasks.time_limit;
            let number = task.attempt_number();
            fail(
                step,
                &task,
                &format!("stopped by the time limit of {} s", limit.as_secs()),
                None,
            );
            step.effect(Effect::StopAgent { task: id, number });
        }
    }
}

fn is_expired(step: &Step<'_>, task: &Task) -> bool {
    task.expires_at().is_some_and(|moment| moment <= step.now)
}

fn is_ripe(step: &Step<'_>, task: &Task) -> bool {
    task.not_before.is_none_or(|moment| moment <= step.now)
}

/// Records an event whose legality was just checked.
pub(super) fn recorded(step: &mut Step<'_>, id: TaskId, event: TaskEvent) {
    let legal = step.record(id, event);
    debug_assert!(legal.is_ok(), "{legal:?}");
}

/// Fails the attempt under way; another one follows while retries are left.
pub(super) fn fail(step: &mut Step<'_>, task: &Task, why: &str, follow_up: Option<String>) {
    let limits = &step.state.settings.tasks;
    let retry_at = (task.failures < task.spec.retries).then(|| {
        let doubled = limits.backoff.saturating_mul(1 << task.failures.min(16));
        step.now.plus(doubled.min(limits.backoff_max))
    });
    let why = why.to_owned();
    recorded(
        step,
        task.id,
        TaskEvent::AttemptFailed {
            why,
            retry_at,
            follow_up,
        },
    );
}

/// Ends the task for good: another attempt would meet the same quota.
pub(super) fn over_quota(step: &mut Step<'_>, task: &Task, why: String) {
    let (id, number) = (task.id, task.attempt_number());
    recorded(
        step,
        id,
        TaskEvent::AttemptFailed {
            why,
            retry_at: None,
            follow_up: None,
        },
    );
    step.effect(Effect::StopAgent { task: id, number });
}

/// Gives free slots to queued tasks.
pub(super) fn assign(step: &mut Step<'_>) {
    step.state.waiting.clear();
    let queue = queue(step);
    if queue.is_empty() {
        return;
    }
    if let Some(why) = nobody_starts(step) {
        step.state
            .waiting
            .extend(queue.iter().map(|task| (task.id, why.clone())));
        return;
    }
    let mut slots = step.state.free_slots().into_iter();
    let mut given = routing::Given::by_now(step.state);
    for task in queue {
        if !is_ripe(step, &task) || task.archiving {
            if let Some(why) = &task.why {
                step.state.waiting.insert(task.id, why.clone());
            }
            continue;
        }
        match routing::make(step, &task, &given) {
            Ok(choice) => {
                let Some(slot) = slots.next() else { return };
                given.also(&choice);
                give(step, &task, slot, choice);
            }
            Err(why) => {
                step.state.waiting.insert(task.id, why.to_string());
            }
        }
    }
}

/// Gives a slot and what was chosen to a task.
fn give(step: &mut Step<'_>, task: &Task, slot: AgentSlot, choice: Choice) {
    let routing = Arc::new(choice.routing);
    let event = TaskEvent::Assigned {
        slot,
        reason: routing.why.clone(),
        model: choice.model.to_string(),
        endpoint: choice.endpoint.to_string(),
        routing: Some(Arc::clone(&routing)),
    };
    recorded(step, task.id, event);
    step.state.last_order = Some(SpareOrder::routed(&task.spec, &routing));
    step.state.reports.remove(&slot);
    step.proceed(task.id);
}

/// What each blocked task waits for.
pub(super) fn explain_blocked(step: &mut Step<'_>) {
    let open = |task: &Arc<Task>| {
        let after = task.spec.after.iter();
        let earlier = after
            .filter_map(|id| step.task(*id))
            .find(|task| !submit::is_merged(task))?;
        let remedy = if earlier.state.is_final() {
            ": start that one again, or cancel this one"
        } else {
            ""
        };
        let why = format!(
            "waits for task {}, which is {}{remedy}",
            earlier.id, earlier.state
        );
        Some((task.id, why))
    };
    let blocked = step
        .state
        .unfinished()
        .filter(|task| task.state == TaskState::Blocked);
    let reasons: Vec<(TaskId, String)> = blocked.filter_map(open).collect();
    step.state.waiting.extend(reasons);
}

pub(super) fn queue(step: &Step<'_>) -> Vec<Arc<Task>> {
    let mut queue: Vec<Arc<Task>> = step
        .state
        .unfinished()
        .filter(|task| task.state == TaskState::Queued)
        .cloned()
        .collect();
    queue.sort_by_key(|task| (task.spec.priority, task.id));
    queue
}

fn nobody_starts(step: &Step<'_>) -> Option<String> {
    if step.state.paused {
        return Some("the queue is paused".into());
    }
    if let Some(why) = &step.state.no_room {
        return Some(why.clone());
    }
    match &step.state.installation {
        Installation::Ready { .. } => None,
        Installation::Unknown => Some("looking for Aider".into()),
        Installation::Installing { message } => Some(format!("installing Aider: {message}")),
        Installation::Failed { why } => Some(format!("Aider cannot be used: {why}")),
    }
}

/// Lets go what waited for `done` only.
pub(super) fn unblock(step: &mut Step<'_>, done: TaskId) {
    let waiting: Vec<TaskId> = step
        .state
        .unfinished()
        .filter(|task| task.state == TaskState::Blocked && task.spec.after.contains(&done))
        .map(|task| task.id)
        .collect();
    for id in waiting {
        let after = step
            .task(id)
            .map(|task| task.spec.after.clone())
            .unwrap_or_default();
        if after.iter().all(|earlier| submit::is_done(step, *earlier)) {
            recorded(step, id, TaskEvent::Unblocked);
        }
    }
}
