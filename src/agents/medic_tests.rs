//! The ward on paused time.

use std::collections::BTreeMap;

use super::*;
use crate::agents::aider::cues::{AgentScreenState, AskedQuestion};
use crate::agents::aider::prompt::literal;
use crate::core::medic::Life;

/// A ward whose warning about the time limit is past.
fn ward(change: impl FnOnce(&mut Settings)) -> Ward {
    let mut settings = Settings::default();
    change(&mut settings);
    Ward::new(&settings, Duration::MAX)
}

fn turn() -> Turn {
    let mut turn = Turn::new(literal("add a test").unwrap(), BTreeMap::new());
    turn.mark_delivered();
    turn
}

fn working() -> Turn {
    let mut turn = turn();
    turn.observe(&Signal::Reading { n: 1 }, &AgentScreenState::Busy);
    turn
}

fn asking(form: &str) -> Turn {
    let mut turn = turn();
    let question = AskedQuestion {
        n: 2,
        form: form.into(),
        text: "Shall the moon be blue?".into(),
        ..AskedQuestion::default()
    };
    let screen = AgentScreenState::Question {
        question,
        reading: true,
    };
    turn.observe(&Signal::Reading { n: 2 }, &screen);
    turn
}

fn retry() -> Signal {
    Signal::Cue(Cue::Retry {
        text: "Retrying in 1.0 seconds...".into(),
    })
}

async fn pass(ward: &Ward) {
    tokio::time::sleep_until(ward.due().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_nudged_interrupted_and_given_up() {
    let (mut ward, turn) = (ward(|_| {}), working());
    assert_eq!(ward.next(&turn), None);
    pass(&ward).await;
    assert!(matches!(
        ward.next(&turn),
        Some(Care::Signal(JobSignal::Usr1, Treatment::Nudged, _))
    ));
    assert_eq!(ward.next(&turn), None);
    pass(&ward).await;
    assert!(matches!(ward.next(&turn), Some(Care::Interrupt(_))));
    pass(&ward).await;
    assert!(matches!(ward.next(&turn), Some(Care::GiveUp(_))));
    assert_eq!((ward.next(&turn), ward.due()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_nudge_is_no_sign_of_life() {
    let (mut ward, turn) = (ward(|_| {}), working());
    ward.next(&turn);
    pass(&ward).await;
    ward.next(&turn);
    let state: Cue = serde_json::from_str(r#"{"cue":"state","state":"busy"}"#).unwrap();
    ward.output(&[Signal::Cue(state)]);
    pass(&ward).await;
    assert!(matches!(ward.next(&turn), Some(Care::Interrupt(_))));
}

#[tokio::test(start_paused = true)]
async fn a_retry_loop_holds_the_task_with_the_endpoints_own_words() {
    let (mut ward, turn) = (ward(|_| {}), working());
    ward.next(&turn);
    let refused = Cue::Warning {
        text: "Connection refused".into(),
    };
    ward.output(&[Signal::Cue(refused)]);
    for _ in 0..4 {
        ward.output(&[retry()]);
    }
    assert!(matches!(ward.next(&turn), Some(Care::Interrupt(_))));
    let Some(Care::Conclude(Fact::Held { why })) = ward.verdict() else {
        panic!("{:?}", ward.verdict())
    };
    assert!(why.contains("Connection refused"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn each_policy_for_a_question_that_nobody_answers() {
    let outcome = async |policy: Option<Unanswered>, form: &str| {
        let mut ward = ward(|settings| {
            let policy = policy.map(|policy| ("unknown".to_owned(), policy));
            settings.medic.unanswered.extend(policy);
        });
        let turn = asking(form);
        ward.next(&turn);
        pass(&ward).await;
        let care = ward.next(&turn);
        assert_eq!(ward.next(&turn), None);
        care
    };
    assert_eq!(outcome(None, "confirm").await, None);
    assert_eq!(outcome(Some(Unanswered::No), "text").await, None);
    assert!(matches!(
        outcome(Some(Unanswered::Hold), "text").await,
        Some(Care::GiveUp(_))
    ));
    let answered = outcome(Some(Unanswered::No), "confirm").await.unwrap();
    assert_eq!(
        answered,
        Care::Answer {
            number: 2,
            text: "Shall the moon be blue?".into(),
            answer: Unanswered::No,
            why: "nobody answered for 30 min".into(),
        }
    );
}

#[tokio::test(start_paused = true)]
async fn memory_is_warned_about_once_and_then_ends_the_task() {
    let (mut ward, turn) = (ward(|it| it.quota.agent_memory = 1000 << 20), working());
    let vitals = |mebibytes: u64| Vitals {
        life: Life::Running,
        usage: Usage {
            memory: mebibytes << 20,
            ..Usage::default()
        },
    };
    for mebibytes in [700, 850, 900] {
        ward.measured(&vitals(mebibytes));
    }
    assert!(matches!(
        ward.next(&turn),
        Some(Care::Tell(Treatment::Warned, _))
    ));
    assert_eq!(ward.next(&turn), None);
    let report = ward.complete(AgentReport::default());
    assert!(matches!(report.health, Health::Degraded(_)));
    ward.measured(&vitals(1001));
    assert!(matches!(
        ward.next(&turn),
        Some(Care::Conclude(Fact::OverQuota { .. }))
    ));
    ward.measured(&vitals(100));
    let report = ward.complete(AgentReport::default());
    assert_eq!(report.health, Health::Ok);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_warned_about_once() {
    let hour = Duration::from_secs(3600);
    let settings = Settings::default();
    let turn = turn();
    let mut young = Ward::new(&settings, hour);
    assert_eq!(young.next(&turn), None);
    tokio::time::sleep(hour * 6 / 10).await;
    let told = Care::Tell(
        Treatment::Warned,
        "near its quota, time: 96 min of 120 min".into(),
    );
    assert_eq!(young.next(&turn), Some(told));
    let old = Ward::new(&settings, hour * 17 / 10);
    assert_eq!(old.due(), None);
}
