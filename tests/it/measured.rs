//! What becomes of figures: from the gateway to the recorder's file and `status`, and of the GPU's
//! memory: from the settings to what a task is told.

use std::io::Write as _;

use serde_json::Value;

use crate::harness::{Server, Squad};

/// So long a word is in no record by accident.
const WORD: &str = "antidisestablishmentarianism";

#[test]
fn requests_reach_the_recorder_and_the_status_without_their_text() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let prompt = format!("add the file\n@sim create a.py := {WORD}");
    let answer = squad.run(&["run", "--until", "merged", &prompt]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let status = squad.wait_until("the request is recorded", |status| {
        status["measured"]["recorder"]["written"].as_u64() > Some(0)
            && status["measured"]["all"]["requests"].as_u64() > Some(0)
    });
    let all = &status["measured"]["all"];
    assert_eq!(all["requests"], all["answered"], "{all:#}");
    assert!(all["first_token_ms"]["count"].as_u64() > Some(0), "{all:#}");
    assert_eq!(
        status["measured"]["agents"]["1"]["requests"],
        all["requests"]
    );

    let text = std::fs::read_to_string(squad.path("data/requests/requests.jsonl")).unwrap();
    let record: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&record["agent"], &record["task"]), (&1.into(), &1.into()));
    assert_eq!(record["endpoint"], "test");
    assert_eq!(record["outcome"]["ended"], "done");
    assert!(record["output_tokens"].as_u64() > Some(0), "{record:#}");
    let micros = |name: &str| record[name].as_u64().unwrap();
    assert!(micros("first_token_us") <= micros("total_us"), "{record:#}");
    assert!(!text.contains(WORD));
}

#[test]
fn the_first_task_after_a_start_knows_which_models_fit() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "[models]\nselection = \"most-capable\"\n");
    let mut settings = std::fs::File::options()
        .append(true)
        .open(squad.path("config.toml"))
        .unwrap();
    // With the reserve of 1 GiB that is room for the smaller of the two models alone.
    writeln!(settings, "vram = \"6GiB\"").unwrap();
    let answer = squad.run(&["run", "--until", "merged", "@sim create a.py := a = 1"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let shown = squad.run(&["task", "show", "1"]).out;
    assert!(shown.contains("it does not fit into the memory"), "{shown}");
    let named = [
        "run",
        "--until",
        "merged",
        "--model",
        "coder:7b",
        "@sim create b.py := b = 1",
    ];
    let answer = squad.run(&named);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let models = [1, 2].map(|id| squad.task(id)["attempts"][0]["model"].clone());
    assert_eq!(models, ["small:1b", "coder:7b"]);
}
