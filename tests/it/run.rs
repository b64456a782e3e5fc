//! `warpsquad run` with real Aider: what scripts rely on, from the prompt to the exit code.

use std::path::Path;
use std::process::{Child, Command};

use serde_json::Value;

use crate::aider::world::python;
use crate::harness::{Answer, Server, Squad};

const WARPSQUAD: &str = env!("CARGO_BIN_EXE_warpsquad");

fn ended(child: Child) -> Answer {
    child.wait_with_output().unwrap().into()
}

/// The last line of `run --json`.
fn summary(answer: &Answer) -> Value {
    let line = answer.out.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn ten_tasks_at_once_are_edited_verified_and_merged() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 10, "");
    let mut tasks = String::from("[defaults]\nverify = \"ls f*.py\"\n");
    for number in 0..10 {
        let prompt = format!("@sim create f{number}.py := x = {number}");
        tasks.extend([
            "[[task]]\nname = \"file ",
            &number.to_string(),
            "\"\nprompt = \"",
        ]);
        tasks.extend([&prompt, "\"\n"]);
    }
    std::fs::write(squad.path("tasks.toml"), tasks).unwrap();
    let answer = squad.run(&["run", "-f", "../tasks.toml", "--until", "merged", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let end = summary(&answer);
    assert_eq!((&end["tasks"], &end["reached"]), (&10.into(), &10.into()));
    for number in 0..10 {
        let file = squad.git(&["show", &format!("HEAD:f{number}.py")]);
        assert_eq!(file, format!("x = {number}"));
    }
    assert_eq!(squad.git(&["rev-list", "--count", "HEAD"]), "11");
    assert_eq!(squad.git(&["status", "--porcelain"]), "");
    let slots: std::collections::BTreeSet<String> = answer
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["agent"].is_number())
        .map(|line| line["agent"].to_string())
        .collect();
    assert_eq!(slots.len(), 10, "{}", answer.out);
}

#[test]
fn another_server_of_ollamas_api_does_as_well() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/other_ollama.py");
    let server = Server::start(Command::new(python()).arg(script));
    let squad = Squad::new(&server, 2, "");
    let answer = squad.run(&[
        "run",
        "--until",
        "merged",
        "Write `hello from another server` into greeting.txt.",
    ]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(
        squad.git(&["show", "HEAD:greeting.txt"]),
        "hello from another server"
    );
    let task = squad.task(1);
    assert_eq!(task["attempts"][0]["model"], "other:3b", "{task:#}");
}

#[test]
fn what_the_verify_command_says_decides_the_exit_code() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 4, "[tasks]\nbackoff = \"100ms\"\n");
    squad.commit("old.sh", "echo 'test old ... FAILED'\nexit 1\n");
    let run = |verify: &str, prompt: &str| {
        squad.begin(&[
            "run",
            "--json",
            "--retries",
            "1",
            "--verify",
            verify,
            prompt,
        ])
    };
    let red_before = run("sh old.sh", "@sim create a.py := a = 1");
    let always_red = run("! test -e b.py", "@sim create b.py := b = 1");
    let mended = run(
        "test -e d.py || ! test -e c.py",
        "@sim create c.py := c = 1\n@sim then\n@sim create d.py := d = 1",
    );

    let red_before = ended(red_before);
    assert_eq!(red_before.code, Some(0), "{red_before:?}");
    let always_red = ended(always_red);
    assert_eq!(always_red.code, Some(2), "{always_red:?}");
    let mended = ended(mended);
    assert_eq!(mended.code, Some(0), "{mended:?}");

    let tasks = squad.json(&["task", "list", "--all", "--json"]);
    let task = |file: &str| {
        let tasks = tasks.as_array().unwrap().iter();
        let mut found =
            tasks.filter(|task| task["spec"]["prompt"].as_str().unwrap().contains(file));
        found.next().unwrap().clone()
    };
    assert_eq!(task("a.py")["verify"]["outcome"], "no-new-failure");
    assert_eq!(task("d.py")["verify"]["outcome"], "passed");
    let failed = task("b.py");
    assert_eq!(failed["failures"], 2, "{failed:#}");
    assert_eq!(failed["state"], "dead", "{failed:#}");
}

#[test]
fn prompts_are_only_text_and_every_mode_works() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 4, "");
    let mine = squad.path("").display().to_string();
    let slash = squad.begin(&[
        "run",
        &format!("/run touch {mine}/slash\n@sim create s.py := s = 1"),
    ]);
    let bang = squad.begin(&[
        "run",
        &format!("!touch {mine}/bang\n@sim create b.py := b = 1"),
    ]);
    let ask = squad.begin(&["run", "--mode", "ask", "@sim say The answer is forty-two."]);
    let architect = squad.begin(&["run", "--mode", "architect", "@sim create plan.py := p = 1"]);
    for child in [slash, bang, ask, architect] {
        let answer = ended(child);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert!(!squad.path("slash").exists());
    assert!(!squad.path("bang").exists());
    let tasks = squad.json(&["task", "list", "--all", "--json"]);
    for task in tasks.as_array().unwrap() {
        assert_eq!(task["state"], "review", "{task:#}");
        let is_question = task["spec"]["mode"] == "ask";
        assert_eq!(task["commits"] == 0, is_question, "{task:#}");
        if is_question {
            let answer = task["answer"].as_str().unwrap_or_default();
            assert!(answer.contains("The answer is forty-two."), "{task:#}");
        }
    }
}

#[test]
fn what_lies_in_a_repository_changes_nothing() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let mine = squad.path("").display().to_string();
    squad.commit(
        ".aider.conf.yml",
        &format!(
            "openai-api-base: http://127.0.0.1:1\nauto-commits: false\nyes-always: true\n\
             test-cmd: touch {mine}/tested\nauto-test: true\nlint-cmd: touch {mine}/linted\n\
             notifications-command: touch {mine}/notified\nnotifications: true\n"
        ),
    );
    squad.commit(
        ".env",
        "OLLAMA_API_BASE=http://127.0.0.1:1\nAIDER_MODEL=gpt-4o\nAIDER_DRY_RUN=true\n",
    );
    squad.commit(
        ".aider.model.settings.yml",
        "- name: ollama_chat/coder:7b\n  edit_format: udiff\n",
    );
    squad.commit(
        ".warpsquad.toml",
        &format!("[verify]\ncommand = \"touch {mine}/proposed\"\n"),
    );
    let answer = squad.run(&["run", "--until", "merged", "@sim create h.py := h = 1"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(squad.git(&["show", "HEAD:h.py"]), "h = 1");
    for name in ["tested", "linted", "notified", "proposed"] {
        assert!(!squad.path(name).exists(), "{name}");
    }
}

#[test]
fn a_task_without_a_model_or_a_server_waits_with_the_reason() {
    let server = Server::simulator();
    let address = server.address();
    let squad = Squad::new(&server, 1, "");
    squad.run(&["task", "add", "--model", "nobody:1b", "do it"]);
    let status = squad.wait_until("the missing model is named", |status| {
        let why = status["waiting"]["1"].as_str();
        why.is_some_and(|why| why.contains("nobody:1b"))
    });
    assert_eq!(status["tasks"][0]["state"], "queued", "{status:#}");
    let missing = squad.run(&["run", "--timeout", "1s", "--model", "nobody:1b", "do it"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(
        missing.out.contains("nobody:1b is not installed"),
        "{missing:?}"
    );
    assert!(missing.err.contains("task list"), "{missing:?}");
    let cancelled = squad.run(&["task", "cancel", "1", "2"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");

    drop(server);
    let waiting = squad.begin(&["run", "@sim create late.py := x = 1"]);
    // Before it has an agent the task says why it waits, afterwards its agent does.
    let reason = |status: &Value| {
        let waits = status["waiting"]["3"].as_str();
        let note = status["agents"][0]["report"]["note"].as_str();
        waits.or(note).unwrap_or_default().to_owned()
    };
    let status = squad.wait_until("a reason to wait", |status| !reason(status).is_empty());
    let why = reason(&status);
    assert!(why.contains("endpoint"), "{why}");
    let _again = Server::simulator_at(&address);
    let answer = ended(waiting);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let task = squad.task(3);
    assert_eq!(task["failures"], 0, "{task:#}");
}

#[test]
fn a_script_learns_everything_from_streams_and_exit_codes() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let empty = Answer::from(Command::new(WARPSQUAD).args(["run", ""]).output().unwrap());
    assert_eq!(empty.code, Some(2), "{empty:?}");
    let refused = squad.run(&["run", "--json", "--retries", "0", "@sim refuse No."]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let end = summary(&refused);
    assert_eq!((&end["event"], &end["reached"]), (&"end".into(), &0.into()));
    assert!(end["missed"]["1"].is_string(), "{end}");
    assert_eq!(refused.err, "", "{refused:?}");
}
