//! A wall clock that went on without anybody living through it moves every pending deadline.
//!
//! Time asleep counts for no lease, time to live or backoff, and neither does a clock that was set.

use crate::core::TaskId;
use crate::core::clock::Jump;
use crate::core::event::{SquadEvent, TaskEvent};
use crate::core::task::{Task, TaskState};

use super::{Step, schedule};

pub(super) fn jumped(step: &mut Step<'_>, jump: Jump) {
    step.record_squad(SquadEvent::Jumped { jump });
    let waiting: Vec<TaskId> = step
        .state
        .unfinished()
        .filter(|task| has_deadline(task))
        .map(|task| task.id)
        .collect();
    let by_ms = jump.millis;
    for id in waiting {
        schedule::recorded(step, id, TaskEvent::Postponed { by_ms });
    }
}

fn has_deadline(task: &Task) -> bool {
    let waits = matches!(task.state, TaskState::Queued | TaskState::Failed);
    (waits && task.not_before.is_some()) || task.expires_at().is_some() || task.slot().is_some()
}
