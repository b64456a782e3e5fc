//! Starting a program in a new pseudo-terminal.
//!
//! portable-pty opens the pair and starts the program as leader of its own session. The process is
//! the caller's to wait for: nothing here does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::fs::{self, Mode, OFlags};

use super::size::Size;

/// Why a program does not run in a terminal.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// portable-pty would quietly use the home directory instead.
    #[error("working directory {0} does not exist")]
    NoWorkingDirectory(String),
    /// No pty, or the program could not be started.
    #[error("cannot start the program in a terminal: {0}")]
    Failed(String),
    /// The terminal's descriptor cannot be used.
    #[error("cannot use the terminal")]
    Descriptor(#[source] io::Error),
}

/// A started program.
#[derive(Debug)]
pub struct SpawnedPty {
    /// Its process id, session and process group.
    pub pid: i32,
    /// Our side of the terminal, non-blocking. `O_NONBLOCK` belongs to the open file: whoever gets
    /// a duplicate of this descriptor lives with it.
    pub master: OwnedFd,
}

/// Starts `argv` in a new terminal with exactly `env` (and `SHELL`, which portable-pty adds when
/// it is missing).
pub fn spawn(
    argv: Vec<OsString>,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    size: Size,
) -> Result<SpawnedPty, SpawnError> {
    if !cwd.is_dir() {
        return Err(SpawnError::NoWorkingDirectory(cwd.display().to_string()));
    }
    let failed = |error: &dyn std::fmt::Display| SpawnError::Failed(error.to_string());
    let pair = native_pty_system()
        .openpty(pty_size(size))
        .map_err(|error| failed(&error))?;
    let mut command = CommandBuilder::from_argv(argv);
    command.env_clear();
    for (name, value) in env {
        command.env(name, value);
    }
    command.cwd(cwd);
    let master = duplicate(pair.master.as_ref()).map_err(SpawnError::Descriptor)?;
    let child = pair
        .slave
        .spawn_command(command)
        .map_err(|error| failed(&error))?;
    let pid = child.process_id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| failed(&"the program has no process id"))?;
    Ok(SpawnedPty { pid, master })
}

/// A terminal that no program has yet.
#[derive(Debug)]
pub struct OpenedPty {
    /// Our side, non-blocking.
    pub master: OwnedFd,
    /// The program's side.
    pub slave: OwnedFd,
}

/// Opens a terminal for a program that is not started from here.
pub fn open(size: Size) -> Result<OpenedPty, SpawnError> {
    let failed = |error: &dyn std::fmt::Display| SpawnError::Failed(error.to_string());
    let pair = native_pty_system()
        .openpty(pty_size(size))
        .map_err(|error| failed(&error))?;
    let master = duplicate(pair.master.as_ref()).map_err(SpawnError::Descriptor)?;
    let name = pair.master.tty_name();
    let name = name.ok_or_else(|| failed(&"the terminal has no name"))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = fs::open(name, flags, Mode::empty()).map_err(|error| failed(&error))?;
    Ok(OpenedPty { master, slave })
}

/// Changes the size of the terminal behind `master`; its program gets `SIGWINCH`.
pub fn resize(master: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = size.clamped();
    let winsize = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, winsize)?)
}

/// Closes every descriptor above 2 that this process inherited. Only for the very first lines of
/// a program, before it has opened anything itself.
pub fn close_inherited_descriptors() {
    portable_pty::unix::close_random_fds();
}

fn pty_size(size: Size) -> PtySize {
    let size = size.clamped();
    PtySize {
        rows: size.rows,
        cols: size.columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

#[expect(
    unsafe_code,
    reason = "portable-pty gives its descriptor as a plain number only"
)]
fn duplicate(master: &dyn MasterPty) -> io::Result<OwnedFd> {
    let number = master.as_raw_fd().ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: the descriptor is open and stays so as long as `master` is borrowed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let master = rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?;
    let flags = fs::fcntl_getfl(&master)?;
    fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
    Ok(master)
}
