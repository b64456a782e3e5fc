//! The local protocol: HTTP/1.1 with JSON on the server's Unix socket.
//!
//! | method and path | body → answer |
//! |---|---|
//! | `POST /v1/command` | [`Request`] → [`Reply`], or an error status with a [`Refusal`] |
//! | `GET /v1/alive` | → nothing: there is a server that answers |
//! | `GET /v1/view` | → [`View`]; with `?look=true` after a look at the endpoints |
//! | `GET /v1/watch` | → one [`View`] a line, at once and after every change |
//! | `GET /v1/tasks?filter=JSON` | → [`Task`]s, newest first ([`TaskFilter`] as JSON) |
//! | `GET /v1/tasks/ID` | → [`Task`] |
//! | `GET /v1/tasks/ID/events` | → [`Event`]s, oldest first |
//! | `GET /v1/tasks/ID/diff` | → the diff, plain text |
//! | `GET /v1/tasks/ID/log?what=agent\|verify\|setup` | → plain text, control characters removed |
//! | `GET /v1/agents/SLOT/screen` | → the screen and its history, plain text |
//! | `POST /v1/clean` | [`CleanRequest`] → [`CleanReport`] |
//! | `POST /v1/stop` | [`StopRequest`] → 204, then the squad ends |
//! | `POST /v1/upgrade` | [`UpgradeRequest`] → 204, then another server takes over |
//! | `GET /v1/upgrade` | → [`UpgradeReport`] |
//! | `POST /v1/attach` | `Upgrade: warpsquad-attach` → the dashboard's own framing |
//!
//! [`Request`]: crate::core::command::Request
//! [`Reply`]: crate::core::command::Reply
//! [`Refusal`]: crate::core::command::Refusal
//! [`Task`]: crate::core::task::Task
//! [`Event`]: crate::core::event::Event
//! [`View`]: crate::engine::View
//! [`TaskFilter`]: crate::engine::journal::TaskFilter

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::core::command::{Command, NewTask, Refusal, RefusalKind, Reply, Request};
pub use crate::core::event::{Actor, ActorKind, Event, SquadEvent, TaskEvent, What};
pub use crate::core::upgrade::{UpgradeReport, UpgradeState};
pub use crate::engine::journal::{EventFilter, TaskFilter};
pub use crate::engine::view::{AgentView, Installation, View};

/// The token of the `Upgrade` header that turns a connection into a dashboard.
pub const ATTACH: &str = "warpsquad-attach";

/// Which log of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// The chat of its agent.
    #[default]
    Agent,
    /// The output of its last verification.
    Verify,
    /// The output of its setup command.
    Setup,
}

/// `POST /v1/stop`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Kill agents at once instead of letting them end.
    pub now: bool,
}

/// `POST /v1/upgrade`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// The program that is to become the server.
    pub program: PathBuf,
}

/// `POST /v1/clean`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanRequest {
    /// Only tell.
    pub dry_run: bool,
    /// Only what is older than this, and archives too; as the squad does by itself.
    #[serde(default)]
    pub older_than_ms: Option<u64>,
}

/// What `clean` removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CleanReport {
    /// One entry a thing.
    pub removed: Vec<Cleaned>,
    /// Kept although old, and why.
    pub kept: Vec<Cleaned>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// Path or ref.
    pub what: String,
    /// Why it goes or stays.
    pub why: String,
    /// Bytes on disk, where known.
    pub bytes: u64,
}
