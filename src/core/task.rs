//! A task: what was asked, where it stands, and every legal step between the two.
//!
//! `Task::apply` is the only way a task changes: it takes one past-tense event and either moves
//! the task or says why that event cannot happen now. The engine stores each event together with
//! the task it produced.
//!
//! Invariant: pure. Time comes in as `now`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::TaskEvent;
use super::ids::{AgentSlot, TaskId};
use super::router::Routing;
use super::settings::MergeStrategy;
use super::time::Timestamp;
use super::verify::VerifyReport;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Waits for the tasks it depends on.
    Blocked,
    /// Waits for an agent.
    Queued,
    /// Has an agent slot; its worktree is being prepared.
    Assigned,
    /// Its agent works on it.
    Running,
    /// Its verify command runs.
    Verifying,
    /// Waits for a human: merge, send back or discard.
    Review,
    /// Its merge is under way.
    Merging,
    /// Done: merged, or answered in ask mode.
    Merged,
    /// Thrown away by a human; the work is archived.
    Discarded,
    /// Its attempt failed and another one will follow.
    Failed,
    /// Failed with no attempts left.
    Dead,
    /// Stopped by a human.
    Cancelled,
    /// Waited longer than its time to live.
    Expired,
}

impl TaskState {
    /// Every state, in the order of the life of a task.
    pub const ALL: [Self; 13] = [
        Self::Blocked,
        Self::Queued,
        Self::Assigned,
        Self::Running,
        Self::Verifying,
        Self::Review,
        Self::Merging,
        Self::Merged,
        Self::Discarded,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word used in files, tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Review => "review",
            Self::Merging => "merging",
            Self::Merged => "merged",
            Self::Discarded => "discarded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Nothing more happens by itself or at all.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Merged | Self::Discarded | Self::Dead | Self::Cancelled | Self::Expired
        )
    }

    /// An agent slot is held.
    pub fn holds_slot(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How Aider is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Edit files.
    #[default]
    Code,
    /// One turn plans, a second one edits.
    Architect,
    /// Answer without editing.
    Ask,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Code, Self::Architect, Self::Ask];

    /// The words of all modes.
    pub const WORDS: [&str; 3] = ["code", "architect", "ask"];

    /// The mode of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    /// The word used in files, tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Architect => "architect",
            Self::Ask => "ask",
        }
    }
}

/// What kind of work it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// New code.
    Coding,
    /// Same behaviour, better shape.
    Refactoring,
    /// Tests.
    Testing,
    /// Documentation.
    Documentation,
    /// Finding and mending a defect.
    Debugging,
    /// Judging code.
    Review,
    /// Anything else.
    #[default]
    General,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 7] = [
        Self::Coding,
        Self::Refactoring,
        Self::Testing,
        Self::Documentation,
        Self::Debugging,
        Self::Review,
        Self::General,
    ];

    /// The words of all categories.
    pub const WORDS: [&str; 7] = [
        "coding",
        "refactoring",
        "testing",
        "documentation",
        "debugging",
        "review",
        "general",
    ];

    /// The category of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == word)
    }

    /// The word used in files, tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coding => "coding",
            Self::Refactoring => "refactoring",
            Self::Testing => "testing",
            Self::Documentation => "documentation",
            Self::Debugging => "debugging",
            Self::Review => "review",
            Self::General => "general",
        }
    }
}

/// How urgent; P0 first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// P0
    Critical,
    /// P1
    High,
    /// P2
    #[default]
    Normal,
    /// P3
    Low,
    /// P4
    Background,
}

impl Priority {
    /// The word used in files, tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Background => "background",
        }
    }
}

/// How far a task goes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autonomy {
    /// Stop for a human when verified.
    #[default]
    Review,
    /// Merge when verified (a failed or missing verification still stops for a human).
    Merge,
}

/// What the worktree starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// The commit checked out where the task was submitted.
    #[default]
    Head,
    /// The user's uncommitted work.
    Wip,
    /// A revision by name.
    Rev(String),
}

/// Everything that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// Short name, unique within a task file.
    pub name: Option<String>,
    /// Top level of the user's checkout.
    pub repo: PathBuf,
    /// What Aider is told.
    pub prompt: String,
    /// How Aider works.
    pub mode: Mode,
    /// What kind of work it is; where nobody said it, by rules on the words, files and mode.
    pub category: Category,
    /// Somebody said what kind of work it is: no rule changes it.
    pub category_said: bool,
    /// The rule that gave the category, in words.
    pub category_because: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Free words to find it by.
    pub tags: Vec<String>,
    /// Tasks that must be merged first.
    pub after: Vec<TaskId>,
    /// Files put into the chat for editing, relative to the repository.
    pub files: Vec<String>,
    /// Files put into the chat for reading.
    pub read: Vec<String>,
    /// Model by name; `None` lets the squad choose.
    pub model: Option<String>,
    /// Command that must succeed in the worktree; `None` means not verified.
    pub verify: Option<String>,
    /// How far it goes by itself.
    pub autonomy: Autonomy,
    /// Further attempts after a failed one.
    pub retries: u32,
    /// Expires when it has waited this many milliseconds for its first attempt.
    pub ttl_ms: Option<u64>,
    /// What the worktree starts from.
    pub base: Base,
    /// Commit that `base` named when the task was submitted.
    pub base_commit: String,
    /// Branch that receives the result.
    pub target: String,
    /// How it is merged.
    pub strategy: MergeStrategy,
    /// Command run once in the new worktree.
    pub setup: Option<String>,
    /// Untracked files copied into the new worktree (globs).
    pub copy: Vec<String>,
    /// Untracked files and folders linked into the new worktree (globs).
    pub link: Vec<String>,
    /// `PATH` and the chosen environment of the submitter, for verify and setup.
    pub environment: BTreeMap<String, String>,
    /// Submitting again with the same key returns the same task.
    pub key: Option<String>,
    /// The template that framed the prompt, by its name.
    pub template: Option<String>,
    /// What was asked before a template framed it.
    pub asked: Option<String>,
    /// How the model writes its edits where the settings say nothing about the model.
    pub edit_format: Option<String>,
    /// Bytes of the largest file of `files`, when it was submitted.
    pub largest_file: Option<u64>,
}

impl TaskSpec {
    /// The name, or the first line of what was asked, in at most 60 characters on one line.
    pub fn title(&self) -> String {
        let asked = self.asked.as_deref().unwrap_or(&self.prompt);
        let text = self.name.as_deref().unwrap_or(asked);
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("");
        let mut title: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
        if line.chars().count() > 60 {
            title.push('…');
        }
        title
    }
}

/// The checkout of a task and what it grew from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workplace {
    /// The worktree.
    pub dir: PathBuf,
    /// Its branch, `squad/<task>-<slug>`.
    pub branch: String,
    /// The commit it started from.
    pub base_commit: String,
}

/// One try at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1, never reused for a task: the fencing token of everything done for it.
    pub number: u32,
    /// The agent slot.
    pub slot: AgentSlot,
    /// The model, as Ollama names it.
    pub model: String,
    /// The endpoint.
    pub endpoint: String,
    /// When it was assigned.
    pub started: Timestamp,
    /// When the prompt was delivered.
    pub delivered: Option<Timestamp>,
    /// When it was judged.
    pub settled: Option<Timestamp>,
    /// The commit at the tip when it was judged.
    pub head: Option<String>,
    /// Why it ended, when it did not end well.
    pub failure: Option<String>,
    /// The job of the spare that it took; none when an agent was started for it.
    #[serde(default)]
    pub job: Option<String>,
    /// What its agent's process took; none while it runs.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Milliseconds since it started that count for no limit: asleep, or a clock that was set.
    #[serde(default)]
    pub uncounted_ms: i64,
    /// Why it got its endpoint and model.
    #[serde(default)]
    pub routing: Option<Arc<Routing>>,
    /// Whose fault ended it; none while it runs, and when it ended well.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Answers of the model whose edits could not be applied.
    #[serde(default)]
    pub malformed: u32,
}

/// Whose fault ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its own, which is its model's: it cost an attempt.
    Model,
    /// The endpoint's, or the way to it.
    Endpoint,
}

/// What a process took, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How it ended, in words.
    pub exit: String,
    /// Processor time of it and of what it waited for, milliseconds.
    pub cpu_ms: u64,
    /// Most memory that it held (shared pages count fully), KiB.
    pub peak_kib: u64,
}

/// A task and its whole state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// What was asked.
    pub spec: TaskSpec,
    /// Where it stands.
    pub state: TaskState,
    /// Why it stands there, when that is not obvious.
    pub why: Option<String>,
    /// When it was submitted.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Not assigned before this.
    pub not_before: Option<Timestamp>,
    /// Attempts so far, the current one last.
    pub attempts: Vec<Attempt>,
    /// Attempts that counted against `retries`.
    pub failures: u32,
    /// Attempts lost to faults that were not the task's.
    pub losses: u32,
    /// Its checkout, as long as there is one.
    pub workplace: Option<Workplace>,
    /// What the next attempt is told instead of the prompt: a comment or a failed verification.
    pub follow_up: Option<String>,
    /// The last verification.
    pub verify: Option<VerifyReport>,
    /// Commits between base and tip when last judged.
    pub commits: u32,
    /// The answer of an ask task.
    pub answer: Option<String>,
    /// The commit on the target branch.
    pub merged: Option<String>,
    /// Its worktree is to be archived and removed.
    pub archiving: bool,
    /// It waits for review and nobody has looked yet.
    pub unseen: bool,
    /// Tokens sent to and received from models for it.
    pub tokens: Tokens,
    /// Tokens that were used before it was last started again; they do not count against its
    /// quota.
    #[serde(default)]
    pub allowance_from: u64,
    /// Milliseconds of waiting for its first attempt that do not count: asleep, or a clock that
    /// was set.
    #[serde(default)]
    pub uncounted_ms: i64,
}

/// Tokens of a task or an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Prompt tokens.
    pub sent: u64,
    /// Generated tokens.
    pub received: u64,
    /// Model requests.
    pub requests: u64,
}

impl Tokens {
    /// Adds what one request used.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.requests += other.requests;
    }

    /// Sent and received.
    pub fn total(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

/// An event that cannot happen to a task in its present state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {task} is {state}: it cannot be {event}")]
pub struct IllegalTransition {
    /// The task.
    pub task: TaskId,
    /// Its state.
    pub state: TaskState,
    /// What was to happen.
    pub event: &'static str,
}

impl Task {
    /// A task just submitted; `blocked` when it depends on unfinished ones.
    pub fn new(id: TaskId, spec: TaskSpec, blocked: Blocked, now: Timestamp) -> Self {
        let state = match blocked {
            Blocked::Yes => TaskState::Blocked,
            Blocked::No => TaskState::Queued,
        };
        Self {
            id,
            spec,
            state,
            why: None,
            created: now,
            updated: now,
            not_before: None,
            attempts: Vec::new(),
            failures: 0,
            losses: 0,
            workplace: None,
            follow_up: None,
            verify: None,
            commits: 0,
            answer: None,
            merged: None,
            archiving: false,
            unseen: false,
            tokens: Tokens::default(),
            allowance_from: 0,
            uncounted_ms: 0,
        }
    }

    /// The attempt under way or the last one.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The slot it holds now.
    pub fn slot(&self) -> Option<AgentSlot> {
        self.state
            .holds_slot()
            .then(|| self.attempt().map(|attempt| attempt.slot))
            .flatten()
    }

    /// Number of the current attempt, 0 before the first.
    pub fn attempt_number(&self) -> u32 {
        self.attempt().map_or(0, |attempt| attempt.number)
    }

    /// When its time to live ends, as long as it has never been assigned.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let waits = matches!(self.state, TaskState::Queued | TaskState::Blocked);
        let ttl = self
            .spec
            .ttl_ms
            .filter(|_| waits && self.attempts.is_empty())?;
        let moment = Timestamp(self.created.0.saturating_add(ttl));
        Some(moment.shifted(self.uncounted_ms))
    }

    /// The words shown for its state; a finished ask task is `answered`, not `merged`.
    pub fn state_label(&self) -> &'static str {
        if self.state == TaskState::Merged && self.merged.is_none() {
            "answered"
        } else {
            self.state.as_str()
        }
    }

    /// Applies one event.
    ///
    /// # Errors
    /// The event is not possible in the present state; the task is unchanged.
    pub fn apply(&mut self, event: &TaskEvent, now: Timestamp) -> Result<(), IllegalTransition> {
        let next = super::transition::next_state(self, event).ok_or(IllegalTransition {
            task: self.id,
            state: self.state,
            event: event.name(),
        })?;
        super::transition::enter(self, event, next, now);
        self.state = next;
        self.updated = now;
        Ok(())
    }
}

/// Whether a new task has unfinished dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// It has.
    Yes,
    /// It has not.
    No,
}
