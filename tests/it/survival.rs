//! What a task keeps when its agent, its keeper or the machine goes away, and how that is said.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Server, Squad};

fn add(squad: &Squad, prompt: &str) {
    let answer = squad.run(&["task", "add", prompt]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

fn state(status: &Value) -> &str {
    status["tasks"][0]["state"].as_str().unwrap_or_default()
}

fn shown(squad: &Squad) -> String {
    let answer = squad.run(&["task", "show", "1"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer.out
}

/// Keeper and server at once, as when the machine loses its power. Either starts the other again
/// where it can, so they are stopped before they are killed, and looked for until none is left.
fn power_cut(squad: &Squad) {
    let is_ours = |words: &str| words.contains(" keeper ") || words.contains(" server --child");
    loop {
        let mut found = squad.processes();
        found.retain(|(_, words)| is_ours(words));
        if found.is_empty() {
            return;
        }
        for signal in [Signal::STOP, Signal::KILL] {
            for (pid, _) in &found {
                // It may have ended with the other one.
                let _may_be_gone = kill_process(Pid::from_raw(*pid).unwrap(), signal);
            }
        }
    }
}

/// A task whose agent has its prompt.
fn at_work() -> (Server, Squad) {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    add(&squad, "mark\n@sim slow 5\n@sim create spot.txt := x");
    squad.wait_until("the prompt is delivered", |status| {
        status["tasks"][0]["attempts"][0]["delivered"].is_number()
    });
    (server, squad)
}

#[test]
fn a_restart_of_the_machine_is_said_with_what_was_kept() {
    let (_server, squad) = at_work();
    assert!(shown(&squad).contains("attempt 1, agent 1, since "));
    power_cut(&squad);
    std::fs::write(squad.path("data/boot-id"), "another-run\n").unwrap();
    assert_eq!(squad.run(&["server"]).code, Some(0));
    squad.wait_until("it is finished by another attempt", |status| {
        state(status) == "review"
    });
    let text = shown(&squad);
    let said = "the machine was restarted; no commit was made yet, its chat goes on";
    assert!(text.contains(said), "{text}");
    let log = squad.run(&["task", "log", "1"]).out;
    assert!(
        log.contains("interrupted: the machine was restarted"),
        "{log}"
    );
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 2);
}

#[test]
fn a_restart_of_the_machine_during_verification_is_said() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let words = [
        "task",
        "add",
        "--verify",
        "sleep 3",
        "mark\n@sim create a.txt := x",
    ];
    assert_eq!(squad.run(&words).code, Some(0));
    squad.wait_until("it is verified", |status| state(status) == "verifying");
    power_cut(&squad);
    std::fs::write(squad.path("data/boot-id"), "another-run\n").unwrap();
    assert_eq!(squad.run(&["server"]).code, Some(0));
    squad.wait_until("it is verified once more", |status| {
        state(status) == "review"
    });
    let log = squad.run(&["task", "log", "1"]).out;
    let said = "the machine was restarted while it was verified";
    assert!(log.contains(said), "{log}");
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_lost_keeper_is_said_with_what_was_kept() {
    let (_server, squad) = at_work();
    power_cut(&squad);
    assert_eq!(squad.run(&["server"]).code, Some(0));
    squad.wait_until("it is finished by another attempt", |status| {
        state(status) == "review"
    });
    let text = shown(&squad);
    assert!(text.contains("the agent ended with its keeper; "), "{text}");
}

#[test]
fn a_keeper_killed_while_its_zygote_imports_is_replaced_at_once() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    add(&squad, "mark\n@sim create spot.txt := x");
    let (mut zygote, mut keeper) = (None, None);
    squad.wait_until("the zygote is started", |_| {
        let found = squad.processes();
        let of = |part: &str| {
            found
                .iter()
                .find(|(_, words)| words.contains(part))
                .map(|it| it.0)
        };
        (zygote, keeper) = (of("zygote.py"), of(" keeper "));
        zygote.is_some()
    });
    // It will never be ready: whoever waits for it does so to the end of its patience.
    for (pid, signal) in [(zygote, Signal::STOP), (keeper, Signal::KILL)] {
        kill_process(Pid::from_raw(pid.unwrap()).unwrap(), signal).unwrap();
    }
    squad.wait_until("it is finished", |status| state(status) == "review");
    let log = squad.run(&["task", "log", "1"]).out;
    assert!(!log.contains("not configured"), "{log}");
    // No agent was lost: none had begun.
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 1);
}

/// A socket whose owner takes connections and answers none, like a process that is being killed.
#[test]
fn whoever_is_about_to_die_is_not_taken_for_a_squad() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    std::fs::create_dir_all(squad.path("data/run")).unwrap();
    std::fs::set_permissions(squad.path("data/run"), Permissions::from_mode(0o700)).unwrap();
    let deaf = ["s", "data/run/keeper.sock"].map(|name| {
        let path = squad.path(name);
        (UnixListener::bind(&path).unwrap(), path)
    });
    let mut started = squad.begin(&["server"]);
    for (listener, path) in deaf {
        let (stream, _) = listener.accept().unwrap();
        assert!(started.try_wait().unwrap().is_none(), "{}", path.display());
        drop((stream, listener));
    }
    assert!(started.wait().unwrap().success());
    assert_eq!(squad.run(&["status"]).code, Some(0));
}

#[test]
fn a_commit_after_the_verdict_is_never_merged_silently() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    add(&squad, "mark\n@sim create spot.txt := x");
    squad.wait_until("it waits for review", |status| state(status) == "review");
    let before = squad.git(&["rev-parse", "main"]);
    let task = squad.task(1);
    let dir = task["workplace"]["dir"].as_str().unwrap();
    std::fs::write(format!("{dir}/late.txt"), "late\n").unwrap();
    squad.git(&["-C", dir, "add", "late.txt"]);
    squad.git(&["-C", dir, "commit", "-qm", "late"]);

    let refused = squad.run(&["task", "merge", "1"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("1 commit on it was never judged"),
        "{refused:?}"
    );
    assert_eq!(squad.git(&["rev-parse", "main"]), before);

    let head = task["attempts"][0]["head"].as_str().unwrap();
    squad.git(&["-C", dir, "reset", "-q", "--hard", head]);
    let merged = squad.run(&["task", "merge", "1"]);
    assert_eq!(merged.code, Some(0), "{merged:?}");
    assert_eq!(squad.git(&["ls-files"]), "README.md\nspot.txt");
}

/// A program that stands for another version of warpsquad.
fn program(squad: &Squad, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = squad.path(name);
    let warpsquad = env!("CARGO_BIN_EXE_warpsquad");
    let text = format!(
        "#!/bin/sh\nwarpsquad={warpsquad}\n\
         test \"$1\" != --version || {{ echo warpsquad 9.9.9; exit; }}\n{script}\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn server_words(squad: &Squad) -> String {
    let mut found = squad.processes().into_iter();
    let server =
        found.find(|(_, words)| words.contains("server --child") && !words.contains(" keeper "));
    server.map(|(_, words)| words).unwrap_or_default()
}

#[test]
fn a_new_program_takes_over_while_the_agent_works_on() {
    let (_server, squad) = at_work();
    let new = program(
        &squad,
        "new",
        "exec \"$warpsquad\" \"$@\" --set log.level=debug",
    );
    let upgraded = squad.run(&["upgrade", "--binary", &new]);
    assert_eq!(upgraded.code, Some(0), "{upgraded:?}");
    assert!(upgraded.out.contains("1 agents and "), "{upgraded:?}");
    assert!(server_words(&squad).contains("log.level=debug"));
    squad.wait_until("it is finished", |status| state(status) == "review");
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 1);
    let again = squad.run(&["upgrade", "--binary", &new, "--json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[test]
fn a_new_program_that_fails_leaves_everything_to_the_old_one() {
    let (_server, squad) = at_work();
    // It has migrated the database, as a later version would, before it failed.
    let migrate = "import os, sqlite3, sys\nd = sys.argv[1] + '/tasks.db'\n\
        c = sqlite3.connect(d, isolation_level=None)\n\
        v = c.execute('PRAGMA user_version').fetchone()[0]\n\
        c.execute('VACUUM INTO ?', (d + '.bak-%d' % v,))\n\
        c.execute('PRAGMA user_version = %d' % (v + 1))";
    std::fs::write(squad.path("migrate.py"), migrate).unwrap();
    let script = format!(
        "python3 {} {} && exit 7",
        squad.path("migrate.py").display(),
        squad.path("data").display()
    );
    let bad = program(&squad, "bad", &script);
    let refused = squad.run(&["upgrade", "--binary", &bad]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused
            .err
            .contains("it ended with code 7 before it served"),
        "{refused:?}"
    );
    assert!(refused.err.contains("runs again"), "{refused:?}");
    squad.wait_until("it is finished", |status| state(status) == "review");
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 1);
    assert!(
        squad
            .path("data")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|file| {
                file.file_name()
                    .to_string_lossy()
                    .starts_with("tasks.db.newer-")
            })
    );
}

#[test]
fn a_new_program_that_never_serves_leaves_everything_to_the_old_one() {
    let (_server, squad) = at_work();
    let stuck = program(&squad, "stuck", "exec sleep 600");
    let refused = squad.run(&["upgrade", "--binary", &stuck]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.err.contains("it did not serve within "),
        "{refused:?}"
    );
    assert!(refused.err.contains("runs again"), "{refused:?}");
    squad.wait_until("it is finished", |status| state(status) == "review");
    assert_eq!(squad.task(1)["attempts"].as_array().unwrap().len(), 1);
    let mut left = squad.processes().into_iter();
    assert!(!left.any(|(_, words)| words.starts_with("sleep ")));
}

#[test]
fn what_is_no_warpsquad_is_refused_before_anything_happens() {
    let (_server, squad) = at_work();
    let epoch = squad.json(&["status", "--json"])["epoch"].clone();
    for program in ["/bin/true", "/nowhere/warpsquad"] {
        let refused = squad.run(&["upgrade", "--binary", program]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains("hint: "), "{refused:?}");
    }
    assert_eq!(squad.json(&["status", "--json"])["epoch"], epoch);
}
