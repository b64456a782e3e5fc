//! What actors report: facts about attempts and about tasks.

use std::sync::Arc;
use std::time::Duration;

use crate::core::TaskId;
use crate::core::agent::{AgentReport, AgentState};
use crate::core::command::{Refusal, Reply};
use crate::core::event::TaskEvent;
use crate::core::medic::Treatment;
use crate::core::quota::{Meter, Reading, Resource, Ruling};
use crate::core::task::{Autonomy, Mode, Task, TaskState, Tokens};
use crate::core::verify::{VerifyOutcome, VerifyReport};

use super::super::input::{Effect, Fact, TaskFact};
use super::commands::{finished, start_merge};
use super::{Step, schedule};

/// A held task is looked at again after this.
const HOLD: Duration = Duration::from_secs(10);
/// An interrupted task starts again at once this many times, then waits `HOLD` each time.
const FREE_LOSSES: u32 = 3;
/// Interruptions after which a task counts as failed: something about it kills its agents.
const LOSSES_MAX: u32 = 20;

/// A fact about attempt `number`; one about an attempt that is over is ignored.
pub(super) fn attempt(step: &mut Step<'_>, id: TaskId, number: u32, fact: Fact) {
    let Some(task) = step.task(id).cloned() else {
        return;
    };
    match fact {
        Fact::Used(tokens) => used(step, id, tokens),
        Fact::Ended {
            how,
            cpu_ms,
            peak_kib,
        } => {
            let event = TaskEvent::AgentEnded {
                number,
                how,
                cpu_ms,
                peak_kib,
            };
            schedule::recorded(step, id, event);
        }
        _ if task.attempt_number() != number => {}
        fact => present(step, &task, fact),
    }
}

/// A fact about the attempt under way.
fn present(step: &mut Step<'_>, task: &Arc<Task>, fact: Fact) {
    let (id, number) = (task.id, task.attempt_number());
    match (task.state, fact) {
        (TaskState::Assigned, Fact::Prepared { workplace, job }) => {
            schedule::recorded(step, id, TaskEvent::Prepared { workplace, job });
            step.proceed(id);
        }
        (TaskState::Running, Fact::Delivered) if !is_delivered(task) => {
            schedule::recorded(step, id, TaskEvent::Delivered);
        }
        (
            TaskState::Running,
            Fact::Settled {
                head,
                commits,
                answer,
            },
        ) => {
            schedule::recorded(
                step,
                id,
                TaskEvent::Settled {
                    head,
                    commits,
                    answer,
                },
            );
            step.effect(Effect::StopAgent { task: id, number });
            step.proceed(id);
        }
        (TaskState::Assigned | TaskState::Running, Fact::Failed { why }) => {
            schedule::fail(step, task, &why, None);
            step.effect(Effect::StopAgent { task: id, number });
        }
        (TaskState::Assigned | TaskState::Running | TaskState::Verifying, Fact::Held { why }) => {
            let until = step.now.plus(HOLD);
            schedule::recorded(step, id, TaskEvent::Held { why, until });
            step.effect(Effect::StopAgent { task: id, number });
        }
        // Once it has settled, an agent may go: its result is known.
        (TaskState::Assigned | TaskState::Running, Fact::Lost { why, kept }) => {
            lost(step, task, why, kept);
        }
        (TaskState::Verifying, Fact::Verified(report)) => verified(step, task, report),
        (TaskState::Assigned | TaskState::Running, Fact::Reported(report)) => {
            reported(step, task, report);
        }
        (
            TaskState::Assigned | TaskState::Running | TaskState::Verifying,
            Fact::Treated { what, why },
        ) => schedule::recorded(step, id, TaskEvent::Treated { what, why }),
        (TaskState::Assigned | TaskState::Running, Fact::OverQuota { why }) => {
            schedule::over_quota(step, task, why);
        }
        (TaskState::Running, Fact::Malformed(count)) => {
            schedule::recorded(step, id, TaskEvent::Malformed { count });
        }
        (TaskState::Running, Fact::Answered { text, answer }) => {
            schedule::recorded(step, id, TaskEvent::QuestionAnswered { text, answer });
        }
        _ => {}
    }
}

/// Charges a task; one that works and is over its quota of tokens ends.
fn used(step: &mut Step<'_>, id: TaskId, tokens: Tokens) {
    let before = step.task(id).map_or(0, |task| allowance_used(task));
    schedule::recorded(step, id, TaskEvent::Used { tokens });
    let Some(task) = step.task(id).filter(|task| task.slot().is_some()).cloned() else {
        return;
    };
    let limit = step.state.settings.quota.task_tokens as u64;
    let reading = |used| [Reading::new(Resource::Tokens, used, limit)];
    let mut meter = Meter::default();
    meter.judge(&reading(before));
    for ruling in meter.judge(&reading(allowance_used(&task))) {
        match ruling {
            Ruling::Warn(why) => {
                let what = Treatment::Warned;
                schedule::recorded(step, id, TaskEvent::Treated { what, why });
            }
            Ruling::Stop(why) => schedule::over_quota(step, &task, why),
        }
    }
}

fn allowance_used(task: &Task) -> u64 {
    task.tokens.total().saturating_sub(task.allowance_from)
}

fn is_delivered(task: &Task) -> bool {
    task.attempt()
        .is_some_and(|attempt| attempt.delivered.is_some())
}

fn lost(step: &mut Step<'_>, task: &Arc<Task>, why: String, kept: String) {
    if task.losses + 1 >= LOSSES_MAX {
        schedule::fail(
            step,
            task,
            &format!("interrupted {LOSSES_MAX} times, last: {why}"),
            None,
        );
        return;
    }
    schedule::recorded(step, task.id, TaskEvent::AgentLost { why, kept });
    let until = step.now.plus(HOLD);
    if task.losses >= FREE_LOSSES
        && let Some(task) = step.state.tasks.get_mut(&task.id)
    {
        Arc::make_mut(task).not_before = Some(until);
    }
}

fn reported(step: &mut Step<'_>, task: &Arc<Task>, report: AgentReport) {
    let Some(slot) = task.slot() else { return };
    let before = step
        .state
        .reports
        .get(&slot)
        .and_then(|report| report.question.clone());
    let asked = report
        .question
        .clone()
        .filter(|_| report.state == AgentState::Waiting);
    if let Some(question) = asked
        && before.as_ref() != Some(&question)
    {
        schedule::recorded(
            step,
            task.id,
            TaskEvent::QuestionAsked {
                text: question.text,
            },
        );
    }
    step.state.reports.insert(slot, report);
}

fn verified(step: &mut Step<'_>, task: &Arc<Task>, report: VerifyReport) {
    let id = task.id;
    let outcome = report.outcome;
    let again = !outcome.is_success()
        && outcome != VerifyOutcome::NotVerified
        && task.failures < task.spec.retries;
    if again {
        let follow_up = follow_up(&report);
        let why = format!("verify {}: {}", outcome.as_str(), report.command);
        schedule::fail(step, task, &why, Some(follow_up));
        if let Some(task) = step.state.tasks.get_mut(&id) {
            Arc::make_mut(task).verify = Some(report);
        }
        return;
    }
    schedule::recorded(step, id, TaskEvent::Verified { report });
    let answered = task.spec.mode == Mode::Ask && task.commits == 0;
    let goes_on = outcome.is_success() || (answered && outcome == VerifyOutcome::NotVerified);
    if goes_on && task.spec.autonomy == Autonomy::Merge {
        let started = start_merge(step, id, None);
        debug_assert!(started.is_ok(), "a task just reviewed can be merged");
    }
}

/// What Aider is told after a failed verification.
fn follow_up(report: &VerifyReport) -> String {
    let tail = report
        .run
        .as_ref()
        .map(|run| run.tail.as_str())
        .unwrap_or_default();
    format!(
        "The command `{}` failed after your change. Fix it. Its output ended with:\n\n```\n{tail}\n```",
        report.command
    )
}

/// A fact about a task outside its attempts.
pub(super) fn task(step: &mut Step<'_>, id: TaskId, fact: TaskFact) {
    let Some(task) = step.task(id) else {
        return;
    };
    let (state, archiving) = (task.state, task.archiving);
    match fact {
        TaskFact::Merged(commit) if state == TaskState::Merging => {
            schedule::recorded(step, id, TaskEvent::Merged { commit });
            finished(step, id);
            later(step, id, Ok(Reply::Done));
        }
        TaskFact::MergeRefused(why) if state == TaskState::Merging => {
            schedule::recorded(step, id, TaskEvent::MergeRefused { why: why.clone() });
            later(step, id, Err(Refusal::user(why)));
        }
        TaskFact::Archived if archiving => schedule::recorded(step, id, TaskEvent::Archived),
        TaskFact::ArchiveFailed(why) if archiving => {
            schedule::recorded(step, id, TaskEvent::ArchiveFailed { why });
        }
        TaskFact::Restored(workplace) => {
            let restored = step.record(id, TaskEvent::Restored { workplace });
            let reply = restored
                .map(|()| Reply::Done)
                .map_err(|error| Refusal::user(error.to_string()));
            later(step, id, reply);
        }
        TaskFact::RestoreFailed(why) => later(step, id, Err(Refusal::user(why))),
        // Late or said twice: the task has gone on.
        TaskFact::Merged(_)
        | TaskFact::MergeRefused(_)
        | TaskFact::Archived
        | TaskFact::ArchiveFailed(_) => {}
    }
}

fn later(step: &mut Step<'_>, id: TaskId, reply: Result<Reply, Refusal>) {
    step.outcome.later.push((id, reply));
}
