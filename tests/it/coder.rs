//! Real Aider edits a repository through the simulator, in every edit format and mode.
//!
//! Needs `WARPSQUAD_TEST_PYTHON`: an interpreter that can import aider-chat 0.86.2.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warpsquad::simulator::{Scenario, serve};

/// Aider starts in seconds; on a busy machine ten runs at once take longer.
const LIMIT: Duration = Duration::from_secs(300);

const APP: &str = "def greet(name):\n    return \"Hello \" + name\n\n\ndef leave(name):\n    return \"Bye \" + name\n";

const DIRECTIVES: &str = "\
Please make the greeting friendlier, and keep notes.
@sim say I change the greeting and keep notes.
@sim replace app.py
    return \"Hello \" + name
@sim with
    return \"Hey \" + name
@sim end
@sim append notes.txt
second line
@sim end
@sim delete app.py


def leave(name):
    return \"Bye \" + name
@sim end
@sim create sub/new file.py
VALUE = 1
@sim end
";

struct Repository {
    dir: TempDir,
}

impl Repository {
    async fn new() -> Self {
        let repository = Self {
            dir: TempDir::new().unwrap(),
        };
        std::fs::create_dir(repository.dir.path().join("repo")).unwrap();
        std::fs::create_dir(repository.dir.path().join("home")).unwrap();
        repository.git(&["init", "-q", "-b", "main"]).await;
        repository.write("app.py", APP);
        repository.write("notes.txt", "first line\n");
        repository.git(&["add", "-A"]).await;
        repository.git(&["commit", "-qm", "base"]).await;
        repository
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("repo")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path().join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Test");
            command.env(format!("GIT_{who}_EMAIL"), "test@example.com");
        }
        command
    }

    async fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().await.unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One message to real Aider; everything it printed.
    async fn aider(&self, base: &str, message: &str, arguments: &[&str]) -> String {
        let python = std::env::var_os("WARPSQUAD_TEST_PYTHON").expect(
            "set WARPSQUAD_TEST_PYTHON to a Python 3.10-3.12 that can import aider-chat 0.86.2",
        );
        let file = self.dir.path().join("message");
        std::fs::write(&file, message).unwrap();
        let model = "ollama_chat/qwen2.5-coder:7b";
        // A model that Aider knows: it does not look for prices on the network.
        let metadata = self.dir.path().join("metadata.json");
        let known = serde_json::json!({ model: {"max_input_tokens": 16384, "mode": "chat"} });
        std::fs::write(&metadata, known.to_string()).unwrap();
        let running = self
            .command(Path::new(&python))
            .args([
                "-m",
                "aider",
                "--yes-always",
                "--no-check-update",
                "--no-analytics",
            ])
            .args([
                "--no-show-model-warnings",
                "--no-gitignore",
                "--no-pretty",
                "--no-auto-lint",
            ])
            .args([
                "--no-suggest-shell-commands",
                "--no-detect-urls",
                "--map-tokens",
                "0",
            ])
            .args(["--model", model, "--weak-model", model, "--message-file"])
            .arg(&file)
            .arg("--model-metadata-file")
            .arg(&metadata)
            .args(arguments)
            .env("OLLAMA_API_BASE", base)
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .output();
        let output = tokio::time::timeout(LIMIT, running).await;
        let output = output.expect("Aider ends within the limit").unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}");
        printed
    }
}

struct Simulated {
    base: String,
    shutdown: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Simulated {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let scenario = Scenario::builtin("default").unwrap();
        tasks.spawn(serve(listener, scenario, shutdown.clone()));
        Self {
            base,
            shutdown,
            tasks,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// All four kinds of edit in one message, on a file in the chat, one outside and a new one.
async fn edits_with(arguments: &[&str]) {
    let (simulated, repository) = (Simulated::start(), Repository::new().await);
    let arguments = [arguments, &["app.py"]].concat();
    let printed = repository
        .aider(&simulated.base, DIRECTIVES, &arguments)
        .await;
    let app = "def greet(name):\n    return \"Hey \" + name\n";
    assert_eq!(repository.read("app.py"), app, "{printed}");
    assert_eq!(
        repository.read("notes.txt"),
        "first line\nsecond line\n",
        "{printed}"
    );
    assert_eq!(
        repository.read("sub/new file.py"),
        "VALUE = 1\n",
        "{printed}"
    );
    let log = repository.git(&["log", "--format=%s"]).await;
    assert!(log.starts_with("feat: change "), "{log}");
    assert_eq!(repository.git(&["status", "--porcelain", "-uno"]).await, "");
    simulated.stop().await;
}

#[tokio::test]
async fn aider_edits_in_whole_format() {
    edits_with(&["--edit-format", "whole"]).await;
}

#[tokio::test]
async fn aider_edits_in_diff_format() {
    edits_with(&["--edit-format", "diff"]).await;
}

#[tokio::test]
async fn aider_edits_in_fenced_diff_format() {
    edits_with(&["--edit-format", "diff-fenced"]).await;
}

#[tokio::test]
async fn aider_edits_in_udiff_format() {
    edits_with(&["--edit-format", "udiff"]).await;
}

#[tokio::test]
async fn an_architect_hands_the_edits_to_the_editor() {
    edits_with(&["--architect", "--editor-edit-format", "editor-diff"]).await;
}

/// A malformed answer first: Aider reports it, and the second answer is right.
async fn second_answer_is_right(format: &str) {
    let (simulated, repository) = (Simulated::start(), Repository::new().await);
    let message = "@sim malformed\n@sim append app.py := # end\n@sim append notes.txt := end\n";
    let arguments = ["--edit-format", format, "app.py", "notes.txt"];
    let printed = repository.aider(&simulated.base, message, &arguments).await;
    assert!(
        printed.contains("did not conform to the edit format"),
        "{printed}"
    );
    assert_eq!(
        repository.read("app.py"),
        format!("{APP}# end\n"),
        "{printed}"
    );
    assert_eq!(
        repository.read("notes.txt"),
        "first line\nend\n",
        "{printed}"
    );
    simulated.stop().await;
}

#[tokio::test]
async fn a_malformed_whole_answer_is_mended() {
    second_answer_is_right("whole").await;
}

#[tokio::test]
async fn a_malformed_diff_answer_is_mended() {
    second_answer_is_right("diff").await;
}

#[tokio::test]
async fn a_malformed_udiff_answer_is_mended() {
    second_answer_is_right("udiff").await;
}

/// Ollama ends an answer after 30 equal tokens in a row: what was asked for must not look like it.
#[tokio::test]
async fn a_word_said_many_times_reaches_the_file() {
    let (simulated, repository) = (Simulated::start(), Repository::new().await);
    let words = "word ".repeat(65);
    let message = format!("@sim slow 400\n@sim append notes.txt := {words}\n");
    let arguments = ["--edit-format", "diff", "app.py"];
    let printed = repository
        .aider(&simulated.base, &message, &arguments)
        .await;
    let expected = format!("first line\n{}\n", words.trim());
    assert_eq!(repository.read("notes.txt"), expected, "{printed}");
    simulated.stop().await;
}

#[tokio::test]
async fn failing_tests_get_the_next_round() {
    let (simulated, repository) = (Simulated::start(), Repository::new().await);
    let message =
        "@sim append notes.txt := bad\n@sim then\n@sim replace notes.txt := bad => good\n";
    let arguments = [
        "--edit-format",
        "whole",
        "--auto-test",
        "--test-cmd",
        "grep -q good notes.txt",
        "notes.txt",
    ];
    let printed = repository.aider(&simulated.base, message, &arguments).await;
    assert_eq!(
        repository.read("notes.txt"),
        "first line\ngood\n",
        "{printed}"
    );
    simulated.stop().await;
}

#[tokio::test]
async fn asking_and_refusing_change_nothing() {
    let (simulated, repository) = (Simulated::start(), Repository::new().await);
    let ask = ["--chat-mode", "ask", "app.py"];
    let printed = repository.aider(&simulated.base, DIRECTIVES, &ask).await;
    assert!(printed.contains("- replace in app.py"), "{printed}");
    let printed = repository
        .aider(&simulated.base, "@sim refuse Not today.", &["app.py"])
        .await;
    assert!(printed.contains("Not today."), "{printed}");
    assert_eq!(repository.read("app.py"), APP);
    assert_eq!(repository.git(&["log", "--format=%s"]).await, "base\n");
    simulated.stop().await;
}
