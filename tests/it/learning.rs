//! What the router learns from real Aider's answers.

use crate::harness::{Server, Squad};

/// So long that a difference is expected to be cheaper than the whole file from a model of 7B, and
/// not any more once two answers did not apply.
const BYTES: usize = 5_500;

#[test]
fn a_model_whose_differences_do_not_apply_is_told_to_write_whole_files() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    let line = "a line of the file\n";
    squad.commit("long.txt", &line.repeat(BYTES / line.len()));
    let task = |extra: &str, number: u64| {
        let prompt = format!("go on\n{extra}@sim append long.txt := line {number}\n");
        let words = [
            "run", "--until", "merged", "--model", "coder:7b", "--edit", "long.txt", &prompt,
        ];
        let answer = squad.run(&words);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        squad.task(number)["attempts"][0].clone()
    };
    let first = task("@sim malformed 2\n", 1);
    assert_eq!(first["routing"]["edit_format"], "diff", "{first:#}");
    assert_eq!(first["malformed"], 2, "{first:#}");
    let second = task("", 2);
    assert_eq!(second["routing"]["edit_format"], "whole", "{second:#}");
    assert_eq!(second["malformed"], 0, "{second:#}");
    let text = squad.git(&["show", "HEAD:long.txt"]);
    assert!(text.ends_with("line 1\nline 2\n") || text.ends_with("line 1\nline 2"));
}
