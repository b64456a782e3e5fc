//! The dispatcher: which request of one GPU is sent when, and which model is loaded for it.
//!
//! Loading a model takes as long as several requests do, so the order of service decides how much
//! a GPU gets done. Requests for the resident model run in batches; a batch ends after a quantum
//! of k swaps, or when there is nothing left of it. Bounding the batch bounds both the time lost
//! in swaps (at most one part in k + 1) and everybody's wait; bounding the wait directly does
//! not: once a GPU is saturated everyone has waited too long, and every request swaps.
//!
//! [`Dispatcher`] is told what happens and says what to do ([`Order`]); it does nothing itself.
//! [`slots`] finds out how many requests a runner serves at a time. Between endpoints [`choose`]
//! decides, by what [`Rates`] and [`Conversations`] know of each. [`simulation`] runs the whole of
//! it on a virtual clock.
//!
//! Invariant: pure. Time comes in as `now`, a [`Moment`] that only grows.

mod ask;
mod conversations;
mod cost;
mod decide;
mod dispatcher;
mod lane;
mod rates;
mod reload;
mod report;
mod room;
mod shadow;
pub mod simulation;
pub mod slots;
#[cfg(test)]
mod tests;

pub use ask::{
    Ask, DispatchSettings, Focus, Listed, Loads, Moment, Order, Outlook, RequestId, Runner,
    ServiceTiming,
};
pub use conversations::Conversations;
pub use cost::{Candidate, Choice, Terms, choose};
pub use dispatcher::Dispatcher;
pub use rates::{Prompt, Rate, Rates, Size};
