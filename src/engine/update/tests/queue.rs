//! Who gets a slot, when, and what is said about the others.

use super::*;

#[test]
fn a_submitted_task_gets_the_first_free_slot_and_a_worktree() {
    let expected = Task {
        attempts: vec![Attempt {
            started: NOW,
            ..attempt(1, 1)
        }],
        created: NOW,
        updated: NOW,
        ..task(1, TaskState::Assigned)
    };
    when(squad([]), submit([prompt("do 1")])).then(&[expected], |now| {
        vec![Effect::Prepare(Arc::clone(&now[0]))]
    });
}

#[test]
fn priority_goes_before_age_and_age_before_nothing() {
    let mut state = squad([]);
    state.settings.max = MaxAgents::Fixed(1);
    let urgent = TaskSpec {
        priority: Priority::High,
        ..prompt("c")
    };
    let when = when(state, submit([prompt("a"), prompt("b"), urgent]));
    let states: Vec<TaskState> = when.state.tasks.values().map(|task| task.state).collect();
    assert_eq!(
        states,
        [TaskState::Queued, TaskState::Queued, TaskState::Assigned]
    );
}

#[test]
fn nothing_starts_without_aider_without_a_model_or_in_a_pause() {
    let queued = || squad([task(1, TaskState::Queued)]);
    let tick = |state| when(state, Input::Tick).then(&[task(1, TaskState::Queued)], |_| vec![]);
    tick(State {
        installation: Installation::Unknown,
        ..queued()
    })
    .waits(1, "looking for Aider");
    tick(State {
        catalogue: Arc::default(),
        ..queued()
    })
    .waits(1, "no endpoint");
    tick(State {
        paused: true,
        ..queued()
    })
    .waits(1, "paused");
}

#[test]
fn a_task_without_a_model_does_not_hold_up_the_next() {
    let mut picky = task(1, TaskState::Queued);
    picky.spec.model = Some("other".into());
    let when = when(squad([picky, task(2, TaskState::Queued)]), Input::Tick);
    when.waits(1, "other:latest is not installed");
    assert_eq!(when.state.tasks[&TaskId(2)].state, TaskState::Assigned);
}

#[test]
fn a_task_expires_only_before_its_first_attempt() {
    let old = |task: Task| Task {
        spec: TaskSpec {
            ttl_ms: Some(1),
            ..task.spec.clone()
        },
        ..task
    };
    let expired = when(squad([old(task(1, TaskState::Queued))]), Input::Tick);
    assert_eq!(expired.state.tasks[&TaskId(1)].state, TaskState::Expired);
    let again = when(expired.state, command(Command::Retry { task: TaskId(1) }));
    assert_eq!(again.state.tasks[&TaskId(1)].state, TaskState::Assigned);
    let revised = when(squad([old(under_way(1, TaskState::Queued))]), Input::Tick);
    assert_eq!(revised.state.tasks[&TaskId(1)].state, TaskState::Assigned);
}

#[test]
fn a_task_that_only_waits_for_a_slot_does_not_wake_the_engine() {
    let ripe = Task {
        not_before: Some(START),
        ..task(1, TaskState::Queued)
    };
    let mut state = squad([ripe]);
    state.paused = true;
    assert_eq!(state.deadline(), Some(START));
    update(&mut state, Input::Tick, NOW);
    assert_eq!(state.deadline(), None);
}

#[test]
fn a_task_waits_for_earlier_ones_of_its_submission_and_says_so() {
    let second = NewTask {
        spec: prompt("b"),
        after_index: vec![0],
    };
    let first = NewTask {
        spec: prompt("a"),
        after_index: vec![],
    };
    let when1 = when(
        squad([]),
        command(Command::Submit {
            tasks: vec![first, second],
        }),
    );
    assert_eq!(when1.state.tasks[&TaskId(2)].state, TaskState::Blocked);
    when1.waits(2, "waits for task 1, which is assigned");
    let cancelled = when(when1.state, command(Command::Cancel { task: TaskId(1) }));
    cancelled.waits(2, "which is cancelled: start that one again");
}
