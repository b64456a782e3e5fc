//! The medic on a clock that the tests hold.

use proptest::prelude::*;

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn working() -> Medic {
    let mut medic = Medic::new(MedicSettings::default(), seconds(0));
    medic.doing(Doing::Working, seconds(0));
    medic
}

fn vitals(life: Life, memory: u64) -> Vitals {
    let usage = Usage {
        memory,
        ..Usage::default()
    };
    Vitals { life, usage }
}

/// The next thing that is due, at the moment it is due.
fn next(medic: &mut Medic) -> (Duration, Option<Order>) {
    let due = medic.due().unwrap();
    (due, medic.treat(due).map(|it| it.order))
}

#[test]
fn silence_is_nudged_then_interrupted_then_given_up() {
    let mut medic = working();
    assert_eq!(medic.treat(seconds(299)), None);
    assert_eq!(next(&mut medic), (seconds(300), Some(Order::Nudge)));
    assert!(matches!(medic.health(), Health::Degraded(_)));
    assert_eq!(next(&mut medic), (seconds(310), Some(Order::Interrupt)));
    assert_eq!(
        next(&mut medic),
        (seconds(325), Some(Order::GiveUp(Blame::Unknown)))
    );
    assert_eq!((medic.due(), medic.treat(seconds(9_999))), (None, None));
}

#[test]
fn a_sign_of_life_ends_the_alarm() {
    let mut medic = working();
    assert_eq!(next(&mut medic).1, Some(Order::Nudge));
    medic.see(Sign::Output, seconds(305));
    assert_eq!(medic.health(), Health::Ok);
    assert_eq!(next(&mut medic), (seconds(605), Some(Order::Nudge)));
}

#[test]
fn an_interrupted_agent_back_at_its_prompt_has_a_verdict() {
    let mut medic = working();
    next(&mut medic);
    next(&mut medic);
    medic.see(Sign::Output, seconds(311));
    medic.doing(Doing::Nothing, seconds(311));
    let (blame, why) = medic.verdict().unwrap();
    assert_eq!(blame, Blame::Unknown);
    assert_eq!(why, "no output and no model request for 5 min");
    assert_eq!(medic.due(), None);
}

#[test]
fn an_open_request_is_slow_first_and_hopeless_later() {
    let mut medic = working();
    medic.see(Sign::Traffic { open: true }, seconds(10));
    assert_eq!(next(&mut medic), (seconds(310), None));
    assert!(matches!(medic.health(), Health::Degraded(_)));
    medic.see(Sign::Output, seconds(400));
    let rules = MedicSettings::default();
    assert_eq!(
        next(&mut medic),
        (seconds(10) + rules.no_answer, Some(Order::Interrupt))
    );
    assert_eq!(medic.verdict().unwrap().0, Blame::Endpoint);
}

#[test]
fn a_model_that_sends_something_is_waited_for() {
    let mut medic = working();
    for minute in 1..100 {
        medic.see(Sign::Traffic { open: true }, seconds(minute * 60));
        assert_eq!(medic.treat(seconds(minute * 60 + 59)), None);
    }
    assert_eq!(medic.health(), Health::Ok);
}

#[test]
fn a_retry_loop_is_interrupted_once_and_progress_resets_it() {
    let mut medic = working();
    let retry = || Sign::Retried("Retrying in 4 seconds...".into());
    for second in 1..4 {
        medic.see(retry(), seconds(second));
    }
    assert_eq!(medic.treat(seconds(3)), None);
    assert!(matches!(medic.health(), Health::Degraded(_)));
    medic.see(Sign::Progressed, seconds(4));
    assert_eq!(medic.health(), Health::Ok);
    for second in 5..9 {
        medic.see(retry(), seconds(second));
    }
    let treated = medic.treat(seconds(9)).unwrap();
    assert_eq!(treated.order, Order::Interrupt);
    assert!(treated.why.contains("Retrying in 4"), "{}", treated.why);
    medic.see(retry(), seconds(10));
    assert_eq!(medic.treat(seconds(10)), None);
}

#[test]
fn a_question_is_handed_over_once_and_a_human_who_types_has_all_the_time_again() {
    let mut medic = working();
    medic.doing(Doing::Asking { number: 2 }, seconds(100));
    medic.see(Sign::Human, seconds(1_000));
    let timeout = MedicSettings::default().question_timeout;
    assert_eq!(
        next(&mut medic),
        (seconds(1_000) + timeout, Some(Order::Unanswered))
    );
    assert_eq!(medic.due(), None);
    medic.doing(Doing::Asking { number: 3 }, seconds(9_000));
    assert!(medic.due().is_some());
}

#[test]
fn a_stopped_process_is_continued_once() {
    let mut medic = working();
    medic.measure(&vitals(Life::Stopped, 0), seconds(1));
    assert_eq!(medic.treat(seconds(1)).unwrap().order, Order::Continue);
    medic.measure(&vitals(Life::Stopped, 0), seconds(2));
    assert_eq!(medic.treat(seconds(2)), None);
    assert_eq!(
        medic.health(),
        Health::Degraded("its process is stopped".into())
    );
    medic.measure(&vitals(Life::Gone, 0), seconds(3));
    assert_eq!(medic.health(), Health::Down("its process is gone".into()));
}

#[test]
fn memory_that_only_grows_is_told_and_memory_that_breathes_is_not() {
    let mut growing = working();
    let mut breathing = working();
    for minute in 0..12 {
        let memory = (300 + minute * 40) << 20;
        growing.measure(&vitals(Life::Running, memory), seconds(minute * 60));
        let dip = if minute == 7 { 200 << 20 } else { 0 };
        breathing.measure(&vitals(Life::Running, memory - dip), seconds(minute * 60));
    }
    assert!(matches!(growing.health(), Health::Degraded(_)));
    assert_eq!(breathing.health(), Health::Ok);
}

#[test]
fn nobody_is_treated_at_a_prompt() {
    let mut medic = Medic::new(MedicSettings::default(), seconds(0));
    assert_eq!(medic.due(), None);
    assert_eq!(medic.treat(seconds(1_000_000)), None);
}

fn any_sign() -> impl Strategy<Value = Sign> {
    prop_oneof![
        Just(Sign::Output),
        any::<bool>().prop_map(|open| Sign::Traffic { open }),
        Just(Sign::Retried("again".into())),
        Just(Sign::Progressed),
        Just(Sign::Human),
    ]
}

proptest! {
    /// Whatever is seen: treating at the due moment moves on, so nothing ever spins, and an
    /// attempt is interrupted before it is given up.
    #[test]
    fn every_alarm_ends(signs in prop::collection::vec((any_sign(), 0_u64..400), 0..40)) {
        let mut medic = working();
        let mut now = seconds(0);
        let mut interrupted = false;
        for (sign, later) in signs {
            now += seconds(later);
            medic.see(sign, now);
            for _ in 0..8 {
                let Some(treated) = medic.treat(now) else { break };
                interrupted |= treated.order == Order::Interrupt;
                if let Order::GiveUp(_) = treated.order {
                    prop_assert!(interrupted);
                }
            }
            prop_assert_eq!(medic.treat(now), None);
            prop_assert!(medic.due().is_none_or(|due| due > now));
        }
    }
}
