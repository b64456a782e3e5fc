//! What the dispatcher orders, told step by step.

use std::time::Duration;

use crate::core::dispatch::*;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::task::Priority;

use super::residency::listed;

pub(super) fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

pub(super) fn runner(model: &str) -> Runner {
    Runner {
        endpoint: EndpointName::from("gpu"),
        model: ModelName::new(model),
        context: 8192,
    }
}

pub(super) fn ask(id: u64, client: &str, model: &str) -> Ask {
    Ask {
        id: RequestId(id),
        client: client.to_owned(),
        runner: runner(model),
        priority: Priority::Normal,
        focus: Focus::Background,
        work: secs(10),
        need: 10,
    }
}

/// Room for one model of 10 bytes, one slot, a swap of 15 seconds.
pub(super) fn single() -> Dispatcher {
    let settings = DispatchSettings {
        swap: secs(15),
        ..DispatchSettings::default()
    };
    Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(15))])
}

pub(super) fn load(model: &str) -> Order {
    Order::Load {
        runner: runner(model),
        beside: 0,
    }
}

pub(super) fn unload(model: &str) -> Order {
    Order::Unload {
        runner: runner(model),
    }
}

pub(super) fn admitted(orders: &[Order]) -> Vec<u64> {
    let admitted = orders.iter().filter_map(|order| match order {
        Order::Admit { id, .. } => Some(id.0),
        Order::Load { .. } | Order::Unload { .. } => None,
    });
    admitted.collect()
}

/// `a` loaded at 0 s.
pub(super) fn with_a() -> Dispatcher {
    let mut gpu = single();
    gpu.loaded(&runner("a"), 10, secs(14), secs(0));
    gpu
}

#[test]
fn the_first_request_loads_its_model_and_is_admitted_once_it_is_there() {
    let mut gpu = single();
    gpu.submit(ask(1, "x", "a"), secs(0));
    assert_eq!(gpu.orders(secs(0)), [load("a")]);
    assert_eq!(gpu.orders(secs(1)), []);
    gpu.loaded(&runner("a"), 10, secs(14), secs(15));
    assert_eq!(admitted(&gpu.orders(secs(15))), [1]);
    assert_eq!(gpu.orders(secs(15)), []);
}

#[test]
fn a_swap_is_fenced_drained_unloaded_loaded_and_released() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "y", "b"), secs(1));
    assert_eq!(gpu.orders(secs(1)), []);
    assert_eq!(gpu.deadline(), Some(secs(45)), "three quarters of 4 × 15 s");
    assert_eq!(gpu.orders(secs(45)), [], "the running one is drained");
    gpu.submit(ask(3, "z", "a"), secs(61));
    gpu.finished(RequestId(1), None, secs(62));
    assert_eq!(
        gpu.orders(secs(62)),
        [unload("a")],
        "3 waits behind the fence"
    );
    gpu.unloaded(&runner("a"), secs(1), secs(63));
    assert_eq!(gpu.orders(secs(63)), [load("b")]);
    gpu.loaded(&runner("b"), 10, secs(14), secs(77));
    let orders = gpu.orders(secs(77));
    let Some(Order::Admit {
        id,
        swap: Some(swap),
        ..
    }) = orders.first()
    else {
        panic!("{orders:?}");
    };
    assert_eq!((id.0, swap.took_us), (2, 15_000_000));
    assert_eq!(swap.evicted, Some(ModelName::new("a")));
}

#[test]
fn an_idle_model_is_held_for_a_moment_before_it_is_left() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "y", "b"), secs(1));
    gpu.finished(RequestId(1), None, secs(10));
    assert_eq!(gpu.orders(secs(10)), []);
    assert_eq!(
        gpu.deadline(),
        Some(secs(10) + Duration::from_millis(1500)),
        "a tenth of 15 s"
    );
    assert_eq!(gpu.orders(secs(12)), [unload("a")]);
}

#[test]
fn one_who_asks_much_waits_for_one_who_asks_little() {
    let mut gpu = with_a();
    for id in 1..=4 {
        gpu.submit(ask(id, "greedy", "a"), secs(0));
    }
    assert_eq!(admitted(&gpu.orders(secs(0))), [1]);
    gpu.submit(ask(5, "modest", "a"), secs(1));
    assert_eq!(
        gpu.position(RequestId(5)),
        Some(0),
        "the greedy one has had its share"
    );
    gpu.finished(RequestId(1), None, secs(10));
    assert_eq!(admitted(&gpu.orders(secs(10))), [5]);
    assert_eq!(gpu.position(RequestId(5)), None);
    gpu.finished(RequestId(5), None, secs(20));
    assert_eq!(admitted(&gpu.orders(secs(20))), [2]);
}

#[test]
fn the_focused_agent_goes_first_but_not_twice_past_the_same_one() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "w", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "x", "a"), secs(1));
    gpu.submit(ask(3, "y", "a"), secs(2));
    gpu.submit(ask(4, "y", "a"), secs(2));
    gpu.set_focus(Some("y"));
    let mut order = Vec::new();
    for (running, end) in [(1, 10), (3, 20), (2, 30)] {
        gpu.finished(RequestId(running), None, secs(end));
        order.extend(admitted(&gpu.orders(secs(end))));
    }
    assert_eq!(order, [3, 2, 4]);
}

#[test]
fn a_critical_request_ends_a_batch_early_but_once_a_round() {
    let mut gpu = with_a();
    for id in 1..=2 {
        gpu.submit(ask(id, "x", "a"), secs(0));
    }
    gpu.orders(secs(0));
    let critical = |id, model| Ask {
        priority: Priority::Critical,
        ..ask(id, "boss", model)
    };
    gpu.submit(critical(3, "b"), secs(1));
    gpu.orders(secs(1));
    gpu.finished(RequestId(1), None, secs(10));
    assert_eq!(
        gpu.orders(secs(10)),
        [unload("a")],
        "2 waits, and the batch is 10 s old"
    );
    gpu.unloaded(&runner("a"), secs(1), secs(11));
    gpu.orders(secs(11));
    gpu.loaded(&runner("b"), 10, secs(14), secs(25));
    assert_eq!(admitted(&gpu.orders(secs(25))), [3]);
    gpu.submit(critical(4, "c"), secs(26));
    gpu.submit(ask(5, "y", "b"), secs(26));
    gpu.finished(RequestId(3), None, secs(30));
    assert_eq!(
        admitted(&gpu.orders(secs(30))),
        [5],
        "2 has waited since the last time"
    );
}

#[test]
fn a_model_that_was_served_is_not_chosen_before_one_that_waited_meanwhile() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "b"), secs(0));
    gpu.submit(ask(2, "y", "c"), secs(0));
    assert_eq!(gpu.orders(secs(2)), [unload("a")]);
    gpu.unloaded(&runner("a"), secs(1), secs(3));
    assert_eq!(gpu.orders(secs(3)), [load("b")]);
    // Now many want the model that was just there.
    for id in 3..=9 {
        gpu.submit(ask(id, &format!("z{id}"), "a"), secs(3));
    }
    gpu.loaded(&runner("b"), 10, secs(14), secs(17));
    gpu.orders(secs(17));
    gpu.finished(RequestId(1), None, secs(27));
    gpu.orders(secs(27));
    assert_eq!(gpu.orders(secs(30)), [unload("b")]);
    gpu.unloaded(&runner("b"), secs(1), secs(31));
    assert_eq!(
        gpu.orders(secs(31)),
        [load("c")],
        "it has waited since before a was served"
    );
}

#[test]
fn what_fits_stays_and_is_served_meanwhile() {
    let settings = DispatchSettings::default();
    let mut gpu = Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(25))]);
    gpu.loaded(&runner("a"), 10, secs(5), secs(0));
    gpu.submit(ask(1, "x", "b"), secs(1));
    assert_eq!(
        gpu.orders(secs(1)),
        [Order::Load {
            runner: runner("b"),
            beside: 1
        }]
    );
    gpu.submit(ask(2, "y", "a"), secs(2));
    assert_eq!(admitted(&gpu.orders(secs(2))), [2]);
    gpu.submit(ask(3, "z", "c"), secs(2));
    assert_eq!(gpu.orders(secs(2)), [], "one load at a time");
}

#[test]
fn another_context_of_a_model_is_a_reload_even_where_there_is_room() {
    let settings = DispatchSettings::default();
    let mut gpu = Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(99))]);
    gpu.loaded(&runner("a"), 10, secs(5), secs(0));
    let larger = Runner {
        context: 16384,
        ..runner("a")
    };
    gpu.submit(
        Ask {
            runner: larger.clone(),
            ..ask(1, "x", "a")
        },
        secs(10),
    );
    assert_eq!(gpu.orders(secs(10)), [unload("a")]);
    gpu.unloaded(&runner("a"), secs(1), secs(11));
    assert_eq!(
        gpu.orders(secs(11)),
        [Order::Load {
            runner: larger,
            beside: 0
        }]
    );
}

#[test]
fn a_swap_that_nobody_waits_for_any_more_is_given_up_while_it_drains() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "y", "b"), secs(1));
    gpu.orders(secs(50));
    gpu.submit(ask(3, "z", "a"), secs(51));
    assert_eq!(gpu.orders(secs(51)), []);
    gpu.withdraw(RequestId(2), secs(52));
    gpu.orders(secs(52));
    gpu.finished(RequestId(1), None, secs(53));
    assert_eq!(admitted(&gpu.orders(secs(53))), [3]);
}

#[test]
fn a_load_that_fails_gives_back_who_waited_for_it() {
    let mut gpu = single();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.submit(ask(2, "y", "a"), secs(1));
    assert_eq!(
        gpu.load_failed(&runner("a"), secs(2)),
        [RequestId(1), RequestId(2)]
    );
    assert_eq!(gpu.orders(secs(2)), []);
    gpu.submit(ask(3, "x", "a"), secs(3));
    assert_eq!(gpu.orders(secs(3)), [load("a")]);
}

#[test]
fn a_runner_that_has_died_is_loaded_again_although_it_is_still_listed() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    gpu.runner_died(&runner("a"), secs(1));
    gpu.finished(RequestId(1), None, secs(1));
    gpu.seen(&EndpointName::from("gpu"), &[listed("a", 1)], secs(2));
    gpu.submit(ask(2, "x", "a"), secs(3));
    assert_eq!(gpu.orders(secs(3)), [load("a")]);
}

#[test]
fn an_unload_that_is_stuck_lets_the_model_be_served_and_is_tried_again() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "b"), secs(0));
    assert_eq!(gpu.orders(secs(2)), [unload("a")]);
    gpu.unload_stuck(&runner("a"), secs(12));
    assert_eq!(gpu.orders(secs(12)), []);
    let trouble = |gpu: &Dispatcher| {
        let loads = gpu.load(secs(13));
        loads.endpoints[&EndpointName::from("gpu")].models[&ModelName::new("a")]
            .trouble
            .clone()
    };
    assert!(trouble(&gpu).is_some());
    gpu.submit(ask(2, "y", "a"), secs(13));
    assert_eq!(admitted(&gpu.orders(secs(13))), [2]);
    gpu.finished(RequestId(2), None, secs(20));
    assert_eq!(gpu.orders(secs(20)), []);
    assert_eq!(gpu.deadline(), Some(secs(42)));
    assert_eq!(gpu.orders(secs(42)), [unload("a")]);
}
