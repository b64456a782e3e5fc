//! The part of the keeper's protocol that is about the zygote. Append-only like the rest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a job's process comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Started as a program.
    #[default]
    Program,
    /// Forked from the zygote, which gets the arguments after the first `--` of `argv`. Needs a
    /// pty. The job is answered before it has a process (`pid` 0); that it has one comes as
    /// [`JobStarted`](super::protocol::Event::JobStarted), that it never got one as [`JobExited`](super::protocol::Event::JobExited) with `refused`.
    Zygote,
}

/// A process that has imported everything once and forks jobs.
///
/// Its standard input is a Unix stream socket to the keeper; `assets/aider/zygote.py` says what is
/// spoken there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The complete environment. The keeper adds `SQUAD_KEEPER` and `SQUAD_DATA`, which its forks
    /// carry as well as seen from outside.
    pub env: BTreeMap<String, String>,
    /// Working directory; must exist.
    pub cwd: PathBuf,
    /// Where its output goes, appended.
    pub log: PathBuf,
}

/// Answer to `zygote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteView {
    /// What is known of it.
    pub state: ZygoteState,
}

/// What is known of the zygote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ZygoteState {
    /// None was asked for.
    #[default]
    Off,
    /// It imports.
    Starting,
    /// It forks.
    Ready {
        /// Its process.
        pid: i32,
        /// Modules that it has imported.
        modules: u32,
        /// Processor time until then, milliseconds.
        cpu_ms: u64,
    },
    /// It ended or did not answer, again and again; it is tried again in a minute.
    Failed {
        /// Why.
        why: String,
    },
    /// A state of a later version.
    #[serde(other)]
    Other,
}
