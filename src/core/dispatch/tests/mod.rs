//! Tests of the dispatcher: step by step, and whatever is asked of it.

mod critical;
mod outlook;
mod properties;
mod reload;
mod residency;
mod rig;
mod shadow;
mod steps;
