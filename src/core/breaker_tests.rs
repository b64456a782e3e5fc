//! Tables and any order of events.

use proptest::prelude::*;

use super::*;
use crate::core::failure::FailureKind;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn three_failures_in_a_row_open_it_and_one_probe_closes_it() {
    let mut breaker = Breaker::default();
    for at in 0..3 {
        assert_eq!(breaker.may(seconds(at)), Permission::Yes);
        breaker.failed("no", u32::MAX / 2, seconds(at));
    }
    // Half of the draw: exactly 5 s.
    assert!(matches!(breaker.may(seconds(3)), Permission::No { .. }));
    assert_eq!(breaker.may(seconds(8)), Permission::Probe);
    breaker.goes(seconds(8));
    assert!(matches!(breaker.may(seconds(9)), Permission::No { .. }));
    assert_eq!(breaker.state(seconds(9)), BreakerState::HalfOpen);
    breaker.succeeded(seconds(9));
    assert_eq!(breaker.may(seconds(9)), Permission::Yes);
}

#[test]
fn each_probe_that_fails_doubles_the_time_up_to_two_minutes() {
    let mut breaker = Breaker::default();
    let mut now = seconds(0);
    for _ in 0..3 {
        breaker.failed("no", 0, now);
    }
    let mut times = Vec::new();
    for _ in 0..8 {
        let Permission::No { until } = breaker.may(now) else {
            panic!("it is open")
        };
        times.push(until.saturating_sub(now).as_millis());
        now = until;
        breaker.goes(now);
        breaker.failed("no", 0, now);
    }
    // A draw of zero is 0.8 of 5 s · 2^k, at most 120 s.
    assert_eq!(times, [4, 8, 16, 32, 64, 96, 96, 96].map(|it| it * 1_000));
}

#[test]
fn every_other_failure_opens_it_too() {
    let mut breaker = Breaker::default();
    for at in [0, 2] {
        breaker.failed("no", 0, seconds(at));
        breaker.succeeded(seconds(at + 1));
        assert_eq!(breaker.may(seconds(at + 1)), Permission::Yes);
    }
    // The fifth of the window: two of five went well.
    breaker.failed("no", 0, seconds(4));
    assert!(matches!(breaker.may(seconds(4)), Permission::No { .. }));
}

#[test]
fn a_success_of_a_request_that_was_under_way_does_not_close_it() {
    let mut breaker = Breaker::default();
    for at in 0..3 {
        breaker.failed("no", 0, seconds(at));
    }
    breaker.succeeded(seconds(3));
    assert!(matches!(breaker.may(seconds(3)), Permission::No { .. }));
}

#[test]
fn an_endpoint_that_is_well_for_a_moment_only_is_left_alone_for_longer() {
    let mut breaker = Breaker::default();
    for _ in 0..3 {
        breaker.failed("no", 0, seconds(0));
    }
    breaker.goes(seconds(4));
    breaker.succeeded(seconds(4));
    for _ in 0..3 {
        breaker.failed("no", 0, seconds(10));
    }
    // A draw of zero is 0.8 of twice 5 s.
    let expected = Permission::No { until: seconds(18) };
    assert_eq!(breaker.may(seconds(10)), expected);
    breaker.goes(seconds(18));
    breaker.succeeded(seconds(18));
    for _ in 0..3 {
        breaker.failed("no", 0, seconds(100));
    }
    let expected = Permission::No {
        until: seconds(104),
    };
    assert_eq!(breaker.may(seconds(100)), expected);
}

#[test]
fn what_says_nothing_about_an_endpoint_trips_nothing() {
    let mut breakers = Breakers::default();
    let (endpoint, model) = (EndpointName::from("e"), ModelName::from("m"));
    for kind in [
        FailureKind::Saturated,
        FailureKind::ModelMissing,
        FailureKind::BadRequest,
        FailureKind::ContextExceeded,
        FailureKind::Empty,
    ] {
        for _ in 0..20 {
            let failure = Failure::new(kind, "x");
            breakers.failed((&endpoint, &model), &failure, 0, seconds(1));
        }
        assert_eq!(breakers.may(&endpoint, &model, seconds(1)), Permission::Yes);
    }
}

#[test]
fn a_model_that_fails_does_not_take_the_endpoint_with_it() {
    let mut breakers = Breakers::default();
    let (endpoint, bad, good) = (
        EndpointName::from("e"),
        ModelName::from("bad"),
        ModelName::from("good"),
    );
    let failure = Failure::new(FailureKind::OutOfMemory, "out of memory");
    for _ in 0..5 {
        breakers.failed((&endpoint, &bad), &failure, 0, seconds(1));
    }
    assert!(matches!(
        breakers.may(&endpoint, &bad, seconds(1)),
        Permission::No { .. }
    ));
    assert_eq!(breakers.may(&endpoint, &good, seconds(1)), Permission::Yes);
}

#[test]
fn a_failure_costs_half_a_minute_that_fades() {
    let mut breaker = Breaker::default();
    breaker.failed("no", 0, seconds(0));
    assert_eq!(breaker.penalty(seconds(0)), seconds(30));
    let later = breaker.penalty(seconds(30)).as_secs_f64();
    assert!((later - 30.0 / std::f64::consts::E).abs() < 1e-6);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    Well,
    Badly,
    Undecided,
}

proptest! {
    #[test]
    fn in_any_order_an_open_breaker_lets_one_probe_pass_at_a_time(
        steps in proptest::collection::vec(
            (prop_oneof![
                Just(Step::Ask), Just(Step::Well), Just(Step::Badly), Just(Step::Undecided)
            ], 0_u64..40, any::<u32>()),
            1..200,
        ),
    ) {
        let mut breaker = Breaker::default();
        let mut now = Duration::ZERO;
        let mut probing: Option<Duration> = None;
        for (step, pause, draw) in steps {
            now += seconds(pause);
            match step {
                Step::Ask => {
                    let may = breaker.may(now);
                    if may == Permission::Probe {
                        prop_assert!(probing.is_none_or(|since| now >= since + PROBE));
                        breaker.goes(now);
                        probing = Some(now);
                        let is_shut = matches!(breaker.may(now), Permission::No { .. });
                        prop_assert!(is_shut);
                    }
                    if let Permission::No { until } = may {
                        prop_assert!(until > now && until <= now + LONGEST.mul_f64(1.2));
                    }
                }
                Step::Well => {
                    let is_shut = breaker.open.is_some_and(|open| now < open.until);
                    breaker.succeeded(now);
                    if is_shut {
                        let is_still = matches!(breaker.may(now), Permission::No { .. });
                        prop_assert!(is_still);
                    } else {
                        probing = None;
                        prop_assert_eq!(breaker.may(now), Permission::Yes);
                    }
                }
                Step::Badly => {
                    let was_probe = probing.is_some();
                    breaker.failed("x", draw, now);
                    if was_probe { probing = breaker.open.and_then(|open| open.probe); }
                }
                Step::Undecided => {
                    breaker.undecided();
                    probing = None;
                }
            }
            prop_assert!(breaker.window.len() <= KEPT);
        }
    }
}
