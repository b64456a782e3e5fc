//! Another server program takes over: the same path as after a crash, with a way back.
//!
//! The server that runs is told to end, the new program is started with the same arguments and is
//! on trial until it serves. If it ends before that, or does not serve in time, the old program is
//! started again. Jobs and terminals notice nothing but a change of readers.
//!
//! A server says `ready` when it serves. One of a version before that word is believed when it has
//! said hello and fetched the gateway's listener, which every version does after it has adopted
//! its agents, and still runs at the end of the trial.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::platform;
use super::protocol::{Refusal, RefusalKind, UpgradeReport, UpgradeState};
use super::state::{Due, Keeper, SERVER_GRACE};

/// A server serves within a second; only an overloaded machine needs more.
const TRIAL: Duration = Duration::from_secs(30);

/// Upgrades of this keeper's server.
#[derive(Debug, Default)]
pub(super) struct Upgrades {
    trial: Option<Trial>,
    last: UpgradeReport,
}

/// One program on trial.
#[derive(Debug)]
struct Trial {
    /// What runs if it fails.
    old: OsString,
    /// The new server, once it was started.
    pid: Option<Pid>,
    has_gateway: bool,
}

impl Keeper {
    /// Begins the trial of `program`.
    pub(super) fn begin_upgrade(&mut self, program: &Path) -> Result<(), Refusal> {
        let refused = |message: String| Refusal::new(RefusalKind::SystemFailed, message);
        if self.is_stopping() {
            let message = "the keeper is about to end";
            return Err(Refusal::new(RefusalKind::ShuttingDown, message));
        }
        if self.upgrades.trial.is_some() {
            return Err(refused("another upgrade is under way".into()));
        }
        let runnable = rustix::fs::access(program, rustix::fs::Access::EXEC_OK);
        runnable
            .map_err(|error| refused(format!("{} cannot be run: {error}", program.display())))?;
        let Some(old) = self.server.replace_program(program.as_os_str()) else {
            return Err(refused("this keeper starts no server".into()));
        };
        tracing::info!(program = %program.display(), "another server is to take over");
        self.upgrades.last = UpgradeReport {
            program: program.to_owned(),
            state: UpgradeState::Trial,
            why: None,
        };
        self.upgrades.trial = Some(Trial {
            old: way_back(&old, program),
            pid: None,
            has_gateway: false,
        });
        if !self.end_server() {
            self.start_server();
        }
        Ok(())
    }

    /// How the last upgrade went, or goes.
    pub(super) fn upgrade_report(&self) -> UpgradeReport {
        self.upgrades.last.clone()
    }

    /// The server was started, or could not be.
    pub(super) fn trial_started(&mut self, started: &std::io::Result<()>) {
        let Some(trial) = &mut self.upgrades.trial else {
            return;
        };
        match started {
            Ok(()) => {
                trial.pid = self.server.pid;
                if let Some(pid) = trial.pid {
                    self.when_due(Instant::now() + TRIAL, Due::TrialEnds { pid });
                }
            }
            Err(error) => self.go_back(format!("it could not be started: {error}")),
        }
    }

    /// The server on trial fetched the gateway's listener.
    pub(super) fn trial_has_gateway(&mut self) {
        if let Some(trial) = &mut self.upgrades.trial {
            trial.has_gateway = trial.pid.is_some();
        }
    }

    /// The server serves.
    pub(super) fn server_is_ready(&mut self) {
        if self
            .upgrades
            .trial
            .as_ref()
            .is_some_and(|trial| trial.pid.is_some())
        {
            self.upgrades.trial = None;
            self.upgrades.last.state = UpgradeState::Done;
            tracing::info!("the new server serves");
        }
    }

    /// A server has ended: on trial it has failed.
    pub(super) fn trial_server_ended(&mut self, pid: Pid, status: ExitStatus) {
        if self.on_trial(pid) {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with code {code} before it served"),
                (None, Some(signal)) => format!("signal {signal} ended it before it served"),
                (None, None) => "it ended before it served".into(),
            };
            self.go_back(how);
        }
    }

    /// The time to get ready is over.
    pub(super) fn trial_ends(&mut self, pid: Pid) {
        if !self.on_trial(pid) {
            return;
        }
        let has_gateway = self
            .upgrades
            .trial
            .as_ref()
            .is_some_and(|trial| trial.has_gateway);
        if is_believed(self.server.is_greeted, has_gateway) {
            return self.server_is_ready();
        }
        self.go_back(format!("it did not serve within {} s", TRIAL.as_secs()));
        self.end_server();
    }

    fn on_trial(&self, pid: Pid) -> bool {
        let trial = self.upgrades.trial.as_ref();
        trial.is_some_and(|trial| trial.pid == Some(pid))
    }

    fn go_back(&mut self, why: String) {
        let Some(trial) = self.upgrades.trial.take() else {
            return;
        };
        tracing::error!(%why, "the new server failed: back to the old one");
        self.server.replace_program(&trial.old);
        self.upgrades.last.state = UpgradeState::Back;
        self.upgrades.last.why = Some(why);
    }

    /// Tells the server to end; false when there is none.
    fn end_server(&mut self) -> bool {
        let Some(pid) = self.server.pid else {
            return false;
        };
        self.server.signal(Signal::TERM);
        self.when_due(Instant::now() + SERVER_GRACE, Due::KillServer { pid });
        true
    }
}

/// At the end of its time: a server of a version that cannot say `ready`.
fn is_believed(is_greeted: bool, has_gateway: bool) -> bool {
    is_greeted && has_gateway
}

/// The old program; where the new one has taken its very place, this keeper's own, which is still
/// there for as long as the keeper runs.
fn way_back(old: &OsStr, new: &Path) -> OsString {
    let same = match (Path::new(old).canonicalize(), new.canonicalize()) {
        (Ok(old), Ok(new)) => old == new,
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    };
    match platform::own_program() {
        Ok(own) if same => own.into_os_string(),
        Ok(_) | Err(_) => old.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_the_word_ready_is_believed_when_it_works() {
        assert!(is_believed(true, true));
        assert!(!is_believed(true, false));
        assert!(!is_believed(false, false));
    }

    #[test]
    fn the_way_back_is_the_old_file_unless_the_new_one_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        for file in [&old, &new] {
            std::fs::write(file, "").unwrap();
        }
        let own = platform::own_program().unwrap().into_os_string();
        assert_eq!(way_back(old.as_os_str(), &new), old.as_os_str());
        assert_eq!(way_back(old.as_os_str(), &old), own);
        assert_eq!(way_back(OsStr::new("/gone"), &new), own);
    }
}
