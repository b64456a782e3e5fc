//! What earlier outcomes taught: how good each model is at each kind of work, how well it keeps to
//! an edit format, how long it takes, and which strategy chose well.
//!
//! The estimate is a Beta distribution, discounted: with every outcome all earlier ones of the same
//! table lose 2 % (γ = 0.98, a memory of 50 outcomes), so that a model that got worse, or another
//! build under the same name, is noticed (Raj and Kalyani, arXiv:1707.09727). A category begins with
//! what the model showed in all categories (mass 4), and that with what models of its size show
//! (mass 10).
//!
//! Invariant: pure and bounded: at most [`MODELS_MAX`] models are remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reward::{Reward, Rounds};
use super::strategy::Strategy;
use crate::core::model::{Model, ModelName, parse_parameter_size};
use crate::core::task::Category;

/// What an outcome keeps of its weight with each later one.
pub const DISCOUNT: f64 = 0.98;
/// Mass of what models of a size show, in outcomes (`LiteLLM`'s adaptive router begins with 10, too).
pub const SIZE_MASS: f64 = 10.0;
/// Mass of what a model showed in all categories, where one category is judged.
pub const POOLED_MASS: f64 = 4.0;
/// Models remembered; the one with the least evidence is forgotten for another.
pub const MODELS_MAX: usize = 64;
/// Weight of the latest time in the average of a model's times.
const TIME_SHARE: f64 = 0.2;

/// Discounted outcomes, in attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Good ones.
    pub good: f64,
    /// Bad ones.
    pub bad: f64,
}

impl Tally {
    /// How much is known, in attempts.
    pub fn mass(&self) -> f64 {
        self.good + self.bad
    }

    /// The mean when `mass` outcomes of mean `prior` came before.
    pub fn mean(&self, prior: f64, mass: f64) -> f64 {
        (self.good + prior * mass) / (self.mass() + mass)
    }

    fn add(&mut self, reward: Reward) {
        let value = reward.value.clamp(0.0, 1.0);
        self.good += value * reward.weight;
        self.bad += (1.0 - value) * reward.weight;
    }

    fn fade(&mut self) {
        self.good *= DISCOUNT;
        self.bad *= DISCOUNT;
    }
}

/// What is known of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRecord {
    /// Its outcomes in all categories.
    pub tally: Tally,
    /// What an attempt that succeeded took, seconds, averaged; none before the first.
    pub seconds: Option<f64>,
    /// Answers that kept to an edit format (good) and those that did not, by format and size.
    pub formats: BTreeMap<String, Tally>,
}

/// All that was learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// By category and model.
    pub categories: BTreeMap<Category, BTreeMap<ModelName, Tally>>,
    /// By model.
    pub models: BTreeMap<ModelName, ModelRecord>,
    /// By strategy.
    pub strategies: BTreeMap<Strategy, Tally>,
    /// Choices made: whose turn it is where models take turns.
    pub turn: u64,
}

/// One outcome and what it is credited to.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson<'a> {
    /// The kind of work.
    pub category: Category,
    /// The model that had the attempt.
    pub model: &'a ModelName,
    /// What came of it.
    pub reward: Reward,
    /// What it took, seconds; only for an attempt that succeeded.
    pub seconds: Option<f64>,
    /// The strategies that would have chosen the same, and what the choice was worth to them:
    /// the reward less what its time cost.
    pub strategies: &'a [Strategy],
    /// What the time of the choice cost, in units of reward.
    pub cost: f64,
}

/// The form of an attempt's edits.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatUse<'a> {
    /// The model.
    pub model: &'a ModelName,
    /// The edit format, with the size of the files: [`super::edit_format`].
    pub key: String,
    /// How it went.
    pub rounds: Rounds,
}

impl Learned {
    /// Takes an outcome in.
    pub fn learn(&mut self, lesson: &Lesson<'_>) {
        let cells = self.categories.entry(lesson.category).or_default();
        cells.values_mut().for_each(Tally::fade);
        let cell = cells.entry(lesson.model.clone()).or_default();
        cell.add(lesson.reward);
        for record in self.models.values_mut() {
            record.tally.fade();
        }
        let record = self.models.entry(lesson.model.clone()).or_default();
        record.tally.add(lesson.reward);
        if let Some(seconds) = lesson.seconds {
            let before = record.seconds.unwrap_or(seconds);
            record.seconds = Some(before + TIME_SHARE * (seconds - before));
        }
        self.credit(lesson);
        self.forget();
    }

    fn credit(&mut self, lesson: &Lesson<'_>) {
        let Reward { value, weight } = lesson.reward;
        let value = (value - lesson.cost).clamp(0.0, 1.0);
        for strategy in lesson.strategies {
            let tally = self.strategies.entry(*strategy).or_default();
            tally.fade();
            tally.add(Reward { value, weight });
        }
    }

    /// Takes in how a model kept to an edit format: one round each answer.
    pub fn formed(&mut self, format: &FormatUse<'_>) {
        let record = self.models.entry(format.model.clone()).or_default();
        let tally = record.formats.entry(format.key.clone()).or_default();
        tally.fade();
        let malformed = f64::from(format.rounds.malformed.min(8));
        tally.good += 1.0;
        tally.bad += malformed;
        self.forget();
    }

    /// How the model's mass and mean stand in a category: parameters of a Beta distribution.
    pub fn belief(&self, category: Category, model: &ModelName, prior: f64) -> (f64, f64) {
        let overall = self.overall(model, prior);
        let cell = self.categories.get(&category);
        let cell = cell.and_then(|cells| cells.get(model));
        let Tally { good, bad } = cell.copied().unwrap_or_default();
        let (pooled, left) = (overall * POOLED_MASS, (1.0 - overall) * POOLED_MASS);
        (pooled + good, left + bad)
    }

    /// The share of success of a model in all categories.
    pub fn overall(&self, model: &ModelName, prior: f64) -> f64 {
        let record = self.models.get(model);
        let tally = record.map(|record| record.tally).unwrap_or_default();
        tally.mean(prior, SIZE_MASS)
    }

    /// What an attempt of the model takes when it succeeds, seconds.
    pub fn seconds(&self, model: &ModelName) -> Option<f64> {
        self.models.get(model)?.seconds
    }

    /// Keeps the number of models bounded.
    fn forget(&mut self) {
        while self.models.len() > MODELS_MAX {
            let mass = |record: &ModelRecord| record.tally.mass();
            let least = self.models.iter();
            let least = least.min_by(|(_, a), (_, b)| mass(a).total_cmp(&mass(b)));
            let Some(name) = least.map(|(name, _)| name.clone()) else {
                return;
            };
            self.models.remove(&name);
            for cells in self.categories.values_mut() {
                cells.remove(&name);
            }
        }
    }
}

/// The share of success that models of this size show: 0.25 + 0.1 × log₂(billions).
///
/// Fits the pass rates of one family on Aider's code editing leaderboard (Qwen2.5-Coder-Instruct:
/// 0.5B 14 %, 1.5B 32 %, 3B 39 %, 7B 58 %, 14B 69 %, 32B 73 %) within five points; other families of
/// a size do worse, which is what learning is for.
pub fn prior_mean(model: &Model) -> f64 {
    let counted = model.parameters;
    let parameters = counted.or_else(|| parse_parameter_size(&model.parameter_size));
    // A quantised model takes about 0.6 bytes a parameter (Q4_K_M).
    let parameters = parameters.map_or(model.size as f64 / 0.6, |count| count as f64);
    let billions = (parameters / 1e9).max(0.01);
    (0.25 + 0.1 * billions.log2()).clamp(0.1, 0.85)
}

#[cfg(test)]
#[path = "learned_tests.rs"]
mod tests;
