//! The strategies, one file each: how one of the places that may be used is picked.
//!
//! A strategy sees a `Field`: the places that passed the hard filters, with what each would take
//! and what is believed of its model. It returns one of them and has no other effect.

mod affinity;
mod hybrid;
mod least_loaded;
mod performance;
mod random;
mod round_robin;
mod selection;

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::dice::Dice;
use super::learned::Learned;
use crate::core::model::ModelName;

pub(super) use hybrid::time_cost;

/// How a place is picked.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Each model in turn.
    RoundRobin,
    /// Where a request would wait least.
    LeastLoaded,
    /// Any.
    Random,
    /// Least time until a success.
    Performance,
    /// What is best at this kind of work, as far as is known, with room for surprises.
    Affinity,
    /// Affinity less what the time costs, and what has chosen well before.
    #[default]
    Hybrid,
    /// The least time until a request is answered, waiting and loading counted.
    Fastest,
    /// The most parameters.
    MostCapable,
    /// The task names its model; only the endpoint is chosen.
    Named,
}

impl Strategy {
    /// What `router.strategy` can be.
    pub const CONFIGURABLE: [Self; 6] = [
        Self::RoundRobin,
        Self::LeastLoaded,
        Self::Random,
        Self::Performance,
        Self::Affinity,
        Self::Hybrid,
    ];

    /// The words of those.
    pub const WORDS: [&str; 6] = [
        "round-robin",
        "least-loaded",
        "random",
        "performance",
        "affinity",
        "hybrid",
    ];

    /// The strategy of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Self::CONFIGURABLE.into_iter();
        all.find(|strategy| strategy.as_str() == word)
    }

    /// The word used in files, tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::Random => "random",
            Self::Performance => "performance",
            Self::Affinity => "affinity",
            Self::Hybrid => "hybrid",
            Self::Fastest => "fastest",
            Self::MostCapable => "most-capable",
            Self::Named => "named",
        }
    }
}

/// What a strategy picks from.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// The places; never empty.
    pub(super) places: &'a [Candidate<'a>],
    /// What is believed of each distinct model.
    pub(super) beliefs: Vec<Belief<'a>>,
    /// For each place the index of its model's belief.
    pub(super) model_of: &'a [usize],
    /// What was learned.
    pub(super) learned: &'a Learned,
    /// The place for which an agent stands ready, if it is one of them.
    pub(super) ready: Option<usize>,
    /// The model whose fault ended the last attempt.
    pub(super) shunned: Option<&'a ModelName>,
    /// Whose turn it is.
    pub(super) turn: u64,
    /// Where the numbers that decide nothing else come from.
    pub(super) dice: Dice,
}

/// What is believed of a model at this kind of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Belief<'a> {
    pub(super) model: &'a ModelName,
    /// What its size says.
    pub(super) prior: f64,
    /// Parameters of the Beta distribution of its share of success.
    pub(super) good: f64,
    pub(super) bad: f64,
    /// One draw from it.
    pub(super) draw: f64,
    /// Mean over all kinds of work.
    pub(super) overall: f64,
    /// What an attempt takes when it succeeds, seconds.
    pub(super) seconds: Option<f64>,
}

impl Belief<'_> {
    pub(super) fn mean(&self) -> f64 {
        self.good / (self.good + self.bad)
    }
}

impl Field<'_> {
    /// Draws anew from what is believed of each model.
    pub(super) fn draw(&mut self) {
        for belief in &mut self.beliefs {
            belief.draw = self.dice.beta(belief.good, belief.bad);
        }
        // What is drawn by a strategy is another number each time, too.
        self.dice.bits();
    }

    pub(super) fn belief(&self, place: usize) -> Option<&Belief<'_>> {
        self.beliefs.get(*self.model_of.get(place)?)
    }

    /// The place with the highest score; of equal ones the one that would take the least time, then
    /// the first.
    pub(super) fn best(&self, score: impl Fn(usize) -> f64) -> usize {
        let mut best = (0, f64::NEG_INFINITY, f64::INFINITY);
        for (index, place) in self.places.iter().enumerate() {
            let (score, time) = (score(index), place.times.total());
            if score > best.1 || (score >= best.1 && time < best.2) {
                best = (index, score, time);
            }
        }
        best.0
    }

    /// Whether the place's model is the one that failed the last attempt.
    pub(super) fn is_shunned(&self, place: usize) -> bool {
        let model = self.places.get(place).map(|place| &place.model.name);
        self.shunned.is_some() && model == self.shunned
    }

    /// The places that did not fail the last attempt; all of them if none is left.
    pub(super) fn unshunned(&self) -> Vec<usize> {
        let allowed = self.allowed();
        let all = 0..self.places.len();
        all.filter(|place| allowed(*place)).collect()
    }

    /// Whether a place is one of those.
    pub(super) fn allowed(&self) -> impl Fn(usize) -> bool {
        let mut all = 0..self.places.len();
        let any_left = self.shunned.is_some() && all.any(|place| !self.is_shunned(place));
        move |place| !any_left || !self.is_shunned(place)
    }
}

/// What the strategy picks, and which strategies would have picked the same model.
pub(super) fn pick(strategy: Strategy, field: &Field<'_>) -> (usize, Vec<Strategy>) {
    let picked = match strategy {
        Strategy::RoundRobin => round_robin::pick(field),
        Strategy::LeastLoaded => least_loaded::pick(field),
        Strategy::Random => random::pick(field),
        Strategy::Performance => performance::pick(field),
        Strategy::Affinity => affinity::pick(field),
        Strategy::Hybrid => return hybrid::pick(field),
        Strategy::Fastest => selection::fastest(field),
        Strategy::MostCapable => selection::most_capable(field),
        Strategy::Named => selection::cheapest(field),
    };
    (picked, vec![strategy])
}

/// How well a place suits, for the order in which alternatives are shown.
pub(super) fn suits(strategy: Strategy, field: &Field<'_>, place: usize) -> f64 {
    match strategy {
        Strategy::RoundRobin | Strategy::Random => 0.0,
        Strategy::LeastLoaded => -field
            .places
            .get(place)
            .map_or(0.0, |it| it.times.wait + it.times.load),
        Strategy::Performance => performance::score(field, place),
        Strategy::Affinity => affinity::score(field, place),
        Strategy::Hybrid => hybrid::score(field, place),
        Strategy::MostCapable => field.belief(place).map_or(0.0, |it| it.prior),
        Strategy::Fastest | Strategy::Named => {
            -field.places.get(place).map_or(0.0, |it| it.times.total())
        }
    }
}
