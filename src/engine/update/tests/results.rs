//! From a verified result to a merged one.

use super::*;

#[test]
fn a_green_result_waits_for_a_human_unless_it_may_merge() {
    let judged = |autonomy| {
        let mut before = Task {
            commits: 1,
            ..under_way(1, TaskState::Verifying)
        };
        before.spec.autonomy = autonomy;
        let after = Task {
            verify: Some(report(VerifyOutcome::Passed)),
            unseen: true,
            updated: NOW,
            ..before.clone()
        };
        (
            before,
            after,
            fact(1, Fact::Verified(report(VerifyOutcome::Passed))),
        )
    };
    let (before, after, verified) = judged(Autonomy::Review);
    when(squad([before]), verified).then(
        &[Task {
            state: TaskState::Review,
            ..after
        }],
        |_| vec![],
    );
    let (before, after, verified) = judged(Autonomy::Merge);
    when(squad([before]), verified).then(
        &[Task {
            state: TaskState::Merging,
            ..after
        }],
        |now| vec![Effect::Merge(Arc::clone(&now[0]), MergeStrategy::Squash)],
    );
}

#[test]
fn a_red_result_goes_back_with_its_output_then_to_a_human() {
    let mut before = Task {
        commits: 1,
        ..under_way(1, TaskState::Verifying)
    };
    before.spec = TaskSpec {
        retries: 1,
        autonomy: Autonomy::Merge,
        ..before.spec
    };
    let red = || fact(1, Fact::Verified(report(VerifyOutcome::Failed)));
    let first = when(squad([before.clone()]), red());
    let back = &first.state.tasks[&TaskId(1)];
    assert_eq!(back.state, TaskState::Failed);
    assert!(
        back.follow_up
            .as_deref()
            .unwrap_or_default()
            .contains("boom")
    );
    let last = when(
        squad([Task {
            failures: 1,
            ..before
        }]),
        red(),
    );
    assert_eq!(last.state.tasks[&TaskId(1)].state, TaskState::Review);
}

#[test]
fn an_answered_question_needs_no_merge() {
    let mut before = Task {
        workplace: None,
        ..under_way(1, TaskState::Verifying)
    };
    before.spec = TaskSpec {
        mode: Mode::Ask,
        autonomy: Autonomy::Merge,
        ..before.spec
    };
    let after = Task {
        verify: Some(report(VerifyOutcome::NotVerified)),
        updated: NOW,
        ..Task {
            state: TaskState::Merged,
            ..before.clone()
        }
    };
    let verified = fact(1, Fact::Verified(report(VerifyOutcome::NotVerified)));
    when(squad([before]), verified).then(&[after], |_| vec![]);
}

#[test]
fn a_merge_lets_its_worktree_go_and_the_next_task_start() {
    let merging = under_way(1, TaskState::Merging);
    let mut next = task(2, TaskState::Blocked);
    next.spec.after = vec![TaskId(1)];
    let when = when(
        squad([merging, next]),
        about(1, TaskFact::Merged(Some("c".into()))),
    );
    let [done, next] = when.state.tasks.values().collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert_eq!((done.state, done.archiving), (TaskState::Merged, true));
    assert_eq!(next.state, TaskState::Assigned);
    let expected = [
        Effect::Archive(Arc::clone(done)),
        Effect::Prepare(Arc::clone(next)),
    ];
    assert_eq!(when.outcome.effects, expected);
    assert_eq!(when.outcome.later, [(TaskId(1), Ok(Reply::Done))]);
}

#[test]
fn a_refused_merge_is_back_in_review_with_the_reason() {
    let after = Task {
        why: Some("conflict".into()),
        unseen: true,
        updated: NOW,
        ..under_way(1, TaskState::Review)
    };
    let refused = about(1, TaskFact::MergeRefused("conflict".into()));
    let when = when(squad([under_way(1, TaskState::Merging)]), refused).then(&[after], |_| vec![]);
    assert_eq!(
        when.outcome.later,
        [(TaskId(1), Err(Refusal::user("conflict")))]
    );
}
