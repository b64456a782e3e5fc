//! What reaches the engine and what it asks for in return.
//!
//! Inputs are facts that actors report (each names the attempt it speaks of: a fact about an older
//! attempt is ignored) or commands. Effects leave only after the transaction that recorded their
//! cause, and every effect can be asked for again: its key is (task, attempt, step).

use std::sync::Arc;

use crate::core::agent::AgentReport;
use crate::core::catalogue::Catalogue;
use crate::core::clock::Jump;
use crate::core::command::Request;
use crate::core::event::SquadEvent;
use crate::core::measurement::MeasurementReport;
use crate::core::medic::Treatment;
use crate::core::pool::{PoolReport, SpareOrder};
use crate::core::router::Fits;
use crate::core::runners::GatewayReport;
use crate::core::settings::MergeStrategy;
use crate::core::task::{Task, Tokens, Workplace};
use crate::core::verify::VerifyReport;
use crate::core::{AgentSlot, TaskId};

use super::view::Installation;

/// One thing that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// Somebody asks for something.
    Command(Request),
    /// An actor reports on an attempt.
    Attempt {
        /// The task.
        task: TaskId,
        /// The attempt.
        number: u32,
        /// What happened.
        fact: Fact,
    },
    /// A merge, an archive or a restoration ended.
    Task {
        /// The task.
        task: TaskId,
        /// What happened.
        fact: TaskFact,
    },
    /// The catalogue is new.
    Catalogue {
        /// All of it.
        catalogue: Arc<Catalogue>,
        /// What is different, in words.
        changes: Vec<String>,
    },
    /// The gateway's report is new.
    Gateway(Arc<GatewayReport>),
    /// Aider's installation is new.
    Installation(Installation),
    /// How busy the machine is.
    Machine {
        /// Load average of one minute per processor.
        load_per_core: f32,
        /// Memory that is available, KiB.
        free_kib: u64,
    },
    /// What was measured of requests is new.
    Measured(Arc<MeasurementReport>),
    /// The pool of agents is new.
    Pool(PoolReport),
    /// Which models fit into the memory of which endpoints is new.
    Fits(Arc<Fits>),
    /// Something of the squad as a whole.
    Squad(SquadEvent),
    /// Whether the disk has room; if not, why nothing new is begun.
    Room(Option<String>),
    /// The wall clock went on without anybody living through it.
    Jumped(Jump),
    /// A moment that `State::deadline` named has come.
    Tick,
}

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The worktree is ready.
    Prepared {
        /// The worktree.
        workplace: Workplace,
        /// The job of the spare that was taken with it.
        job: Option<String>,
    },
    /// The agent says what it does.
    Reported(AgentReport),
    /// The prompt is in Aider's hands.
    Delivered,
    /// Aider came back with a result.
    Settled {
        /// The tip.
        head: String,
        /// Commits between base and tip.
        commits: u32,
        /// The answer, in ask mode.
        answer: Option<String>,
    },
    /// The attempt failed by its own fault.
    Failed {
        /// Why.
        why: String,
    },
    /// A fault of an endpoint, the preparation or the disk.
    Held {
        /// Why.
        why: String,
    },
    /// The agent's process is gone.
    Lost {
        /// How.
        why: String,
        /// What survived.
        kept: String,
    },
    /// The verify command ended.
    Verified(VerifyReport),
    /// A question was answered by the table or a human.
    Answered {
        /// The question.
        text: String,
        /// The answer.
        answer: String,
    },
    /// Answers of the model whose edits could not be applied, in the turn that ends.
    Malformed(u32),
    /// A model request ended.
    Used(Tokens),
    /// The agent's process is gone, whatever came of its task.
    Ended {
        /// How, in words.
        how: String,
        /// Processor time of it and of what it waited for, milliseconds.
        cpu_ms: u64,
        /// Most memory that it held, KiB.
        peak_kib: u64,
    },
    /// The medic or a quota did something about the agent.
    Treated {
        /// What.
        what: Treatment,
        /// Why.
        why: String,
    },
    /// The agent is over a quota: its task ends here.
    OverQuota {
        /// Which, and how far.
        why: String,
    },
}

/// What happened to a task outside its attempts.
#[derive(Debug, Clone)]
pub enum TaskFact {
    /// It is on its branch; `None`: there was nothing to merge.
    Merged(Option<String>),
    /// It was refused, nothing changed.
    MergeRefused(String),
    /// Its worktree is archived and removed.
    Archived,
    /// It could not be archived; everything is kept.
    ArchiveFailed(String),
    /// It has a worktree again.
    Restored(Workplace),
    /// It could not be restored.
    RestoreFailed(String),
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Have these agents made ahead, and no others.
    KeepSpares(Vec<SpareOrder>),
    /// Make the worktree usable.
    Prepare(Arc<Task>),
    /// Start or adopt the agent, deliver the prompt, watch it.
    RunAgent(Arc<Task>),
    /// End the agent's process of an attempt.
    StopAgent {
        /// The task.
        task: TaskId,
        /// The attempt.
        number: u32,
    },
    /// Run the verify command.
    Verify(Arc<Task>),
    /// Merge it.
    Merge(Arc<Task>, MergeStrategy),
    /// Archive its work and remove its worktree.
    Archive(Arc<Task>),
    /// Give it a worktree again.
    Restore(Arc<Task>),
    /// Answer the question of an agent.
    Answer {
        /// Whose.
        slot: AgentSlot,
        /// What.
        text: String,
    },
    /// Type a line at an agent's prompt.
    SendLine {
        /// Whose.
        slot: AgentSlot,
        /// What.
        text: String,
    },
    /// Kill an agent's process.
    KillAgent {
        /// Whose.
        slot: AgentSlot,
    },
}
