//! Logs in which it is known what a good choice would have been.

use super::*;
use serde_json::json;

const MINUTE: u64 = 60_000;

/// One request of an attempt of one minute's work at most: 1,000 tokens in, 100 out.
fn served(task: u64, attempt: u32, model: &str, at: u64) -> Served {
    let (prefill, decode) = match model {
        "big:32b" => (1_000_000, 10_000_000),
        _ => (100_000, 1_000_000),
    };
    serde_json::from_value(json!({
        "id": task * 10 + u64::from(attempt), "at": at, "client": format!("agent-{task}"),
        "task": task, "attempt": attempt, "category": "debugging", "model": model,
        "endpoint": "gpu", "prompt_tokens": 1_000, "output_tokens": 100, "prefill_us": prefill,
        "decode_us": decode, "total_us": prefill + decode + 50_000, "outcome": {"ended": "done"},
    }))
    .unwrap()
}

/// The small model fails at every task, and the big one mends it; then only the small one is tried.
fn lopsided() -> Vec<Served> {
    let mut log = Vec::new();
    for task in 0..20 {
        log.push(served(task, 1, "small:3b", task * 10 * MINUTE));
        log.push(served(task, 2, "big:32b", (task * 10 + 5) * MINUTE));
    }
    log
}

fn capacities() -> BTreeMap<EndpointName, Capacity> {
    BTreeMap::from([("gpu".into(), Capacity { slots: 1, room: 1 })])
}

#[test]
fn an_attempt_that_another_followed_has_failed() {
    let log = lopsided();
    let history = History::of(&log);
    assert_eq!((history.attempts(), history.successes()), (40, 20));
    assert!(history.has_choice());
    let fix = log[0].category;
    let small = history.hindsight.chance(fix, &"small:3b".into());
    let big = history.hindsight.chance(fix, &"big:32b".into());
    assert!(small < 0.25 && big > 0.8, "{small}, {big}");
}

#[test]
fn a_strategy_that_learns_moves_to_what_succeeds_and_one_that_does_not_stays() {
    let log = lopsided();
    let history = History::of(&log);
    let of = |strategy| history.reroute(strategy, 7, &capacities());
    let (affinity, turns) = (of(Strategy::Affinity), of(Strategy::RoundRobin));
    let to_big = |rerouted: &Rerouted| {
        let requests = rerouted.requests.iter();
        requests.filter(|it| it.model == "big:32b".into()).count()
    };
    assert!(to_big(&affinity) > 30, "{}", to_big(&affinity));
    assert_eq!(to_big(&turns), 20);
    assert!(affinity.successes > turns.successes + 5.0);
    assert_eq!(
        affinity,
        of(Strategy::Affinity),
        "the same seed chooses the same"
    );
}

#[test]
fn what_is_moved_takes_its_tokens_at_the_speed_of_its_new_place() {
    let log = lopsided();
    let history = History::of(&log);
    let rerouted = history.reroute(Strategy::LeastLoaded, 7, &capacities());
    for (before, after) in log.iter().zip(&rerouted.requests) {
        let expected = match after.model.as_str() {
            "big:32b" => 11_050_000,
            _ => 1_150_000,
        };
        assert_eq!(
            after.total_us, expected,
            "{} → {}",
            before.model, after.model
        );
    }
    // Nothing waits, so whatever is in memory is taken again: one load instead of forty.
    let models: std::collections::BTreeSet<_> =
        rerouted.requests.iter().map(|it| &it.model).collect();
    assert_eq!(models.len(), 1);
}

#[test]
fn an_attempt_whose_task_named_its_model_keeps_it() {
    let mut log = lopsided();
    for served in &mut log {
        served.named = true;
    }
    let history = History::of(&log);
    let rerouted = history.reroute(Strategy::Affinity, 7, &capacities());
    assert_eq!((rerouted.moved, &rerouted.requests), (0, &log));
    assert!((rerouted.successes - history.successes() as f64).abs() < f64::EPSILON);
}

#[test]
fn without_attempts_or_another_place_nothing_moves() {
    let mut log = vec![served(1, 1, "small:3b", 0)];
    assert!(!History::of(&log).has_choice());
    let rerouted = History::of(&log).reroute(Strategy::Random, 1, &capacities());
    assert_eq!((rerouted.moved, &rerouted.requests), (0, &log));
    log[0].task = None;
    let history = History::of(&log);
    let rerouted = history.reroute(Strategy::Hybrid, 1, &capacities());
    assert_eq!((history.attempts(), &rerouted.requests), (0, &log));
}
