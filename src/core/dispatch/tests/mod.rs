//! Tests of the dispatcher: step by step, and whatever is asked of it.

mod properties;
mod rig;
mod steps;
