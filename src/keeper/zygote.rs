//! The zygote as the keeper's child: started, spoken with, replaced when it dies or does not answer.
//!
//! What it forks are the keeper's own children (it forks twice, and the keeper adopts), so they
//! outlive it, and a replaced zygote concerns only forks that were under way. Those are refused;
//! whoever wanted them starts a program instead.
//!
//! One conversation belongs to each process, under a number: what an older one still says about a
//! fork that was given up names a process that is killed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::frame::{FrameReader, send_line};
use super::job::Owner;
use super::leftovers::{DATA_VARIABLE, KEEPER_VARIABLE};
use super::protocol::{JobId, JobSpec, ZygoteSpec, ZygoteState};
use super::restarts::{Restarts, WINDOW};
use super::shim::ShimArgs;
use super::{job, platform};

/// The imports take about 3 s of processor time; this is for a machine that does other things, too.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(90);
/// A fork takes some hundredths of a second, and they are done one after the other.
pub(super) const FORK_PATIENCE: Duration = Duration::from_secs(5);
/// Forks that may wait for their answer; one more is refused.
const PENDING: usize = 64;
/// Sentences on their way to the keeper's loop; the conversation waits when it is full.
const SAID: usize = 64;
/// It says little; a longer line is not ours.
const MAX_SENTENCE: usize = 64 << 10;

/// Something that a zygote said, or that its conversation is over.
#[derive(Debug)]
pub(super) struct Said {
    /// Which process it was, counted from 1.
    pub(super) number: u64,
    /// `None`: nothing follows.
    pub(super) sentence: Option<Sentence>,
}

/// A line of the zygote.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Sentence {
    Ready {
        ready: Ready,
    },
    /// The fork has this process.
    Forked {
        forked: u64,
        pid: i32,
    },
    Refused {
        refused: u64,
        why: String,
    },
}

/// After the imports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Ready {
    pid: i32,
    modules: u32,
    cpu_ms: u64,
}

/// A fork on its way.
#[derive(Debug)]
struct Order {
    line: Vec<u8>,
    terminal: OwnedFd,
}

/// The zygote, or why there is none.
#[derive(Debug)]
pub(super) struct Zygote {
    wanted: Option<ZygoteSpec>,
    pub(super) state: ZygoteState,
    /// The process that runs, and its number.
    pub(super) pid: Option<Pid>,
    pub(super) number: u64,
    orders: Option<mpsc::Sender<Order>>,
    /// It says nothing more.
    is_silent: bool,
    /// Forks without an answer, by their number.
    pending: BTreeMap<u64, JobId>,
    forks: u64,
    restarts: Restarts,
    /// Why it is ended, when the keeper does it.
    blame: Option<String>,
    said: mpsc::Sender<Said>,
    conversations: JoinSet<()>,
}

#[derive(Serialize)]
struct Fork<'a> {
    #[serde(rename = "fork")]
    number: u64,
    args: &'a [String],
    cwd: &'a std::path::Path,
    env: BTreeMap<String, String>,
    nice: u8,
    /// File of its control group that takes process ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a std::path::Path>,
}

impl Zygote {
    /// None yet; the receiver gets what later ones say.
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (said, heard) = mpsc::channel(SAID);
        let zygote = Self {
            wanted: None,
            state: ZygoteState::Off,
            pid: None,
            number: 0,
            orders: None,
            is_silent: false,
            pending: BTreeMap::new(),
            forks: 0,
            restarts: Restarts::default(),
            blame: None,
            said,
            conversations: JoinSet::new(),
        };
        (zygote, heard)
    }

    /// Whether this kind is what is kept already.
    pub(super) fn is_kept(&self, spec: &ZygoteSpec) -> bool {
        self.wanted.as_ref() == Some(spec)
    }

    /// From now on this kind is kept. One of another kind is told to end.
    pub(super) fn keep(&mut self, spec: ZygoteSpec) {
        self.wanted = Some(spec);
        self.restarts = Restarts::default();
        self.end("another kind is wanted");
    }

    /// Starts it, if one is wanted and none runs.
    pub(super) fn start(&mut self, owner: &Owner) -> io::Result<()> {
        let Some(spec) = self.wanted.as_ref().filter(|_| self.orders.is_none()) else {
            return Ok(());
        };
        let (ours, theirs) = StdStream::pair()?;
        let pid = spawn(spec, owner, theirs)?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let (orders, taken) = mpsc::channel(PENDING);
        self.number += 1;
        self.pid = Some(pid);
        self.orders = Some(orders);
        self.is_silent = false;
        self.state = ZygoteState::Starting;
        self.blame = None;
        while self.conversations.try_join_next().is_some() {}
        self.conversations
            .spawn(converse(stream, self.number, taken, self.said.clone()));
        Ok(())
    }

    /// Asks for a fork; its number, or why it cannot be.
    pub(super) fn fork(
        &mut self,
        spec: &JobSpec,
        owner: &Owner,
        (terminal, room): (OwnedFd, Option<PathBuf>),
    ) -> Result<u64, String> {
        if !matches!(self.state, ZygoteState::Ready { .. }) {
            return Err("the zygote is not ready".into());
        }
        let dashes = spec.argv.iter().position(|word| word == "--");
        let args = dashes.and_then(|at| spec.argv.get(at..));
        let args = args.ok_or("the command has no arguments after '--'")?;
        let fork = self.forks + 1;
        let mut line = serde_json::to_vec(&Fork {
            number: fork,
            args,
            cwd: &spec.cwd,
            env: job::environment(spec, owner),
            nice: spec.nice,
            room: room.as_deref(),
        })
        .map_err(|error| error.to_string())?;
        line.push(b'\n');
        let order = Order { line, terminal };
        let orders = self.orders.as_ref().ok_or("the zygote is gone")?;
        orders
            .try_send(order)
            .map_err(|_full| "the zygote has too much to do".to_owned())?;
        self.forks = fork;
        self.pending.insert(fork, spec.id.clone());
        Ok(fork)
    }

    /// The job of a fork that was answered; `None` when it was given up.
    pub(super) fn answered(&mut self, fork: u64) -> Option<JobId> {
        self.pending.remove(&fork)
    }

    /// Whether a fork still waits for its answer.
    pub(super) fn is_pending(&self, fork: u64) -> bool {
        self.pending.contains_key(&fork)
    }

    /// Whether any does.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// It has imported everything.
    pub(super) fn is_ready(&mut self, ready: &Ready) {
        self.state = ZygoteState::Ready {
            pid: ready.pid,
            modules: ready.modules,
            cpu_ms: ready.cpu_ms,
        };
    }

    /// Whether one runs, or has not ended completely.
    pub(super) fn is_there(&self) -> bool {
        self.orders.is_some()
    }

    /// Kills it; what follows comes when it has ended.
    pub(super) fn end(&mut self, why: &str) {
        if self.pid.is_some() {
            self.blame.get_or_insert_with(|| why.to_owned());
        }
        self.kill();
    }

    fn kill(&self) {
        let Some(pid) = self.pid else { return };
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!(%error, "the zygote has ended already");
        }
    }

    /// Its conversation is over; one without a conversation is of no use.
    pub(super) fn is_silent(&mut self) {
        self.is_silent = true;
        self.kill();
    }

    /// Whether its process is gone and all that it said was heard.
    pub(super) fn is_over(&self) -> bool {
        self.is_there() && self.is_silent && self.pid.is_none()
    }

    /// It is over: jobs whose fork is given up, and when to start the next one.
    pub(super) fn ended(&mut self, now: Instant) -> (Vec<JobId>, Duration, String) {
        self.orders = None;
        let given_up = std::mem::take(&mut self.pending).into_values().collect();
        let why = self.blame.take().unwrap_or_else(|| "it ended".into());
        let pause = self.restarts.next(now);
        self.state = if pause >= WINDOW {
            ZygoteState::Failed { why: why.clone() }
        } else {
            ZygoteState::Starting
        };
        (given_up, pause, why)
    }

    /// It could not be started: how long to wait.
    pub(super) fn failed(&mut self, why: String, now: Instant) -> Duration {
        self.state = ZygoteState::Failed { why };
        self.restarts.next(now).max(Duration::from_secs(1))
    }

    /// Its process was reaped; says whether it was one of ours.
    pub(super) fn reaped(&mut self, pid: Pid, how: &str) -> bool {
        let is_it = self.pid == Some(pid);
        if is_it {
            self.pid = None;
            self.blame
                .get_or_insert_with(|| format!("it ended ({how})"));
        }
        is_it
    }
}

/// Starts the process. The shim binds it to the keeper's life and closes what it inherits.
fn spawn(spec: &ZygoteSpec, owner: &Owner, theirs: StdStream) -> io::Result<Pid> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&spec.log)?;
    let shim = ShimArgs {
        keeper: owner.pid.as_raw_nonzero().get(),
        nice: 0,
        unset: String::new(),
        argv: spec.argv.iter().map(Into::into).collect(),
    };
    let child = Command::new(platform::own_program()?)
        .args(shim.to_args())
        .env_clear()
        .envs(&spec.env)
        .env(KEEPER_VARIABLE, &owner.nonce)
        .env(DATA_VARIABLE, &owner.data)
        .current_dir(&spec.cwd)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("it has no process id"))
}

/// Carries orders there and sentences back until either side is gone.
async fn converse(
    stream: UnixStream,
    number: u64,
    mut orders: mpsc::Receiver<Order>,
    said: mpsc::Sender<Said>,
) {
    let mut reader = FrameReader::new(MAX_SENTENCE);
    let mut open = true;
    loop {
        let line = tokio::select! {
            line = reader.next_line(&stream) => line,
            order = orders.recv(), if open => {
                match order {
                    Some(order) => {
                        let sent = send_line(&stream, &order.line, &[order.terminal.as_fd()]).await;
                        if let Err(error) = sent {
                            tracing::debug!(%error, "the zygote takes no orders");
                            open = false;
                        }
                    }
                    None => open = false,
                }
                continue;
            }
        };
        let Ok(Some(line)) = line else { break };
        match serde_json::from_slice(&line) {
            Ok(sentence) => {
                let sentence = Some(sentence);
                if said.send(Said { number, sentence }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the zygote said something that is not understood");
                break;
            }
        }
    }
    let sentence = None;
    drop(said.send(Said { number, sentence }).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Sentence {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn every_sentence_of_the_zygote_is_understood() {
        let ready = Ready {
            pid: 7,
            modules: 3_000,
            cpu_ms: 2_600,
        };
        let line = r#"{"ready": {"pid": 7, "modules": 3000, "cpu_ms": 2600}}"#;
        assert_eq!(read(line), Sentence::Ready { ready });
        let forked = Sentence::Forked { forked: 4, pid: 99 };
        assert_eq!(read(r#"{"forked": 4, "pid": 99}"#), forked);
        let refused = Sentence::Refused {
            refused: 4,
            why: "no memory".into(),
        };
        assert_eq!(read(r#"{"refused": 4, "why": "no memory"}"#), refused);
        assert!(serde_json::from_str::<Sentence>(r#"{"forked": "x"}"#).is_err());
    }

    #[test]
    fn one_that_ends_again_and_again_is_given_a_minute() {
        let (mut zygote, _heard) = Zygote::new();
        let mut now = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            last = zygote.ended(now).1;
            now += last;
        }
        assert_eq!(last, WINDOW);
        assert_eq!(
            zygote.state,
            ZygoteState::Failed {
                why: "it ended".into()
            }
        );
    }
}
