//! Kills at random points over a running squad of slow tasks: nothing accepted is lost, nothing is
//! done twice, no process stays without an owner.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Server, Squad};

/// Kills in all.
const KILLS: usize = 50;
/// Tasks worked on meanwhile; more are added while kills remain.
const TASKS: usize = 10;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Client,
    Server,
    Agent,
    Zygote,
    Keeper,
}

/// A small generator, so that a run can be repeated from the seed it prints.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = std::env::var("WARPSQUAD_CHAOS_SEED")
            .map_or(now.as_secs() ^ u64::from(now.subsec_nanos()), |seed| {
                seed.parse().unwrap()
            });
        eprintln!("WARPSQUAD_CHAOS_SEED={seed}");
        Self(seed | 1)
    }

    /// `SplitMix64`
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn victim(&mut self) -> Victim {
        match self.roll(6) {
            0 => Victim::Client,
            1 => Victim::Agent,
            2 => Victim::Zygote,
            _ => Victim::Server,
        }
    }
}

fn add_task(squad: &Squad, number: usize) {
    let prompt = format!("task {number}\n@sim slow 2\n@sim create f{number}.txt := x = {number}");
    let verify = format!("test -f f{number}.txt");
    let words = [
        "task",
        "add",
        "--autonomy",
        "merge",
        "--verify",
        &verify,
        &prompt,
    ];
    let answer = squad.run(&words);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

fn states(status: &Value) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for task in status["tasks"].as_array().into_iter().flatten() {
        *states
            .entry(task["state"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    states
}

fn kill(pid: i32) -> bool {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).is_ok()
}

/// Processes of this squad that are of this kind.
fn pids(squad: &Squad, victim: Victim) -> Vec<i32> {
    let is_one = |words: &str| match victim {
        Victim::Keeper => words.contains(" keeper "),
        Victim::Server => words.contains(" server --child") && !words.contains(" keeper "),
        Victim::Agent => words.starts_with("aider ") || words.contains("launch.py"),
        Victim::Zygote => words.contains("zygote.py"),
        Victim::Client => false,
    };
    let found = squad.processes().into_iter();
    found
        .filter(|(_, words)| is_one(words))
        .map(|(pid, _)| pid)
        .collect()
}

/// A client that watches; killed like everything else.
fn client(squad: &Squad) -> Child {
    squad.begin(&["task", "wait", "1"])
}

/// Waits a moment of random length: the point of a kill is what is random here.
fn moment(dice: &mut Dice) {
    std::thread::park_timeout(Duration::from_millis(200 + dice.roll(2_800)));
}

/// The squad's state. Where server and keeper were both killed nobody is left to start them again:
/// the next command of the user does.
fn alive(squad: &Squad) -> Value {
    if pids(squad, Victim::Keeper).is_empty() && pids(squad, Victim::Server).is_empty() {
        assert_eq!(squad.run(&["server"]).code, Some(0));
    }
    squad.wait_until("the squad answers", Value::is_object)
}

fn strike(squad: &Squad, dice: &mut Dice, victim: Victim) -> bool {
    if victim == Victim::Client {
        let mut client = client(squad);
        moment(dice);
        client.kill().unwrap();
        client.wait().unwrap();
        return true;
    }
    let pids = pids(squad, victim);
    if pids.is_empty() {
        return false;
    }
    let index = usize::try_from(dice.roll(pids.len() as u64)).unwrap();
    kill(pids[index])
}

#[test]
fn fifty_kills_lose_nothing_and_double_nothing() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 4, "");
    let mut dice = Dice::new();
    assert_eq!(squad.run(&["server"]).code, Some(0));
    let mut tasks = 0;
    let mut killed: BTreeMap<Victim, usize> = BTreeMap::new();
    while killed.values().sum::<usize>() < KILLS {
        let status = alive(&squad);
        let open = states(&status)
            .into_iter()
            .filter(|(state, _)| state != "merged")
            .map(|(_, count)| count)
            .sum::<usize>();
        if open < TASKS / 2 {
            for _ in open..TASKS {
                add_task(&squad, tasks);
                tasks += 1;
            }
        }
        moment(&mut dice);
        let strikes = killed.values().sum::<usize>();
        // A keeper takes all agents with it: rare, but never left to chance.
        let victim = if strikes % 20 == 12 {
            Victim::Keeper
        } else {
            dice.victim()
        };
        if strike(&squad, &mut dice, victim) {
            *killed.entry(victim).or_default() += 1;
        }
    }
    eprintln!("{tasks} tasks, killed {killed:?}");
    alive(&squad);
    let status = squad.wait_until("every task is merged", |status| {
        states(status).get("merged") == Some(&tasks)
    });
    check(&squad, &status, tasks);
}

fn check(squad: &Squad, status: &Value, tasks: usize) {
    for number in 0..tasks {
        let file = squad.git(&["show", &format!("HEAD:f{number}.txt")]);
        assert_eq!(file, format!("x = {number}"));
    }
    // One commit for each task, and the first one.
    assert_eq!(
        squad.git(&["rev-list", "--count", "HEAD"]),
        (tasks + 1).to_string()
    );
    assert_eq!(squad.git(&["status", "--porcelain"]), "");
    for task in status["tasks"].as_array().unwrap() {
        let number = task["id"].to_string();
        let shown = squad.json(&["task", "log", &number, "--json"]);
        let events = shown.as_array().unwrap();
        let count = |kind: &str| {
            events
                .iter()
                .filter(|event| event["event"]["kind"] == kind)
                .count()
        };
        assert_eq!(count("submitted"), 1, "{shown:#}");
        assert_eq!(count("merged"), 1, "{shown:#}");
        assert!(count("delivered") <= count("assigned"), "{shown:#}");
        let mut delivered = false;
        for event in events {
            match event["event"]["kind"].as_str().unwrap() {
                "assigned" => delivered = false,
                "delivered" => {
                    assert!(!delivered, "a prompt was delivered twice: {shown:#}");
                    delivered = true;
                }
                _ => {}
            }
        }
    }
}

/// Processes of the agents that have a task.
fn working_pids(status: &Value) -> Vec<i64> {
    let agents = status["agents"].as_array().into_iter().flatten();
    let busy = agents.filter(|agent| agent["task"].is_number());
    busy.filter_map(|agent| agent["report"]["pid"].as_i64())
        .collect()
}

#[test]
fn agents_and_their_chats_outlive_a_killed_server() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 2, "");
    let prompt = "mark the spot\n@sim slow 20\n@sim create spot.txt := x";
    for _ in 0..2 {
        let answer = squad.run(&["task", "add", prompt]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    let working = |status: &Value| {
        let agents = status["agents"].as_array().into_iter().flatten();
        let states: Vec<&str> = agents
            .filter_map(|agent| agent["report"]["state"].as_str())
            .collect();
        states == ["working", "working"]
    };
    let shows = |squad: &Squad| {
        squad
            .run(&["agent", "log", "1"])
            .out
            .contains("mark the spot")
    };
    let before = squad.wait_until("both work", |status| working(status) && shows(&squad));
    let agents = working_pids(&before);
    assert_eq!(agents.len(), 2);
    for _ in 0..3 {
        let epoch = squad.wait_until("a server", Value::is_object)["epoch"].as_u64();
        assert!(kill(pids(&squad, Victim::Server)[0]));
        let after = squad.wait_until("another server has adopted both", |status| {
            status["epoch"].as_u64() > epoch && working(status)
        });
        assert_eq!(working_pids(&after), agents);
        assert!(shows(&squad), "the screen was not drawn again");
    }
    for number in 1..=2 {
        let attempts = squad.task(number)["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1);
    }
    assert!(before.is_object());
}
