//! What actors report about an attempt.

use super::*;

#[test]
fn a_prepared_worktree_starts_the_agent() {
    let before = Task {
        workplace: None,
        ..under_way(1, TaskState::Assigned)
    };
    let mut after = Task {
        updated: NOW,
        ..under_way(1, TaskState::Running)
    };
    // The user's uncommitted work is known as a commit once the worktree stands.
    after.spec.base_commit = workplace(1).base_commit;
    when(squad([before]), fact(1, prepared(1)))
        .then(&[after], |now| vec![Effect::RunAgent(Arc::clone(&now[0]))]);
}

#[test]
fn a_fact_about_an_older_attempt_is_ignored() {
    let second = Task {
        attempts: vec![attempt(1, 2), attempt(2, 1)],
        ..under_way(1, TaskState::Running)
    };
    let settled = Fact::Settled {
        head: "h".into(),
        commits: 1,
        answer: None,
    };
    ignored(std::slice::from_ref(&second), fact(1, settled));
    ignored(
        &[second],
        fact(
            1,
            Fact::Lost {
                why: String::new(),
                kept: String::new(),
            },
        ),
    );
}

#[test]
fn a_fact_said_twice_or_of_an_unknown_task_is_ignored() {
    let running = under_way(1, TaskState::Running);
    ignored(std::slice::from_ref(&running), fact(1, prepared(2)));
    let mut delivered = running;
    delivered.attempts[0].delivered = Some(START);
    ignored(std::slice::from_ref(&delivered), fact(1, Fact::Delivered));
    ignored(&[delivered], fact(9, Fact::Delivered));
    ignored(
        &[under_way(1, TaskState::Merged)],
        about(1, TaskFact::Merged(Some("c".into()))),
    );
    ignored(
        &[under_way(1, TaskState::Review)],
        about(1, TaskFact::MergeRefused("no".into())),
    );
}

#[test]
fn a_settled_attempt_is_verified_and_gives_its_slot_back() {
    let settled = Attempt {
        settled: Some(NOW),
        head: Some("h".into()),
        ..attempt(1, 1)
    };
    let after = Task {
        attempts: vec![settled],
        commits: 2,
        updated: NOW,
        ..under_way(1, TaskState::Verifying)
    };
    let fact = fact(
        1,
        Fact::Settled {
            head: "h".into(),
            commits: 2,
            answer: None,
        },
    );
    let when = when(squad([under_way(1, TaskState::Running)]), fact).then(&[after], |now| {
        vec![stop(1), Effect::Verify(Arc::clone(&now[0]))]
    });
    assert_eq!(when.state.free_slots(), [AgentSlot(1), AgentSlot(2)]);
}

#[test]
fn an_agent_that_goes_after_it_has_settled_is_not_missed() {
    let verifying = under_way(1, TaskState::Verifying);
    let lost = Fact::Lost {
        why: "ended".into(),
        kept: String::new(),
    };
    ignored(&[verifying], fact(1, lost));
}

#[test]
fn a_failed_attempt_is_followed_by_another_after_a_wait() {
    let mut before = under_way(1, TaskState::Running);
    before.spec.retries = 1;
    let after = Task {
        attempts: faulty("no edit", Fault::Model),
        failures: 1,
        why: Some("no edit".into()),
        not_before: Some(Timestamp(NOW.0 + 10_000)),
        updated: NOW,
        ..Task {
            state: TaskState::Failed,
            ..before.clone()
        }
    };
    let failed = when(
        squad([before]),
        fact(
            1,
            Fact::Failed {
                why: "no edit".into(),
            },
        ),
    )
    .then(std::slice::from_ref(&after), |_| vec![stop(1)]);
    assert_eq!(failed.state.deadline(), after.not_before);
    let mut state = failed.state;
    let outcome = update(&mut state, Input::Tick, Timestamp(NOW.0 + 10_000));
    let again = &state.tasks[&TaskId(1)];
    assert_eq!(
        (again.state, again.attempt_number()),
        (TaskState::Assigned, 2)
    );
    assert_eq!(outcome.effects, [Effect::Prepare(Arc::clone(again))]);
}

#[test]
fn the_last_failed_attempt_is_the_end_and_keeps_the_worktree() {
    let after = Task {
        attempts: faulty("no edit", Fault::Model),
        failures: 1,
        why: Some("no edit".into()),
        unseen: true,
        updated: NOW,
        ..under_way(1, TaskState::Dead)
    };
    let failed = fact(
        1,
        Fact::Failed {
            why: "no edit".into(),
        },
    );
    when(squad([under_way(1, TaskState::Running)]), failed).then(&[after], |_| vec![stop(1)]);
}

#[test]
fn a_fault_of_the_surroundings_costs_no_attempt() {
    let after = Task {
        attempts: faulty("no space", Fault::Endpoint),
        why: Some("no space".into()),
        not_before: Some(Timestamp(NOW.0 + 10_000)),
        updated: NOW,
        ..under_way(1, TaskState::Queued)
    };
    let held = fact(
        1,
        Fact::Held {
            why: "no space".into(),
        },
    );
    when(squad([under_way(1, TaskState::Assigned)]), held)
        .then(&[after], |_| vec![stop(1)])
        .waits(1, "no space");
}

#[test]
fn a_lost_agent_is_replaced_at_once_but_not_for_ever() {
    let lost = || {
        fact(
            1,
            Fact::Lost {
                why: "killed".into(),
                kept: "1 commit".into(),
            },
        )
    };
    let first = when(squad([under_way(1, TaskState::Running)]), lost());
    let again = &first.state.tasks[&TaskId(1)];
    assert_eq!(
        (again.state, again.attempt_number()),
        (TaskState::Assigned, 2)
    );
    let often = Task {
        losses: 3,
        ..under_way(1, TaskState::Running)
    };
    let fourth = when(squad([often]), lost());
    let waiting = &fourth.state.tasks[&TaskId(1)];
    assert_eq!(waiting.state, TaskState::Queued);
    assert_eq!(fourth.state.deadline(), Some(Timestamp(NOW.0 + 10_000)));
    let hopeless = Task {
        losses: 19,
        ..under_way(1, TaskState::Running)
    };
    let last = when(squad([hopeless]), lost());
    assert_eq!(last.state.tasks[&TaskId(1)].state, TaskState::Dead);
}

#[test]
fn an_attempt_is_stopped_at_its_time_limit() {
    let mut state = squad([under_way(1, TaskState::Running)]);
    assert_eq!(state.deadline(), Some(Timestamp(START.0 + 7_200_000)));
    let outcome = update(&mut state, Input::Tick, Timestamp(START.0 + 7_200_000));
    assert_eq!(outcome.effects, [stop(1)]);
    assert_eq!(state.tasks[&TaskId(1)].state, TaskState::Dead);
}

#[test]
fn what_an_agent_says_is_shown_as_long_as_it_holds_a_task() {
    let report = AgentReport {
        note: Some("edited a.rs".into()),
        ..AgentReport::default()
    };
    let mut state = squad([under_way(1, TaskState::Running)]);
    update(&mut state, fact(1, Fact::Reported(report.clone())), NOW);
    assert_eq!(state.view(NOW, None).agents[0].report, report);
    update(
        &mut state,
        command(Command::Cancel { task: TaskId(1) }),
        NOW,
    );
    assert_eq!(
        state.view(NOW, None).agents[0].report,
        AgentReport::default()
    );
}
