//! The demo's folder: a small program with failing tests, and everything its squad needs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::cli::{Context, Report};
use crate::config::Environment;
use crate::core::demo::{DEMO_FILE, DemoSquad};

/// A file of the program that is worked on.
macro_rules! file {
    ($path:literal) => {
        file!($path, $path)
    };
    ($path:literal, $asset:literal) => {
        (
            $path,
            include_str!(concat!("../../assets/demo/repo/", $asset)),
        )
    };
}

const REPOSITORY: [(&str, &str); 19] = [
    file!("README.md"),
    file!(".gitignore", "gitignore"),
    file!("tally/__init__.py"),
    file!("tally/__main__.py"),
    file!("tally/budget.py"),
    file!("tally/cli.py"),
    file!("tally/entry.py"),
    file!("tally/filters.py"),
    file!("tally/money.py"),
    file!("tally/report.py"),
    file!("tally/store.py"),
    file!("tests/__init__.py"),
    file!("tests/test_budget.py"),
    file!("tests/test_cli.py"),
    file!("tests/test_entry.py"),
    file!("tests/test_filters.py"),
    file!("tests/test_money.py"),
    file!("tests/test_report.py"),
    file!("tests/test_store.py"),
];

const SCENARIO: &str = include_str!("../../assets/demo/scenario.toml");
pub(super) const TASKS: &str = include_str!("../../assets/demo/tasks.toml");
const CONFIG: &str = include_str!("../../assets/demo/config.toml");

/// What the repository's tests are run with.
const TESTS: [&str; 4] = ["-B", "-m", "unittest", "-q"];

/// Variables that place a squad: the demo's has its own places.
const PLACES: [&str; 3] = ["WARPSQUAD_CONFIG", "WARPSQUAD_DATA_DIR", "WARPSQUAD_SOCKET"];

/// Where everything of one demo lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    /// The folder of it all; private.
    pub(super) folder: PathBuf,
    /// The repository.
    pub(super) repository: PathBuf,
    /// The squad's data directory.
    pub(super) data: PathBuf,
    /// The squad's configuration.
    pub(super) config: PathBuf,
    /// The tasks.
    pub(super) tasks: PathBuf,
    /// Aider, in the user's own data directory: it stays.
    pub(super) aider: PathBuf,
}

impl Stage {
    /// Makes a new folder with everything in it.
    pub(super) fn set(context: &Context, tasks: &str) -> Result<Self, Report> {
        let aider_home = context.places()?.data_dir;
        let folder = folder(context)?;
        let stage = Self {
            repository: folder.join("tally"),
            data: folder.join("data"),
            config: folder.join("config.toml"),
            tasks: folder.join("tasks.toml"),
            aider: aider_home.join("aider"),
            folder,
        };
        let demo = DemoSquad {
            simulator: free_address()?,
            scenario: stage.folder.join("scenario.toml"),
            aider_home,
        };
        let config = CONFIG.replace("ADDRESS", &demo.simulator);
        let text = serde_json::to_string_pretty(&demo)
            .map_err(|error| Report::internal(error.to_string()))?;
        write(&stage.config, &config)?;
        write(&demo.scenario, SCENARIO)?;
        write(&stage.tasks, tasks)?;
        write(&stage.data.join(DEMO_FILE), &text)?;
        for (path, text) in REPOSITORY {
            write(&stage.repository.join(path), text)?;
        }
        stage.commit()?;
        Ok(stage)
    }

    /// Points the command line at the demo's squad and repository.
    pub(super) fn enter(&self, context: &mut Context) {
        context.environment = without_places(&context.environment);
        context.current_dir.clone_from(&self.repository);
        context.global.config = Some(self.config.clone());
        context.global.data_dir = Some(self.data.clone());
        context.global.socket = None;
        // Flags win over variables that are meant for the user's own squad.
        context
            .global
            .set
            .insert(0, ("agents.max".into(), super::tasks::AGENTS.to_string()));
    }

    /// The command line of this squad, for the user.
    pub(super) fn command(&self) -> String {
        // Not every `warpsquad` is on the PATH: this one may have come from `cargo run`.
        let program = std::env::current_exe().unwrap_or_else(|_| "warpsquad".into());
        format!(
            "{} --config {} --data-dir {}",
            program.display(),
            self.config.display(),
            self.data.display()
        )
    }

    /// Runs all tests of the repository as it is now; whether they pass, and what they say.
    pub(super) fn test(&self) -> Result<(bool, String), Report> {
        let mut python = Command::new("python3");
        python.args(TESTS).current_dir(&self.repository);
        let output = output(&mut python, "python3")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let ran = text.lines().rfind(|line| line.starts_with("Ran "));
        let verdict = text.lines().rfind(|line| !line.trim().is_empty());
        let said = [ran, verdict].into_iter().flatten().collect::<Vec<_>>();
        Ok((output.status.success(), said.join(": ")))
    }

    fn commit(&self) -> Result<(), Report> {
        // A local identity, so that none is needed; nothing of the user's own settings interferes.
        for arguments in [
            &["init", "--quiet", "--template="][..],
            &["symbolic-ref", "HEAD", "refs/heads/main"],
            &["config", "user.name", "warpsquad demo"],
            &["config", "user.email", "demo@warpsquad.invalid"],
            &["config", "commit.gpgsign", "false"],
            &["config", "core.hooksPath", "/dev/null"],
            &["config", "core.autocrlf", "false"],
            &["add", "--all"],
            &["commit", "--quiet", "--message", "tally as it was found"],
        ] {
            self.git(arguments)?;
        }
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<(), Report> {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(&self.repository);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") && name != "GIT_CONFIG_GLOBAL" {
                git.env_remove(name);
            }
        }
        let output = output(&mut git, "git")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = said.trim();
        Err(Report::unavailable(format!(
            "git {} failed: {said}",
            arguments.first().copied().unwrap_or_default()
        )))
    }
}

fn output(command: &mut Command, name: &str) -> Result<Output, Report> {
    let output = command.stdin(Stdio::null()).output();
    output.map_err(|error| {
        Report::unavailable(format!("{name} cannot be run: {error}"))
            .hint("'warpsquad doctor' checks what a squad needs")
    })
}

/// In the system's temporary directory, or beside the data directory that was named.
fn folder(context: &Context) -> Result<PathBuf, Report> {
    let places = context.places()?;
    let is_named =
        context.global.data_dir.is_some() || context.environment.contains_key("WARPSQUAD_DATA_DIR");
    let beside = places.data_dir.parent().filter(|_| is_named);
    let parent = beside.map_or_else(std::env::temp_dir, Path::to_owned);
    std::fs::create_dir_all(&parent).map_err(|error| cannot_write(&parent, &error))?;
    let made = tempfile::Builder::new()
        .prefix("warpsquad-demo-")
        .tempdir_in(&parent)
        .map_err(|error| cannot_write(&parent, &error))?;
    let folder = made.keep();
    folder
        .canonicalize()
        .map_err(|error| cannot_write(&folder, &error))
}

fn without_places(environment: &Environment) -> Environment {
    let mut environment = environment.clone();
    environment.retain(|name, _| !PLACES.contains(&name.as_str()));
    environment
}

/// An address nobody listens on. The simulator is a process of its own and takes it in a moment.
fn free_address() -> Result<String, Report> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    match address {
        Ok(address) => Ok(address.to_string()),
        Err(error) => Err(Report::unavailable(format!(
            "no port of 127.0.0.1 can be listened on: {error}"
        ))),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Report> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Report {
    Report::unavailable(format!("{} cannot be written: {error}", path.display()))
        .hint("TMPDIR or --data-dir choose another place")
}
