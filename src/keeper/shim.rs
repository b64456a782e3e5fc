//! `warpsquad exec-job`: the last step before a job's own program.
//!
//! The keeper starts every job through its own program, because what has to happen between `fork`
//! and `exec` would need unsafe code there and is safe here: die with the keeper, own session, own
//! control group, niceness, no inherited descriptor but 0–2. Then the job's program replaces this one.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{getppid, nice, setsid};

use super::platform;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "exec-job";

/// Names the file of the job's control group that takes process ids; the job does not see it.
pub(super) const ROOM_VARIABLE: &str = "SQUAD_ROOM";

/// Exit code of a job whose program could not be started, as shells have it.
pub const CANNOT_START: u8 = 127;

/// Why the job's program was not started.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Called with other arguments than the keeper's.
    #[error("exec-job is called by the keeper only")]
    Usage,
    /// The keeper ended meanwhile.
    #[error("the keeper is gone")]
    KeeperGone,
    /// A preparation failed.
    #[error("cannot prepare the job: {0}")]
    Preparation(io::Error),
    /// The program is missing or not executable.
    #[error("cannot start {}: {error}", program.display())]
    Program {
        /// What was to be started.
        program: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// What the keeper tells the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShimArgs {
    /// Process id of the keeper.
    pub(super) keeper: i32,
    /// Niceness.
    pub(super) nice: u8,
    /// A variable that is in the shim's environment and not in the job's; empty for none.
    pub(super) unset: String,
    /// Program and arguments.
    pub(super) argv: Vec<OsString>,
}

impl ShimArgs {
    /// Arguments after the program's name.
    pub(super) fn to_args(&self) -> Vec<OsString> {
        let (keeper, nice) = (self.keeper.to_string(), self.nice.to_string());
        let fixed = [SUBCOMMAND.to_owned(), keeper, nice, self.unset.clone()];
        fixed
            .into_iter()
            .map(OsString::from)
            .chain(self.argv.iter().cloned())
            .collect()
    }

    /// Reads the arguments after the subcommand's name.
    fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let keeper = args.next()?.to_str()?.parse().ok()?;
        let nice = args.next()?.to_str()?.parse().ok()?;
        let unset = args.next()?.into_string().ok()?;
        let argv: Vec<OsString> = args.collect();
        (!argv.is_empty()).then_some(Self {
            keeper,
            nice,
            unset,
            argv,
        })
    }
}

/// Becomes the job's program; returns only if that fails. `args` follow the subcommand's name.
pub fn exec_job(args: impl Iterator<Item = OsString>) -> ShimError {
    let Some(args) = ShimArgs::parse(args) else {
        return ShimError::Usage;
    };
    match prepare(&args) {
        Ok(()) => {}
        Err(error) => return error,
    }
    let [program, rest @ ..] = args.argv.as_slice() else {
        return ShimError::Usage;
    };
    // Inherits this process's environment, which is the job's own, and looks the program up in it.
    let mut command = Command::new(program);
    command.args(rest).env_remove(ROOM_VARIABLE);
    if !args.unset.is_empty() {
        command.env_remove(&args.unset);
    }
    let error = command.exec();
    ShimError::Program {
        program: program.into(),
        error,
    }
}

fn prepare(args: &ShimArgs) -> Result<(), ShimError> {
    crate::pty::spawn::close_inherited_descriptors();
    platform::die_with_parent().map_err(ShimError::Preparation)?;
    // The keeper may have ended before the line above.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(args.keeper) {
        return Err(ShimError::KeeperGone);
    }
    // A program in a new terminal leads its session already, and is refused another. It is not
    // asked which one it is in: that may be one of another PID namespace, which has no number here.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(ShimError::Preparation(error.into())),
    }
    if let Some(door) = std::env::var_os(ROOM_VARIABLE) {
        enter(Path::new(&door)).map_err(ShimError::Preparation)?;
    }
    if args.nice > 0 {
        nice(i32::from(args.nice)).map_err(|error| ShimError::Preparation(error.into()))?;
    }
    Ok(())
}

/// Moves this process into a control group, by the group's own file.
fn enter(door: &Path) -> io::Result<()> {
    // 0 is whoever writes it. Nothing is made: that file is there, or there is no such group.
    let mut door = std::fs::OpenOptions::new().write(true).open(door)?;
    door.write_all(b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_keeper_writes_is_what_the_shim_reads() {
        let argv = ["sh", "-c", "--", "echo 1"].map(OsString::from).to_vec();
        let args = ShimArgs {
            keeper: 42,
            nice: 10,
            unset: "SHELL".into(),
            argv,
        };
        let mut written = args.to_args().into_iter();
        assert_eq!(written.next().unwrap(), SUBCOMMAND);
        assert_eq!(ShimArgs::parse(written), Some(args));
    }

    #[test]
    fn other_arguments_are_refused() {
        for args in [
            &[][..],
            &["1"],
            &["1", "0", ""],
            &["x", "0", "", "sh"],
            &["1", "-3", "", "sh"],
        ] {
            assert_eq!(
                ShimArgs::parse(args.iter().map(OsString::from)),
                None,
                "{args:?}"
            );
        }
    }
}
