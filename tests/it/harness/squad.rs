//! A squad in a directory of its own: repository, configuration, data, socket and an Ollama.
//!
//! Dropping it stops everything and looks for processes that were left behind.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Terminal;
use crate::aider::world::python;

/// The longest anything may take; ten agents start in far less, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

const WARPSQUAD: &str = env!("CARGO_BIN_EXE_warpsquad");

/// A server that speaks Ollama's API; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// The built-in simulator with a quick model, on a free port.
    pub(crate) fn simulator() -> Self {
        Self::simulator_at("127.0.0.1:0")
    }

    pub(crate) fn simulator_at(address: &str) -> Self {
        Self::scenario_at("quick.toml", address)
    }

    /// The simulator with a scenario of `tests/scenarios`.
    pub(crate) fn scenario_at(name: &str, address: &str) -> Self {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        let scenario = scenarios.join(name);
        let mut command = Command::new(WARPSQUAD);
        command.args(["ollama-sim", "--listen", address, "--scenario"]);
        Self::start(command.arg(scenario))
    }

    /// A program whose first line says where it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        assert!(url.starts_with("http://"), "{command:?} said {url:?}");
        let url = url.trim().to_owned();
        Self { child, url }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A squad; nothing of this machine's user takes part.
pub(crate) struct Squad {
    dir: TempDir,
}

impl Squad {
    /// A repository with one commit and a configuration; nothing runs yet.
    pub(crate) fn new(server: &Server, agents: usize, configuration: &str) -> Self {
        Self::new_with(server, agents, "", configuration)
    }

    /// The same, with further keys of `[agents]`.
    pub(crate) fn new_with(
        server: &Server,
        agents: usize,
        keys: &str,
        configuration: &str,
    ) -> Self {
        let dir = TempDir::with_prefix("squad").unwrap();
        let squad = Self { dir };
        for folder in ["home", "repo"] {
            std::fs::create_dir(squad.path(folder)).unwrap();
        }
        let text = format!(
            "[agents]\nmax = {agents}\npython = \"{}\"\n{keys}\n{configuration}\n\
             [[endpoints]]\nname = \"test\"\nurl = {:?}\n",
            python().display(),
            server.url,
        );
        std::fs::write(squad.path("config.toml"), text).unwrap();
        squad.git(&["init", "-q", "-b", "main"]);
        squad.git(&["config", "user.name", "Ada Lovelace"]);
        squad.git(&["config", "user.email", "ada@example.com"]);
        squad.commit("README.md", "# Demo\n");
        squad
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// Writes a file of the repository and commits it.
    pub(crate) fn commit(&self, name: &str, text: &str) {
        std::fs::write(self.repo().join(name), text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", name]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.repo());
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    }

    fn environment(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        vec![
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", self.path("home").into()),
            ("LANG", "C.UTF-8".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("WARPSQUAD_DATA_DIR", self.path("data").into()),
            ("WARPSQUAD_CONFIG", self.path("config.toml").into()),
            ("WARPSQUAD_SOCKET", self.path("s").into()),
        ]
    }

    /// The binary with this squad's places, in its repository.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(WARPSQUAD);
        command.args(arguments).current_dir(self.repo()).env_clear();
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// The same with these variables instead of their own.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Answer {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        command.output().unwrap().into()
    }

    /// Starts a command whose answer is awaited later.
    pub(crate) fn begin<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A command that has to work, and its JSON.
    #[track_caller]
    pub(crate) fn json<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Value {
        let answer = self.run(arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        serde_json::from_str(&answer.out).unwrap()
    }

    pub(crate) fn task(&self, number: u64) -> Value {
        self.json(&["task", "show", &number.to_string(), "--json"])
    }

    /// The dashboard in a terminal of this size.
    pub(crate) fn attach(&self, columns: u16, rows: u16) -> Terminal {
        let mut environment = self.environment();
        environment.push(("TERM", "xterm-256color".into()));
        Terminal::start(WARPSQUAD, &self.repo(), &environment, columns, rows)
    }

    /// Looks again and again until the squad is as it should be.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.run(&["status", "--json"]);
            let status: Value = serde_json::from_str(&answer.out).unwrap_or_default();
            if is_so(&status) {
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "not reached: {what}\n{status:#}\n{}",
                answer.err
            );
            pause();
        }
    }

    /// Waits until nothing of this squad runs.
    pub(crate) fn without_processes(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{left:?} are left");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Processes that belong to this squad: they name its directory.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let name = self.dir.path().as_os_str().as_encoded_bytes().to_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let read = |file| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let words = read("cmdline");
            let named = |text: &[u8]| text.windows(name.len()).any(|part| part == name);
            if named(&words) || named(&read("environ")) {
                let words = String::from_utf8_lossy(&words).replace('\0', " ");
                found.push((pid.parse().unwrap(), words));
            }
        }
        found
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        let stopped = self.run(&["stop", "--now"]);
        if std::thread::panicking() {
            // What the server said explains more than the assertion.
            for entry in std::fs::read_dir(self.path("data/log"))
                .into_iter()
                .flatten()
            {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let from = text.lines().count().saturating_sub(40);
                let lines: Vec<&str> = text.lines().skip(from).collect();
                eprintln!("--- {}\n{}", path.display(), lines.join("\n"));
            }
            return;
        }
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        let started = Instant::now();
        while !self.processes().is_empty() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "processes are left: {:#?}",
                self.processes()
            );
            pause();
        }
    }
}

/// Between two looks, so that looking does not slow down what is looked at.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(50));
}
