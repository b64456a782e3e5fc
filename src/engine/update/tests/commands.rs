//! What may be asked, what is refused, and what stopping means.

use super::*;

#[test]
fn cancelling_stops_the_agent_and_archives_the_work() {
    let after = Task {
        attempts: ended("cancelled"),
        archiving: true,
        updated: NOW,
        ..under_way(1, TaskState::Cancelled)
    };
    let cancel = command(Command::Cancel { task: TaskId(1) });
    when(squad([under_way(1, TaskState::Running)]), cancel).then(&[after], |now| {
        vec![stop(1), Effect::Archive(Arc::clone(&now[0]))]
    });
}

#[test]
fn stopping_everything_leaves_results_alone() {
    let tasks = [
        under_way(1, TaskState::Running),
        task(2, TaskState::Queued),
        under_way(3, TaskState::Review),
        under_way(4, TaskState::Merging),
    ];
    let when = when(squad(tasks), command(Command::StopAll));
    let states: Vec<TaskState> = when.state.tasks.values().map(|task| task.state).collect();
    let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    assert_eq!(names, ["cancelled", "cancelled", "review", "merging"]);
}

#[test]
fn a_late_word_from_the_archive_does_not_take_a_restored_worktree_away() {
    let archiving = Task {
        archiving: true,
        ..under_way(1, TaskState::Cancelled)
    };
    let mut state = when(
        squad([archiving]),
        about(1, TaskFact::Restored(workplace(1))),
    )
    .state;
    update(&mut state, about(1, TaskFact::Archived), NOW);
    let restored = &state.tasks[&TaskId(1)];
    assert_eq!(
        (restored.state, restored.workplace.clone()),
        (TaskState::Review, Some(workplace(1)))
    );
}

#[test]
fn a_submission_is_taken_whole_or_not_at_all() {
    when(squad([]), submit([prompt("a"), prompt(" \n")]))
        .then(&[], |_| vec![])
        .refused("is empty");
    when(squad([]), submit([])).refused("no task");
    when(
        squad([]),
        submit([prompt("a"), prompt(&"x".repeat(2 << 20))]),
    )
    .refused("bytes");
    let after = TaskSpec {
        after: vec![TaskId(7)],
        ..prompt("a")
    };
    when(squad([]), submit([after])).refused("no task 7");
    let circle = NewTask {
        spec: prompt("a"),
        after_index: vec![0],
    };
    when(
        squad([]),
        command(Command::Submit {
            tasks: vec![circle],
        }),
    )
    .refused("earlier ones");
}

#[test]
fn the_same_key_is_the_same_task() {
    let keyed = || TaskSpec {
        key: Some("k".into()),
        ..prompt("do 1")
    };
    let mut state = when(squad([]), submit([keyed()])).state;
    let outcome = update(&mut state, submit([prompt("do 2"), keyed()]), NOW);
    let Some(Answer::Now(Ok(Reply::Submitted { tasks }))) = outcome.answer else {
        panic!()
    };
    assert_eq!(tasks, [TaskId(2), TaskId(1)]);
    assert_eq!(state.tasks.len(), 2);
}

#[test]
fn what_cannot_be_is_refused_with_the_state() {
    let state = || squad([under_way(1, TaskState::Merged)]);
    let id = TaskId(1);
    when(state(), command(Command::Cancel { task: id })).refused("task 1 is merged");
    when(
        state(),
        command(Command::Merge {
            task: id,
            strategy: None,
        }),
    )
    .refused("is merged");
    when(state(), command(Command::Restore { task: id })).refused("only a discarded");
    when(state(), command(Command::Cancel { task: TaskId(5) })).refused("no task 5");
    let text = String::new;
    when(
        state(),
        command(Command::Answer {
            slot: AgentSlot(1),
            text: text(),
        }),
    )
    .refused("no task");
    let review = squad([under_way(1, TaskState::Review)]);
    when(
        review,
        command(Command::Revise {
            task: id,
            comment: text(),
        }),
    )
    .refused("comment");
}
