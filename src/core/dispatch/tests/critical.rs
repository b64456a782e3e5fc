//! Critical requests among critical ones, told step by step.

use super::steps::{admitted, ask, load, runner, secs, single, unload, with_a};
use crate::core::dispatch::*;
use crate::core::endpoint::EndpointName;
use crate::core::task::Priority;

fn critical(id: u64, client: &str, model: &str) -> Ask {
    Ask {
        priority: Priority::Critical,
        ..ask(id, client, model)
    }
}

/// Serves everything, one second a service; the models in the order in which they were loaded.
fn loads(gpu: &mut Dispatcher, requests: usize) -> Vec<String> {
    let (mut loads, mut done, mut now) = (Vec::new(), 0, 1);
    while done < requests {
        assert!(now < 1_000, "{done} of {requests} were served: {loads:?}");
        let mut ended = Vec::new();
        for order in gpu.orders(secs(now)) {
            match order {
                Order::Admit { id, .. } => ended.push(id),
                Order::Load { runner, .. } => {
                    loads.push(runner.model.to_string());
                    gpu.loaded(&runner, 10, secs(14), secs(now));
                }
                Order::Unload { runner } => gpu.unloaded(&runner, secs(1), secs(now)),
            }
        }
        now += 1;
        for id in ended {
            gpu.finished(id, None, secs(now));
            done += 1;
        }
    }
    loads
}

#[test]
fn as_many_loads_as_models_are_made_when_everybody_is_critical() {
    for models in [
        ["a", "b", "c", "a", "b", "c"],
        ["a", "a", "b", "b", "c", "c"],
    ] {
        let mut gpu = single();
        for (id, model) in (0..).zip(models) {
            gpu.submit(
                critical(id, &format!("c{id}"), model),
                Moment::from_millis(id),
            );
        }
        let mut loaded = loads(&mut gpu, 6);
        loaded.sort();
        assert_eq!(loaded, ["a:latest", "b:latest", "c:latest"], "{models:?}");
    }
}

#[test]
fn a_critical_request_that_came_first_is_served_before_a_later_one_of_another_model() {
    let mut gpu = with_a();
    gpu.submit(critical(1, "x", "a"), secs(0));
    assert_eq!(admitted(&gpu.orders(secs(0))), [1]);
    gpu.submit(critical(2, "y", "a"), secs(1));
    gpu.submit(critical(3, "z", "b"), secs(2));
    gpu.submit(ask(4, "w", "a"), secs(2));
    assert_eq!(gpu.orders(secs(2)), []);
    gpu.finished(RequestId(1), None, secs(10));
    assert_eq!(admitted(&gpu.orders(secs(10))), [2], "older than 3");
    gpu.submit(critical(5, "v", "a"), secs(11));
    assert_eq!(gpu.orders(secs(11)), [], "2 runs");
    gpu.finished(RequestId(2), None, secs(20));
    assert_eq!(gpu.orders(secs(20)), [unload("a")], "5 came after 3");
}

#[test]
fn an_urgent_model_waits_until_one_that_has_just_come_has_served_somebody() {
    let mut gpu = single();
    gpu.submit(ask(1, "x", "a"), secs(0));
    assert_eq!(gpu.orders(secs(0)), [load("a")]);
    gpu.submit(critical(2, "y", "b"), secs(1));
    gpu.submit(ask(3, "z", "a"), secs(1));
    assert_eq!(gpu.orders(secs(1)), [], "one load at a time");
    gpu.loaded(&runner("a"), 10, secs(14), secs(15));
    assert_eq!(admitted(&gpu.orders(secs(15))), [1]);
    gpu.finished(RequestId(1), None, secs(25));
    assert_eq!(
        gpu.orders(secs(25)),
        [unload("a")],
        "3 waits for the next time"
    );
}

#[test]
fn models_that_load_at_once_serve_somebody_before_they_go() {
    let settings = DispatchSettings {
        swap: secs(0),
        ..DispatchSettings::default()
    };
    let mut gpu = Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(15))]);
    for (id, model) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        gpu.submit(ask(id, &format!("c{id}"), model), secs(0));
    }
    let (mut served, mut running) = (0, Vec::new());
    // Each load serves one at least, so four requests need no more than so many orders.
    for _ in 0..20 {
        for order in gpu.orders(secs(0)) {
            match order {
                Order::Admit { id, .. } => running.push(id),
                Order::Load { runner, .. } => gpu.loaded(&runner, 10, secs(0), secs(0)),
                Order::Unload { runner } => gpu.unloaded(&runner, secs(0), secs(0)),
            }
        }
        for id in running.drain(..) {
            gpu.finished(id, None, secs(0));
            served += 1;
        }
    }
    assert_eq!(served, 4);
}
