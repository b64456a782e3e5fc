//! All that has happened: past tense, serialisable, one row of the store each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::Jump;
use super::ids::{AgentSlot, TaskId};
use super::medic::Treatment;
use super::router::Routing;
use super::task::Workplace;
use super::time::Timestamp;
use super::verify::VerifyReport;

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What kind of asker.
    pub kind: ActorKind,
    /// Its name: a user, a program, an agent.
    pub name: String,
}

impl Actor {
    /// The squad itself.
    pub fn squad() -> Self {
        Self {
            kind: ActorKind::Squad,
            name: "squad".into(),
        }
    }
}

/// What kind of asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorKind {
    /// A person at the dashboard.
    Human,
    /// The command line.
    Cli,
    /// warpsquad itself.
    Squad,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TaskEvent {
    /// It was accepted.
    Submitted,
    /// All it depended on is merged.
    Unblocked,
    /// It got an agent slot and a model.
    Assigned {
        /// The slot.
        slot: AgentSlot,
        /// The model.
        model: String,
        /// The endpoint.
        endpoint: String,
        /// Why this model.
        reason: String,
        /// The whole choice.
        #[serde(default)]
        routing: Option<Arc<Routing>>,
    },
    /// Its worktree is ready.
    Prepared {
        /// The worktree.
        workplace: Workplace,
        /// The job of the spare that was taken with it.
        #[serde(default)]
        job: Option<String>,
    },
    /// A fault that is not the task's sent it back to the queue.
    Held {
        /// The fault.
        why: String,
        /// Not assigned before this.
        until: Timestamp,
    },
    /// Its prompt was handed to Aider.
    Delivered,
    /// Aider came back to its prompt with a result.
    Settled {
        /// The tip.
        head: String,
        /// Commits between base and tip.
        commits: u32,
        /// The answer, in ask mode.
        answer: Option<String>,
    },
    /// Its verify command ended, or there was none.
    Verified {
        /// What it showed.
        report: VerifyReport,
    },
    /// The attempt failed.
    AttemptFailed {
        /// Why.
        why: String,
        /// When the next attempt may start; `None` when none is left.
        retry_at: Option<Timestamp>,
        /// What the next attempt is told instead of the prompt.
        follow_up: Option<String>,
    },
    /// The wait after a failed attempt is over.
    Requeued,
    /// Its agent went away without a result; not the task's fault.
    AgentLost {
        /// How.
        why: String,
        /// What survived, in words.
        kept: String,
    },
    /// Its merge began.
    MergeStarted,
    /// It is on its target branch, or it was an ask task and is answered.
    Merged {
        /// The commit on the target; `None` when there was nothing to merge.
        commit: Option<String>,
    },
    /// The merge was refused; nothing changed.
    MergeRefused {
        /// Why, with the remedy.
        why: String,
    },
    /// A human sent it back with a comment.
    Revised {
        /// The comment.
        comment: String,
    },
    /// A human threw it away.
    Discarded,
    /// A human brought it back.
    Restored {
        /// Its new worktree.
        workplace: Workplace,
    },
    /// A human stopped it.
    Cancelled,
    /// A human started it again.
    Retried,
    /// It waited longer than its time to live.
    Expired,
    /// Its worktree is archived and removed.
    Archived,
    /// Archiving did not succeed: the worktree is still there.
    ArchiveFailed {
        /// Why.
        why: String,
    },
    /// A human opened its diff or terminal.
    Seen,
    /// Aider asks something that needs a human.
    QuestionAsked {
        /// The question.
        text: String,
    },
    /// A question was answered.
    QuestionAnswered {
        /// The question.
        text: String,
        /// The answer.
        answer: String,
    },
    /// The process of an attempt's agent is gone, whatever came of the task.
    AgentEnded {
        /// The attempt.
        number: u32,
        /// How, in words.
        how: String,
        /// Processor time of it and of what it waited for, milliseconds.
        cpu_ms: u64,
        /// Most memory that it held (shared pages count fully), KiB.
        peak_kib: u64,
    },
    /// The medic or a quota did something about its agent.
    Treated {
        /// What.
        what: Treatment,
        /// Why.
        why: String,
    },
    /// Answers of the model whose edits could not be applied.
    Malformed {
        /// How many.
        count: u32,
    },
    /// Tokens were used.
    Used {
        /// How many.
        tokens: super::task::Tokens,
    },
    /// Its deadlines were moved: the machine slept, or somebody set the clock.
    Postponed {
        /// By how many milliseconds; negative when the clock was set back.
        by_ms: i64,
    },
    /// Something that only a later version knows; shown after going back to this one.
    #[serde(other)]
    Unknown,
}

impl TaskEvent {
    /// The participle used in messages: "it cannot be …".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Unblocked => "unblocked",
            Self::Assigned { .. } => "assigned",
            Self::Prepared { .. } => "prepared",
            Self::Held { .. } => "held",
            Self::Delivered => "delivered",
            Self::Settled { .. } => "settled",
            Self::Verified { .. } => "verified",
            Self::AttemptFailed { .. } => "failed",
            Self::Requeued => "requeued",
            Self::AgentLost { .. } => "interrupted",
            Self::MergeStarted => "merging",
            Self::Merged { .. } => "merged",
            Self::MergeRefused { .. } => "refused",
            Self::Revised { .. } => "sent back",
            Self::Discarded => "discarded",
            Self::Restored { .. } => "restored",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Expired => "expired",
            Self::Archived => "archived",
            Self::ArchiveFailed { .. } => "not archived",
            Self::Seen => "seen",
            Self::QuestionAsked { .. } => "asked",
            Self::QuestionAnswered { .. } => "answered",
            Self::AgentEnded { .. } => "left by its agent",
            Self::Treated { what, .. } => what.as_str(),
            Self::Malformed { .. } => "corrected",
            Self::Used { .. } => "charged",
            Self::Postponed { .. } => "postponed",
            Self::Unknown => "changed by a later version",
        }
    }
}

/// What happened to the squad as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SquadEvent {
    /// A server started.
    ServerStarted {
        /// Its epoch.
        epoch: u64,
        /// What it found.
        adopted: String,
    },
    /// The queue was paused.
    Paused,
    /// The queue was resumed.
    Resumed,
    /// The catalogue of models changed.
    CatalogueChanged {
        /// What changed, in words.
        what: String,
    },
    /// Agents cannot be forked: they start cold.
    ForkingFailed {
        /// Why.
        why: String,
    },
    /// The machine may fall asleep although it is to be kept awake.
    SleepNotInhibited {
        /// Why.
        why: String,
    },
    /// Agents are forked again.
    ForkingResumed,
    /// Another number of agents may work.
    LimitChanged {
        /// So many before.
        before: u16,
        /// So many now.
        limit: u16,
        /// Why.
        why: String,
    },
    /// A keeper died and was replaced.
    KeeperLost {
        /// What that meant.
        what: String,
    },
    /// The squad as a whole comes near a quota.
    Warned {
        /// Which, and how near.
        why: String,
    },
    /// The disk has too little room: nothing new is begun.
    HeldBack {
        /// How little.
        why: String,
    },
    /// The disk has room again.
    RoomAgain,
    /// What was old was removed.
    Cleaned {
        /// How much.
        what: String,
    },
    /// The machine slept, or somebody set the clock; all deadlines were moved.
    Jumped {
        /// By how much.
        jump: Jump,
    },
    /// Something that only a later version knows; shown after going back to this one.
    #[serde(other)]
    Unknown,
}

impl SquadEvent {
    /// A jump in words.
    pub fn jumped(jump: Jump) -> String {
        let seconds = |millis: u64| format!("{} s", millis / 1_000);
        let moved = "that counts for no limit";
        match (jump.asleep, jump.millis) {
            (0, back) if back < 0 => {
                let by = seconds(back.unsigned_abs());
                format!("the clock was set back by {by}; {moved}")
            }
            (0, forward) => {
                let by = seconds(forward.unsigned_abs());
                format!("the clock was set forward by {by}; {moved}")
            }
            (asleep, _) => format!("the machine slept for {}; {moved}", seconds(asleep)),
        }
    }
}

/// One entry of the log of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum What {
    /// A task.
    Task {
        /// Which.
        task: TaskId,
        /// What happened.
        event: TaskEvent,
    },
    /// The squad.
    Squad {
        /// What happened.
        event: SquadEvent,
    },
}
