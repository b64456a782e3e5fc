//! What the medic and the quotas do to tasks, and how the squad is.

use super::*;
use crate::core::agent::AgentState;
use crate::core::health::Health;
use crate::core::medic::Treatment;
use crate::core::task::Tokens;

fn tokens(received: u64) -> Tokens {
    Tokens {
        sent: 0,
        received,
        requests: 1,
    }
}

fn limited(task: Task, limit: usize) -> State {
    let mut state = squad([task]);
    state.settings.quota.task_tokens = limit;
    state
}

#[test]
fn a_treatment_is_an_event_and_changes_nothing_else() {
    let before = under_way(1, TaskState::Running);
    let treated = Fact::Treated {
        what: Treatment::Nudged,
        why: "silence".into(),
    };
    let after = Task {
        updated: NOW,
        ..before.clone()
    };
    let when = when(squad([before]), fact(1, treated)).then(&[after], |_| vec![]);
    let event = TaskEvent::Treated {
        what: Treatment::Nudged,
        why: "silence".into(),
    };
    assert_eq!(
        when.state.fresh[0].what,
        What::Task {
            task: TaskId(1),
            event
        }
    );
}

#[test]
fn a_task_over_a_quota_is_dead_with_its_worktree_whatever_retries_are_left() {
    let mut before = under_way(1, TaskState::Running);
    before.spec.retries = 5;
    let over = Fact::OverQuota {
        why: "too large".into(),
    };
    let after = Task {
        state: TaskState::Dead,
        why: Some("too large".into()),
        failures: 1,
        attempts: faulty("too large", Fault::Model),
        unseen: true,
        updated: NOW,
        ..before.clone()
    };
    when(squad([before]), fact(1, over)).then(&[after], |_| vec![stop(1)]);
}

#[test]
fn tokens_are_warned_about_once_and_end_the_task_above_the_limit() {
    let state = limited(under_way(1, TaskState::Running), 100);
    let kinds = |state: &State| -> Vec<&'static str> {
        let name = |event: &Arc<Event>| match &event.what {
            What::Task { event, .. } => event.name(),
            What::Squad { .. } => "squad",
        };
        state.fresh.iter().map(name).collect()
    };
    let first = when(state, fact(1, Fact::Used(tokens(85))));
    assert_eq!(kinds(&first.state), ["charged", "warned"]);
    let second = when(first.state, fact(1, Fact::Used(tokens(5))));
    assert_eq!(kinds(&second.state), ["charged", "warned", "charged"]);
    let third = when(second.state, fact(1, Fact::Used(tokens(11))));
    assert_eq!(third.outcome.effects, [stop(1)]);
    assert_eq!(third.state.tasks[&TaskId(1)].state, TaskState::Dead);
}

#[test]
fn a_task_that_is_started_again_has_its_allowance_again() {
    let mut dead = under_way(1, TaskState::Dead);
    dead.tokens = tokens(101);
    let again = when(
        limited(dead, 100),
        command(Command::Retry { task: TaskId(1) }),
    );
    let mut state = again.state;
    let number = state.tasks[&TaskId(1)].attempt_number();
    assert_eq!(number, 2);
    let input = Input::Attempt {
        task: TaskId(1),
        number,
        fact: Fact::Used(tokens(50)),
    };
    update(&mut state, input, NOW);
    assert_eq!(state.tasks[&TaskId(1)].state, TaskState::Assigned);
}

#[test]
fn without_room_nothing_new_is_assigned_until_there_is_room_again() {
    let held = when(
        squad([task(1, TaskState::Queued)]),
        Input::Room(Some("only 1 MiB free".into())),
    );
    held.waits(1, "only 1 MiB free");
    assert!(held.outcome.effects.is_empty());
    assert_eq!(
        held.state.view(NOW, None).health,
        Health::Degraded("only 1 MiB free".into())
    );
    let again = when(held.state, Input::Room(None));
    assert!(matches!(
        again.outcome.effects.as_slice(),
        [Effect::Prepare(_)]
    ));
    let squad_events: Vec<_> = again
        .state
        .fresh
        .iter()
        .filter(|event| matches!(event.what, What::Squad { .. }))
        .collect();
    assert_eq!(squad_events.len(), 2, "{squad_events:?}");
}

#[test]
fn the_squad_is_as_its_worst_part() {
    let mut state = squad([under_way(1, TaskState::Running)]);
    let health = |state: &State| state.view(NOW, None).health;
    assert_eq!(health(&state), Health::Ok);
    let mut unasked = state.clone();
    let url = "http://127.0.0.1:1";
    let endpoints = [("e".into(), Endpoint::new(url))].into();
    unasked.catalogue = Arc::new(Catalogue { endpoints });
    assert_eq!(health(&unasked), Health::Unknown, "nobody has looked yet");
    let report = AgentReport {
        state: AgentState::Working,
        health: Health::Down("its process is gone".into()),
        ..AgentReport::default()
    };
    state.reports.insert(AgentSlot(1), report.clone());
    // What an agent that holds no task said last is over.
    state.reports.insert(AgentSlot(2), report);
    assert_eq!(
        health(&state),
        Health::Degraded("agent 1: its process is gone".into())
    );
    state.installation = Installation::Failed { why: "no".into() };
    assert!(matches!(health(&state), Health::Down(_)));
}
