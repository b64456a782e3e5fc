//! Processes that a job, or a whole keeper, left behind.
//!
//! A job's main process dies with the keeper by itself, its descendants do not. They are known by
//! their session and by the environment that every job gets: `SQUAD_JOB`, `SQUAD_KEEPER` (a nonce,
//! new for each keeper) and `SQUAD_DATA`. A process that left its session *and* cleared its
//! environment is not found.
//!
//! These functions block (they read all of `/proc`): call them on a thread that may.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid};

use super::platform::{self, Process, ProcessHandle};

/// Name of the variable that holds the job's id.
pub const JOB_VARIABLE: &str = "SQUAD_JOB";
/// Name of the variable that holds the keeper's nonce.
pub const KEEPER_VARIABLE: &str = "SQUAD_KEEPER";
/// Name of the variable that holds the data directory.
pub const DATA_VARIABLE: &str = "SQUAD_DATA";

/// A process may fork while it is looked at, so the look is repeated until nothing is found.
const MAX_ROUNDS: usize = 10;
/// A killed process is gone within microseconds unless the disk holds it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Kills whatever keepers that are gone left behind in the squad of `data`, and returns how many
/// processes that were. The jobs of the keeper with the nonce `living` are spared.
pub fn sweep_orphans(data: &Path, living: Option<&str>) -> usize {
    let data = entry(DATA_VARIABLE, data.as_os_str().as_encoded_bytes());
    let living = living.map(|nonce| entry(KEEPER_VARIABLE, nonce.as_bytes()));
    kill_all(|process| {
        process.environment.contains(&data)
            && living
                .as_ref()
                .is_none_or(|living| !process.environment.contains(living))
    })
}

/// Kills what is left of a job whose main process has ended.
pub(super) fn kill_leftovers(session: Pid, job: &str, nonce: &str) -> usize {
    let job = entry(JOB_VARIABLE, job.as_bytes());
    let keeper = entry(KEEPER_VARIABLE, nonce.as_bytes());
    kill_all(|process| {
        process.session == Some(session)
            || (process.environment.contains(&job) && process.environment.contains(&keeper))
    })
}

/// Kills every child of this process, and every one that it adopts by that.
pub(super) fn kill_children() -> usize {
    let parent = getpid();
    kill_all(|process| process.parent == Some(parent))
}

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"=", value].concat()
}

fn kill_all(is_meant: impl Fn(&Process) -> bool) -> usize {
    let spared = own_line();
    let is_meant = |process: &Process| !spared.contains(&process.pid) && is_meant(process);
    let mut killed = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let handles: Vec<(Pid, ProcessHandle)> = platform::processes()
            .into_iter()
            .filter(|process| is_meant(process))
            .filter_map(|process| kill(process.pid, is_meant))
            .collect();
        if handles.is_empty() {
            break;
        }
        let (pids, handles): (Vec<_>, Vec<_>) = handles.into_iter().unzip();
        killed.extend(pids);
        ProcessHandle::await_ends(&handles, PATIENCE);
    }
    killed.len()
}

/// Looks again once the handle is open: the number may belong to another process by now.
fn kill(pid: Pid, is_meant: impl Fn(&Process) -> bool) -> Option<(Pid, ProcessHandle)> {
    let handle = ProcessHandle::open(pid).ok()?;
    is_meant(&platform::process(pid)?).then_some(())?;
    handle.signal(Signal::KILL).ok()?;
    Some((pid, handle))
}

/// This process and its ancestors: never killed, whatever their environment says.
fn own_line() -> HashSet<Pid> {
    let mut line = HashSet::new();
    let mut next = Some(getpid());
    while let Some(pid) = next {
        if !line.insert(pid) {
            break;
        }
        next = platform::process(pid).and_then(|process| process.parent);
    }
    line
}
