//! End-to-end and integration tests: one binary, one module per subject.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a failure is a panic, also in its helpers"
)]

mod aider;
mod cli;
mod coder;
mod dashboard;
mod demo;
mod discovery;
mod engine;
mod git;
mod harness;
mod keeper;
mod queue;
mod recordings;
mod run;
mod squad;
