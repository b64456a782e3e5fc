//! Installs and checks the private Aider, in one step as seen from outside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::SetupError;
use super::progress::{Meter, Phase, Progress};
use super::python::{Interpreter, find_interpreters, on_path};
use super::run;
use crate::agents::aider::flavour::{LAUNCHER, VERSION};
use crate::agents::zygote;

/// Space that an installation takes at most, measured 687 MB with compiled modules.
pub(super) const NEEDED_MIB: u64 = 900;

/// Written into an environment that passed the check of this very launcher.
const MARK: &str = "warpsquad.json";

/// Where the private Aider is, and how it gets there.
#[derive(Debug, Clone)]
pub struct Setup {
    root: PathBuf,
    environment: BTreeMap<String, String>,
}

/// A Python that runs Aider under our launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Version of Aider.
    pub aider: String,
    /// Version of Python.
    pub python: String,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    launcher: String,
    checked: Checked,
}

type Report<'a> = &'a mut dyn FnMut(Progress);

impl Setup {
    /// The private Aider of this data directory; `environment` is that of its installers.
    pub fn new(data_dir: &Path, environment: BTreeMap<String, String>) -> Self {
        Self {
            root: data_dir.join("aider"),
            environment,
        }
    }

    /// The interpreter, if an environment is installed and passed the check of this launcher.
    /// Starts no process.
    pub fn ready(&self) -> Option<PathBuf> {
        let dir = self.current()?;
        let python = interpreter(&dir);
        let mark = read_mark(&dir)?;
        (mark.launcher == launcher_digest() && python.is_file()).then_some(python)
    }

    /// Checks the installed environment by starting it.
    pub fn check(&self) -> Result<Checked, SetupError> {
        let dir = self.current();
        let dir = dir.ok_or_else(|| SetupError::NotInstalled(self.root.clone()))?;
        self.check_python(&interpreter(&dir))
    }

    /// Checks any Python: its Aider's version, and that every hook of the launcher attaches.
    pub fn check_python(&self, python: &Path) -> Result<Checked, SetupError> {
        let unusable = |reason: String| SetupError::Unusable {
            python: python.to_owned(),
            reason,
        };
        let scratch = tempfile::tempdir().map_err(|error| at(&std::env::temp_dir(), error))?;
        let launcher = scratch.path().join("launch.py");
        fs::write(&launcher, LAUNCHER).map_err(|error| at(&launcher, error))?;
        let mut command = run::command(python, &self.environment, scratch.path());
        command
            .args(["-I", "-X", "utf8"])
            .arg(&launcher)
            .arg("--selftest");
        command.env("SQUAD_AGENT_HOME", scratch.path());
        let output = command
            .output()
            .map_err(|error| unusable(error.to_string()))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.lines().rfind(|line| !line.trim().is_empty());
            return Err(unusable(
                last.unwrap_or("it said nothing").trim().to_owned(),
            ));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| unusable(error.to_string()))
    }

    /// Installs unless a working one is there; the interpreter.
    ///
    /// Waits for another setup of the same place. What an interrupted one left is removed.
    pub fn install(&self, report: Report<'_>) -> Result<PathBuf, SetupError> {
        fs::create_dir_all(&self.root).map_err(|error| at(&self.root, error))?;
        let _lock = self.lock(report)?;
        self.remove_leftovers();
        if let Some(python) = self.ready().or_else(|| self.recheck(report)) {
            report(Progress::new(Phase::Done, 100, "Aider is ready"));
            return Ok(python);
        }
        self.check_space()?;
        report(Progress::new(
            Phase::FindingPython,
            1,
            "looking for Python 3.10–3.12",
        ));
        let found = find_interpreters(&self.environment);
        if found.usable.is_empty() {
            return Err(SetupError::NoPython(found.others));
        }
        let dir = self.build(&found.usable, report)?;
        self.point_to(&dir)?;
        self.remove_leftovers();
        report(Progress::new(Phase::Done, 100, "Aider is ready"));
        Ok(interpreter(&dir))
    }

    /// The environment that the symlink names, as a path that stays when the symlink changes.
    fn current(&self) -> Option<PathBuf> {
        fs::canonicalize(self.root.join(VERSION)).ok()
    }

    /// After an update of warpsquad the environment may fit the new launcher too.
    fn recheck(&self, report: Report<'_>) -> Option<PathBuf> {
        let dir = self.current()?;
        report(Progress::new(
            Phase::Checking,
            1,
            "checking the installed Aider",
        ));
        let python = interpreter(&dir);
        let checked = self.check_python(&python).ok()?;
        self.survey(&python, report);
        write_mark(&dir, checked).ok()?;
        Some(python)
    }

    /// Lists what a message imports, so that agents can be forked with all of it. Without the list
    /// they still work; a squad makes its own.
    fn survey(&self, python: &Path, report: Report<'_>) {
        report(Progress::new(
            Phase::Checking,
            95,
            "listing what Aider imports",
        ));
        if let Err(why) = self.try_survey(python) {
            report(Progress::new(
                Phase::Checking,
                99,
                format!("no list was made: {why}"),
            ));
        }
    }

    fn try_survey(&self, python: &Path) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        let scratch = tempfile::tempdir().map_err(failed)?;
        let fresh = scratch.path().join("modules.txt");
        let words = zygote::write_survey(scratch.path(), &fresh).map_err(failed)?;
        let mut command = run::command(python, &self.environment, scratch.path());
        command.args(["-I", "-X", "utf8"]).args(words);
        let output = command.output().map_err(failed)?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.lines().rfind(|line| !line.trim().is_empty());
            return Err(last.unwrap_or("it said nothing").trim().to_owned());
        }
        let names = fs::read_to_string(&fresh).map_err(failed)?;
        fs::write(zygote::list_beside(python), zygote::listed(&names)).map_err(failed)
    }

    fn lock(&self, report: Report<'_>) -> Result<File, SetupError> {
        let path = self.root.join("lock");
        let open = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = open.map_err(|error| at(&path, error))?;
        let lock = |operation| flock(&file, operation);
        match lock(FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                report(Progress::new(Phase::Waiting, 0, "another setup is running"));
                lock(FlockOperation::LockExclusive)
            }
            other => other,
        }
        .map_err(|error| at(&path, error.into()))?;
        Ok(file)
    }

    fn check_space(&self) -> Result<(), SetupError> {
        // A file system that does not say is tried.
        let Ok(space) = statvfs(&self.root) else {
            return Ok(());
        };
        let free_mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
        if free_mib < NEEDED_MIB {
            return Err(SetupError::NoSpace {
                at: self.root.clone(),
                needed_mib: NEEDED_MIB,
            });
        }
        Ok(())
    }

    fn build(&self, pythons: &[Interpreter], report: Report<'_>) -> Result<PathBuf, SetupError> {
        let log_path = self.root.join("setup.log");
        let log = File::create(&log_path).map_err(|error| at(&log_path, error))?;
        let kept = tempfile::Builder::new()
            .prefix(&format!("{VERSION}-"))
            .tempdir_in(&self.root)
            .map_err(|error| at(&self.root, error))?;
        let mut build = Build {
            setup: self,
            dir: kept.path().to_owned(),
            log,
            log_path,
            report,
        };
        build.environment_and_packages(pythons)?;
        let python = interpreter(&build.dir);
        let report = build.report;
        report(Progress::new(Phase::Checking, 92, "trying the launcher"));
        let checked = self.check_python(&python)?;
        self.survey(&python, report);
        write_mark(kept.path(), checked).map_err(|error| at(kept.path(), error))?;
        Ok(kept.keep())
    }

    /// Replaces the symlink in one step.
    fn point_to(&self, dir: &Path) -> Result<(), SetupError> {
        let name = dir.file_name().unwrap_or_default();
        let next = self.root.join("next");
        let target = self.root.join(VERSION);
        // A leftover of an interrupted run; that there is none is the normal case.
        let _absent = fs::remove_file(&next);
        std::os::unix::fs::symlink(name, &next)
            .and_then(|()| fs::rename(&next, &target))
            .map_err(|error| at(&target, error))
    }

    /// Removes environments that nothing points to. Only called under the lock.
    fn remove_leftovers(&self) {
        let current = self.current();
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_environment = name.starts_with(&format!("{VERSION}-"));
            if is_environment
                && fs::canonicalize(&path).ok() != current
                && let Err(error) = fs::remove_dir_all(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an old environment remains");
            }
        }
    }
}

/// One installation under way.
struct Build<'a> {
    setup: &'a Setup,
    dir: PathBuf,
    log: File,
    log_path: PathBuf,
    report: Report<'a>,
}

impl Build<'_> {
    /// Tries uv and then each Python's own tools; the last failure if none succeeds.
    fn environment_and_packages(&mut self, pythons: &[Interpreter]) -> Result<(), SetupError> {
        let uv = on_path("uv", &self.setup.environment);
        let mut last = SetupError::NoPython(Vec::new());
        for python in pythons {
            if let Some(uv) = &uv {
                match self.with_uv(uv, python) {
                    Ok(()) => return Ok(()),
                    Err(error @ (SetupError::NoNetwork(_) | SetupError::NoSpace { .. })) => {
                        return Err(error);
                    }
                    // pip may still do; uv's words are in the log.
                    Err(error) => tracing::warn!(%error, "uv could not install Aider"),
                }
            }
            match self.with_pip(python) {
                Ok(()) => return Ok(()),
                Err(error @ SetupError::NoVenv(_)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn with_uv(&mut self, uv: &Path, python: &Interpreter) -> Result<(), SetupError> {
        self.announce(python, "with uv");
        let python = python.path.as_os_str();
        let dir = self.dir.clone();
        let make = [
            "venv",
            "--quiet",
            "--allow-existing",
            "--no-project",
            "--python",
        ];
        self.step("uv venv", uv, |command| {
            command.args(make).arg(python).arg(&dir);
        })?;
        let pip = [
            "pip",
            "install",
            "--compile-bytecode",
            "--color",
            "never",
            "--python",
        ];
        self.step("uv pip install", uv, |command| {
            command.args(pip).arg(interpreter(&dir)).arg(requirement());
        })
    }

    fn with_pip(&mut self, python: &Interpreter) -> Result<(), SetupError> {
        self.announce(python, "with pip");
        let dir = self.dir.clone();
        let made = self.step("python -m venv", &python.path, |command| {
            command.args(["-I", "-m", "venv", "--clear"]).arg(&dir);
        });
        if let Err(SetupError::Step { reason, .. }) = &made
            && (reason.contains("ensurepip") || reason.contains("venv"))
        {
            return Err(SetupError::NoVenv(python.path.clone()));
        }
        made?;
        let install = [
            "-I",
            "-m",
            "pip",
            "install",
            "--progress-bar",
            "off",
            "--no-color",
        ];
        self.step("pip install", &interpreter(&dir), |command| {
            command.args(install).arg(requirement());
        })
    }

    fn announce(&mut self, python: &Interpreter, how: &str) {
        let (major, minor, patch) = python.version;
        let path = python.path.display();
        let message = format!("Python {major}.{minor}.{patch} ({path}), {how}");
        (self.report)(Progress::new(Phase::MakingEnvironment, 5, message));
    }

    fn step(
        &mut self,
        step: &'static str,
        program: &Path,
        arguments: impl FnOnce(&mut std::process::Command),
    ) -> Result<(), SetupError> {
        let mut command = run::command(program, &self.setup.environment, &self.setup.root);
        arguments(&mut command);
        let mut meter = Meter::default();
        let report = &mut self.report;
        let done = run::run(command, &mut self.log, |line| {
            if let Some(progress) = meter.take(line) {
                report(progress);
            }
        });
        let (is_done, output) = done.map_err(|error| at(program, error))?;
        if is_done {
            return Ok(());
        }
        if let Some(known) = SetupError::recognise(&output, &self.setup.root) {
            return Err(known);
        }
        Err(SetupError::Step {
            step,
            reason: telling_line(&output),
            log: self.log_path.clone(),
        })
    }
}

fn requirement() -> String {
    format!("aider-chat=={VERSION}")
}

fn interpreter(dir: &Path) -> PathBuf {
    dir.join("bin/python")
}

/// The first line that names an error, else the last one.
fn telling_line(output: &str) -> String {
    let mut lines = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let is_error = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains("error") || line.contains("ensurepip") || line.contains("no module named")
    };
    let line = lines.clone().find(is_error).or_else(|| lines.next_back());
    line.unwrap_or("it said nothing")
        .chars()
        .take(300)
        .collect()
}

fn launcher_digest() -> String {
    use std::fmt::Write as _;
    Sha256::digest(LAUNCHER.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String does not fail.
            let _written = write!(hex, "{byte:02x}");
            hex
        })
}

fn read_mark(dir: &Path) -> Option<Mark> {
    serde_json::from_slice(&fs::read(dir.join(MARK)).ok()?).ok()
}

fn write_mark(dir: &Path, checked: Checked) -> io::Result<()> {
    let mark = Mark {
        launcher: launcher_digest(),
        checked,
    };
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, &mark)?;
    file.persist(dir.join(MARK))
        .map_err(|failed| failed.error)?;
    Ok(())
}

fn at(path: &Path, error: io::Error) -> SetupError {
    if error.kind() == io::ErrorKind::StorageFull {
        return SetupError::NoSpace {
            at: path.to_owned(),
            needed_mib: NEEDED_MIB,
        };
    }
    SetupError::Io {
        at: path.to_owned(),
        error,
    }
}
