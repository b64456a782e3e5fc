//! An agent as the squad sees it: a slot, what its process does, and why.
//!
//! Invariant: pure; what cannot be known is `Why::Unknown`, never a guess.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::quota::Usage;

/// What an agent's process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// No process.
    #[default]
    Cold,
    /// Aider starts.
    Warming,
    /// At its prompt.
    Ready,
    /// Works on a task.
    Working,
    /// Asks something that needs a human.
    Waiting,
    /// Ends.
    Draining,
    /// Its process is gone.
    Dead,
}

impl AgentState {
    /// The word used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The why of `working`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Not known.
    #[default]
    Unknown,
    /// The worktree is being prepared.
    Preparing,
    /// Aider is starting.
    Starting,
    /// Its request waits for a slot behind so many others.
    Queued(u32),
    /// Its model is being loaded.
    Loading,
    /// The model reads the prompt.
    Prefill,
    /// The model generates, tokens per second.
    Generating(f32),
    /// No request is open: Aider applies edits, commits or lints.
    Editing,
    /// The answer is being judged.
    Judging,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.pad("unknown"),
            Self::Preparing => f.pad("preparing the worktree"),
            Self::Starting => f.pad("starting Aider"),
            Self::Queued(0) => f.pad("queued, next"),
            Self::Queued(ahead) => write!(f, "queued behind {ahead}"),
            Self::Loading => f.pad("loading the model"),
            Self::Prefill => f.pad("reading the prompt"),
            Self::Generating(rate) => write!(f, "generating {rate:.0} tok/s"),
            Self::Editing => f.pad("editing"),
            Self::Judging => f.pad("judging the result"),
        }
    }
}

/// A question that waits for a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its number within the agent's life.
    pub number: u32,
    /// Its kind, `shell`, `url`, … or `unknown`.
    pub kind: String,
    /// What is asked, on one line.
    pub text: String,
}

/// What a live agent reports about itself; never stored, rebuilt from its terminal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentReport {
    /// What its process does.
    pub state: AgentState,
    /// The why of `working`.
    pub why: Why,
    /// Its process.
    pub pid: Option<u32>,
    /// The question it asks.
    pub question: Option<Question>,
    /// The last line worth showing: an error, an edit.
    pub note: Option<String>,
    /// How it is.
    #[serde(default)]
    pub health: Health,
    /// What it uses, once measured.
    #[serde(default)]
    pub usage: Option<Usage>,
}
