//! One child process that the keeper runs under an id.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::cgroup::Room;
use super::leftovers::{DATA_VARIABLE, JOB_VARIABLE, KEEPER_VARIABLE};
use super::platform::{self, Reaped};
use super::protocol::{
    Delivery, JobExit, JobId, JobSignal, JobSpec, JobView, Output, Refusal, RefusalKind,
};
use super::shim::{ROOM_VARIABLE, ShimArgs};
use super::terminal::Terminal;
use crate::pty::Size;
use crate::pty::spawn::{open as open_pty, spawn as spawn_in_pty};

const MAX_ID: usize = 200;
const MAX_NICE: u8 = 19;

/// Which keeper a job belongs to: what its environment and its shim are told.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) pid: Pid,
    pub(super) nonce: String,
    pub(super) data: String,
}

/// A job, from its start until it is forgotten.
#[derive(Debug)]
pub(super) struct Job {
    id: JobId,
    /// Counts all jobs of this keeper, so that a list can be in the order of their starts.
    pub(super) number: u64,
    /// `None` until it is forked.
    pub(super) pid: Option<Pid>,
    pub(super) meta: String,
    output: Output,
    started_ms: u64,
    /// Keys with the ring's cursor when they came, oldest first.
    delivered: Vec<(String, u64)>,
    pub(super) timed_out: bool,
    pub(super) life: Life,
    pub(super) terminal: Option<Terminal>,
    /// The connection that reads its terminal.
    pub(super) reader: Option<u64>,
    /// Its control group, until it has ended.
    pub(super) room: Option<Room>,
}

/// Where a job is in its life.
#[derive(Debug)]
pub(super) enum Life {
    /// The zygote was asked for its process.
    Forking(Wanted),
    /// Its main process runs.
    Running,
    /// Its main process was reaped; what it left behind is being killed.
    Ending(JobExit),
    /// Nothing is left of it.
    Ended(JobExit),
}

/// Whether anybody still wants a job that is being forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is to run.
    Yes,
    /// It was stopped before it had a process.
    NoMore,
}

impl Job {
    /// A job whose process is to come from the zygote, and the terminal that goes there.
    pub(super) fn forking(
        spec: JobSpec,
        number: u64,
        room: Option<Room>,
    ) -> Result<(Self, OwnedFd), Refusal> {
        check(&spec)?;
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!("cannot fork {}: {error}", spec.id);
            Refusal::new(RefusalKind::SystemFailed, message)
        };
        let Output::Pty { cols, rows } = spec.output else {
            let message = format!("job {} is to be forked and has no terminal", spec.id);
            return Err(Refusal::new(RefusalKind::BadRequest, message));
        };
        let size = Size::new(cols, rows).clamped();
        let opened = open_pty(size).map_err(|error| failed(&error))?;
        let terminal = Terminal::new(opened.master, size).map_err(|error| failed(&error))?;
        let job = Self {
            id: spec.id,
            number,
            pid: None,
            meta: spec.meta,
            output: spec.output,
            started_ms: now_ms(),
            delivered: Vec::new(),
            timed_out: false,
            life: Life::Forking(Wanted::Yes),
            terminal: Some(terminal),
            reader: None,
            room,
        };
        Ok((job, opened.slave))
    }

    /// Starts what `spec` asks for. Must be called on the keeper's main thread: the job dies with
    /// the *thread* that started it.
    pub(super) fn start(
        spec: JobSpec,
        owner: &Owner,
        number: u64,
        room: Option<Room>,
    ) -> Result<Self, Refusal> {
        check(&spec)?;
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!("cannot start {}: {error}", spec.id);
            Refusal::new(RefusalKind::SystemFailed, message)
        };
        let argv = shim_argv(&spec, owner).map_err(|error| failed(&error))?;
        let mut env = environment(&spec, owner);
        if let Some(door) = room
            .as_ref()
            .and_then(|room| room.door().to_str().map(str::to_owned))
        {
            env.insert(ROOM_VARIABLE.into(), door);
        }
        let (pid, terminal) = match &spec.output {
            Output::Pty { cols, rows } => {
                let size = Size::new(*cols, *rows).clamped();
                let started =
                    spawn_in_pty(argv, &env, &spec.cwd, size).map_err(|error| failed(&error))?;
                let terminal = Terminal::new(started.master, size);
                (started.pid, Some(terminal.map_err(|error| failed(&error))?))
            }
            Output::File(path) => {
                let pid = start_into_file(&argv, &env, &spec.cwd, path);
                (pid.map_err(|error| failed(&error))?, None)
            }
        };
        let pid = Pid::from_raw(pid).ok_or_else(|| failed(&"it has no process id"))?;
        Ok(Self {
            id: spec.id,
            number,
            pid: Some(pid),
            meta: spec.meta,
            output: spec.output,
            started_ms: now_ms(),
            delivered: Vec::new(),
            timed_out: false,
            life: Life::Running,
            terminal,
            reader: None,
            room,
        })
    }

    /// The job as servers see it.
    pub(super) fn view(&self) -> JobView {
        let output = match (&self.output, &self.terminal) {
            (Output::Pty { .. }, Some(terminal)) => {
                let Size { columns, rows } = terminal.size();
                Output::Pty {
                    cols: columns,
                    rows,
                }
            }
            (output, _) => output.clone(),
        };
        JobView {
            id: self.id.clone(),
            pid: self.pid.map_or(0, |pid| pid.as_raw_nonzero().get()),
            output,
            meta: self.meta.clone(),
            started_ms: self.started_ms,
            delivered: self.delivered.iter().map(|(key, _)| key.clone()).collect(),
            exit: match &self.life {
                Life::Forking(_) | Life::Running | Life::Ending(_) => None,
                Life::Ended(exit) => Some(exit.clone()),
            },
        }
    }

    /// Sends a signal to its process group.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Refusal> {
        let Some(pid) = self.pid.filter(|_| matches!(self.life, Life::Running)) else {
            return Err(self.ended());
        };
        let result = match kill_process_group(pid, signal) {
            // It has not made its group yet.
            Err(rustix::io::Errno::SRCH) => kill_process(pid, signal),
            result => result,
        };
        result.map_err(|error| Refusal::new(RefusalKind::SystemFailed, error.to_string()))
    }

    /// Types `bytes`.
    pub(super) fn write(&self, bytes: Vec<u8>) -> Result<(), Refusal> {
        let terminal = self.terminal.as_ref().ok_or_else(|| self.no_terminal())?;
        if !matches!(self.life, Life::Running | Life::Forking(_)) {
            return Err(self.ended());
        }
        terminal.write(bytes)
    }

    /// Types `bytes` unless `key` came before.
    pub(super) fn deliver(&mut self, key: String, bytes: Vec<u8>) -> Result<Delivery, Refusal> {
        if let Some((_, cursor)) = self.delivered.iter().find(|(known, _)| *known == key) {
            return Ok(Delivery {
                cursor: *cursor,
                fresh: false,
            });
        }
        let terminal = self.terminal.as_ref().ok_or_else(|| self.no_terminal())?;
        let cursor = terminal.cursor().map_err(|error| system_failed(&error))?;
        self.write(bytes)?;
        self.delivered.push((key, cursor));
        Ok(Delivery {
            cursor,
            fresh: true,
        })
    }

    pub(super) fn no_terminal(&self) -> Refusal {
        let message = format!("job {} has no terminal: it writes to a file", self.id);
        Refusal::new(RefusalKind::NoTerminal, message)
    }

    fn ended(&self) -> Refusal {
        Refusal::new(RefusalKind::JobEnded, format!("job {} has ended", self.id))
    }

    /// How it ended, seen by whoever reaped it.
    pub(super) fn exit(&self, reaped: &Reaped) -> JobExit {
        JobExit {
            code: reaped.status.code(),
            signal: reaped.status.signal(),
            timed_out: self.timed_out,
            at_ms: now_ms(),
            cpu_ms: reaped.cpu_ms,
            peak_kib: reaped.peak_kib,
            refused: None,
            out_of_memory: self.room.as_ref().is_some_and(Room::was_out_of_memory),
        }
    }

    /// It never got a process.
    pub(super) fn never_ran(&self, why: &str) -> JobExit {
        JobExit {
            code: None,
            signal: None,
            timed_out: self.timed_out,
            at_ms: now_ms(),
            cpu_ms: 0,
            peak_kib: 0,
            refused: Some(why.to_owned()),
            out_of_memory: false,
        }
    }
}

pub(super) fn system_failed(error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::SystemFailed, error.to_string())
}

pub(super) fn native_signal(signal: JobSignal) -> Signal {
    match signal {
        JobSignal::Hup => Signal::HUP,
        JobSignal::Int => Signal::INT,
        JobSignal::Term => Signal::TERM,
        JobSignal::Kill => Signal::KILL,
        JobSignal::Stop => Signal::STOP,
        JobSignal::Cont => Signal::CONT,
        JobSignal::Usr1 => Signal::USR1,
    }
}

fn check(spec: &JobSpec) -> Result<(), Refusal> {
    let bad = |message: String| Err(Refusal::new(RefusalKind::BadRequest, message));
    if spec.id.is_empty() || spec.id.len() > MAX_ID || spec.id.contains('\0') {
        return bad(format!("a job's id has 1 to {MAX_ID} bytes and no NUL"));
    }
    if spec.argv.first().is_none_or(String::is_empty) {
        return bad(format!("job {} has no program", spec.id));
    }
    if let Some(name) = spec
        .env
        .keys()
        .find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        return bad(format!("job {} has a variable named {name:?}", spec.id));
    }
    let texts = spec.argv.iter().chain(spec.env.values());
    if texts.into_iter().any(|text| text.contains('\0')) {
        return bad(format!(
            "job {} has a NUL in an argument or variable",
            spec.id
        ));
    }
    if spec.nice > MAX_NICE {
        return bad(format!("niceness {} is above {MAX_NICE}", spec.nice));
    }
    if !spec.cwd.is_dir() {
        return bad(format!(
            "working directory {} does not exist",
            spec.cwd.display()
        ));
    }
    Ok(())
}

fn shim_argv(spec: &JobSpec, owner: &Owner) -> io::Result<Vec<OsString>> {
    let shim = ShimArgs {
        keeper: owner.pid.as_raw_nonzero().get(),
        nice: spec.nice,
        // portable-pty adds it where it is missing.
        unset: if spec.env.contains_key("SHELL") {
            String::new()
        } else {
            "SHELL".into()
        },
        argv: spec.argv.iter().map(OsString::from).collect(),
    };
    let mut argv = vec![platform::own_program()?.into_os_string()];
    argv.extend(shim.to_args());
    Ok(argv)
}

pub(super) fn environment(spec: &JobSpec, owner: &Owner) -> BTreeMap<String, String> {
    let mut env = spec.env.clone();
    env.remove(ROOM_VARIABLE);
    env.insert(JOB_VARIABLE.into(), spec.id.clone());
    env.insert(KEEPER_VARIABLE.into(), owner.nonce.clone());
    env.insert(DATA_VARIABLE.into(), owner.data.clone());
    env
}

fn start_into_file(
    argv: &[OsString],
    env: &BTreeMap<String, String>,
    cwd: &Path,
    path: &Path,
) -> io::Result<i32> {
    let file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let [program, args @ ..] = argv else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(env)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
