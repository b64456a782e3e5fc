//! The command line: what may be typed, what it does, and how it answers.
//!
//! One file for each command. [`args`] is what was typed, [`dispatch`] calls the command,
//! [`output`] is the one place that prints, [`report`] decides how a command ends badly.

pub mod args;
pub mod client;
pub mod context;
pub mod dispatch;
pub mod output;

pub mod report;
mod request_log;
pub mod start;
pub mod taskfile;
pub mod words;

mod agent;
mod catalogue;
mod completions;
mod config;
mod doctor;
mod figures;
mod fit;
mod man;
pub mod progress;
mod route;
mod server;
mod setup;
pub mod show;
mod squad;
pub mod submission;
mod task;
mod template;
mod trust;
mod upgrade;

pub use client::Client;
pub use context::Context;
pub use dispatch::{Exit, Programs, main};
pub use man::reference;
pub use report::{Kind, Report};
