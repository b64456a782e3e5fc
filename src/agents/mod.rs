//! Agents: real Aider processes that work on tasks.

pub mod aider;
