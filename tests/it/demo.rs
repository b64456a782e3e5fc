//! The demo as a user runs it: the real program, real Aider, ten agents, the simulator.
//!
//! Needs `WARPSQUAD_TEST_PYTHON`: an interpreter that can import aider-chat 0.86.2.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// A home without git identity, configuration or squad.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn demo(&self, arguments: &[&str]) -> Command {
        let python = std::env::var("WARPSQUAD_TEST_PYTHON")
            .expect("set WARPSQUAD_TEST_PYTHON to a Python that can import aider-chat 0.86.2");
        let mut command = Command::new(env!("CARGO_BIN_EXE_warpsquad"));
        command
            .arg("demo")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.path().join("data"))
            .args(["--set", &format!("agents.python={python}")])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            // A squad of the user's own must not be touched, nor be in the way.
            .env("WARPSQUAD_SOCKET", self.path().join("other.sock"))
            .env("OLLAMA_HOST", "127.0.0.1:1")
            .stdin(Stdio::null());
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The processes that carry the squad's mark in their environment.
fn processes_of(data: &Path) -> Vec<String> {
    let mark = format!("SQUAD_DATA={}", data.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = text(&command).replace('\0', " ");
        if is_marked || command.contains(&data.display().to_string()) {
            found.push(command);
        }
    }
    found
}

/// Waits until nothing of the squad runs: the keeper itself goes a moment after it has said so.
fn assert_nothing_runs(data: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_of(data);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:?}");
        std::thread::yield_now();
    }
}

fn git(repository: &Path, arguments: &[&str]) -> String {
    let output: Output = Command::new("git")
        .args(arguments)
        .current_dir(repository)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_task_is_merged_the_tests_pass_and_nothing_is_left_running() {
    let place = Place::new();
    let output = place.demo(&["--headless", "--json"]).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["tasks"], 18, "{out}");
    assert_eq!(summary["merged"], 16, "{out}");
    assert_eq!(summary["answered"], 2, "{out}");
    assert_eq!(summary["tests"]["passed"], true, "{out}");
    assert_eq!(summary["tokens"]["simulated"], true);
    assert!(summary["tokens"]["received"].as_u64().unwrap() > 0);
    assert!(summary["swaps"]["made"].is_u64(), "{out}");
    let verified = |outcome: &str| {
        let tasks = summary["by_task"].as_array().unwrap();
        tasks
            .iter()
            .filter(|task| task["verified"] == outcome)
            .count()
    };
    assert!(
        verified("passed") > 5 && verified("no-new-failure") > 2,
        "{out}"
    );

    let repository = PathBuf::from(summary["repository"].as_str().unwrap());
    assert!(repository.starts_with(place.path()));
    let merges = git(&repository, &["log", "--oneline", "main"]);
    assert_eq!(merges.lines().count(), 17, "{merges}");
    assert_eq!(git(&repository, &["status", "--porcelain"]), "");
    let data = PathBuf::from(summary["data_dir"].as_str().unwrap());
    assert_nothing_runs(&data);
}

#[test]
fn a_demo_that_is_interrupted_stops_its_squad_and_says_where_it_lies() {
    use std::io::{BufRead as _, BufReader};
    let place = Place::new();
    let mut demo = place
        .demo(&["--headless", "--tasks", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let folder = lines.next().unwrap().unwrap();
    let folder = PathBuf::from(folder.rsplit(' ').next().unwrap());
    let running = lines.find(|line| line.as_ref().unwrap().contains("  running  "));
    assert!(running.is_some());
    let id = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(demo.wait().unwrap().code(), Some(130), "{rest:?}");
    let remove = format!("rm -rf '{}'", folder.display());
    assert!(rest.iter().any(|line| line.contains(&remove)), "{rest:?}");
    assert_nothing_runs(&folder.join("data"));
}
