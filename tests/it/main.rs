//! End-to-end and integration tests: one binary, one module per subject.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_types,
    reason = "in a test a failure is a panic, also in its helpers; deadlines are wall time, and \
              what a failure needs to be understood is printed"
)]

mod aider;
mod chaos;
mod cli;
mod coder;
mod dashboard;
mod demo;
mod discovery;
mod engine;
mod gateway;
mod git;
mod harness;
mod keeper;
mod learning;
mod measured;
mod medic;
mod pool;
mod queue;
mod recordings;
mod run;
mod run_faults;
mod soak;
mod squad;
mod survival;
mod templates;
