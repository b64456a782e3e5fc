//! What Linux and macOS do differently, and nothing else.
//!
//! Linux has memory files, a subreaper, a death signal, handles for processes and `/proc`. On macOS
//! a ring is an unlinked temporary file and orphans of a killed keeper are found by the sweep only.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Received descriptors are never inherited.
#[cfg(target_os = "linux")]
pub(super) const RECV_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
/// macOS cannot close received descriptors on exec by itself; the shim closes them.
#[cfg(not(target_os = "linux"))]
pub(super) const RECV_FLAGS: RecvFlags = RecvFlags::empty();

/// A peer that is gone is an error, not a signal.
#[cfg(target_os = "linux")]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
/// Rust programs ignore the signal anyway.
#[cfg(not(target_os = "linux"))]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// Watches a non-blocking descriptor with tokio.
#[expect(
    unsafe_code,
    reason = "tokio has no safe constructor for any descriptor"
)]
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always names the same descriptor, and is closed only after the
    // `AsyncFd` that owns it has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// A file that lives in memory, or at least has no name.
#[cfg(target_os = "linux")]
pub(super) fn memory_file() -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(
        "squad-ring",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?)
}

/// See the Linux one.
#[cfg(not(target_os = "linux"))]
pub(super) fn memory_file() -> io::Result<OwnedFd> {
    Ok(tempfile::tempfile()?.into())
}

/// Lets the kernel end a TCP connection whose peer takes nothing of what it is sent for so long,
/// once all buffers are full; one that reads slowly, but reads, is not meant.
#[cfg(target_os = "linux")]
pub fn end_when_deaf(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(socket, millis)?)
}

/// Not available here: such a connection ends when its peer does.
#[cfg(not(target_os = "linux"))]
pub fn end_when_deaf(_socket: BorrowedFd<'_>, _limit: Duration) -> io::Result<()> {
    Ok(())
}

/// From now on orphaned descendants become children of this process.
#[cfg(target_os = "linux")]
pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// Not available here: orphans go to the init process.
#[cfg(not(target_os = "linux"))]
pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// From now on this process is killed when its parent ends.
#[cfg(target_os = "linux")]
pub(super) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// Not available here: a killed keeper's jobs are ended by the sweep.
#[cfg(not(target_os = "linux"))]
pub(super) fn die_with_parent() -> io::Result<()> {
    Ok(())
}

/// This very program, even when its file was replaced by an update.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(super) fn own_program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// This program's file.
#[cfg(not(target_os = "linux"))]
pub(super) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Memory of a process in RAM, bytes, what it shares with others included; none if unknown.
#[cfg(target_os = "linux")]
pub fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Memory of a process in RAM: unknown here.
#[cfg(not(target_os = "linux"))]
pub fn resident(_: i32) -> Option<u64> {
    None
}

/// Names this run of the machine: another one after every restart, the same after a suspend.
#[cfg(target_os = "linux")]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Names this run of the machine by the moment it began.
#[cfg(not(target_os = "linux"))]
pub fn boot_id() -> Option<String> {
    Some(sysinfo::System::boot_time().to_string())
}

/// Time since the machine was started, asleep or awake.
pub fn time_since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    // Unlike Linux's, this one goes on while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    Duration::try_from(now).unwrap_or_default()
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug)]
pub(super) struct ProcessHandle {
    #[cfg(target_os = "linux")]
    pidfd: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    pid: Pid,
}

#[cfg(target_os = "linux")]
impl ProcessHandle {
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self { pidfd })
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Waits until all of them have ended, or `patience` is over.
    pub(super) fn await_ends(handles: &[Self], patience: Duration) {
        use rustix::event::{PollFd, PollFlags, poll};

        let deadline = tokio::time::Instant::now() + patience;
        for handle in handles {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let Ok(left) = rustix::event::Timespec::try_from(left) else {
                return;
            };
            let mut fds = [PollFd::new(&handle.pidfd, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&left)), Ok(1..)) {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl ProcessHandle {
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        rustix::process::test_kill_process(pid)?;
        Ok(Self { pid })
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::kill_process(self.pid, signal)?)
    }

    /// There is nothing to wait on here: the caller looks again.
    pub(super) fn await_ends(_: &[Self], _: Duration) {}
}

/// A child that has ended and is no more.
#[derive(Debug)]
pub(super) struct Reaped {
    pub(super) pid: Pid,
    pub(super) status: ExitStatus,
    /// Its processor time and that of children it waited for, milliseconds.
    pub(super) cpu_ms: u64,
    /// The most memory that it or one of these had resident, KiB.
    pub(super) peak_kib: u64,
}

/// Takes one child that has ended; `None` when there is none at the moment.
#[expect(
    unsafe_code,
    reason = "no safe function reaps any child together with what it has used"
)]
pub(super) fn reap() -> io::Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing during the call.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a `rusage` is plain numbers, for which zeros are valid.
    let usage = unsafe { usage.assume_init() };
    Ok(Pid::from_raw(pid).map(|pid| Reaped {
        pid,
        status: ExitStatus::from_raw(status),
        cpu_ms: millis(usage.ru_utime) + millis(usage.ru_stime),
        peak_kib: u64::try_from(usage.ru_maxrss).unwrap_or_default() / PEAK_UNIT,
    }))
}

/// Linux counts in KiB.
#[cfg(target_os = "linux")]
const PEAK_UNIT: u64 = 1;
/// macOS counts in bytes.
#[cfg(not(target_os = "linux"))]
const PEAK_UNIT: u64 = 1024;

fn millis(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_usec).unwrap_or_default() / 1000
}

/// What is known of a running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: Option<Pid>,
    pub(super) session: Option<Pid>,
    /// `NAME=value` entries as they were at its last exec.
    pub(super) environment: Vec<Vec<u8>>,
}

/// Every process that runs now (ended ones that wait to be reaped are left out).
#[cfg(target_os = "linux")]
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|number| process(Pid::from_raw(number)?))
        .collect()
}

/// One process; `None` if it has ended or belongs to somebody else.
#[cfg(target_os = "linux")]
pub(super) fn process(pid: Pid) -> Option<Process> {
    let number = pid.as_raw_nonzero();
    let stat = std::fs::read(format!("/proc/{number}/stat")).ok()?;
    // `pid (name) state ppid pgrp session …`; a name may hold anything, even `) Z 1`.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = Pid::from_raw(fields.next()?.parse().ok()?);
    let session = Pid::from_raw(fields.nth(1)?.parse().ok()?);
    let environment = std::fs::read(format!("/proc/{number}/environ")).ok()?;
    let environment = environment
        .split(|byte| *byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    Some(Process {
        pid,
        parent,
        session,
        environment,
    })
}

/// Every process that runs now.
#[cfg(not(target_os = "linux"))]
pub(super) fn processes() -> Vec<Process> {
    use std::os::unix::ffi::OsStrExt;

    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

    let as_pid = |pid: sysinfo::Pid| Pid::from_raw(i32::try_from(pid.as_u32()).ok()?);
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::All,
        true,
        ProcessRefreshKind::nothing().with_environ(UpdateKind::Always),
    );
    let known = system.processes().values().filter_map(|process| {
        Some(Process {
            pid: as_pid(process.pid())?,
            parent: process.parent().and_then(as_pid),
            session: process.session_id().and_then(as_pid),
            environment: process
                .environ()
                .iter()
                .map(|entry| entry.as_bytes().to_vec())
                .collect(),
        })
    });
    known.collect()
}

/// One process.
#[cfg(not(target_os = "linux"))]
pub(super) fn process(pid: Pid) -> Option<Process> {
    processes().into_iter().find(|process| process.pid == pid)
}
