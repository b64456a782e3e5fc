//! What is chosen, and what is learned from what came of it.

use super::*;
use crate::core::model::ModelName;
use crate::core::pool::SpareOrder;
use crate::core::router::Strategy;
use crate::core::runners::{BreakerState, GatewayReport};
use crate::core::settings::Selection;
use crate::core::task::Category;

/// Two models, a small one that is first by name and a large one.
fn two_models() -> State {
    let mut state = squad([]);
    let mut catalogue = Catalogue::clone(&state.catalogue);
    let endpoint = catalogue.endpoints.get_mut(&"e".into()).unwrap();
    let mut large = endpoint.models[&ModelName::from(MODEL)].clone();
    large.name = "large:32b".into();
    large.parameter_size = "32B".into();
    large.size = 20_000_000_000;
    endpoint.models.insert(large.name.clone(), large);
    state.catalogue = Arc::new(catalogue);
    state
}

fn chosen(state: &State) -> &str {
    let task = state.tasks.values().next().unwrap();
    &task.attempt().unwrap().model
}

fn worded(word: &str) -> TaskSpec {
    TaskSpec {
        model: Some(word.into()),
        ..prompt("do it")
    }
}

#[test]
fn the_words_fast_and_best_choose_by_rule_and_a_name_by_name() {
    let model_of = |spec: TaskSpec| {
        let state = when(two_models(), submit([spec])).state;
        chosen(&state).to_owned()
    };
    assert_eq!(model_of(worded("fast")), MODEL);
    assert_eq!(model_of(worded("best")), "large:32b");
    assert_eq!(model_of(worded("LARGE:32b")), "large:32b");
}

#[test]
fn a_configured_selection_stands_above_the_strategy_and_below_the_task() {
    let mut state = two_models();
    state.settings.router.strategy = Strategy::LeastLoaded;
    state.settings.models.selection = Selection::MostCapable;
    let after = when(state.clone(), submit([prompt("do it")])).state;
    assert_eq!(chosen(&after), "large:32b");
    assert_eq!(chosen(&when(state, submit([worded("fast")])).state), MODEL);
}

#[test]
fn a_task_without_a_category_gets_one_with_its_reason() {
    let state = when(squad([]), submit([prompt("fix the crash")])).state;
    let spec = &state.tasks[&TaskId(1)].spec;
    assert_eq!(spec.category, Category::Debugging);
    assert_eq!(spec.category_because.as_deref(), Some("the word \"fix\""));
    let said = TaskSpec {
        category_said: true,
        ..prompt("fix the crash")
    };
    let state = when(squad([]), submit([said])).state;
    assert_eq!(state.tasks[&TaskId(1)].spec.category, Category::General);
}

#[test]
fn a_discard_outweighs_the_tests_that_passed() {
    let verified = fact(1, Fact::Verified(report(VerifyOutcome::Passed)));
    let verifying = under_way(1, TaskState::Verifying);
    let state = when(squad([verifying]), verified).state;
    let mean = |state: &State| {
        let (good, bad) = state.learned.belief(Category::General, &MODEL.into(), 0.5);
        good / (good + bad)
    };
    let green = mean(&state);
    assert!(state.learned_dirty && green > 0.5, "{green}");
    let discard = command(Command::Discard { task: TaskId(1) });
    let thrown_away = mean(&when(state, discard).state);
    assert!(thrown_away < 0.45, "{thrown_away}");
}

#[test]
fn a_fault_of_the_endpoint_teaches_nothing_about_the_model() {
    let held = Fact::Held { why: "503".into() };
    let state = when(squad([under_way(1, TaskState::Running)]), fact(1, held)).state;
    assert_eq!(state.learned.models.len(), 0);
}

#[test]
fn a_task_waits_for_a_breaker_and_is_looked_at_again_when_it_may_be_tried() {
    let mut state = squad([]);
    let mut gateway = GatewayReport::default();
    let endpoint = gateway.endpoints.entry("e".into()).or_default();
    endpoint.breaker = BreakerState::Open {
        why: "refused".into(),
        retry_ms: 8_000,
    };
    update(&mut state, Input::Gateway(Arc::new(gateway)), NOW);
    let waiting = when(state, submit([prompt("do it")]));
    waiting.waits(1, "breaker is open: refused");
    let mut state = waiting.state;
    assert_eq!(state.deadline(), Some(Timestamp(NOW.0 + 8_000)));
    update(&mut state, Input::Tick, Timestamp(NOW.0 + 8_000));
    assert_eq!(state.tasks[&TaskId(1)].state, TaskState::Assigned);
}

/// A spare that is made for another model than the task then gets was made for nothing.
#[test]
fn what_is_looked_ahead_for_spares_is_what_is_chosen_later() {
    for strategy in Strategy::CONFIGURABLE {
        let mut state = two_models();
        state.settings.router.strategy = strategy;
        state.settings.max = MaxAgents::Fixed(0);
        state.settings.spares = 3;
        let outcome = when(state, submit((1..=3).map(|_| prompt("do it"))));
        let orders = outcome
            .outcome
            .effects
            .iter()
            .find_map(|effect| match effect {
                Effect::KeepSpares(orders) => Some(orders.clone()),
                _ => None,
            });
        let guessed: Vec<String> = orders
            .unwrap()
            .into_iter()
            .map(|order: SpareOrder| order.binding.model)
            .collect();
        let mut state = outcome.state;
        state.settings.max = MaxAgents::Fixed(3);
        update(&mut state, Input::Tick, NOW);
        let tasks = state.tasks.values();
        let given: Vec<String> = tasks
            .map(|it| it.attempt().unwrap().model.clone())
            .collect();
        assert_eq!(given, guessed, "{strategy:?}");
    }
}

/// The squad of `two_models`, and a second endpoint with the small one.
fn two_endpoints() -> State {
    let mut state = two_models();
    let mut catalogue = Catalogue::clone(&state.catalogue);
    let endpoint = catalogue.endpoints.get_mut(&"e".into()).unwrap();
    endpoint.models.get_mut(&MODEL.into()).unwrap().size = 4_200_000_000;
    let mut other = endpoint.clone();
    other.models.remove(&ModelName::from("large:32b"));
    catalogue.endpoints.insert("f".into(), other);
    state.catalogue = Arc::new(catalogue);
    state.settings.max = MaxAgents::Fixed(10);
    state
}

/// Each task's endpoint.
fn endpoints(state: &State) -> Vec<&str> {
    let tasks = state.tasks.values();
    tasks
        .map(|task| task.attempt().unwrap().endpoint.as_str())
        .collect()
}

#[test]
fn tasks_that_come_at_once_go_to_all_endpoints_that_are_free() {
    let mut state = two_endpoints();
    state.settings.router.strategy = Strategy::LeastLoaded;
    let named = |_| worded(MODEL);
    let state = when(state, submit((0..10).map(named))).state;
    let expected: Vec<&str> = ["e", "f"].into_iter().cycle().take(10).collect();
    assert_eq!(endpoints(&state), expected, "each waits for the one before");
    let first = state.tasks[&TaskId(1)].attempt().unwrap();
    let last = state.tasks[&TaskId(10)].attempt().unwrap();
    let wait = |attempt: &Attempt| attempt.routing.as_ref().unwrap().chosen.wait_ms;
    assert_eq!(wait(first), 0);
    assert!(wait(last) > 0);
}

#[test]
fn an_attempt_counts_until_the_gateway_has_seen_what_it_asks() {
    let mut state = two_endpoints();
    state.settings.router.strategy = Strategy::LeastLoaded;
    let mut state = when(state, submit([worded(MODEL)])).state;
    assert_eq!(endpoints(&state), ["e"]);
    let task = Arc::make_mut(state.tasks.get_mut(&TaskId(1)).unwrap());
    task.state = TaskState::Running;
    task.attempts.last_mut().unwrap().delivered = Some(NOW);
    let next = |state: &State| {
        let after = when(state.clone(), submit([worded(MODEL)])).state;
        endpoints(&after)[1].to_owned()
    };
    assert_eq!(next(&state), "f", "nothing was said since");
    state.gateway_at = Timestamp(NOW.0 + 1);
    assert_eq!(
        next(&state),
        "e",
        "the report knows of it, and says that nobody waits"
    );
}

#[test]
fn a_task_that_names_its_model_takes_nobodys_turn() {
    let mut state = two_models();
    state.settings.router.strategy = Strategy::RoundRobin;
    let tasks = [
        prompt("one"),
        worded("large:32b"),
        prompt("two"),
        worded("large:32b"),
        prompt("three"),
    ];
    state.settings.max = MaxAgents::Fixed(5);
    let state = when(state, submit(tasks)).state;
    let models: Vec<&str> = state
        .tasks
        .values()
        .map(|task| task.attempt().unwrap().model.as_str())
        .collect();
    let [one, two, three] = [models[0], models[2], models[4]];
    assert_ne!(one, two);
    assert_eq!(one, three);
}
