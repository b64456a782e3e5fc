//! Hundreds of real tasks over ten agents: nothing fails, nothing grows.
//!
//! `WARPSQUAD_SOAK` is the number of tasks (50 unless said otherwise, `tests/run --soak` takes 500),
//! `WARPSQUAD_SOAK_SEED` the seed, which is printed.

use serde_json::Value;

use crate::harness::{Dice, Server, Squad};

/// Descriptors that server and keeper together may hold more at the end than after a fifth.
const MORE_DESCRIPTORS: usize = 16;
/// Memory that server, keeper and zygote together may hold more, KiB.
const MORE_MEMORY: u64 = 24 << 10;
/// A hundred tasks more may add so much memory to it: events and finished tasks that are kept, KiB.
const MEMORY_PER_HUNDRED: u64 = 3 << 10;
/// Tasks waiting or being worked on at a time.
const OPEN: usize = 20;
const SPARES: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One `[[task]]`: a new file, or a line more in one of a few that many tasks change.
fn task(dice: &mut Dice, n: usize) -> String {
    let model = ["coder:7b", "small:1b"][usize::from(dice.roll(5) == 0)];
    let edit = match dice.roll(3) {
        0 => format!("@sim create dir{}/new{n}.txt := {n}", dice.roll(9)),
        1 => format!("@sim create new{n}.txt := {n}\n@sim say some words about it"),
        _ => format!("@sim malformed\n@sim create new{n}.txt := {n}"),
    };
    format!(
        "[[task]]\nname = \"soak {n}\"\nmodel = \"{model}\"\nautonomy = \"merge\"\n\
         verify = \"git diff --quiet HEAD\"\nprompt = '''\n{edit}\n'''\n"
    )
}

fn count(status: &Value, state: &str) -> usize {
    let tasks = status["tasks"].as_array().unwrap();
    tasks.iter().filter(|task| task["state"] == state).count()
}

/// What the squad holds while nothing is under way.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    memory: u64,
    processes: usize,
    worktrees: usize,
    agents: usize,
}

impl Held {
    fn by(squad: &Squad) -> Self {
        let all = squad.processes();
        let own = all
            .iter()
            .filter(|(_, words)| !words.starts_with("aider ") && !words.contains("ollama-sim"));
        let (mut descriptors, mut memory) = (0, 0);
        for (pid, _) in own {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
            descriptors += fds.into_iter().flatten().count();
            memory += pss(*pid);
        }
        let entries = |folder: &str| {
            let entries = std::fs::read_dir(squad.path(folder));
            entries.into_iter().flatten().count()
        };
        Self {
            descriptors,
            memory,
            processes: all.len(),
            worktrees: entries("data/worktrees"),
            agents: entries("data/agents"),
        }
    }
}

fn pss(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Everything submitted is merged, the spares are ready, and nothing else runs.
fn at_rest(squad: &Squad, merged: usize) -> Held {
    squad.wait_until("the squad is at rest", |status| {
        let spares = status["pool"]["spares"].as_array();
        let ready = spares.map_or(0, |all| {
            all.iter().filter(|spare| spare["is_ready"] == true).count()
        });
        let archiving = status["tasks"].as_array().unwrap().iter();
        let busy = archiving.filter(|task| task["archiving"] == true).count();
        count(status, "merged") == merged.min(500) && busy == 0 && ready == SPARES
    });
    squad.wait_until("agents that have ended are gone", |_| {
        let held = Held::by(squad);
        held.agents == SPARES && held.worktrees <= 2 * SPARES
    });
    Held::by(squad)
}

#[test]
fn many_tasks_over_ten_agents_fail_never_and_leave_nothing_behind() {
    let tasks = usize::try_from(number("WARPSQUAD_SOAK").unwrap_or(50)).unwrap();
    eprintln!("{tasks} tasks");
    let mut dice = Dice::seeded("WARPSQUAD_SOAK_SEED");
    let server = Server::simulator();
    let squad = Squad::new_with(&server, 10, &format!("spare = {SPARES}"), "");
    let (mut submitted, mut early) = (0, None);
    while submitted < tasks {
        let more = OPEN.min(tasks - submitted);
        let text: String = (submitted..submitted + more)
            .map(|n| task(&mut dice, n))
            .collect();
        std::fs::write(squad.path("tasks.toml"), text).unwrap();
        let answer = squad.run(&["task", "add", "-f", "../tasks.toml"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        submitted += more;
        if early.is_none() && submitted * 5 >= tasks {
            early = Some(at_rest(&squad, submitted));
        } else {
            squad.wait_until("some are done", |status| {
                let open = ["queued", "assigned", "running", "failed"];
                open.iter().map(|state| count(status, state)).sum::<usize>() <= OPEN / 2
            });
        }
    }
    let (early, late) = (early.unwrap(), at_rest(&squad, submitted));
    eprintln!("after a fifth: {early:?}\nat the end: {late:?}");
    assert!(late.descriptors <= early.descriptors + MORE_DESCRIPTORS);
    let grown = MORE_MEMORY + MEMORY_PER_HUNDRED * tasks as u64 / 100;
    assert!(late.memory <= early.memory + grown);
    assert!(late.processes <= early.processes);
    assert_eq!(late.agents, SPARES);
    // A spare's each, and as many clean ones of tasks that are over.
    assert!(late.worktrees <= 2 * SPARES);
    // One commit for each task, none lost, and no attempt failed.
    let commits = squad.git(&["rev-list", "--count", "HEAD"]);
    assert_eq!(commits, (tasks + 1).to_string());
    assert_eq!(squad.git(&["branch", "--list", "squad/*"]), "");
    let status = squad.json(&["status", "--json"]);
    for task in status["tasks"].as_array().unwrap() {
        assert_eq!(task["failures"], 0, "{task:#}");
        assert_eq!(task["losses"], 0, "{task:#}");
    }
}
