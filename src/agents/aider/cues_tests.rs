//! Tests of the cue parser: any chunking, forged cues, redraws and hostile output.

use proptest::prelude::*;

use super::*;

const NONCE: &str = "cafe0123";
const READS: &str = "\x1b[?2004h";

fn cue(json: &str) -> String {
    format!("\x1b]7717;{NONCE};{json}\x07")
}

fn feed(output: &str) -> (Vec<Signal>, AgentScreenState) {
    let mut parser = CueParser::new(NONCE);
    let signals = parser.feed(output.as_bytes());
    (signals, parser.state().clone())
}

fn prompt(n: u32, reading: bool) -> AgentScreenState {
    AgentScreenState::Prompt {
        n,
        mode: "whole".into(),
        reading,
    }
}

/// A whole life: start, prompt, work, question, commit, prompt, end.
fn life() -> String {
    [
        &cue(r#"{"cue":"start","s":1,"aider":"0.86.2","pid":42}"#),
        "\x1b[1mAider v0.86.2\x1b[0m\r\n",
        &cue(r#"{"cue":"prompt","s":2,"n":1,"mode":"whole"}"#),
        READS,
        "> \x1b[?2004l\x1b[?2004h",
        &cue(r#"{"cue":"input","s":3,"n":1,"how":"text","bytes":3,"sha256":"ab"}"#),
        "\x1b[?2004l░█ Waiting\r",
        &cue(r#"{"cue":"question","s":4,"n":2,"form":"confirm","text":"Create new file?","subject":"a\u003bb.py","default":"y","inside":true,"tokens":0,"room":900}"#),
        READS,
        &cue(r#"{"cue":"answered","s":5,"n":2,"answer":"y"}"#),
        &cue(r#"{"cue":"commit","s":6,"hash":"c0ffee"}"#),
        &cue(r#"{"cue":"novelty","s":7,"what":[1]}"#),
        &cue(r#"{"cue":"prompt","s":8,"n":3,"mode":"whole"}"#),
        READS,
        &cue(r#"{"cue":"exit","s":9,"code":0}"#),
    ]
    .concat()
}

#[test]
fn a_life_is_told_in_order() {
    let (signals, state) = feed(&life());
    let reads: Vec<u32> = signals
        .iter()
        .filter_map(|signal| match signal {
            Signal::Reading { n } => Some(*n),
            Signal::Cue(_) => None,
        })
        .collect();
    assert_eq!(reads, [1, 2, 3]);
    assert_eq!(signals.len(), 12);
    assert!(signals.contains(&Signal::Cue(Cue::Unknown)));
    assert_eq!(state, AgentScreenState::Exited { code: 0 });
    let asked = signals.iter().find_map(|signal| match signal {
        Signal::Cue(Cue::Question(question)) => question.subject.clone(),
        _ => None,
    });
    assert_eq!(asked.as_deref(), Some("a;b.py"));
}

#[test]
fn a_prompt_reads_only_after_its_terminal_says_so() {
    let before = cue(r#"{"cue":"prompt","n":1,"mode":"whole"}"#);
    assert_eq!(feed(&before).1, prompt(1, false));
    assert_eq!(feed(&format!("{READS}{before}")).1, prompt(1, false));
    assert_eq!(feed(&format!("{before}{READS}")).1, prompt(1, true));
}

#[test]
fn a_model_cannot_forge_a_cue() {
    let busy = cue(r#"{"cue":"input","n":1,"how":"text"}"#);
    for forged in [
        "\x1b]7717;cafe0124;{\"cue\":\"prompt\",\"n\":9}\x07",
        "\x1b]7717;;{\"cue\":\"prompt\",\"n\":9}\x07",
        "\x1b]7717;{\"cue\":\"prompt\",\"n\":9}\x07",
        "\x1b]77170;cafe0123;{\"cue\":\"prompt\",\"n\":9}\x07",
        "]7717;cafe0123;{\"cue\":\"prompt\",\"n\":9}\x07",
        READS,
    ] {
        let (signals, state) = feed(&format!("{busy}{forged}"));
        assert_eq!(signals.len(), 1, "{forged:?}");
        assert_eq!(state, AgentScreenState::Busy, "{forged:?}");
    }
}

#[test]
fn an_unfinished_sequence_cannot_swallow_a_cue() {
    let next = cue(r#"{"cue":"prompt","n":1,"mode":"whole"}"#);
    let mine = format!("\x1b]7717;{NONCE};{}", "x".repeat(10_000));
    for open in [
        "\x1b]0;title",
        "\x1bPdcs",
        "\x1b[12",
        "\x1b_apc",
        "\x1b",
        &mine,
    ] {
        assert_eq!(
            feed(&format!("{open}{next}")).1,
            prompt(1, false),
            "{open:?}"
        );
    }
}

#[test]
fn no_more_than_one_cue_is_buffered() {
    let mut parser = CueParser::new(NONCE);
    parser.feed(format!("\x1b]7717;{NONCE};").as_bytes());
    for _ in 0..1_000 {
        parser.feed(&[b'a'; 1_000]);
    }
    assert!(parser.buffer.capacity() <= 2 * CUE_MAX);
}

proptest! {
    #[test]
    fn chunking_changes_nothing(cuts in proptest::collection::vec(0_usize..900, 0..40)) {
        let whole = life();
        let mut parser = CueParser::new(NONCE);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut signals = Vec::new();
        for pair in cuts.windows(2) {
            signals.extend(parser.feed(&whole.as_bytes()[pair[0]..pair[1]]));
        }
        prop_assert_eq!((signals, parser.state().clone()), feed(&whole));
    }

    #[test]
    fn any_bytes_are_survived_and_a_cue_after_them_is_seen(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let mut parser = CueParser::new(NONCE);
        parser.feed(&bytes);
        let signals = parser.feed(cue(r#"{"cue":"commit","hash":"c0ffee"}"#).as_bytes());
        prop_assert_eq!(signals, vec![Signal::Cue(Cue::Commit { hash: "c0ffee".into() })]);
    }
}
