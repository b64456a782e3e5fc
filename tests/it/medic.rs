//! Agents that do not get on, with real Aider: the medic acts, says why, and the work is done.

use serde_json::Value;

use crate::harness::{Server, Squad};

fn ailing() -> Server {
    Server::scenario_at("ailing.toml", "127.0.0.1:0")
}

fn submit(squad: &Squad, words: &str) {
    let prompt = format!("{words}\n@sim create made.txt\nmade\n@sim end");
    let answer = squad.run(&["task", "add", &prompt]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

fn state(squad: &Squad) -> String {
    let task = squad.task(1);
    task["state"].as_str().unwrap().to_owned()
}

fn kinds(squad: &Squad) -> Vec<(String, Value)> {
    let events = squad.json(&["task", "log", "1", "--json"]);
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| {
            let event = event["event"].clone();
            (event["kind"].as_str().unwrap().to_owned(), event)
        })
        .collect()
}

fn why<'a>(events: &'a [(String, Value)], kind: &str) -> &'a str {
    let found = events.iter().find(|(name, _)| name == kind);
    found.expect(kind).1["why"].as_str().unwrap()
}

#[test]
fn a_model_that_falls_silent_is_interrupted_and_costs_no_attempt() {
    let server = ailing();
    let squad = Squad::new(&server, 1, "[medic]\nstall = \"1s\"\nno_answer = \"2s\"\n");
    submit(&squad, "stall once");
    squad.wait_until("the result is there", |_| state(&squad) == "review");
    let events = kinds(&squad);
    assert_eq!(why(&events, "treated"), "the model sent nothing for 2 s");
    assert_eq!(why(&events, "held"), "the model sent nothing for 2 s");
    assert_eq!(squad.task(1)["failures"], 0);
    let shown = squad.run(&["task", "show", "1"]).out;
    assert!(
        shown.contains("broken off: the model sent nothing"),
        "{shown}"
    );
}

#[test]
fn a_retry_loop_is_cut_short_and_the_task_goes_on_when_the_endpoint_does() {
    let server = ailing();
    let squad = Squad::new(&server, 1, "");
    submit(&squad, "break off for a while");
    squad.wait_until("the result is there", |_| state(&squad) == "review");
    let events = kinds(&squad);
    let why = why(&events, "held");
    assert!(why.starts_with("the endpoint failed 4 times"), "{why}");
    assert!(why.contains("the answer was cut"), "{why}");
    assert_eq!(squad.task(1)["failures"], 0);
}

#[test]
fn a_task_over_its_quota_ends_with_its_worktree_kept() {
    let server = ailing();
    let squad = Squad::new(&server, 1, "[quota]\nagent_memory = \"20MiB\"\n");
    submit(&squad, "stall once");
    squad.wait_until("the task has ended", |_| state(&squad) == "dead");
    let task = squad.task(1);
    let why = task["why"].as_str().unwrap();
    assert!(why.starts_with("over its quota, memory: "), "{why}");
    let worktree = task["workplace"]["dir"].as_str().unwrap();
    assert!(std::path::Path::new(worktree).join("README.md").exists());
}

#[test]
fn without_room_on_the_disk_tasks_wait_and_the_squad_says_why() {
    let server = ailing();
    let squad = Squad::new(&server, 1, "[quota]\ndisk_free_floor = \"1000000GiB\"\n");
    submit(&squad, "anything");
    let status = squad.wait_until("the squad holds back", |status| {
        status["health"]["state"] == "degraded"
    });
    let why = status["health"]["why"].as_str().unwrap();
    assert!(
        why.starts_with("only ") && why.contains("the floor is"),
        "{why}"
    );
    squad.wait_until("the task waits", |_| state(&squad) == "queued");
    assert_eq!(squad.task(1)["failures"], 0);
}
