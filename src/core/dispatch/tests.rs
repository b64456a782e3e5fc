//! What the dispatcher orders, told step by step.

use std::time::Duration;

use super::*;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::task::Priority;

fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn runner(model: &str) -> Runner {
    Runner {
        endpoint: EndpointName::from("gpu"),
        model: ModelName::new(model),
        context: 8192,
    }
}

fn ask(id: u64, client: &str, model: &str) -> Ask {
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
fn single() -> Dispatcher {
    let settings = DispatchSettings {
        swap: secs(15),
        ..DispatchSettings::default()
    };
    Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), Some(15))])
}

fn load(model: &str) -> Order {
    Order::Load {
        runner: runner(model),
        beside: 0,
    }
}

fn unload(model: &str) -> Order {
    Order::Unload {
        runner: runner(model),
    }
}

fn admitted(orders: &[Order]) -> Vec<u64> {
    let admitted = orders.iter().filter_map(|order| match order {
        Order::Admit { id, .. } => Some(id.0),
        Order::Load { .. } | Order::Unload { .. } => None,
    });
    admitted.collect()
}

/// `a` loaded at 0 s.
fn with_a() -> Dispatcher {
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
    assert_eq!(gpu.deadline(), Some(secs(60)), "four swaps of 15 s");
    assert_eq!(gpu.orders(secs(60)), [], "the running one is drained");
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
