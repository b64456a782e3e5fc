//! Agents forked and made ahead, with real Aider: what is taken, what outlives whom, what is left.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Server, Squad};

fn kill(pid: i64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn ready(status: &Value) -> Vec<Value> {
    let spares = status["pool"]["spares"].as_array().into_iter().flatten();
    spares
        .filter(|spare| spare["is_ready"] == true)
        .cloned()
        .collect()
}

fn with_ready(squad: &Squad, count: usize) -> Value {
    squad.wait_until("the spares are ready", |status| {
        ready(status).len() >= count
    })
}

fn zygote(status: &Value) -> Option<i64> {
    status["pool"]["forking"]["pid"].as_i64()
}

/// Merges one file that the task creates.
fn one_task(squad: &Squad, number: usize) {
    let prompt = format!("@sim create f{number}.txt := x = {number}");
    let answer = squad.run(&["run", "--until", "merged", &prompt]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let file = squad.git(&["show", &format!("HEAD:f{number}.txt")]);
    assert_eq!(file, format!("x = {number}"));
}

#[test]
fn a_task_takes_an_agent_that_waits_for_it_with_its_files_and_its_own_branch() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 2, "");
    one_task(&squad, 1);
    let before = with_ready(&squad, 2);
    let jobs: BTreeSet<String> = ready(&before)
        .iter()
        .map(|spare| spare["job"].as_str().unwrap().to_owned())
        .collect();
    // The base has moved since the spares were made, and the user's checkout with it.
    squad.commit("later.txt", "later\n");
    let answer = squad.run(&[
        "run",
        "--until",
        "merged",
        "--edit",
        "README.md",
        "--read",
        "later.txt",
        "@sim append README.md := more\\n",
    ]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let task = squad.task(2);
    let job = task["attempts"][0]["job"].as_str().unwrap();
    assert!(jobs.contains(job), "{job} {jobs:?}");
    assert_eq!(squad.git(&["show", "HEAD:README.md"]), "# Demo\nmore");
    assert_eq!(squad.git(&["show", "HEAD:later.txt"]), "later");
    let status = squad.json(&["status", "--json"]);
    assert_eq!(status["pool"]["hits"], 1, "{:#}", status["pool"]);
    assert_eq!(status["pool"]["cold"], 0, "{:#}", status["pool"]);
    // It saw its files, and its own words are with the task.
    let asked = std::fs::read_to_string(squad.path("data/tasks/2/requests.log")).unwrap();
    assert!(
        asked.contains("# Demo") && asked.contains("later"),
        "{asked}"
    );
    let usage = squad.wait_until("the agent is gone", |_| {
        squad.task(2)["attempts"][0]["usage"].is_object()
    });
    assert!(usage.is_object());
    let usage = &squad.task(2)["attempts"][0]["usage"];
    assert!(usage["cpu_ms"].as_u64() > Some(0) && usage["peak_kib"].as_u64() > Some(10_000));
}

#[test]
fn another_mode_gets_a_fresh_fork_and_never_an_agent_that_does_not_fit() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 2, "");
    one_task(&squad, 1);
    with_ready(&squad, 2);
    let answer = squad.run(&["run", "--mode", "ask", "What is this?"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(squad.task(2)["attempts"][0]["job"], Value::Null);
    let status = squad.json(&["status", "--json"]);
    assert_eq!(status["pool"]["cold"], 0);
    assert_eq!(status["pool"]["forked"], 2);
}

#[test]
fn a_killed_zygote_is_replaced_while_agents_go_on() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    one_task(&squad, 1);
    with_ready(&squad, 2);
    let slow = "@sim slow 20\n@sim create slow.txt := done";
    let working = squad.begin(&["run", "--until", "merged", slow]);
    let before = squad.wait_until("it works", |status| {
        status["agents"][0]["report"]["state"] == "working"
    });
    let first = zygote(&before).unwrap();
    kill(first);
    let after = squad.wait_until("another zygote", |status| {
        zygote(status).is_some_and(|pid| pid != first)
    });
    assert!(after.is_object());
    let output = working.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(squad.task(2)["attempts"].as_array().unwrap().len(), 1);
    one_task(&squad, 3);
}

#[test]
fn when_forking_keeps_failing_agents_start_cold_and_the_squad_says_so() {
    let server = Server::simulator();
    // A spare that was forked before would take the last task.
    let squad = Squad::new_with(&server, 1, "spare = 0", "");
    assert_eq!(squad.run(&["server"]).code, Some(0));
    let (slow, no) = ("@sim slow 30\n@sim create slow.txt := x", 6);
    let waiting = squad.begin(&["run", "--until", "merged", slow]);
    let mut killed = BTreeSet::new();
    while killed.len() < no {
        let status = squad.wait_until("a zygote, or none any more", |status| {
            let state = status["pool"]["forking"]["state"].as_str();
            state == Some("failed") || zygote(status).is_some_and(|pid| !killed.contains(&pid))
        });
        let Some(pid) = zygote(&status) else { break };
        kill(pid);
        killed.insert(pid);
    }
    let status = squad.wait_until("it is given up for a while", |status| {
        status["pool"]["forking"]["state"] == "failed"
    });
    assert!(status["events"].to_string().contains("forking-failed"));
    let said = squad.run(&["status"]).out;
    assert!(said.contains("agents start cold"), "{said}");
    assert!(waiting.wait_with_output().unwrap().status.success());
    one_task(&squad, 2);
    assert!(squad.json(&["status", "--json"])["pool"]["cold"].as_u64() >= Some(1));
}

#[test]
fn spares_outlive_a_killed_server_and_nothing_is_left_when_the_squad_stops() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    one_task(&squad, 1);
    let before = with_ready(&squad, 2);
    let pids = |status: &Value| -> BTreeSet<String> {
        ready(status)
            .iter()
            .map(|it| it["job"].to_string())
            .collect()
    };
    kill(before["pid"].as_i64().unwrap());
    let epoch = before["epoch"].as_u64();
    let after = squad.wait_until("another server has them", |status| {
        status["epoch"].as_u64() > epoch && ready(status).len() >= 2
    });
    assert_eq!(pids(&after), pids(&before));
    one_task(&squad, 2);
    let job = squad.task(2)["attempts"][0]["job"].clone();
    assert!(pids(&before).contains(&job.to_string()));

    assert_eq!(squad.run(&["stop"]).code, Some(0));
    let still_there =
        |(_, words): &(i32, String)| words.contains("zygote.py") || words.starts_with("aider ");
    let left: Vec<_> = squad.processes().into_iter().filter(still_there).collect();
    assert!(left.is_empty(), "it said that it has ended: {left:?}");
    squad.without_processes();
    // The next squad removes what these spares had.
    assert_eq!(squad.run(&["server"]).code, Some(0));
    let left = |folder: &str| {
        let entries = std::fs::read_dir(squad.path(folder)).into_iter().flatten();
        entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("spare-1-") || name.starts_with("spare-2-"))
            .count()
    };
    squad.wait_until("they are gone", |_| {
        left("data/worktrees") == 0 && left("data/agents") == 0
    });
    // A folder goes first, git's record of it right after.
    squad.wait_until("git has no record of them", |_| {
        !squad.git(&["worktree", "list"]).contains("spare-1-")
    });
}

#[test]
fn the_machine_is_kept_awake_while_a_task_is_under_way_and_only_then() {
    use std::os::unix::fs::PermissionsExt as _;

    let server = Server::simulator();
    let squad = Squad::new_with(&server, 1, "inhibit_sleep = true\nspare = 0", "");
    let tool = squad.path("bin/systemd-inhibit");
    std::fs::create_dir(squad.path("bin")).unwrap();
    std::fs::write(
        &tool,
        "#!/bin/sh\necho \"$@\" >> ../held\nexec sleep 1000\n",
    )
    .unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", squad.path("bin").display());
    assert_eq!(
        squad.run_with(&[("PATH", &path)], &["server"]).code,
        Some(0)
    );
    let is_held = |squad: &Squad| {
        let all = squad.processes();
        all.iter().any(|(_, words)| words == "sleep 1000 ")
    };
    assert!(!is_held(&squad));
    let slow = "@sim slow 8\n@sim create slow.txt := done";
    let working = squad.begin(&["run", slow]);
    squad.wait_until("it is kept awake", |_| is_held(&squad));
    let held = std::fs::read_to_string(squad.path("held")).unwrap();
    assert!(
        held.starts_with("--what=idle:sleep --who=warpsquad"),
        "{held}"
    );
    assert!(working.wait_with_output().unwrap().status.success());
    squad.wait_until("it may sleep again", |_| !is_held(&squad));
}

#[test]
fn a_machine_that_cannot_be_kept_awake_is_said_once_and_works_on() {
    let server = Server::simulator();
    let squad = Squad::new_with(&server, 1, "inhibit_sleep = true\nspare = 0", "");
    let path = format!("{}", squad.path("bin").display());
    std::fs::create_dir(&path).unwrap();
    for program in ["git", "sh", "python3"] {
        let found = String::from_utf8(
            std::process::Command::new("which")
                .arg(program)
                .output()
                .unwrap()
                .stdout,
        );
        std::os::unix::fs::symlink(found.unwrap().trim(), format!("{path}/{program}")).unwrap();
    }
    assert_eq!(
        squad.run_with(&[("PATH", &path)], &["server"]).code,
        Some(0)
    );
    one_task(&squad, 1);
    one_task(&squad, 2);
    let status = squad.json(&["status", "--json"]);
    let said = status["events"].as_array().unwrap().iter();
    let said = said.filter(|event| event["event"]["kind"] == "sleep-not-inhibited");
    assert_eq!(said.count(), 1);
}
