//! The router: which model on which endpoint gets the next attempt at a task.
//!
//! [`choose`] gathers every place where a model could serve, drops those that may not (hard filters:
//! they cannot chat, are too small, do not fit, are behind an open breaker), predicts what each
//! would take, those counted that were sent there and have not asked yet, and lets a strategy pick. What came of earlier choices is in [`Learned`]; every
//! choice leaves a [`Routing`] behind that says what was chosen, what else there was, and why.
//!
//! Invariant: pure. Randomness is a function of the seed, the task and the attempt, so that looking
//! ahead (for spares) neither uses anything up nor says something else than the choice itself.

mod candidate;
mod category;
mod choose;
mod dice;
mod edit_format;
mod explain;
mod learned;
mod promised;
pub mod replay;
mod reward;
pub mod strategy;

pub use candidate::{Fits, World};
pub use category::{Classified, classify};
pub use choose::{
    Ask, Choice, Known, Ready, Shunned, choose, choose_after, choose_with_chances, named_rule,
};
pub use dice::Dice;
pub use edit_format::{edit_format, format_key};
pub use explain::{Considered, Rejected, Routing};
pub use learned::{
    DISCOUNT, FormatUse, Learned, Lesson, MODELS_MAX, ModelRecord, POOLED_MASS, SIZE_MASS, Tally,
    prior_mean,
};
pub use promised::Promise;
pub use reward::{Ending, Reward, Rounds, reward};
pub use strategy::Strategy;
