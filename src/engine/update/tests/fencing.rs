//! A late agent of an old attempt can change nothing, whatever it says and in whatever order.

use proptest::prelude::*;

use super::*;
use crate::core::task::Tokens;

/// Attempts of the task in these tests; only the last one holds the lease.
const ATTEMPTS: u32 = 3;

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::Prepared {
            workplace: workplace(9),
            job: None,
        }),
        Just(Fact::Reported(AgentReport::default())),
        Just(Fact::Delivered),
        Just(Fact::Settled {
            head: "late".into(),
            commits: 7,
            answer: Some("late".into()),
        }),
        Just(Fact::Failed { why: "late".into() }),
        Just(Fact::Held { why: "late".into() }),
        Just(Fact::Lost {
            why: "late".into(),
            kept: "late".into(),
        }),
        Just(Fact::Verified(report(VerifyOutcome::Passed))),
        Just(Fact::Answered {
            text: "late".into(),
            answer: "late".into(),
        }),
        Just(Fact::Used(Tokens {
            sent: 1,
            received: 1,
            requests: 1,
        })),
    ]
}

fn in_its_third_attempt(state: TaskState) -> State {
    let task = Task {
        attempts: (1..=ATTEMPTS).map(|number| attempt(number, 1)).collect(),
        commits: 1,
        // Nothing is due by time while this is watched.
        not_before: Some(NOW),
        ..under_way(1, state)
    };
    let mut state = squad([task]);
    // Nothing starts by itself while this is watched.
    state.paused = true;
    state
}

proptest! {
    #[test]
    fn facts_of_old_attempts_change_nothing_in_any_order(
        state in prop::sample::select(TaskState::ALL.to_vec()),
        facts in prop::collection::vec((0..ATTEMPTS, any_fact()), 1..12),
    ) {
        let mut squad = in_its_third_attempt(state);
        let before = Task::clone(&squad.tasks[&TaskId(1)]);
        let reports = squad.reports.clone();
        for (number, fact) in facts {
            let charge = matches!(fact, Fact::Used(_));
            let task = TaskId(1);
            let outcome = update(&mut squad, Input::Attempt { task, number, fact }, START);
            prop_assert_eq!(outcome.effects, []);
            prop_assert!(charge || squad.fresh.is_empty());
            squad.fresh.clear();
        }
        // Tokens were spent, whoever spent them.
        let after = Task {
            tokens: before.tokens,
            updated: before.updated,
            ..Task::clone(&squad.tasks[&TaskId(1)])
        };
        prop_assert_eq!(after, before);
        prop_assert_eq!(squad.reports, reports);
    }
}
