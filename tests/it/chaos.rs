//! Kills and stops at random points over a running squad of slow tasks: nothing accepted is lost,
//! nothing is done twice, no process stays without an owner.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Dice, Server, Squad};

/// Blows in all.
const BLOWS: usize = 50;
/// The longest moment before a blow, and within one, milliseconds.
const LONG: u64 = 2_000;
const SHORT: u64 = 1_000;
/// Tasks worked on meanwhile; more are added while blows remain.
const TASKS: usize = 10;

/// What is killed or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Client,
    Server,
    Agent,
    Zygote,
    Keeper,
    Simulator,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Kill,
    Stop,
}

/// A squad, its Ollama, and chance.
struct World {
    squad: Squad,
    simulator: Option<Server>,
    dice: Dice,
}

impl World {
    fn new() -> Self {
        let server = Server::simulator();
        Self {
            squad: Squad::new(&server, 4, ""),
            simulator: Some(server),
            dice: Dice::seeded("WARPSQUAD_CHAOS_SEED"),
        }
    }

    /// Waits a moment of random length: the point of a blow is what is random here.
    fn moment(&mut self, longest: u64) {
        std::thread::park_timeout(Duration::from_millis(200 + self.dice.roll(longest)));
    }

    /// One of those that are like this.
    fn pid(&mut self, victim: Victim) -> Option<i32> {
        if victim == Victim::Simulator {
            return self.simulator.as_ref().map(Server::pid);
        }
        let pids = pids(&self.squad, victim);
        let index = self.dice.roll(pids.len().max(1) as u64);
        pids.get(usize::try_from(index).unwrap()).copied()
    }

    /// Kills one; false when there is none.
    fn kill(&mut self, victim: Victim) -> bool {
        match victim {
            Victim::Client => {
                let mut client = client(&self.squad);
                self.moment(SHORT);
                client.kill().unwrap();
                client.wait().unwrap();
                true
            }
            Victim::Simulator => {
                let address = self.simulator.take().map(|killed| killed.address());
                self.moment(SHORT);
                self.simulator = address.map(|address| Server::simulator_at(&address));
                true
            }
            Victim::Server | Victim::Agent | Victim::Zygote | Victim::Keeper => self
                .pid(victim)
                .is_some_and(|pid| signal(pid, Signal::KILL)),
        }
    }

    /// Stops one for a moment; sometimes something else is killed meanwhile.
    fn pause(&mut self, victim: Victim) -> bool {
        let Some(pid) = self.pid(victim).filter(|pid| signal(*pid, Signal::STOP)) else {
            return false;
        };
        self.moment(SHORT);
        let other = [
            Victim::Agent,
            Victim::Zygote,
            Victim::Server,
            Victim::Simulator,
        ][usize::try_from(self.dice.roll(4)).unwrap()];
        if other != victim && self.dice.roll(2) == 0 {
            self.kill(other);
            self.moment(SHORT);
        }
        // A zygote that never wakes up is the keeper's to replace; others would be waited for.
        if victim != Victim::Zygote || self.dice.roll(2) == 0 {
            // It may have been killed by those who waited for it.
            signal(pid, Signal::CONT);
        }
        true
    }

    /// One blow, the `number`th; what it hit.
    fn strike(&mut self, number: usize) -> Option<(Blow, Victim)> {
        self.moment(LONG);
        if number % 3 == 1 {
            let victim = match self.dice.roll(6) {
                0 => Victim::Keeper,
                1 => Victim::Zygote,
                2 => Victim::Agent,
                3 => Victim::Simulator,
                _ => Victim::Server,
            };
            return self.pause(victim).then_some((Blow::Stop, victim));
        }
        let victim = match self.dice.roll(7) {
            // A keeper takes all agents with it: rare, but never left to chance.
            _ if number % 20 == 12 => Victim::Keeper,
            0 => Victim::Client,
            1 => Victim::Agent,
            2 => Victim::Zygote,
            3 => Victim::Simulator,
            _ => Victim::Server,
        };
        self.kill(victim).then_some((Blow::Kill, victim))
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

fn signal(pid: i32, signal: Signal) -> bool {
    kill_process(Pid::from_raw(pid).unwrap(), signal).is_ok()
}

/// Processes of this squad that are of this kind.
fn pids(squad: &Squad, victim: Victim) -> Vec<i32> {
    let is_one = |words: &str| match victim {
        Victim::Keeper => words.contains(" keeper "),
        Victim::Server => words.contains(" server --child") && !words.contains(" keeper "),
        Victim::Agent => words.starts_with("aider ") || words.contains("launch.py"),
        Victim::Zygote => words.contains("zygote.py"),
        Victim::Client | Victim::Simulator => false,
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

/// The squad's state. Where server and keeper were both killed nobody is left to start them again:
/// the next command of the user does. The last of them may still be dying when it is looked for, so
/// both are looked for as long as nobody answers.
fn alive(squad: &Squad) -> Value {
    squad.wait_until("the squad answers", |status| {
        if status.is_object() {
            return true;
        }
        if pids(squad, Victim::Keeper).is_empty() && pids(squad, Victim::Server).is_empty() {
            assert_eq!(squad.run(&["server"]).code, Some(0));
        }
        false
    })
}

#[test]
fn fifty_kills_and_stops_lose_nothing_and_double_nothing() {
    let mut world = World::new();
    assert_eq!(world.squad.run(&["server"]).code, Some(0));
    let (mut tasks, mut blows) = (0, 0);
    let mut hit: BTreeMap<(Blow, Victim), usize> = BTreeMap::new();
    while blows < BLOWS {
        let states = states(&alive(&world.squad));
        let open = states.iter().filter(|(state, _)| *state != "merged");
        let open = open.map(|(_, count)| count).sum::<usize>();
        if open < TASKS / 2 {
            for _ in open..TASKS {
                add_task(&world.squad, tasks);
                tasks += 1;
            }
        }
        if let Some(blow) = world.strike(blows) {
            *hit.entry(blow).or_default() += 1;
            blows += 1;
        }
    }
    eprintln!("{tasks} tasks, {hit:?}");
    alive(&world.squad);
    let status = world.squad.wait_until("every task is merged", |status| {
        states(status).get("merged") == Some(&tasks)
    });
    check(&world.squad, &status, tasks);
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
        assert!(signal(pids(&squad, Victim::Server)[0], Signal::KILL));
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
