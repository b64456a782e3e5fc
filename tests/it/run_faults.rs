//! Ten real Aiders on an endpoint that does everything wrong now and then.

use crate::harness::{Server, Squad};

const TASKS: usize = 20;

#[test]
fn on_an_endpoint_with_faults_of_every_kind_every_task_is_merged_whole() {
    let server = Server::scenario_at("faulty.toml", "127.0.0.1:0");
    let squad = Squad::new(&server, 10, "");
    let mut tasks = String::from("[defaults]\nverify = \"true\"\nretries = 3\n");
    for number in 0..TASKS {
        tasks.extend([
            "[[task]]\nprompt = \"@sim create f",
            &number.to_string(),
            ".py := ",
            &text(number).replace('\n', "\\\\n"),
            "\"\n",
        ]);
    }
    std::fs::write(squad.path("tasks.toml"), tasks).unwrap();
    let answer = squad.run(&["run", "-f", "../tasks.toml", "--until", "merged", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for number in 0..TASKS {
        let file = squad.git(&["show", &format!("HEAD:f{number}.py")]);
        assert_eq!(file, text(number), "half an answer was committed");
    }
    for id in 1..=TASKS {
        let task = squad.task(u64::try_from(id).unwrap());
        // What the endpoint does wrong costs no attempt.
        assert_eq!(task["failures"], 0, "{task:#}");
    }
}

#[test]
fn a_refusal_that_is_meant_is_asked_once_and_not_nine_times() {
    let server = Server::scenario_at("faulty.toml", "127.0.0.1:0");
    let squad = Squad::new(&server, 1, "");
    let answer = squad.run(&["run", "--retries", "0", "this is refused for good"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    let task = squad.task(1);
    let why = task["why"].as_str().unwrap();
    assert!(why.contains("bad options"), "{task:#}");
    assert_eq!(task["failures"], 1, "{task:#}");
    // Aider asks every other refusal nine times over 66 s.
    assert_eq!(task["tokens"]["requests"], 1, "{task:#}");
}

/// Some lines, so that an answer can break off in the middle.
fn text(number: usize) -> String {
    let lines: Vec<String> = (0..12).map(|line| format!("x{line} = {number}")).collect();
    lines.join("\n")
}
