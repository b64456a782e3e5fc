//! The command line as scripts see it: the real binary, its output, its exit codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A home of its own with a repository, so that nothing of this machine matters.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("repo/.git")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warpsquad"));
        command
            .args(arguments)
            .current_dir(self.path().join("repo"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("WARPSQUAD_DATA_DIR", self.path().join("data"))
            .env("OLLAMA_HOST", "127.0.0.1:1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(&self.command(arguments).output().unwrap())
    }
}

#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Ended with `code`, said `error` and gave a hint that holds `hint`.
    #[track_caller]
    fn refused(&self, code: i32, error: &str, hint: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(error), "{self:?}");
        let given = self.err.lines().any(|line| {
            (line.starts_with("hint: ") || line.contains("tip: ")) && line.contains(hint)
        });
        assert!(given, "no hint with {hint:?}: {self:?}");
    }
}

#[test]
fn a_wrong_word_is_answered_with_the_nearest_one() {
    let place = Place::new();
    place
        .run(&["task", "lst"])
        .refused(2, "unrecognized subcommand", "list");
    place
        .run(&["status", "--jsn"])
        .refused(2, "unexpected argument", "--json");
    place
        .run(&["task", "add", "x", "--mode", "cod"])
        .refused(2, "invalid value 'cod'", "code");
}

#[test]
fn without_a_squad_commands_say_so_and_exit_with_4() {
    let place = Place::new();
    for arguments in [
        &["status"][..],
        &["task", "list"],
        &["task", "merge", "1"],
        &["agent", "list", "--json"],
        &["model", "list"],
        &["endpoint", "list"],
        &["clean", "--dry-run"],
    ] {
        place
            .run(arguments)
            .refused(4, "no squad is running at", "warpsquad server");
    }
    let stopped = place.run(&["stop"]);
    assert_eq!(
        (stopped.code, stopped.out.as_str()),
        (Some(0), "no squad was running\n")
    );
}

#[test]
fn the_dashboard_needs_a_terminal_and_a_task_a_repository() {
    let place = Place::new();
    place
        .run(&[])
        .refused(4, "needs a terminal", "warpsquad run");
    let mut elsewhere = place.command(&["task", "add", "x"]);
    let answer = Answer::of(&elsewhere.current_dir("/").output().unwrap());
    answer.refused(2, "there is no git repository at /", "git init");
}

#[test]
fn a_prompt_of_no_bytes_or_of_ten_megabytes_is_refused_before_anything_starts() {
    let place = Place::new();
    place
        .run(&["task", "add", ""])
        .refused(2, "the prompt is empty", "what is to be done");
    place
        .run(&["run"])
        .refused(2, "there is no prompt", "--prompt-file");
    let huge = "x".repeat(10 << 20);
    place.write("repo/huge.md", &huge);
    let too_long = "longer than 1048576 bytes";
    place
        .run(&["run", "--prompt-file", "huge.md"])
        .refused(2, too_long, "tasks.prompt_max");
    let mut piped = place.command(&["task", "add", "-"]);
    let mut child = piped
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The reader stops before the end: writing may fail, the answer counts.
    drop(child.stdin.take().unwrap().write_all(huge.as_bytes()));
    let answer = Answer::of(&child.wait_with_output().unwrap());
    answer.refused(2, too_long, "--read");
    assert!(!place.path().join("data").exists());
}

#[test]
fn mistakes_of_a_task_file_have_lines() {
    let place = Place::new();
    place.write(
        "repo/t.toml",
        "[[task]]\nprompt = \"x\"\nmodell = \"m\"\nmode = \"fast\"\n",
    );
    let answer = place.run(&["run", "-f", "t.toml"]);
    answer.refused(
        2,
        "t.toml:3: modell is not a key of a task",
        "did you mean \"model\"?",
    );
    answer.refused(
        2,
        "t.toml:4: mode is \"fast\"",
        "valid: code, architect, ask",
    );
}

#[test]
fn mistakes_of_the_configuration_are_all_told_with_file_and_line_and_exit_with_3() {
    let place = Place::new();
    place.write("c.toml", "[agents]\nmxa = 3\nrows = 3\n");
    let file = place.path().join("c.toml");
    let file = file.to_str().unwrap();
    for command in ["show", "check"] {
        let answer = place.run(&["config", command, "--config", file]);
        answer.refused(
            3,
            &format!("{file}:2: agents.mxa is not a key"),
            "did you mean \"max\"?",
        );
        answer.refused(3, &format!("{file}:3: agents.rows is 3"), "from 10 to 200");
    }
    place
        .run(&["config", "show", "--config", "/none"])
        .refused(3, "/none", "--config");
    place
        .run(&["config", "show", "--set", "agents.max=65"])
        .refused(3, "--set agents.max", "to 64");
    place
        .run(&["server", "--config", file])
        .refused(3, "agents.mxa", "max");
}

#[test]
fn config_show_tells_the_value_and_where_it_came_from() {
    let place = Place::new();
    place.write(
        "repo/.warpsquad.toml",
        "tasks.retries = 3\nverify.command = \"make test\"\n",
    );
    let mut command = place.command(&["config", "show", "--changed", "--json"]);
    let output = command.env("WARPSQUAD__AGENTS__MAX", "2").output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |key: &str| {
        let rows = rows.as_array().unwrap();
        rows.iter()
            .find(|row| row["key"] == key)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(row("agents.max")["origin"], "WARPSQUAD__AGENTS__MAX");
    assert_eq!(row("agents.max")["value"], "2");
    let origin = row("tasks.retries")["origin"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(origin.ends_with(".warpsquad.toml:1"), "{rows}");
    assert_eq!(row("endpoints")["origin"], "OLLAMA_HOST");
    assert!(
        row("verify.command").is_null(),
        "a proposal is in effect: {rows}"
    );
}

#[test]
fn what_a_repository_proposes_counts_from_trust_until_it_changes() {
    let place = Place::new();
    let value = || {
        let shown = place.run(&["config", "show", "verify.command", "--json"]);
        let rows: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        rows[0]["value"].clone()
    };
    place.write(
        "repo/.warpsquad.toml",
        "[verify]\ncommand = \"make test\"\n",
    );
    assert!(value().is_null());
    place
        .run(&["trust"])
        .refused(2, "has to be confirmed", "trust --yes");
    let trusted = place.run(&["trust", "--yes"]);
    assert_eq!(trusted.code, Some(0));
    assert!(
        trusted
            .out
            .contains("verify.command = \"make test\"  (.warpsquad.toml:2)")
    );
    assert_eq!(value(), "\"make test\"");
    place.write(
        "repo/.warpsquad.toml",
        "[verify]\ncommand = \"make evil\"\n",
    );
    assert!(value().is_null());
    assert!(
        place
            .run(&["trust", "--show"])
            .out
            .contains("have changed since you agreed")
    );
    place.write(
        "repo/.warpsquad.toml",
        "[verify]\ncommand = \"make test\"\n",
    );
    assert_eq!(value(), "\"make test\"");
    assert_eq!(place.run(&["trust", "--revoke"]).code, Some(0));
    assert!(value().is_null());
}

#[test]
fn what_is_generated_is_what_is_checked_in() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        place.run(&["config", "example"]).out,
        checked_in("config.example.toml")
    );
    assert_eq!(
        place.run(&["man", "--markdown"]).out,
        checked_in("docs/cli.md")
    );
    assert!(place.run(&["man"]).out.contains(".TH warpsquad 1"));
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]);
        assert!(script.out.contains("ollama-sim"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = place
        .command(&["config", "show"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        gone.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&gone.stderr)
    );
    if cfg!(target_os = "linux") {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = place
            .command(&["config", "show"])
            .stdout(full)
            .output()
            .unwrap();
        Answer::of(&output).refused(4, "standard output cannot be written", "space");
    }
}

#[test]
fn doctor_names_what_is_missing_and_the_remedy_of_each() {
    let place = Place::new();
    let answer = place.run(&["doctor", "--json"]);
    assert_eq!(answer.code, Some(4), "{answer:?}");
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    let find = |name: &str| {
        let all = report["findings"].as_array().unwrap();
        all.iter()
            .find(|finding| finding["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(find("git")["status"], "ok");
    assert_eq!(find("configuration")["status"], "ok");
    assert_eq!(find("endpoint-local")["status"], "unknown");
    assert_eq!(find("models")["status"], "error");
    assert_eq!(find("aider")["remedy"], "run 'warpsquad setup'");
    for finding in report["findings"].as_array().unwrap() {
        if finding["status"] == "error" || finding["status"] == "warning" {
            assert!(finding["remedy"].is_string(), "{finding}");
        }
    }
}

/// A squad without an Aider and the simulator as its endpoint; both end with it.
struct Squad {
    place: Place,
    simulator: Child,
    url: String,
}

impl Squad {
    fn start() -> Self {
        let place = Place::new();
        std::fs::remove_dir(place.path().join("repo/.git")).unwrap();
        for arguments in [
            &["init", "-q"][..],
            &["config", "user.name", "a"],
            &["config", "user.email", "a@example.org"],
            &["commit", "-q", "--allow-empty", "-m", "first"],
        ] {
            let mut git = Command::new("git");
            let status = git
                .args(arguments)
                .current_dir(place.path().join("repo"))
                .status();
            assert!(status.unwrap().success(), "{arguments:?}");
        }
        let mut simulator = place
            .command(&["ollama-sim", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut lines = BufReader::new(simulator.stdout.take().unwrap());
        lines.read_line(&mut url).unwrap();
        let squad = Self {
            place,
            simulator,
            url: url.trim().to_owned(),
        };
        let started = squad.run(&["server"]);
        assert_eq!(started.code, Some(0), "{started:?}");
        squad
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = self.place.command(arguments);
        Answer::of(&command.env("OLLAMA_HOST", &self.url).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let answer = self.run(arguments);
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        drop(self.place.command(&["stop", "--now"]).output());
        drop(self.simulator.kill());
        drop(self.simulator.wait());
    }
}

#[test]
fn commands_talk_to_a_running_squad() {
    let squad = Squad::start();
    assert_eq!(squad.run(&["server"]).out, "the squad is already running\n");
    squad
        .run(&["server", "--foreground"])
        .refused(4, "already running at", "warpsquad stop");

    let added = squad.json(&[
        "task", "add", "do", "it", "--name", "first", "--tag", "t", "--json",
    ]);
    assert_eq!(added["tasks"], serde_json::json!([1]));
    let again = ["task", "add", "x", "--key", "k", "--after", "1", "--json"];
    assert_eq!(squad.json(&again)["tasks"], serde_json::json!([2]));
    assert_eq!(
        squad.json(&again)["tasks"],
        serde_json::json!([2]),
        "the key is not honoured"
    );

    let listed = squad.json(&["task", "list", "--tag", "t", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["spec"]["prompt"], "do it");
    assert_eq!(
        squad.json(&["task", "show", "2", "--json"])["state"],
        "blocked"
    );
    assert!(squad.run(&["task", "list"]).out.contains("first"));
    assert!(
        squad
            .run(&["task", "log", "1"])
            .out
            .contains("task 1 submitted")
    );

    squad
        .run(&["task", "show", "9"])
        .refused(2, "there is no task 9", "task list");
    squad
        .run(&["task", "merge", "1"])
        .refused(2, "task 1 is queued", "");
    squad
        .run(&["task", "wait", "1", "--timeout", "1ms"])
        .refused(2, "not done in time", "go on");
    assert_eq!(squad.run(&["task", "cancel", "1", "2"]).code, Some(0));
    let waited = squad.run(&["task", "wait", "1", "2", "--json"]);
    assert_eq!(waited.code, Some(2), "{waited:?}");
    let end: serde_json::Value = serde_json::from_str(waited.out.lines().last().unwrap()).unwrap();
    assert_eq!((&end["event"], &end["reached"]), (&"end".into(), &0.into()));

    let status = squad.json(&["status", "--json"]);
    assert_eq!(status["agents"].as_array().unwrap().len(), 4);
    assert_eq!(
        squad.json(&["endpoint", "list", "--json"])[0]["url"],
        squad.url
    );
    assert_eq!(
        squad.json(&["clean", "--dry-run", "--json"])["removed"],
        serde_json::json!([])
    );
    squad
        .run(&["agent", "show", "9"])
        .refused(2, "there is no agent 9", "from 1 to 4");

    assert_eq!(squad.run(&["stop"]).out, "the squad has ended\n");
    squad
        .run(&["status"])
        .refused(4, "no squad is running", "warpsquad server");
}

#[test]
fn templates_are_listed_shown_and_overridden_without_a_squad() {
    let place = Place::new();
    let list = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let answer = place.run(&[&["template", "list", "--json"], arguments].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        serde_json::from_str(&answer.out).unwrap()
    };
    assert_eq!(list(&[]).len(), 54);
    place.write("repo/main.go", "package main\n");
    let best = list(&["--best"]);
    assert_eq!(best.len(), 8);
    assert_eq!(
        (&best[0]["name"], &best[0]["best"]),
        (&"go-implementer".into(), &1.into())
    );

    std::fs::create_dir_all(place.path().join("repo/.warpsquad/templates")).unwrap();
    let ours = "repo/.warpsquad/templates/reviewer.toml";
    place.write(
        ours,
        "extends = \"reviewer\"\nnotes = \"- Mind the tide.\"\n",
    );
    let shown = place.run(&["template", "show", "reviewer"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("Mind the tide."), "{shown:?}");
    assert!(shown.out.contains(".warpsquad/templates/reviewer.toml"));

    place.run(&["template", "show", "reviwer"]).refused(
        2,
        "there is no template",
        "did you mean reviewer?",
    );
    place.write(ours, "extends = \"reviewer\"\nmoed = \"ask\"\n");
    place.run(&["template", "show", "reviewer"]).refused(
        3,
        "reviewer.toml:2: moed is not a key",
        "did you mean",
    );
    place.run(&["config", "check"]).refused(
        3,
        "reviewer.toml:2: moed is not a key",
        "did you mean",
    );
}
