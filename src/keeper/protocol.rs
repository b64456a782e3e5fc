//! The keeper's wire types: what a server may ask, what is answered, what is reported.
//!
//! One JSON document per line. A request is `{"id":n,"v":1,"method":"…","params":{…}}`, its reply
//! `{"id":n,"ok":{…},"fds":k}` or `{"id":n,"error":{"kind":"…","message":"…"}}`, an event
//! `{"event":"…",…}`. `fds` says how many descriptors came along by `SCM_RIGHTS`.
//!
//! Invariant: append-only. A keeper outlives many servers of other versions, so fields and methods
//! are only ever added: unknown fields are ignored, an unknown method is answered with an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use super::cgroup::{Controller, Limits, SquadLimits};
pub use super::fork_wire::{Origin, ZygoteSpec, ZygoteState, ZygoteView};
use crate::core::Epoch;
pub use crate::core::upgrade::{UpgradeReport, UpgradeState};

/// The version this build speaks.
pub const VERSION: u32 = 1;

/// The longest line either side accepts. Large prompts travel as base64 in one line.
pub const MAX_LINE: usize = 64 << 20;

/// Bytes that may wait for a job that does not read its terminal; more is refused (`queue_full`).
pub const MAX_PENDING_INPUT: usize = 32 << 20;

/// Name of a job, chosen by the server: `agent-<task>-<attempt>`, `verify-<task>-<attempt>`, ….
pub type JobId = String;

/// What a server may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Request {
    /// First request of every connection: who asks. Answered with [`Welcome`].
    Hello {
        /// Epoch of the asking server; an older one than the newest seen is refused.
        epoch: Epoch,
    },
    /// Start a job, or return the one that has this id. Answered with [`Spawned`].
    Spawn(Box<JobSpec>),
    /// Every job that was not forgotten. Answered with [`JobList`].
    Jobs {},
    /// Take over reading a job's terminal. Answered with [`Attached`] and two descriptors:
    /// the pty master and the ring.
    Attach {
        /// Which job.
        id: JobId,
    },
    /// Give reading back to the keeper.
    Detach {
        /// Which job.
        id: JobId,
    },
    /// Type bytes into a job's terminal.
    Write {
        /// Which job.
        id: JobId,
        /// What to type.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// Type bytes once: a key that was seen before changes nothing. Answered with [`Delivery`].
    Deliver {
        /// Which job.
        id: JobId,
        /// The idempotency key.
        key: String,
        /// What to type.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// Change the size of a job's terminal.
    Resize {
        /// Which job.
        id: JobId,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Send a signal to a job's process group.
    Signal {
        /// Which job.
        id: JobId,
        /// Which signal.
        signal: JobSignal,
    },
    /// Begin to end a job: `signal` to its group, and a kill after `grace_ms`. Answered at once;
    /// the end itself comes as [`Event::JobExited`].
    Stop {
        /// Which job.
        id: JobId,
        /// The polite signal.
        signal: JobSignal,
        /// Patience, milliseconds.
        grace_ms: u64,
    },
    /// Drop an ended job with its ring and metadata. Unknown ids are fine.
    Forget {
        /// Which job.
        id: JobId,
    },
    /// Replace a job's metadata.
    SetMeta {
        /// Which job.
        id: JobId,
        /// The server's own notes.
        meta: String,
    },
    /// The gateway's listening socket. Answered with [`Gateway`] and one descriptor.
    Gateway {},
    /// Keep a zygote of this kind: start it, or replace one of another kind. Answered with
    /// [`ZygoteView`] at once; what becomes of it comes as [`Event::Zygote`].
    Zygote(Box<ZygoteSpec>),
    /// Stop the server, then all jobs, then the keeper itself.
    Shutdown {},
    /// Let another program be the server, with the same arguments; back to the old one if it does
    /// not serve. Answered at once, then the asking server is told to end.
    Upgrade {
        /// The program.
        program: PathBuf,
    },
    /// The asking server serves: it is no longer on trial.
    Ready {},
    /// How the last upgrade went. Answered with [`UpgradeReport`].
    Upgraded {},
    /// What all jobs may use together from now on, where the kernel enforces it.
    Limit(SquadLimits),
}

impl Request {
    /// Every method this build knows.
    const METHODS: [&str; 19] = [
        "hello", "spawn", "jobs", "attach", "detach", "write", "deliver", "resize", "signal",
        "stop", "forget", "set_meta", "gateway", "zygote", "shutdown", "upgrade", "ready",
        "upgraded", "limit",
    ];
}

/// A request with the number its reply will carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Chosen by the asker, unique within its connection.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What is to run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name: asking again for the same one returns the same job, also when it has ended.
    pub id: JobId,
    /// Program and arguments; the program is looked up in the job's own `PATH`.
    pub argv: Vec<String>,
    /// The complete environment: nothing is inherited. The keeper adds `SQUAD_JOB`,
    /// `SQUAD_KEEPER` and `SQUAD_DATA`.
    pub env: BTreeMap<String, String>,
    /// Working directory; must exist.
    pub cwd: PathBuf,
    /// Where its output goes.
    pub output: Output,
    /// Niceness, 0…19.
    #[serde(default)]
    pub nice: u8,
    /// Stopped after this. Milliseconds on the wire.
    #[serde(default, with = "optional_millis", rename = "time_limit_ms")]
    pub time_limit: Option<Duration>,
    /// The server's own notes, stored and never read by the keeper.
    #[serde(default)]
    pub meta: String,
    /// Where its process comes from.
    #[serde(default)]
    pub origin: Origin,
    /// What it may use, where the kernel enforces it.
    #[serde(default)]
    pub limits: Limits,
}

/// Where a job's output goes. Its standard input is the pty, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A pseudo-terminal of this size.
    Pty {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// A file, created or appended to.
    File(PathBuf),
}

/// Signals that a job may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSignal {
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
    /// SIGUSR1: an agent's launcher says its state again.
    Usr1,
}

/// A job as the keeper knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its name.
    pub id: JobId,
    /// Process id of its main process, which is also its session and process group; 0 before it
    /// is forked.
    pub pid: i32,
    /// Where its output goes; a pty with its present size.
    pub output: Output,
    /// The server's notes.
    #[serde(default)]
    pub meta: String,
    /// When it was started, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Keys that were delivered, oldest first.
    #[serde(default)]
    pub delivered: Vec<String>,
    /// How it ended; `None` while it runs.
    #[serde(default)]
    pub exit: Option<JobExit>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobExit {
    /// Exit code, when it ended by itself.
    #[serde(default)]
    pub code: Option<i32>,
    /// Number of the signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether its time limit was over.
    #[serde(default)]
    pub timed_out: bool,
    /// When it ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Processor time of its main process and of those that it waited for, milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Most memory that its main process, or one that it waited for, held at a time, in KiB
    /// (resident: shared pages count fully).
    #[serde(default)]
    pub peak_kib: u64,
    /// Why it never had a process.
    #[serde(default)]
    pub refused: Option<String>,
    /// The kernel killed it, because it needed more memory than its limit.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl JobExit {
    /// Ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }
}

/// Answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version the keeper speaks.
    pub v: u32,
    /// Its process id.
    pub pid: i32,
    /// Its nonce, as in `SQUAD_KEEPER` of every job.
    pub nonce: String,
    /// The gateway's address, the same for the keeper's whole life.
    pub gateway: SocketAddr,
    /// What the kernel enforces of [`Limits`]; nothing without delegated control groups.
    #[serde(default)]
    pub controllers: Vec<Controller>,
}

/// Answer to `spawn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spawned {
    /// Whether this request started it.
    pub fresh: bool,
    /// The job.
    pub job: JobView,
}

/// Answer to `jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobList {
    /// In the order they were started.
    pub jobs: Vec<JobView>,
}

/// Answer to `attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The ring's cursor: bytes that had been read from the pty.
    pub cursor: u64,
    /// Columns of the pty.
    pub cols: u16,
    /// Rows of the pty.
    pub rows: u16,
}

/// Answer to `deliver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The ring's cursor when the key was first seen: output from here on may be the answer.
    pub cursor: u64,
    /// Whether this request delivered it.
    pub fresh: bool,
}

/// Answer to `gateway`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
}

/// What the keeper reports by itself, to every connection that said hello.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A job ended, and nothing is left of it. Output that nobody has read yet is still in its pty.
    JobExited {
        /// Which job.
        job: JobId,
        /// How.
        exit: JobExit,
    },
    /// A job was forked and has a process now.
    JobStarted {
        /// Which job.
        job: JobId,
        /// Its process.
        pid: i32,
    },
    /// The zygote is in another state.
    Zygote {
        /// Which.
        zygote: ZygoteState,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The situation.
    pub kind: RefusalKind,
    /// The same in words.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// The situations in which a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Not a request at all, or parameters that do not fit.
    BadRequest,
    /// A method this keeper does not know.
    UnknownMethod,
    /// `hello` has to come first.
    NoHello,
    /// A newer server has said hello.
    StaleEpoch,
    /// No job has this id.
    UnknownJob,
    /// The job has ended.
    JobEnded,
    /// The job still runs.
    JobRunning,
    /// The job writes to a file: it has no terminal.
    NoTerminal,
    /// Another connection reads this job.
    AttachedElsewhere,
    /// Too much input waits for this job already.
    QueueFull,
    /// The job could not be started, or another operation of the system failed.
    SystemFailed,
    /// The keeper is about to end.
    ShuttingDown,
    /// There is no zygote that could fork.
    NoZygote,
    /// A situation that this build does not know.
    #[serde(other)]
    Other,
}

/// A line as the keeper sends it.
#[derive(Debug, Clone, PartialEq)]
pub enum FromKeeper {
    /// The answer to the request `id`; `fds` descriptors belong to it.
    Reply {
        /// Number of the request.
        id: u64,
        /// What was answered.
        result: Result<Value, Refusal>,
        /// Descriptors that came along.
        fds: usize,
    },
    /// An event.
    Event(Event),
    /// An event of a later version.
    UnknownEvent,
}

/// A line that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the expected shape.
    #[error("not a message of the keeper's protocol")]
    Malformed(#[from] serde_json::Error),
}

/// The line that asks `request` under the number `id`, with its newline.
pub fn encode_request(id: u64, request: &Request) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        id: u64,
        v: u32,
        #[serde(flatten)]
        request: &'a Request,
    }
    encode_line(&Line {
        id,
        v: VERSION,
        request,
    })
}

/// Understands a request, or says under which number the refusal is to be sent.
pub fn decode_request(line: &[u8]) -> Result<Numbered, (u64, Refusal)> {
    #[derive(Deserialize)]
    struct Line {
        id: u64,
        method: String,
        #[serde(default)]
        params: Option<Value>,
    }
    let bad = |id, error: serde_json::Error| {
        (id, Refusal::new(RefusalKind::BadRequest, error.to_string()))
    };
    let line: Line = serde_json::from_slice(line).map_err(|error| bad(0, error))?;
    if !Request::METHODS.contains(&line.method.as_str()) {
        let message = format!("this keeper (version {VERSION}) knows no such method");
        return Err((line.id, Refusal::new(RefusalKind::UnknownMethod, message)));
    }
    let params = line
        .params
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let call = Value::Object(serde_json::Map::from_iter([
        ("method".to_owned(), Value::String(line.method)),
        ("params".to_owned(), params),
    ]));
    let request = serde_json::from_value(call).map_err(|error| bad(line.id, error))?;
    Ok(Numbered {
        id: line.id,
        request,
    })
}

/// The line that answers the request `id`, with its newline.
pub fn encode_reply(
    id: u64,
    result: &Result<Value, Refusal>,
    fds: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    match result {
        Ok(ok) => encode_line(&serde_json::json!({ "id": id, "ok": ok, "fds": fds })),
        Err(error) => encode_line(&serde_json::json!({ "id": id, "error": error })),
    }
}

/// The line that reports `event`, with its newline.
pub fn encode_event(event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    encode_line(event)
}

/// Understands a line of the keeper's.
pub fn decode_from_keeper(line: &[u8]) -> Result<FromKeeper, DecodeError> {
    #[derive(Deserialize)]
    struct Reply {
        id: u64,
        #[serde(default)]
        ok: Value,
        #[serde(default)]
        error: Option<Refusal>,
        #[serde(default)]
        fds: usize,
    }
    let value: Value = serde_json::from_slice(line)?;
    if value.get("event").is_some() {
        return Ok(Event::deserialize(value).map_or(FromKeeper::UnknownEvent, FromKeeper::Event));
    }
    let Reply { id, ok, error, fds } = serde_json::from_value(value)?;
    Ok(FromKeeper::Reply {
        id,
        result: error.map_or(Ok(ok), Err),
        fds,
    })
}

/// Reads the `ok` part of a reply.
pub fn decode_answer<T: DeserializeOwned>(ok: Value) -> Result<T, DecodeError> {
    Ok(serde_json::from_value(ok)?)
}

fn encode_line(message: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Bytes as base64 text.
mod base64_bytes {
    use super::{BASE64, Deserialize, Deserializer, Engine as _, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map_err(serde::de::Error::custom)
    }
}

/// A duration that may be absent, as milliseconds.
mod optional_millis {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
