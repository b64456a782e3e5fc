//! What a request would meet, told before it is asked.

use std::time::Duration;

use super::steps::{admitted, ask, load, runner, secs, single, with_a};
use crate::core::dispatch::*;
use crate::core::endpoint::EndpointName;

/// Queue, load and eviction.
fn outlook(gpu: &Dispatcher, model: &str, need: u64, at: u64) -> (Moment, Moment, Moment) {
    let outlook = gpu.outlook(&runner(model), need, secs(at));
    (outlook.queue, outlook.load, outlook.eviction)
}

fn roomy() -> Dispatcher {
    let settings = DispatchSettings {
        swap: secs(15),
        ..DispatchSettings::default()
    };
    let mut gpu = Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(25))]);
    gpu.loaded(&runner("a"), 10, secs(14), secs(0));
    gpu.submit(ask(1, "x", "a"), secs(0));
    assert_eq!(admitted(&gpu.orders(secs(0))), [1]);
    gpu
}

#[test]
fn an_outlook_tells_the_queue_the_load_and_what_has_to_go_apart() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    assert_eq!(outlook(&gpu, "a", 10, 4), (secs(6), secs(0), secs(0)));
    assert!(gpu.outlook(&runner("a"), 10, secs(4)).epoch.is_some());
    gpu.submit(ask(2, "y", "b"), secs(4));
    // What runs at `a`, then 2 itself, each 10 s; 14 s for a's reload and 1.5 s to unload it.
    let gone = Duration::from_millis(15_500);
    assert_eq!(outlook(&gpu, "b", 10, 4), (secs(16), secs(15), gone));
    let loads = gpu.load(secs(4));
    let told = &loads.endpoints[&EndpointName::from("gpu")].models[&"b".into()];
    assert_eq!(told.predicted_wait_ms, 31_000, "the load once");
    let ahead = told.ahead.unwrap();
    assert_eq!(
        (ahead.queue_ms, ahead.load_ms, ahead.evict_ms),
        (16_000, 15_000, 15_500)
    );
}

#[test]
fn an_idle_empty_gpu_has_no_queue_and_nothing_that_has_to_go() {
    assert_eq!(outlook(&single(), "a", 10, 0), (secs(0), secs(15), secs(0)));
}

#[test]
fn of_a_load_under_way_only_what_is_left_is_ahead_and_nobody_who_comes_after_it() {
    let mut gpu = with_a();
    gpu.seen(&EndpointName::from("gpu"), &[], secs(1));
    gpu.submit(ask(1, "x", "a"), secs(1));
    assert_eq!(gpu.orders(secs(1)), [load("a")]);
    gpu.submit(ask(2, "y", "b"), secs(2));
    gpu.orders(secs(2));
    // 1 goes first; 4 of 14 s are over.
    assert_eq!(outlook(&gpu, "a", 10, 5), (secs(10), secs(10), secs(0)));
    // The rest of a's load, a's batch of 10 s, then 2 itself.
    assert_eq!(outlook(&gpu, "b", 10, 5), (secs(30), secs(15), secs(0)));
}

#[test]
fn what_has_room_beside_the_others_waits_for_none_of_their_batches() {
    let gpu = roomy();
    assert_eq!(outlook(&gpu, "b", 15, 4), (secs(0), secs(15), secs(0)));
    let gone = Duration::from_millis(15_500);
    assert_eq!(outlook(&gpu, "b", 16, 4), (secs(6), secs(15), gone));
}

#[test]
fn two_that_load_side_by_side_wait_for_each_others_load_alone() {
    let mut gpu = roomy();
    gpu.submit(
        Ask {
            need: 7,
            ..ask(2, "y", "b")
        },
        secs(1),
    );
    assert_eq!(gpu.orders(secs(1)).len(), 1, "b loads");
    // 3 of the 15 s that a load is expected to take are over.
    assert_eq!(outlook(&gpu, "c", 8, 4), (secs(12), secs(15), secs(0)));
}

#[test]
fn only_those_who_go_first_are_ahead() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "y", "b"), secs(1));
    gpu.submit(ask(3, "z", "c"), secs(3));
    // 6 s of 1, then 2 itself; then b's load before 3 itself.
    assert_eq!(outlook(&gpu, "b", 10, 4).0, secs(6 + 10));
    assert_eq!(outlook(&gpu, "c", 10, 4).0, secs(6 + 15 + 10 + 10));
}

#[test]
fn what_another_endpoint_of_the_same_gpu_has_loaded_has_to_go_too() {
    let other = EndpointName::from("other");
    let places = [
        (EndpointName::from("gpu"), Some(1), Some(15)),
        (other.clone(), Some(1), Some(15)),
    ];
    let mut gpu = Dispatcher::new(DispatchSettings::default(), &places);
    gpu.loaded(&runner("a"), 10, secs(14), secs(0));
    let there = Runner {
        endpoint: other.clone(),
        ..runner("b")
    };
    // Idle since this moment: all of a's load, and 1.5 s to unload it.
    let outlook = gpu.outlook(&there, 10, secs(0));
    assert_eq!(outlook.eviction, Duration::from_millis(15_500));
    assert_eq!(gpu.outlook(&there, 5, secs(0)).eviction, secs(0));
    let loads = gpu.load(secs(0));
    assert_eq!(loads.endpoints[&other].free, Some(5));
    assert_eq!(loads.endpoints[&other].stranger.unwrap().evict_ms, 15_500);
}
