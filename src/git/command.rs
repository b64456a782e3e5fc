//! Runs one git command: clean environment, time limit, bounded output, patience with locks.
//!
//! Hooks, pagers, prompts, fsmonitor and automatic maintenance are off unless a caller asks, so
//! that nothing of a repository runs by accident and nothing is written to the user's settings.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::GitError;
use super::process::{Group, Output, exchange};

/// Limit of a command that only reads or writes refs and objects.
const SHORT: Duration = Duration::from_secs(120);
/// Limit of a command that may write a whole checkout or runs the user's hooks.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// Standard output kept of one command; more is an error unless the caller wants it cut.
const OUTPUT_MAX: u64 = 64 << 20;
/// Waits between tries when a lock is held: 20 ms doubling, about 10 s in all.
const LOCK_TRIES: u32 = 9;

/// Variables of git's own that say who and how, not where: they stay.
const KEPT: [&str; 14] = [
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
    "GIT_TEMPLATE_DIR",
];

/// Settings of every command; `-c` does not reach the user's files.
const SETTINGS: [&str; 9] = [
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.filesRefLockTimeout=5000",
    "core.packedRefsTimeout=10000",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "color.ui=false",
    "log.showSignature=false",
];

/// How git is started: the program and additions to the environment.
#[derive(Debug, Clone)]
pub struct Git {
    program: OsString,
    environment: Arc<Vec<(OsString, OsString)>>,
}

impl Default for Git {
    fn default() -> Self {
        Self {
            program: "git".into(),
            environment: Arc::default(),
        }
    }
}

impl Git {
    /// Adds a variable to the environment of every command, over the inherited one.
    #[must_use]
    pub fn with_env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        Arc::make_mut(&mut self.environment).push((key.into(), value.into()));
        self
    }

    /// A command that changes nothing, run in `dir`.
    pub(super) fn read(&self, dir: &Path) -> Call {
        self.call(dir).env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// A command that writes, run in `dir`.
    pub(super) fn write(&self, dir: &Path) -> Call {
        self.call(dir)
    }

    fn call(&self, dir: &Path) -> Call {
        Call {
            git: self.clone(),
            dir: dir.to_owned(),
            arguments: Vec::new(),
            settings: Vec::new(),
            environment: Vec::new(),
            stdin: Vec::new(),
            limit: SHORT,
            output_max: OUTPUT_MAX,
            hooks: Some("/dev/null".into()),
            outlives: false,
            tries: LOCK_TRIES,
        }
    }
}

/// One command being put together.
#[derive(Debug, Clone)]
pub(super) struct Call {
    git: Git,
    dir: PathBuf,
    arguments: Vec<OsString>,
    settings: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    limit: Duration,
    output_max: u64,
    hooks: Option<OsString>,
    outlives: bool,
    tries: u32,
}

impl Call {
    pub(super) fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(super) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// `-c key=value`.
    pub(super) fn set(mut self, setting: impl Into<OsString>) -> Self {
        self.settings.push(setting.into());
        self
    }

    pub(super) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    pub(super) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(super) fn output_max(mut self, bytes: u64) -> Self {
        self.output_max = bytes;
        self
    }

    /// Lets the hooks in `folder` run.
    pub(super) fn hooks(mut self, folder: &Path) -> Self {
        self.hooks = Some(folder.as_os_str().to_owned());
        self
    }

    /// Lets it finish even when nobody waits for it any more: stopped in the middle it would leave
    /// half of what belongs together.
    pub(super) fn outlives(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// Does not wait for locks.
    pub(super) fn impatient(mut self) -> Self {
        self.tries = 0;
        self
    }

    /// Leaves `core.hooksPath` as the user has it, to ask for it.
    pub(super) fn configured_hooks(mut self) -> Self {
        self.hooks = None;
        self
    }

    /// Runs it; success or [`GitError::Failed`].
    pub(super) async fn run(self) -> Result<Output, GitError> {
        let shown = self.shown();
        let output = self.output().await?;
        if output.is_success() {
            return Ok(output);
        }
        Err(GitError::Failed {
            command: shown,
            code: output.code,
            stderr: output.stderr.trim_end().to_owned(),
        })
    }

    /// Runs it and returns its standard output without the last line end.
    pub(super) async fn text(self) -> Result<String, GitError> {
        Ok(self.run().await?.text())
    }

    /// Runs it, whatever its exit code; waits for locks held by others.
    pub(super) async fn output(self) -> Result<Output, GitError> {
        let mut pause = Duration::from_millis(20);
        for _ in 0..self.tries {
            let output = self.once().await?;
            if output.is_success() || !is_lock(&output.stderr) {
                return Ok(output);
            }
            sleep(pause).await;
            pause *= 2;
        }
        let output = self.once().await?;
        if !output.is_success() && is_lock(&output.stderr) {
            return Err(GitError::Locked {
                detail: first_line(&output.stderr),
            });
        }
        Ok(output)
    }

    async fn once(&self) -> Result<Output, GitError> {
        let mut child = self
            .command()
            .spawn()
            .map_err(|error| self.unstarted(error))?;
        let group = Group::of(&child, self.outlives);
        let work = exchange(&mut child, self.stdin.clone(), self.output_max);
        let ended = timeout(self.limit, work).await;
        if let Ok(result) = ended {
            group.forget();
            return result.map_err(GitError::io("run git in", &self.dir));
        }
        group.end();
        // Git removes its lock files on SIGTERM; what ignores that is killed.
        if timeout(Duration::from_secs(2), child.wait()).await.is_err() {
            child
                .start_kill()
                .map_err(GitError::io("stop git in", &self.dir))?;
        }
        Err(GitError::TimedOut {
            command: self.shown(),
            after: self.limit,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.git.program);
        for (key, _) in std::env::vars_os() {
            if leads_elsewhere(&key.to_string_lossy()) {
                command.env_remove(&key);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_EDITOR", ":")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .envs(self.git.environment.iter().map(|(k, v)| (k, v)))
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .arg("--no-pager");
        let hooks = self.hooks.as_ref().map(|folder| {
            let mut setting = OsString::from("core.hooksPath=");
            setting.push(folder);
            setting
        });
        for setting in SETTINGS.iter().map(OsStr::new) {
            command.arg("-c").arg(setting);
        }
        for setting in self.settings.iter().chain(&hooks) {
            command.arg("-c").arg(setting);
        }
        command
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    fn unstarted(&self, source: io::Error) -> GitError {
        if source.kind() == io::ErrorKind::NotFound && self.dir.is_dir() {
            return GitError::GitMissing;
        }
        GitError::Io {
            doing: "run git in",
            path: self.dir.clone(),
            source,
        }
    }

    fn shown(&self) -> String {
        let words: Vec<_> = self
            .arguments
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }
}

/// True for `GIT_DIR` and its kind, which a server started from a hook would inherit.
fn leads_elsewhere(variable: &str) -> bool {
    variable.starts_with("GIT_") && !KEPT.contains(&variable)
}

/// True when another git is at work just now. A worktree that is being added is for a moment one
/// whose `commondir` cannot be read, which stops every git that looks at all worktrees.
fn is_lock(stderr: &str) -> bool {
    (stderr.contains(".lock': File exists") || stderr.contains(".lock: File exists"))
        || stderr.contains("could not lock config file")
        || (stderr.contains("cannot lock ref") && stderr.contains("File exists"))
        || (stderr.contains("failed to read") && stderr.contains("/commondir"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_lead_to_another_repository_are_dropped() {
        for name in [
            "GIT_DIR",
            "GIT_INDEX_FILE",
            "GIT_WORK_TREE",
            "GIT_CONFIG_COUNT",
        ] {
            assert!(leads_elsewhere(name), "{name}");
        }
        for name in ["GIT_CONFIG_GLOBAL", "GIT_AUTHOR_NAME", "HOME", "GITHUB_X"] {
            assert!(!leads_elsewhere(name), "{name}");
        }
    }

    #[test]
    fn only_a_held_lock_is_tried_again() {
        assert!(is_lock(
            "fatal: Unable to create '/r/.git/index.lock': File exists."
        ));
        assert!(is_lock(
            "error: could not lock config file .git/config: File exists"
        ));
        assert!(is_lock(
            "fatal: failed to read .git/worktrees/10/commondir: Success"
        ));
        assert!(!is_lock(
            "fatal: update_ref failed: cannot lock ref 'refs/heads/main': is at 1 but expected 2"
        ));
    }
}
