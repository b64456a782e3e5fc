//! Regret of the strategies on work whose best model differs by category and changes in the middle,
//! and what a decision costs.
//!
//! The workload is synthetic: 7 categories × 6 models with a chance of success, a time and a load
//! each; after half of the tasks the best model of every category becomes the worst, and the worst
//! the best. One endpoint holds one model at a time, so every change of model is a swap. The worth of a
//! task is what the hybrid strategy maximises: success less what the time and the swap cost. Regret
//! is the worth that the best fixed choice per category (known only afterwards) would have had on
//! top.

#![expect(
    clippy::disallowed_types,
    reason = "a benchmark measures real time, which tokio's clock may not be"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints what it measured, and ends where its own world is not as built"
)]

use std::hint::black_box;
use std::time::Instant;

use warpsquad::core::TaskId;
use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::endpoint::{Endpoint, EndpointHealth};
use warpsquad::core::model::{Capability, Model, ModelName, Residency};
use warpsquad::core::router::{
    Ask, Dice, Fits, Known, Learned, Lesson, Promise, Reward, Shunned, Strategy, World, choose,
    choose_after, choose_with_chances,
};
use warpsquad::core::runners::{EndpointLoad, GatewayReport, ModelLoad, RunnerState};
use warpsquad::core::task::Category;

const TASKS: usize = 2_000;
const SEEDS: u64 = 10;
/// Billions of parameters.
const MODELS: [u64; 6] = [3, 7, 7, 14, 14, 32];

fn main() {
    regret();
    cost();
}

/// What a model is worth on a category: chance of success, before and after the change.
struct Truth {
    chances: [[[f64; 6]; 7]; 2],
}

impl Truth {
    /// Chances around what the size says, ± 0.2; half way the best and the worst are exchanged.
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, [1, 1]);
        let mut before = [[0.0; 6]; 7];
        for chances in &mut before {
            for (chance, billions) in chances.iter_mut().zip(MODELS) {
                let size = 0.25 + 0.1 * (billions as f64).log2();
                *chance = (size + 0.4 * (dice.unit() - 0.5)).clamp(0.05, 0.95);
            }
        }
        let mut after = before;
        for chances in &mut after {
            let mut order: Vec<usize> = (0..6).collect();
            order.sort_by(|a, b| chances[*b].total_cmp(&chances[*a]));
            // The best one gets as bad as the worst: another build, another quantisation.
            chances.swap(order[0], order[5]);
        }
        Self {
            chances: [before, after],
        }
    }

    fn chance(&self, number: usize, category: usize, model: usize) -> f64 {
        self.chances[usize::from(number >= TASKS / 2)][category][model]
    }
}

/// Load and one request, seconds, as the router predicts them for a model that was never used.
fn seconds(billions: u64) -> (f64, f64) {
    let bytes = billions as f64 * 0.6e9;
    let decode = bytes / 4e11;
    (bytes / 1e9, decode * 800.0 + decode / 10.0 * 6_000.0)
}

fn worth(chance: f64, model: usize, is_swap: bool) -> f64 {
    let (load, service) = seconds(MODELS[model]);
    let load = if is_swap { load + 1.5 } else { 0.0 };
    chance - 0.15 * ((load + service) / 60.0).ln_1p() - 0.2 * load / 60.0
}

enum Who {
    Strategy(Strategy),
    /// The largest model, always.
    Largest,
    /// Small models for documents and tests, the largest for the rest.
    Rules,
    /// The best fixed choice per category, from the truth.
    Best,
}

fn name(number: usize) -> ModelName {
    format!("m{number}:{}b", MODELS[number]).as_str().into()
}

fn model(number: usize, billions: u64) -> Model {
    Model {
        name: format!("m{number}:{billions}b").as_str().into(),
        digest: String::new(),
        size: billions * 600_000_000,
        parameters: Some(billions * 1_000_000_000),
        parameter_size: String::new(),
        quantisation: String::new(),
        family: String::new(),
        context_length: None,
        capabilities: [Capability::Completion].into(),
        remote: false,
        architecture: None,
        shown: None,
    }
}

fn catalogue(endpoints: usize, models: &[u64]) -> Catalogue {
    let endpoint = || Endpoint {
        health: EndpointHealth::Ok,
        models: models
            .iter()
            .enumerate()
            .map(|(number, billions)| model(number, *billions))
            .map(|model| (model.name.clone(), model))
            .collect(),
        ..Endpoint::new("http://e")
    };
    Catalogue {
        endpoints: (0..endpoints)
            .map(|number| (format!("e{number}").as_str().into(), endpoint()))
            .collect(),
    }
}

fn ask(task: usize, category: usize, strategy: Strategy, seed: u64) -> Ask<'static> {
    Ask {
        task: TaskId(task as u64),
        attempt: 1,
        category: Category::ALL[category],
        strategy,
        named: None,
        default: None,
        context: 0,
        ready: None,
        shunned: Shunned::default(),
        largest_file: None,
        seed,
        turn: task as u64,
    }
}

/// The model with the most worth over the whole run, loads left out: nobody could do better
/// without changing the model of a category.
fn best_fixed(truth: &Truth, category: usize) -> usize {
    let total = |model: usize| -> f64 {
        let both = [0, TASKS - 1].map(|number| truth.chance(number, category, model));
        both.iter().map(|chance| worth(*chance, model, false)).sum()
    };
    (0..6)
        .max_by(|a, b| total(*a).total_cmp(&total(*b)))
        .unwrap()
}

/// Worth, successes and swaps of one run.
fn run(who: &Who, seed: u64) -> (f64, usize, usize) {
    let truth = Truth::new(seed);
    let mut work = Dice::new(seed, [2, 2]);
    let mut learned = Learned::default();
    let mut squad = catalogue(1, &MODELS);
    let gateway = GatewayReport::default();
    let mut resident: Option<usize> = None;
    let (mut total, mut successes, mut swaps) = (0.0, 0, 0);
    for number in 0..TASKS {
        let category = work.below(7);
        let (mut agreed, mut cost) = (Vec::new(), 0.0);
        let chosen = match who {
            Who::Largest => 5,
            Who::Rules => match Category::ALL[category] {
                Category::Documentation | Category::Testing => 1,
                _ => 5,
            },
            Who::Best => best_fixed(&truth, category),
            Who::Strategy(strategy) => {
                let world = World {
                    catalogue: &squad,
                    gateway: &gateway,
                    gateway_age_ms: 0,
                    fits: &Fits::default(),
                };
                let ask = ask(number, category, *strategy, seed);
                let choice = choose(&ask, &world, &learned).unwrap();
                cost = choice.routing.cost();
                agreed.clone_from(&choice.routing.agreed);
                (0..6).find(|it| name(*it) == choice.model).unwrap()
            }
        };
        let is_swap = resident != Some(chosen);
        swaps += usize::from(is_swap);
        resident = Some(chosen);
        let chance = truth.chance(number, category, chosen);
        total += worth(chance, chosen, is_swap);
        let success = work.unit() < chance;
        successes += usize::from(success);
        let endpoint = squad.endpoints.values_mut().next().unwrap();
        endpoint.resident = [(name(chosen), residency())].into();
        let value = if success { 0.95 } else { 0.4 };
        learned.learn(&Lesson {
            category: Category::ALL[category],
            model: &name(chosen),
            reward: Reward { value, weight: 1.0 },
            seconds: success.then(|| seconds(MODELS[chosen]).1),
            strategies: &agreed,
            cost,
        });
    }
    (total, successes, swaps)
}

fn residency() -> Residency {
    Residency {
        size: 1,
        size_vram: 1,
        context_length: None,
        expires_at: None,
    }
}

fn regret() {
    println!("regret against the best fixed choice per category, {TASKS} tasks, {SEEDS} seeds");
    println!("| choice | regret (min … max) | success | swaps |");
    println!("|---|---|---|---|");
    let rows = [
        ("hybrid", Who::Strategy(Strategy::Hybrid)),
        ("affinity", Who::Strategy(Strategy::Affinity)),
        ("performance", Who::Strategy(Strategy::Performance)),
        ("least-loaded", Who::Strategy(Strategy::LeastLoaded)),
        ("round-robin", Who::Strategy(Strategy::RoundRobin)),
        ("random", Who::Strategy(Strategy::Random)),
        ("static rules", Who::Rules),
        ("always the largest", Who::Largest),
        ("best fixed per category", Who::Best),
    ];
    let best: Vec<f64> = (1..=SEEDS).map(|seed| run(&Who::Best, seed).0).collect();
    for (name, who) in rows {
        let runs: Vec<_> = (1..=SEEDS).map(|seed| run(&who, seed)).collect();
        let mut regrets: Vec<f64> = runs
            .iter()
            .zip(&best)
            .map(|(run, best)| best - run.0)
            .collect();
        regrets.sort_by(f64::total_cmp);
        let mean = regrets.iter().sum::<f64>() / SEEDS as f64;
        let share = |count: usize| count as f64 * 100.0 / (TASKS as f64 * SEEDS as f64);
        let successes = share(runs.iter().map(|run| run.1).sum());
        let swaps = share(runs.iter().map(|run| run.2).sum());
        let (low, high) = (regrets[0], regrets[regrets.len() - 1]);
        println!("| {name} | {mean:.0} ({low:.0} … {high:.0}) | {successes:.1} % | {swaps:.0} % |");
    }
}

/// What a decision takes, µs.
fn median(world: &World<'_>, known: Known<'_>, strategy: Strategy) -> f64 {
    let mut times: Vec<f64> = (0..2_000)
        .map(|number| {
            let ask = ask(number, number % 7, strategy, 1);
            let start = Instant::now();
            black_box(choose_after(black_box(&ask), world, known).unwrap());
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[1_000]
}

/// One attempt on each endpoint that has not asked yet, each of another model.
fn promised(squad: &Catalogue) -> Vec<Promise> {
    let endpoints = squad.endpoints.iter().enumerate();
    let of = endpoints.filter_map(|(number, (name, endpoint))| {
        Some(Promise {
            endpoint: name.clone(),
            model: endpoint.models.keys().nth(number)?.clone(),
        })
    });
    of.collect()
}

/// A decision among 10 endpoints × 20 models that are all known to the gateway and to memory.
fn cost() {
    let sizes: Vec<u64> = (1..=20).collect();
    let squad = catalogue(10, &sizes);
    let mut gateway = GatewayReport::default();
    let mut learned = Learned::default();
    for (name, endpoint) in &squad.endpoints {
        let models = endpoint.models.keys().map(|name| {
            let load = ModelLoad {
                state: RunnerState::Idle,
                predicted_wait_ms: 10,
                ..ModelLoad::default()
            };
            (name.clone(), load)
        });
        let load = EndpointLoad {
            models: models.collect(),
            ..EndpointLoad::default()
        };
        gateway.endpoints.insert(name.clone(), load);
    }
    for round in 0..50 {
        for model in squad.endpoints.values().next().unwrap().models.keys() {
            learned.learn(&Lesson {
                category: Category::ALL[round % 7],
                model,
                reward: Reward {
                    value: 0.6,
                    weight: 1.0,
                },
                seconds: Some(60.0),
                strategies: &[Strategy::Hybrid],
                cost: 0.1,
            });
        }
    }
    let fits = Fits::default();
    let world = World {
        catalogue: &squad,
        gateway: &gateway,
        gateway_age_ms: 0,
        fits: &fits,
    };
    let ten = promised(&squad);
    let [alone, known] = [&[], ten.as_slice()].map(|promised| Known {
        learned: &learned,
        promised,
    });
    println!(
        "\na decision among 10 endpoints × 20 models, µs (median of 2,000), and one after ten others"
    );
    for strategy in Strategy::CONFIGURABLE {
        let [first, after] = [alone, known].map(|known| median(&world, known, strategy));
        println!("{:<14} {first:.1}, {after:.1}", strategy.as_str());
    }
    let start = Instant::now();
    let ask = ask(1, 1, Strategy::Hybrid, 1);
    black_box(choose_with_chances(&ask, &world, known).unwrap());
    let micros = start.elapsed().as_secs_f64() * 1e6;
    println!(
        "{:<14} {micros:.0} (once for an assignment: 200 redraws)",
        "chances"
    );
}
