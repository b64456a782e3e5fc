//! The server as the keeper's child: started, and started again when it ends.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::restarts::{Restarts, WINDOW};

/// The server, running or not.
#[derive(Debug)]
pub(super) struct ServerChild {
    argv: Vec<OsString>,
    pub(super) pid: Option<Pid>,
    /// It has said hello since it was started: it was able to work.
    pub(super) is_greeted: bool,
    restarts: Restarts,
}

impl ServerChild {
    pub(super) fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            pid: None,
            is_greeted: false,
            restarts: Restarts::default(),
        }
    }

    /// Another program from the next start on; the old one, if there is a server at all.
    pub(super) fn replace_program(&mut self, program: &OsStr) -> Option<OsString> {
        let first = self.argv.first_mut()?;
        Some(std::mem::replace(first, program.to_owned()))
    }

    /// Whether there is a server to start at all.
    pub(super) fn is_wanted(&self) -> bool {
        !self.argv.is_empty()
    }

    /// Starts it. It inherits the environment and standard error, nothing else.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let [program, args @ ..] = self.argv.as_slice() else {
            return Ok(());
        };
        // A group of its own: Ctrl-C in the keeper's terminal is the keeper's to act on.
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).process_group(0);
        let child = command.spawn()?;
        self.pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.is_greeted = false;
        tracing::info!(pid = child.id(), "the server is started");
        Ok(())
    }

    /// Sends it a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(Err(error)) = self.pid.map(|pid| kill_process(pid, signal)) {
            tracing::warn!(%error, "cannot send a signal to the server");
        }
    }

    /// Somebody killed a server that was able to work: that is no failure of its own, it is started
    /// again at once, however often.
    pub(super) fn was_killed_at_work(&self, signal: Option<i32>) -> bool {
        self.is_greeted && signal == Some(Signal::KILL.as_raw())
    }

    /// It ended or could not be started: how long to wait before the next try.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let pause = self.restarts.next(now);
        if pause >= WINDOW {
            tracing::error!("the server ended again and again; the next try is in a minute");
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kill_of_a_server_that_worked_is_no_failure() {
        let mut server = ServerChild::new(Vec::new());
        let kill = Some(Signal::KILL.as_raw());
        assert!(!server.was_killed_at_work(kill));
        server.is_greeted = true;
        assert!(server.was_killed_at_work(kill));
        assert!(!server.was_killed_at_work(Some(Signal::SEGV.as_raw())));
        assert!(!server.was_killed_at_work(None));
    }
}
