//! The dashboard as a user has it: the real binary in a real pty, real Aider, a simulated Ollama.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Server, Squad, Terminal};

const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const CTRL_Q: &str = "\x11";

fn kill(pid: u64, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A key right behind Escape would be taken for Alt and that key, as by any terminal program.
fn back_to_the_list(terminal: &mut Terminal) {
    terminal.keys(ESCAPE);
    terminal.see("n new");
}

#[test]
fn a_task_goes_from_the_keyboard_through_review_into_git() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 2, "[tasks]\nretries = 3\n");
    let mut terminal = squad.attach(130, 40);
    terminal.see("No task yet.");
    terminal.is_taken();

    terminal.keys("n");
    terminal.see("Enter submit");
    terminal.keys("@sim create f.py := x = 1");
    terminal.see("@sim create f.py := x = 1");
    terminal.keys(ENTER);
    terminal.see("working 1/2");
    terminal.see("Aider v0.86.2");
    terminal.see("waiting for you 1");
    terminal.see("Applied edit to f.py");
    assert_eq!(squad.git(&["rev-list", "--count", "HEAD"]), "1");

    // The next that waits for the user, its changes, and back with a comment.
    terminal.keys("w");
    terminal.keys("d");
    terminal.see("+x = 1");
    terminal.keys("c");
    terminal.see("What should be done differently?");
    terminal.keys("@sim replace f.py := x = 1 => x = 2");
    terminal.keys(ENTER);
    terminal.see("working 1/2");
    terminal.see("waiting for you 1");
    terminal.keys("wd");
    terminal.see("changes of task 1");
    terminal.see("+x = 2");
    back_to_the_list(&mut terminal);

    // Thrown away after a question, and brought back.
    terminal.keys("D");
    terminal.see("Discard task 1?");
    terminal.keys("y");
    terminal.see("u restores it");
    terminal.see("nothing waits for you");
    squad.wait_until("the work is archived", |_| {
        let archived = squad.git(&["for-each-ref", "refs/warpsquad/archive"]);
        archived.contains("refs/warpsquad/archive/1")
    });
    terminal.keys("u");
    terminal.see("task 1 restored");
    terminal.see("waiting for you 1");

    terminal.keys("wm");
    terminal.see("merged 1");
    assert_eq!(squad.git(&["show", "HEAD:f.py"]), "x = 2");
    assert_eq!(squad.git(&["status", "--porcelain"]), "");
    let message = squad.git(&["log", "-1", "--format=%an%n%B"]);
    assert!(message.starts_with("Ada Lovelace\n"), "{message}");
    assert!(message.contains("Warpsquad-Task: 1"), "{message}");

    terminal.keys("q");
    assert_eq!(terminal.ends_restored(), 0);
    terminal.see("detached: the squad goes on");
    let task = squad.task(1);
    assert_eq!(task["state"], "merged");
    assert_eq!(task["spec"]["retries"], 3, "{task:#}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 2, "{task:#}");
}

#[test]
fn two_terminals_share_one_agent_that_a_human_answers() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "[agents.answers]\ncreate-file = \"ask\"\n");
    let mut wide = squad.attach(140, 40);
    wide.see("No task yet.");
    let mut small = squad.attach(80, 24);
    small.see("free");

    // What is pasted into the list is text for a task, never keys.
    small.paste("@sim create q.py := y = 1\nmqD");
    small.see("mqD");
    small.keys(ENTER);
    wide.see("waiting for you 1");
    wide.see("Create new file?");

    // Enter goes into the agent's terminal, where keys are Aider's; the other terminal sees it.
    small.keys(ENTER);
    small.see("Ctrl-q");
    small.see("Create new file?");
    small.resize(100, 30);
    small.see("Create new file?");
    small.keys("ye");
    wide.see("[Yes]: ye");
    small.keys("s");
    small.keys(ENTER);
    wide.see("Applied edit to q.py");
    small.keys(CTRL_Q);
    small.see("n new");
    wide.see("merged 0");
    squad.wait_until("the task is in review", |status| {
        status["tasks"][0]["state"] == "review"
    });

    // One leaves, the other one stays.
    small.keys("q");
    assert_eq!(small.ends_restored(), 0);
    wide.keys("wd");
    wide.see("+y = 1");
    wide.keys("qq");
    assert_eq!(wide.ends_restored(), 0);
}

#[test]
fn whatever_ends_the_dashboard_the_terminal_is_as_it_was() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let mut terminal = squad.attach(120, 40);
    terminal.see("No task yet.");

    // All keys of the list are in the help.
    terminal.resize(120, 70);
    terminal.wait_until("it is drawn in the new size", |screen| {
        let hints = screen.lines().position(|line| line.starts_with("n new"));
        hints.is_some_and(|row| row > 60)
    });
    terminal.keys("?");
    for binding in warpsquad::tui::keymap::bindings(warpsquad::tui::keymap::Layer::Overview) {
        terminal.see(binding.help);
    }
    back_to_the_list(&mut terminal);

    // Another server takes over, and the dashboard is back by itself.
    let before = squad.json(&["status", "--json"])["pid"].as_u64().unwrap();
    kill(before, Signal::KILL);
    squad.wait_until("another server", |status| {
        status["pid"].as_u64().is_some_and(|pid| pid != before)
    });
    terminal.see("No task yet.");
    terminal.keys("n");
    terminal.see("Enter submit");
    terminal.is_taken();

    kill(terminal.pid().into(), Signal::TERM);
    assert_eq!(terminal.ends_restored(), 0);
    terminal.see("detached by signal");

    let mut terminal = squad.attach(120, 40);
    terminal.see("No task yet.");
    terminal.is_taken();
    let stopped = squad.run(&["stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(terminal.ends_restored(), 0);
    terminal.see("the squad was stopped");
}
