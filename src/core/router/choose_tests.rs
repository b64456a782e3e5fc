//! The choice as tables, and what holds in any world.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Values;

use super::*;
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::model::{Capability, Model, Residency};
use crate::core::router::candidate::Fits;
use crate::core::router::learned::Lesson;
use crate::core::router::reward::{Ending, Rounds, reward};
use crate::core::runners::{BreakerState, EndpointLoad, GatewayReport, ModelLoad, RunnerState};
use crate::core::verify::VerifyOutcome;

#[path = "times_tests.rs"]
mod times;

/// A whole world, owned.
#[derive(Debug, Clone, Default)]
struct Squad {
    catalogue: Catalogue,
    gateway: GatewayReport,
    fits: Fits,
    learned: Learned,
    age: u64,
}

impl Squad {
    fn world(&self) -> World<'_> {
        World {
            catalogue: &self.catalogue,
            gateway: &self.gateway,
            gateway_age_ms: self.age,
            fits: &self.fits,
        }
    }

    fn known<'a>(&'a self, promised: &'a [Promise]) -> Known<'a> {
        Known {
            learned: &self.learned,
            promised,
        }
    }

    fn choose(&self, ask: &Ask<'_>) -> Result<String, NoModel> {
        choose(ask, &self.world(), &self.learned)
            .map(|choice| format!("{}/{}", choice.endpoint, choice.model))
    }

    fn load(&mut self, endpoint: &str, model: &str) -> &mut ModelLoad {
        let endpoint = self.gateway.endpoints.entry(endpoint.into()).or_default();
        endpoint.models.entry(model.into()).or_default()
    }

    fn learn(&mut self, category: Category, model: &str, ending: Ending) {
        self.learned.learn(&Lesson {
            category,
            model: &model.into(),
            reward: reward(ending, Rounds::default()),
            seconds: (ending == GREEN).then_some(60.0),
            strategies: &[],
            cost: 0.0,
        });
    }
}

const GREEN: Ending = Ending::Verified(VerifyOutcome::Passed);

fn model(name: &str, billions: u64) -> Model {
    Model {
        name: name.into(),
        digest: String::new(),
        size: billions * 600_000_000,
        parameters: Some(billions * 1_000_000_000),
        parameter_size: format!("{billions}B"),
        quantisation: "Q4_K_M".into(),
        family: "llama".into(),
        context_length: Some(32_768),
        capabilities: BTreeSet::from([Capability::Completion]),
        remote: false,
        architecture: None,
        shown: None,
    }
}

fn squad(endpoints: &[(&str, &[(&str, u64)])]) -> Squad {
    let endpoint = |models: &[(&str, u64)]| Endpoint {
        health: EndpointHealth::Ok,
        models: models
            .iter()
            .map(|(name, billions)| ((*name).into(), model(name, *billions)))
            .collect(),
        ..Endpoint::new("http://127.0.0.1:1")
    };
    let endpoints = endpoints
        .iter()
        .map(|(name, models)| ((*name).into(), endpoint(models)));
    Squad {
        catalogue: Catalogue {
            endpoints: endpoints.collect(),
        },
        ..Squad::default()
    }
}

fn resident(squad: &mut Squad, endpoint: &str, model: &str) {
    let residency = Residency {
        size: 1,
        size_vram: 1,
        context_length: None,
        expires_at: None,
    };
    let endpoint = squad.catalogue.endpoints.get_mut(&endpoint.into()).unwrap();
    endpoint.resident.insert(model.into(), residency);
}

fn ask<'a>(strategy: Strategy) -> Ask<'a> {
    Ask {
        task: TaskId(1),
        attempt: 1,
        category: Category::Coding,
        strategy,
        named: None,
        default: None,
        context: 0,
        ready: None,
        shunned: Shunned::default(),
        largest_file: None,
        seed: 1,
        turn: 0,
    }
}

/// How often each answer is given to many tasks.
fn counts(squad: &Squad, strategy: Strategy, tasks: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for task in 1..=tasks {
        let ask = Ask {
            task: TaskId(task),
            turn: task,
            ..ask(strategy)
        };
        *counts.entry(squad.choose(&ask).unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn a_named_model_goes_where_it_takes_the_least_time() {
    let mut squad = squad(&[("a", &[("m:7b", 7)]), ("b", &[("m:7b", 7), ("n:70b", 70)])]);
    let name = "M:7b".into();
    let named = Ask {
        named: Some(&name),
        ..ask(Strategy::Hybrid)
    };
    assert_eq!(squad.choose(&named).unwrap(), "a/m:7b");
    resident(&mut squad, "b", "m:7b");
    assert_eq!(squad.choose(&named).unwrap(), "b/m:7b");
    squad.load("b", "m:7b").state = RunnerState::Busy;
    squad.load("b", "m:7b").predicted_wait_ms = 60_000;
    assert_eq!(squad.choose(&named).unwrap(), "a/m:7b");
    let gone = "gone:1b".into();
    let gone = Ask {
        named: Some(&gone),
        ..named
    };
    assert!(matches!(
        squad.choose(&gone),
        Err(NoModel::NotInstalled { .. })
    ));
}

#[test]
fn each_strategy_looks_at_its_own_measure() {
    let mut squad = squad(&[
        ("a", &[("small:3b", 3), ("large:32b", 32)]),
        ("b", &[("mid:14b", 14)]),
    ]);
    resident(&mut squad, "a", "small:3b");
    squad.load("a", "small:3b").state = RunnerState::Idle;
    let choose = |squad: &Squad, strategy| squad.choose(&ask(strategy)).unwrap();
    assert_eq!(choose(&squad, Strategy::MostCapable), "a/large:32b");
    assert_eq!(choose(&squad, Strategy::Fastest), "a/small:3b");
    assert_eq!(choose(&squad, Strategy::LeastLoaded), "a/small:3b");
    squad.load("a", "small:3b").predicted_wait_ms = 120_000;
    assert_eq!(choose(&squad, Strategy::LeastLoaded), "b/mid:14b");
    // The small one works faster, and answers later.
    assert_eq!(choose(&squad, Strategy::Fastest), "b/mid:14b");
    let turns = counts(&squad, Strategy::RoundRobin, 9);
    assert_eq!(turns.values().copied().collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(counts(&squad, Strategy::Random, 100).len(), 3);
}

#[test]
fn affinity_follows_what_was_verified_in_the_category() {
    let mut squad = squad(&[("a", &[("x:7b", 7), ("y:7b", 7)])]);
    for _ in 0..30 {
        squad.learn(Category::Coding, "x:7b", GREEN);
        squad.learn(Category::Coding, "y:7b", Ending::Failed);
        squad.learn(Category::Testing, "y:7b", GREEN);
        squad.learn(Category::Testing, "x:7b", Ending::Failed);
    }
    for strategy in [Strategy::Affinity, Strategy::Hybrid] {
        let coding = counts(&squad, strategy, 100);
        assert!(coding["a/x:7b"] >= 95, "{strategy:?} {coding:?}");
    }
}

#[test]
fn hybrid_does_not_swap_for_a_little_more_ability() {
    let mut squad = squad(&[("a", &[("x:14b", 14), ("y:16b", 16)])]);
    resident(&mut squad, "a", "x:14b");
    squad.load("a", "x:14b").state = RunnerState::Idle;
    squad.load("a", "y:16b").load_ms = Some(120_000);
    let hybrid = counts(&squad, Strategy::Hybrid, 200);
    assert!(hybrid["a/x:14b"] >= 170, "{hybrid:?}");
}

#[test]
fn a_configured_default_counts_as_the_best_until_something_is_learned() {
    let mut squad = squad(&[("a", &[("x:32b", 32), ("y:7b", 7)])]);
    let default = "y:7b".into();
    let with_default = Ask {
        default: Some(&default),
        ..ask(Strategy::Performance)
    };
    assert_eq!(squad.choose(&with_default).unwrap(), "a/y:7b");
    for _ in 0..60 {
        squad.learn(Category::Coding, "y:7b", Ending::Failed);
        squad.learn(Category::Coding, "x:32b", GREEN);
    }
    assert_eq!(squad.choose(&with_default).unwrap(), "a/x:32b");
}

#[test]
fn what_failed_the_last_attempt_is_avoided_while_there_is_something_else() {
    let one = squad(&[("a", &[("x:7b", 7)])]);
    let two = squad(&[("a", &[("x:7b", 7)]), ("b", &[("x:7b", 7), ("y:7b", 7)])]);
    let (model, endpoint) = ("x:7b".into(), "a".into());
    let shunned = Shunned {
        model: Some(&model),
        endpoint: None,
    };
    for strategy in Strategy::CONFIGURABLE {
        let again = Ask {
            shunned,
            ..ask(strategy)
        };
        assert_eq!(one.choose(&again).unwrap(), "a/x:7b");
        let many = (1..=40).filter(|task| {
            let again = Ask {
                task: TaskId(*task),
                turn: *task,
                ..again
            };
            two.choose(&again).unwrap() == "b/y:7b"
        });
        assert!(many.count() >= 30, "{strategy:?}");
        let held = Ask {
            shunned: Shunned {
                model: None,
                endpoint: Some(&endpoint),
            },
            ..ask(strategy)
        };
        assert!(two.choose(&held).unwrap().starts_with("b/"), "{strategy:?}");
    }
}

#[test]
fn a_breaker_that_may_be_tried_again_is_tried_only_when_there_is_no_other_way() {
    let mut squad = squad(&[("a", &[("x:7b", 7)]), ("b", &[("x:7b", 7)])]);
    let open = BreakerState::Open {
        why: "503".into(),
        retry_ms: 5_000,
    };
    for name in ["a", "b"] {
        squad
            .gateway
            .endpoints
            .entry(name.into())
            .or_default()
            .breaker = open.clone();
    }
    let refused = squad.choose(&ask(Strategy::Hybrid));
    assert!(
        matches!(refused, Err(NoModel::AllBroken { .. })),
        "{refused:?}"
    );
    squad.age = 5_000;
    assert!(squad.choose(&ask(Strategy::Hybrid)).is_ok());
    let closed = squad.gateway.endpoints.get_mut(&"b".into()).unwrap();
    closed.breaker = BreakerState::Closed;
    assert_eq!(counts(&squad, Strategy::Random, 50).len(), 1);
}

#[test]
fn a_choice_is_explained_with_its_chance_and_within_bounds() {
    let models: Vec<(String, u64)> = (1..=20).map(|n| (format!("m{n:02}:{n}b"), n)).collect();
    let models: Vec<(&str, u64)> = models.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let squad = squad(&[("a", &models), ("b", &models)]);
    let ask = Ask {
        largest_file: Some(50_000),
        ..ask(Strategy::Affinity)
    };
    let choice = choose_with_chances(&ask, &squad.world(), squad.known(&[])).unwrap();
    assert_eq!(choice.routing.others.len(), OTHERS_MAX);
    assert!(choice.routing.chosen.chance.is_some());
    assert_eq!(choice.routing.edit_format.as_deref(), Some("diff"));
    let text = serde_json::to_string(&choice.routing).unwrap();
    assert!(text.len() < 2_048, "{}", text.len());
}

/// The attraction of endpoints that fail at once: their requests are short, so they look fast.
#[test]
fn a_model_that_fails_at_once_is_left_by_every_strategy_that_learns() {
    let mut squad = squad(&[("a", &[("broken:7b", 7)]), ("b", &[("works:7b", 7)])]);
    squad.load("a", "broken:7b").decode_ms = Some(0.001);
    squad.load("a", "broken:7b").prefill_ms = Some(0.001);
    squad.load("b", "works:7b").predicted_wait_ms = 10_000;
    for _ in 0..20 {
        squad.learn(Category::Coding, "broken:7b", Ending::Failed);
        squad.learn(Category::Coding, "works:7b", GREEN);
    }
    for strategy in [Strategy::Performance, Strategy::Affinity, Strategy::Hybrid] {
        let counts = counts(&squad, strategy, 200);
        assert!(counts["b/works:7b"] >= 190, "{strategy:?} {counts:?}");
    }
}

#[derive(Debug, Clone)]
struct Odd {
    chats: bool,
    remote: bool,
    context: u32,
    size: u64,
    too_large: bool,
    breaker: u8,
    wait: u64,
}

fn any_odd() -> impl Values<Value = Odd> {
    (
        any::<bool>(),
        any::<bool>(),
        0_u32..4,
        1_u64..70,
        any::<bool>(),
        0_u8..4,
        0_u64..100_000,
    )
        .prop_map(
            |(chats, remote, context, size, too_large, breaker, wait)| Odd {
                chats,
                remote,
                context: context * 8_192,
                size,
                too_large,
                breaker,
                wait,
            },
        )
}

fn breaker(kind: u8) -> BreakerState {
    match kind {
        0 | 1 => BreakerState::Closed,
        2 => BreakerState::HalfOpen,
        _ => BreakerState::Open {
            why: "x".into(),
            retry_ms: 1_000,
        },
    }
}

fn odd_squad(endpoints: &[(bool, u8, Vec<Odd>)]) -> Squad {
    let mut squad = Squad::default();
    for (number, (healthy, state, models)) in endpoints.iter().enumerate() {
        let name: EndpointName = format!("e{number}").as_str().into();
        let mut endpoint = Endpoint::new("http://e");
        if *healthy {
            endpoint.health = EndpointHealth::Ok;
        }
        let mut load = EndpointLoad {
            breaker: breaker(*state),
            ..EndpointLoad::default()
        };
        for (number, odd) in models.iter().enumerate() {
            let mut model = model(&format!("m{number}:1b"), odd.size);
            model.remote = odd.remote;
            model.context_length = Some(odd.context);
            if !odd.chats {
                model.capabilities = BTreeSet::from([Capability::Embedding]);
            }
            if odd.too_large {
                let too_large = squad.fits.too_large.entry(name.clone()).or_default();
                too_large.insert(model.name.clone());
            }
            let runner = ModelLoad {
                breaker: breaker(odd.breaker),
                predicted_wait_ms: odd.wait,
                ..ModelLoad::default()
            };
            load.models.insert(model.name.clone(), runner);
            endpoint.models.insert(model.name.clone(), model);
        }
        squad.gateway.endpoints.insert(name.clone(), load);
        squad.catalogue.endpoints.insert(name, endpoint);
    }
    squad
}

fn any_squad() -> impl Values<Value = Squad> {
    let models = proptest::collection::vec(any_odd(), 0..5);
    let endpoint = (any::<bool>(), 0_u8..4, models);
    proptest::collection::vec(endpoint, 0..4).prop_map(|endpoints| odd_squad(&endpoints))
}

const ALL: [Strategy; 8] = [
    Strategy::RoundRobin,
    Strategy::LeastLoaded,
    Strategy::Random,
    Strategy::Performance,
    Strategy::Affinity,
    Strategy::Hybrid,
    Strategy::Fastest,
    Strategy::MostCapable,
];

proptest! {
    #[test]
    fn what_the_hard_filters_forbid_is_chosen_by_no_strategy(
        squad in any_squad(), seed in any::<u64>(), task in 1_u64..50, context in 0_u32..20_000
    ) {
        for strategy in ALL {
            let ask = Ask { seed, task: TaskId(task), turn: task, context, ..ask(strategy) };
            let Ok(choice) = choose(&ask, &squad.world(), &squad.learned) else { continue };
            let endpoint = &squad.catalogue.endpoints[&choice.endpoint];
            let model = &endpoint.models[&choice.model];
            prop_assert!(endpoint.health.is_ok());
            prop_assert!(model.can_chat() && !model.remote && model.fits(context));
            let too_large = squad.fits.too_large.get(&choice.endpoint);
            prop_assert!(too_large.is_none_or(|it| !it.contains(&choice.model)));
            let load = &squad.gateway.endpoints[&choice.endpoint];
            let is_open = |state: &BreakerState| matches!(state, BreakerState::Open { .. });
            prop_assert!(!is_open(&load.breaker), "a tripped breaker was chosen");
            prop_assert!(!is_open(&load.models[&choice.model].breaker));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_answer_and_asking_uses_nothing_up(
        squad in any_squad(), seed in any::<u64>()
    ) {
        for strategy in ALL {
            let ask = Ask { seed, ..ask(strategy) };
            let first = choose(&ask, &squad.world(), &squad.learned);
            let again = choose(&ask, &squad.world(), &squad.learned);
            prop_assert_eq!(first, again);
        }
    }
}
