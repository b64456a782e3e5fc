//! One choice: sift, believe, pick, explain.
//!
//! Invariant: pure. The same question in the same world gets the same answer, however often it is
//! asked: the draws are a function of the seed, the task and the attempt.

use super::candidate::{Candidate, Need, Sifted, World, sift};
use super::dice::Dice;
use super::edit_format::edit_format;
use super::explain::{Considered, OTHERS_MAX, Routing};
use super::learned::{Learned, prior_mean};
use super::promised::{self, Promise};
use super::strategy::{Belief, Field, Strategy, pick, suits};
use crate::core::TaskId;
use crate::core::catalogue::NoModel;
use crate::core::endpoint::EndpointName;
use crate::core::model::{Model, ModelName};
use crate::core::task::Category;

/// Draws from which the chance of a choice is estimated; ± 3.5 percent at the worst.
const REDRAWS: u16 = 200;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The task.
    pub task: TaskId,
    /// The attempt that gets the choice.
    pub attempt: u32,
    /// The kind of work.
    pub category: Category,
    /// Who picks.
    pub strategy: Strategy,
    /// The model, if the task names one.
    pub named: Option<&'a ModelName>,
    /// The configured default.
    pub default: Option<&'a ModelName>,
    /// Context, tokens; 0 when nothing is known.
    pub context: u32,
    /// Where an agent stands ready for it.
    pub ready: Option<Ready<'a>>,
    /// What failed the last attempt.
    pub shunned: Shunned<'a>,
    /// Bytes of the largest file it is about.
    pub largest_file: Option<u64>,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Choices made by turns before: whose turn it is.
    pub turn: u64,
}

/// Where an agent stands ready.
#[derive(Debug, Clone, Copy)]
pub struct Ready<'a> {
    /// The endpoint.
    pub endpoint: &'a EndpointName,
    /// The model.
    pub model: &'a ModelName,
}

/// What another choice is preferred to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shunned<'a> {
    /// The model, when the failure was its own.
    pub model: Option<&'a ModelName>,
    /// The endpoint, when it was the endpoint's.
    pub endpoint: Option<&'a EndpointName>,
}

/// What is known besides the world.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// From earlier outcomes.
    pub learned: &'a Learned,
    /// Attempts that were given a place and have not asked there yet.
    pub promised: &'a [Promise],
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The model.
    pub model: ModelName,
    /// Why.
    pub routing: Routing,
}

/// What a task's word for its model means: a rule instead of a name.
pub fn named_rule(word: &str) -> Option<Option<Strategy>> {
    match word {
        "auto" => Some(None),
        "fast" => Some(Some(Strategy::Fastest)),
        "best" => Some(Some(Strategy::MostCapable)),
        _ => None,
    }
}

/// Chooses endpoint and model.
///
/// # Errors
/// No place may be used, and why.
pub fn choose(ask: &Ask<'_>, world: &World<'_>, learned: &Learned) -> Result<Choice, NoModel> {
    let promised = &[];
    decide(ask, world, Known { learned, promised }, 0)
}

/// The same after others that were given their places.
///
/// # Errors
/// As of [`choose`].
pub fn choose_after(ask: &Ask<'_>, world: &World<'_>, known: Known<'_>) -> Result<Choice, NoModel> {
    decide(ask, world, known, 0)
}

/// The same, and how likely each model was, for judging other strategies by what was recorded. It
/// draws 200 times and is meant for choices that are made, not for looking ahead.
///
/// # Errors
/// As of [`choose`].
pub fn choose_with_chances(
    ask: &Ask<'_>,
    world: &World<'_>,
    known: Known<'_>,
) -> Result<Choice, NoModel> {
    decide(ask, world, known, REDRAWS)
}

fn decide(
    ask: &Ask<'_>,
    world: &World<'_>,
    Known { learned, promised }: Known<'_>,
    redraws: u16,
) -> Result<Choice, NoModel> {
    let need = Need {
        named: ask.named,
        default: ask.default,
        context: ask.context,
    };
    let mut sifted = sift(world, &need)?;
    promised::add(&mut sifted.candidates, promised, world);
    if let Some(endpoint) = ask.shunned.endpoint
        && sifted.candidates.iter().any(|it| it.endpoint != endpoint)
    {
        sifted.candidates.retain(|it| it.endpoint != endpoint);
    }
    let dice = Dice::new(ask.seed, [ask.task.0, u64::from(ask.attempt)]);
    let (beliefs, model_of) = believe(ask, &sifted.candidates, learned);
    let strategy = match ask.named {
        Some(_) => Strategy::Named,
        None => ask.strategy,
    };
    let mut field = Field {
        places: &sifted.candidates,
        beliefs,
        model_of: &model_of,
        learned,
        ready: position(&sifted.candidates, ask.ready),
        shunned: ask.shunned.model,
        turn: ask.turn,
        dice,
    };
    field.draw();
    let (picked, agreed) = pick(strategy, &field);
    let mut routing = explain(ask, &sifted, &field, (strategy, picked, agreed));
    let is_drawn = matches!(
        strategy,
        Strategy::Affinity | Strategy::Hybrid | Strategy::Random
    );
    if is_drawn && redraws > 0 {
        chances(&mut routing, &mut field, redraws);
    }
    let Some(chosen) = sifted.candidates.get(picked) else {
        return Err(NoModel::NothingInstalled);
    };
    Ok(Choice {
        endpoint: chosen.endpoint.clone(),
        model: chosen.model.name.clone(),
        routing,
    })
}

/// Draws again and counts how often each model is picked.
fn chances(routing: &mut Routing, field: &mut Field<'_>, redraws: u16) {
    let mut counts = vec![0_u32; field.beliefs.len()];
    for _ in 0..redraws {
        field.draw();
        let (picked, _) = pick(routing.strategy, field);
        let model = field.model_of.get(picked).copied().unwrap_or(0);
        if let Some(count) = counts.get_mut(model) {
            *count += 1;
        }
    }
    let Routing { chosen, others, .. } = routing;
    for considered in std::iter::once(chosen).chain(others) {
        let name = |belief: &Belief<'_>| belief.model.as_str() == considered.model;
        let count = field.beliefs.iter().position(name);
        let count = count.and_then(|index| counts.get(index)).copied();
        let chance = count.unwrap_or(0) * 1_000 / u32::from(redraws);
        considered.chance = u16::try_from(chance).ok();
    }
}

/// Whoever configures a default knows something: before anything is learned it counts as better
/// than the best there is.
fn prefer_default(names: &mut [(&ModelName, f64)], default: Option<&ModelName>) {
    let best = names.iter().map(|(_, prior)| *prior).fold(0.0, f64::max);
    for (name, prior) in names {
        if default.is_some_and(|default| default.is_same(name)) {
            *prior = (best + 0.1).min(0.9);
        }
    }
}

fn position(places: &[Candidate<'_>], ready: Option<Ready<'_>>) -> Option<usize> {
    let ready = ready?;
    let is_it = |it: &Candidate<'_>| it.endpoint == ready.endpoint && it.model.name == *ready.model;
    places.iter().position(is_it)
}

/// What is believed of each distinct model, and which model each place has.
///
/// Places come endpoint by endpoint with their models in order, so the place of a model in the list
/// of distinct ones is found by walking on from the one before.
fn believe<'a>(
    ask: &Ask<'_>,
    places: &[Candidate<'a>],
    learned: &Learned,
) -> (Vec<Belief<'a>>, Vec<usize>) {
    let mut names: Vec<(&ModelName, f64)> = Vec::new();
    let mut next = 0;
    for place in places {
        let name = &place.model.name;
        next = match find(&names, next, name) {
            Ok(index) => index + 1,
            Err(index) => {
                names.insert(index, (name, prior_mean(place.model)));
                index + 1
            }
        };
    }
    prefer_default(&mut names, ask.default);
    let beliefs = names.iter().map(|(model, prior)| {
        let (good, bad) = learned.belief(ask.category, model, *prior);
        Belief {
            model,
            good,
            bad,
            prior: *prior,
            draw: 0.0,
            overall: learned.overall(model, *prior),
            seconds: learned.seconds(model),
        }
    });
    let beliefs: Vec<Belief<'a>> = beliefs.collect();
    let mut next = 0;
    let model_of = places.iter().map(|place| {
        let (Ok(index) | Err(index)) = find(&names, next, &place.model.name);
        next = index + 1;
        index
    });
    let model_of = model_of.collect();
    (beliefs, model_of)
}

/// Where a name is in the list, or belongs; it is mostly at `next`.
fn find(names: &[(&ModelName, f64)], next: usize, name: &ModelName) -> Result<usize, usize> {
    match names.get(next) {
        Some((at, _)) if *at == name => Ok(next),
        Some(_) | None => names.binary_search_by(|(other, _)| (*other).cmp(name)),
    }
}

fn explain(
    ask: &Ask<'_>,
    sifted: &Sifted<'_>,
    field: &Field<'_>,
    (strategy, picked, agreed): (Strategy, usize, Vec<Strategy>),
) -> Routing {
    let mut others: Vec<(f64, usize)> = (0..field.places.len())
        .filter(|place| *place != picked)
        .map(|place| (suits(strategy, field, place), place))
        .collect();
    if others.len() > OTHERS_MAX {
        others.select_nth_unstable_by(OTHERS_MAX, |a, b| b.0.total_cmp(&a.0));
        others.truncate(OTHERS_MAX);
    }
    others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let model = field.places.get(picked).map(|place| place.model);
    Routing {
        strategy,
        category: ask.category,
        why: why(strategy, &agreed).to_owned(),
        agreed,
        chosen: considered(field, picked),
        others: others
            .iter()
            .map(|(_, place)| considered(field, *place))
            .collect(),
        rejected: sifted.rejected.clone(),
        rejected_more: sifted.rejected_more,
        edit_format: model
            .and_then(|model| told_format(model, ask, field.learned))
            .map(str::to_owned),
    }
}

/// The format that Aider is told. Whole files are its own default for all but a few models, which
/// it knows to be good at differences: only what was learned of a model overrules that, so that
/// agents made ahead fit whatever file is small.
fn told_format(model: &Model, ask: &Ask<'_>, learned: &Learned) -> Option<&'static str> {
    let format = edit_format(model, ask.largest_file, learned)?;
    let record = learned.models.get(&model.name);
    let is_learned = record.is_some_and(|record| !record.formats.is_empty());
    (format != "whole" || is_learned).then_some(format)
}

fn why(strategy: Strategy, agreed: &[Strategy]) -> &'static str {
    match strategy {
        Strategy::RoundRobin => "its turn",
        Strategy::LeastLoaded => "the least wait",
        Strategy::Random => "drawn",
        Strategy::Performance => "the least time until a success",
        Strategy::Affinity => "best at this kind of work, as drawn",
        Strategy::Hybrid if agreed.contains(&Strategy::Hybrid) => "the best for its time",
        Strategy::Hybrid => "what another strategy would choose",
        Strategy::Fastest => "the soonest answer",
        Strategy::MostCapable => "the most capable",
        Strategy::Named => "named by the task",
    }
}

fn considered(field: &Field<'_>, index: usize) -> Considered {
    let place = field.places.get(index);
    let times = place.map(|place| place.times).unwrap_or_default();
    let success = field.belief(index).map_or(0.0, Belief::mean);
    Considered {
        endpoint: place.map(|it| it.endpoint.to_string()).unwrap_or_default(),
        model: place
            .map(|it| it.model.name.to_string())
            .unwrap_or_default(),
        wait_ms: whole(times.wait),
        load_ms: whole(times.load),
        service_ms: whole(times.service),
        success: thousandths(success),
        chance: None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds of a prediction: negative ones do not occur, and huge ones saturate"
)]
fn whole(millis: f64) -> u64 {
    millis.round() as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1 before"
)]
fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1_000.0).round() as u16
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
