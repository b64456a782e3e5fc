//! Jumped wall clocks and stopped monotonic ones, fed as data.

use super::*;
use crate::core::clock::{Clock, Jump, Reading};

const HOUR: u64 = 3_600_000;

fn asleep(millis: u64) -> Input {
    Input::Jumped(Jump {
        millis: i64::try_from(millis).unwrap(),
        asleep: millis,
    })
}

fn set(millis: i64) -> Input {
    Input::Jumped(Jump { millis, asleep: 0 })
}

fn state_of(state: &State) -> TaskState {
    state.tasks[&TaskId(1)].state
}

#[test]
fn a_night_asleep_ends_no_lease() {
    let limit = TaskSettings::default().time_limit;
    let mut state = squad([under_way(1, TaskState::Running)]);
    let morning = Timestamp(START.0 + 9 * HOUR);
    let outcome = update(&mut state, asleep(8 * HOUR), morning);
    assert_eq!(outcome.effects, []);
    let task = &state.tasks[&TaskId(1)];
    // It is shown when it began, and ends when it has worked for as long as it may.
    assert_eq!(task.attempts[0].started, START);
    let due = START
        .plus(limit)
        .plus(std::time::Duration::from_millis(8 * HOUR));
    assert_eq!(state.deadline(), Some(due));
    update(&mut state, Input::Tick, due);
    assert_eq!(state_of(&state), TaskState::Dead);
}

#[test]
fn a_night_asleep_expires_no_task_and_ends_no_backoff() {
    let mut mortal = task(1, TaskState::Queued);
    mortal.spec.ttl_ms = Some(HOUR);
    mortal.not_before = Some(NOW);
    let mut state = squad([mortal]);
    state.paused = true;
    update(&mut state, asleep(8 * HOUR), Timestamp(START.0 + 8 * HOUR));
    let task = &state.tasks[&TaskId(1)];
    assert_eq!(task.not_before, Some(Timestamp(NOW.0 + 8 * HOUR)));
    assert_eq!(task.expires_at(), Some(Timestamp(START.0 + 9 * HOUR)));
    assert_eq!((task.state, task.created), (TaskState::Queued, START));
}

#[test]
fn a_clock_set_back_makes_nothing_wait_longer() {
    let mut waiting = task(1, TaskState::Queued);
    waiting.not_before = Some(NOW);
    let mut state = squad([waiting]);
    let back = 1_000_000_i64;
    update(&mut state, set(-back), Timestamp(NOW.0 - 1_000_500));
    assert_eq!(state_of(&state), TaskState::Queued);
    update(&mut state, Input::Tick, Timestamp(NOW.0 - 1_000_000));
    assert_eq!(state_of(&state), TaskState::Assigned);
}

#[test]
fn a_jump_survives_a_restart() {
    let mut state = squad([under_way(1, TaskState::Running)]);
    update(&mut state, asleep(8 * HOUR), Timestamp(START.0 + 8 * HOUR));
    assert!(state.dirty.contains(&TaskId(1)));
    let stored = serde_json::to_string(&*state.tasks[&TaskId(1)]).unwrap();
    let again: Task = serde_json::from_str(&stored).unwrap();
    assert_eq!(state.time_limit_of(&again), state.deadline());
}

#[test]
fn what_waits_for_no_time_is_left_alone() {
    let mut state = squad([under_way(1, TaskState::Review), task(2, TaskState::Queued)]);
    state.paused = true;
    let before = state.tasks.clone();
    update(&mut state, asleep(8 * HOUR), NOW);
    assert_eq!(state.tasks, before);
    assert_eq!(state.fresh.len(), 1, "{:?}", state.fresh);
}

#[test]
fn an_attempt_has_its_whole_time_awake_however_the_clocks_jump() {
    let limit = u64::try_from(TaskSettings::default().time_limit.as_millis()).unwrap();
    let read = |wall: u64, awake: u64, total: u64| Reading {
        wall: Timestamp(wall),
        awake: std::time::Duration::from_millis(awake),
        total: std::time::Duration::from_millis(total),
    };
    let mut state = squad([under_way(1, TaskState::Running)]);
    let mut clock = Clock::new(read(START.0, 0, 0));
    let readings = [
        // Asleep for a night, set forward by a day, set back by two.
        read(START.0 + 8 * HOUR, 1_000, 8 * HOUR),
        read(START.0 + 32 * HOUR, 2_000, 8 * HOUR + 1_000),
        read(START.0, 3_000, 8 * HOUR + 2_000),
        read(
            START.0 + limit - 4_000,
            limit - 1_000,
            8 * HOUR + limit - 2_000,
        ),
    ];
    for reading in readings {
        let input = clock.tell(reading).map_or(Input::Tick, Input::Jumped);
        update(&mut state, input, reading.wall);
        assert_eq!(state_of(&state), TaskState::Running, "{reading:?}");
    }
    let wall = START.0 + limit - 3_000;
    update(&mut state, Input::Tick, Timestamp(wall));
    assert_eq!(state_of(&state), TaskState::Dead);
}
