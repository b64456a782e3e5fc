//! What is good at the work, less what its time costs; and what has chosen well before.
//!
//! The utility of a place is `θ − λ · ln(1 + T / T_ref) − μ · swap / 60 s`: the draw of affinity, the
//! time until an answer, and the loads and unloads that the choice causes. Beside it stand the other
//! strategies that know something. Where all agree nothing is to be decided. Where they differ, the
//! one whose choices were worth most is followed, and one time in twenty another is tried: outcomes
//! are credited to every strategy that would have chosen the same, so most of what is known of them
//! costs nothing.

use super::{Field, Strategy, affinity, least_loaded, performance};

/// What the time until an answer weighs.
const LAMBDA: f64 = 0.15;
/// The time that counts as usual, seconds.
const USUAL_SECONDS: f64 = 60.0;
/// What a minute of loading weighs.
const MU: f64 = 0.2;
/// A ready agent saves its start; enough to stay with a guess while predictions move a little.
const READY: f64 = 0.02;
/// How often another strategy is tried where they differ.
const TRIED: f64 = 0.05;
/// Mass of what is assumed of a strategy, in outcomes.
const MASS: f64 = 10.0;

/// The strategies it learns about, with what is assumed of each: its own utility before the others.
const MEMBERS: [(Strategy, f64); 4] = [
    (Strategy::Hybrid, 0.5),
    (Strategy::Performance, 0.4),
    (Strategy::Affinity, 0.4),
    (Strategy::LeastLoaded, 0.3),
];

pub(super) fn pick(field: &Field<'_>) -> (usize, Vec<Strategy>) {
    let choices = MEMBERS.map(|(member, prior)| {
        let place = match member {
            Strategy::Performance => performance::pick(field),
            Strategy::Affinity => affinity::pick(field),
            Strategy::LeastLoaded => least_loaded::pick(field),
            _ => field.best(|place| score(field, place)),
        };
        let tally = field.learned.strategies.get(&member);
        let worth = tally.copied().unwrap_or_default().mean(prior, MASS);
        (member, place, worth)
    });
    let mut dice = field.dice.clone();
    let is_trial = dice.unit() < TRIED;
    let trial = dice.below(choices.len());
    let best = choices
        .iter()
        .reduce(|best, it| if it.2 > best.2 { it } else { best });
    let followed = if is_trial { choices.get(trial) } else { best };
    let picked = followed.map_or(0, |(_, place, _)| *place);
    let model = field.model_of.get(picked);
    let agreed = choices
        .iter()
        .filter(|(_, place, _)| field.model_of.get(*place) == model)
        .map(|(member, _, _)| *member);
    (picked, agreed.collect())
}

/// The utility.
pub(super) fn score(field: &Field<'_>, place: usize) -> f64 {
    let Some(candidate) = field.places.get(place) else {
        return f64::NEG_INFINITY;
    };
    let ready = if field.ready == Some(place) {
        READY
    } else {
        0.0
    };
    let times = candidate.times;
    affinity::score(field, place) + ready - time_cost(times.total(), times.load)
}

/// What time costs in units of success; both in milliseconds.
pub(in super::super) fn time_cost(total: f64, load: f64) -> f64 {
    LAMBDA * (total / 1_000.0 / USUAL_SECONDS).ln_1p() + MU * load / 60_000.0
}
