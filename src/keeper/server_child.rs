//! The server as the keeper's child: started, and started again when it ends.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// More restarts than this within [`WINDOW`] mean that restarting does not help.
const MAX_RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Pause before the second restart within the window; doubles. The first one comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

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
        self.restarts.next(now)
    }
}

/// How often it was started again lately.
#[derive(Debug, Default)]
struct Restarts {
    recent: VecDeque<Instant>,
}

impl Restarts {
    fn next(&mut self, now: Instant) -> Duration {
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) >= WINDOW)
        {
            self.recent.pop_front();
        }
        let pause = match u32::try_from(self.recent.len()).unwrap_or(u32::MAX) {
            0 => Duration::ZERO,
            count if self.recent.len() < MAX_RESTARTS => FIRST_PAUSE * 2u32.pow(count - 1),
            _ => {
                tracing::error!(
                    "the server ended again after {MAX_RESTARTS} restarts within a minute; \
                     the next try is in a minute"
                );
                self.recent.clear();
                WINDOW
            }
        };
        self.recent.push_back(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(restarts: &mut Restarts, now: &mut Instant, count: usize) -> Vec<u128> {
        let mut next = || {
            let pause = restarts.next(*now);
            *now += pause;
            pause.as_millis()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn after_five_restarts_within_a_minute_it_waits_a_minute() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let expected = vec![0, 100, 200, 400, 800, 60_000, 100];
        assert_eq!(pauses(&mut restarts, &mut now, 7), expected);
    }

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

    #[test]
    fn an_old_restart_is_forgotten() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        assert_eq!(pauses(&mut restarts, &mut now, 2), [0, 100]);
        now += WINDOW;
        assert_eq!(pauses(&mut restarts, &mut now, 1), [0]);
    }
}
