//! The table of legal task transitions and what each one changes.
//!
//! Kept apart from the data so that the whole life of a task can be read on one page.
//!
//! Invariant: pure.

use super::event::TaskEvent;
use super::task::{Attempt, Fault, Task, TaskState, Usage};
use super::time::Timestamp;

/// The state after `event`, or `None` when it cannot happen now.
pub(super) fn next_state(task: &Task, event: &TaskEvent) -> Option<TaskState> {
    use TaskEvent as E;
    use TaskState as S;
    let now = task.state;
    match (now, event) {
        (S::Queued | S::Blocked, E::Submitted)
        | (S::Blocked, E::Unblocked)
        | (S::Failed, E::Requeued)
        | (S::Assigned | S::Running | S::Verifying, E::Held { .. } | E::AgentLost { .. })
        | (S::Dead | S::Cancelled | S::Expired, E::Retried) => Some(match event {
            E::Submitted => now,
            _ => S::Queued,
        }),
        (S::Queued, E::Assigned { .. }) => Some(S::Assigned),
        (S::Assigned, E::Prepared { .. }) | (S::Running, E::Delivered) => Some(S::Running),
        (S::Running, E::Settled { .. }) => Some(S::Verifying),
        (S::Verifying, E::Verified { .. }) | (S::Merging, E::MergeRefused { .. }) => {
            Some(S::Review)
        }
        (
            S::Assigned | S::Running | S::Verifying | S::Review,
            E::AttemptFailed { retry_at, .. },
        ) => Some(if retry_at.is_some() {
            S::Failed
        } else {
            S::Dead
        }),
        (S::Review, E::MergeStarted) => Some(S::Merging),
        (S::Merging, E::Merged { .. }) => Some(S::Merged),
        (S::Review, E::Merged { commit: None }) if !task.has_commits() => Some(S::Merged),
        (S::Queued, E::Held { .. }) | (S::Review, E::Revised { .. }) => Some(S::Queued),
        (S::Review | S::Failed | S::Dead, E::Discarded) => Some(S::Discarded),
        (S::Discarded | S::Cancelled | S::Dead, E::Restored { .. }) => Some(S::Review),
        (
            S::Blocked
            | S::Queued
            | S::Assigned
            | S::Running
            | S::Verifying
            | S::Review
            | S::Failed,
            E::Cancelled,
        ) => Some(S::Cancelled),
        (S::Blocked | S::Queued, E::Expired) => Some(S::Expired),
        (
            _,
            E::Archived
            | E::ArchiveFailed { .. }
            | E::Seen
            | E::QuestionAsked { .. }
            | E::QuestionAnswered { .. }
            | E::AgentEnded { .. }
            | E::Treated { .. }
            | E::Malformed { .. }
            | E::Used { .. }
            | E::Postponed { .. },
        ) => Some(now),
        _ => None,
    }
}

/// What entering `next` through `event` changes besides the state.
pub(super) fn enter(task: &mut Task, event: &TaskEvent, next: TaskState, now: Timestamp) {
    enter_attempt(task, event, next, now);
    enter_result(task, event, now);
}

/// The part of an event that concerns attempts and the queue.
fn enter_attempt(task: &mut Task, event: &TaskEvent, next: TaskState, now: Timestamp) {
    match event {
        TaskEvent::Unblocked | TaskEvent::Requeued => requeue(task, None),
        TaskEvent::Assigned {
            slot,
            model,
            endpoint,
            routing,
            ..
        } => {
            task.attempts.push(Attempt {
                number: task.attempt_number() + 1,
                slot: *slot,
                model: model.clone(),
                endpoint: endpoint.clone(),
                started: now,
                delivered: None,
                settled: None,
                head: None,
                failure: None,
                job: None,
                usage: None,
                uncounted_ms: 0,
                routing: routing.clone(),
                fault: None,
                malformed: 0,
            });
            requeue(task, None);
        }
        TaskEvent::Held { why, until } => {
            blame(task, Fault::Endpoint);
            end_attempt(task, why, now);
            requeue(task, Some(why.clone()));
            task.not_before = Some(*until);
        }
        TaskEvent::Delivered => on_attempt(task, |attempt| attempt.delivered = Some(now)),
        TaskEvent::AttemptFailed {
            why,
            retry_at,
            follow_up,
        } => {
            blame(task, Fault::Model);
            end_attempt(task, why, now);
            task.failures += 1;
            task.why = Some(why.clone());
            task.not_before = *retry_at;
            task.follow_up.clone_from(follow_up);
            task.unseen = next == TaskState::Dead;
        }
        TaskEvent::AgentLost { why, kept } => {
            let said = format!("{why}; {kept}");
            end_attempt(task, &said, now);
            task.losses += 1;
            requeue(task, Some(said));
        }
        TaskEvent::Revised { comment } => {
            requeue(task, None);
            task.follow_up = Some(comment.clone());
        }
        TaskEvent::Retried => {
            requeue(task, None);
            task.failures = 0;
            task.losses = 0;
            task.allowance_from = task.tokens.total();
            // Whoever starts it again wants it, however long it has waited.
            task.spec.ttl_ms = None;
        }
        TaskEvent::Postponed { by_ms } => postpone(task, *by_ms),
        TaskEvent::Discarded | TaskEvent::Cancelled | TaskEvent::Expired => {
            end_attempt(task, event.name(), now);
            task.unseen = false;
            task.archiving = task.workplace.is_some();
        }
        _ => {}
    }
}

/// The part of an event that concerns the work and its result.
fn enter_result(task: &mut Task, event: &TaskEvent, now: Timestamp) {
    match event {
        TaskEvent::Prepared { workplace, job } => {
            on_attempt(task, |attempt| attempt.job.clone_from(job));
            task.spec.base_commit.clone_from(&workplace.base_commit);
            task.workplace = Some(workplace.clone());
        }
        TaskEvent::Settled {
            head,
            commits,
            answer,
        } => {
            task.commits = *commits;
            task.answer.clone_from(answer);
            let head = head.clone();
            on_attempt(task, |attempt| {
                attempt.settled = Some(now);
                attempt.head = Some(head);
            });
        }
        TaskEvent::Verified { report } => {
            task.verify = Some(report.clone());
            task.follow_up = None;
            task.why = None;
            task.unseen = true;
        }
        TaskEvent::MergeStarted => task.why = None,
        TaskEvent::Merged { commit } => {
            task.merged.clone_from(commit);
            task.why = None;
            task.unseen = false;
            task.archiving = task.workplace.is_some();
        }
        TaskEvent::MergeRefused { why } => {
            task.why = Some(why.clone());
            task.unseen = true;
        }
        TaskEvent::Restored { workplace } => {
            task.workplace = Some(workplace.clone());
            task.archiving = false;
            task.why = None;
        }
        TaskEvent::Archived => {
            task.archiving = false;
            task.workplace = None;
        }
        TaskEvent::ArchiveFailed { why } => task.why = Some(why.clone()),
        TaskEvent::Seen => task.unseen = false,
        TaskEvent::AgentEnded {
            number,
            how,
            cpu_ms,
            peak_kib,
        } => {
            let usage = Usage {
                exit: how.clone(),
                cpu_ms: *cpu_ms,
                peak_kib: *peak_kib,
            };
            let attempt = task.attempts.iter_mut().find(|it| it.number == *number);
            if let Some(attempt) = attempt {
                attempt.usage = Some(usage);
            }
        }
        TaskEvent::Malformed { count } => on_attempt(task, |attempt| attempt.malformed += count),
        TaskEvent::Used { tokens } => task.tokens.add(*tokens),
        _ => {}
    }
}

fn requeue(task: &mut Task, why: Option<String>) {
    task.why = why;
    task.not_before = None;
    task.unseen = false;
}

/// Remembers whose fault ended the attempt, for the choice of the next one.
fn blame(task: &mut Task, fault: Fault) {
    on_attempt(task, |attempt| attempt.fault = Some(fault));
}

fn end_attempt(task: &mut Task, why: &str, now: Timestamp) {
    on_attempt(task, |attempt| {
        if attempt.settled.is_none() {
            attempt.settled = Some(now);
            attempt.failure = Some(why.to_owned());
        }
    });
}

/// Moves every deadline that is still to come.
fn postpone(task: &mut Task, by_ms: i64) {
    task.not_before = task.not_before.map(|moment| moment.shifted(by_ms));
    if task.attempts.is_empty() {
        task.uncounted_ms = task.uncounted_ms.saturating_add(by_ms);
    }
    on_attempt(task, |attempt| {
        if attempt.settled.is_none() {
            attempt.uncounted_ms = attempt.uncounted_ms.saturating_add(by_ms);
        }
    });
}

fn on_attempt(task: &mut Task, change: impl FnOnce(&mut Attempt)) {
    if let Some(attempt) = task.attempts.last_mut() {
        change(attempt);
    }
}

impl Task {
    /// There is something to merge.
    pub fn has_commits(&self) -> bool {
        self.commits > 0
    }
}
