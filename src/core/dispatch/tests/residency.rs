//! What the dispatcher makes of what an endpoint lists, told step by step.

use super::steps::{admitted, ask, load, runner, secs, single, unload, with_a};
use crate::core::Timestamp;
use crate::core::dispatch::*;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;

pub(super) fn listed(model: &str, expires_at: u64) -> Listed {
    Listed {
        model: ModelName::new(model),
        context: 8192,
        size: 10,
        size_vram: 10,
        expires_at: Timestamp(expires_at),
    }
}

#[test]
fn what_somebody_else_has_unloaded_is_loaded_again_with_another_epoch() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    let first = gpu.orders(secs(0));
    gpu.finished(RequestId(1), None, secs(1));
    gpu.seen(&EndpointName::from("gpu"), &[], secs(2));
    gpu.submit(ask(2, "x", "a"), secs(3));
    assert_eq!(gpu.orders(secs(3)), [load("a")]);
    gpu.loaded(&runner("a"), 10, secs(5), secs(8));
    let second = gpu.orders(secs(8));
    let epoch = |orders: &[Order]| match orders {
        [Order::Admit { epoch, .. }] => *epoch,
        other => panic!("{other:?}"),
    };
    assert!(epoch(&second) > epoch(&first));
}

#[test]
fn an_endpoint_that_gives_less_context_than_asked_is_not_asked_again_and_again() {
    let gpu_name = EndpointName::from("gpu");
    let capped = |context| {
        [Listed {
            context,
            ..listed("a", 1)
        }]
    };
    let mut gpu = with_a();
    gpu.seen(&gpu_name, &capped(4096), secs(1));
    gpu.submit(ask(1, "x", "a"), secs(2));
    assert_eq!(admitted(&gpu.orders(secs(2))), [1]);
    gpu.finished(RequestId(1), None, secs(3));
    // Now somebody else has loaded it with another.
    gpu.seen(&gpu_name, &capped(2048), secs(4));
    gpu.submit(ask(2, "x", "a"), secs(5));
    gpu.orders(secs(5));
    assert_eq!(
        gpu.orders(secs(8)),
        [Order::Unload {
            runner: Runner {
                context: 2048,
                ..runner("a")
            }
        }]
    );
}

#[test]
fn traffic_of_others_is_noticed_by_an_expiry_that_moves_without_us() {
    let gpu_name = EndpointName::from("gpu");
    let mut gpu = with_a();
    let foreign = |gpu: &Dispatcher, at| gpu.load(at).endpoints[&EndpointName::from("gpu")].foreign;
    gpu.seen(&gpu_name, &[listed("a", 1000)], secs(1));
    gpu.submit(ask(1, "x", "a"), secs(2));
    gpu.orders(secs(2));
    gpu.finished(RequestId(1), None, secs(3));
    gpu.seen(&gpu_name, &[listed("a", 3000)], secs(4));
    assert!(!foreign(&gpu, secs(4)), "we have moved it");
    gpu.seen(&gpu_name, &[listed("a", 3000)], secs(6));
    gpu.seen(&gpu_name, &[listed("a", 7000)], secs(8));
    assert!(foreign(&gpu, secs(8)));
    assert!(!foreign(&gpu, secs(80)), "noticed within the last minute");
}

/// Nobody has said how much memory there is.
fn unknown() -> Dispatcher {
    let settings = DispatchSettings {
        swap: secs(15),
        ..DispatchSettings::default()
    };
    let mut gpu = Dispatcher::new(settings, &[(EndpointName::from("gpu"), Some(1), None)]);
    gpu.loaded(&runner("a"), 10, secs(14), secs(0));
    gpu.submit(ask(1, "x", "b"), secs(2));
    let orders = gpu.orders(secs(2));
    assert_eq!(
        orders,
        [Order::Load {
            runner: runner("b"),
            beside: 1
        }],
        "tried, nothing unloaded"
    );
    gpu.submit(ask(2, "y", "a"), secs(3));
    assert_eq!(gpu.orders(secs(3)), [], "a may be pushed out");
    gpu.loaded(&runner("b"), 10, secs(14), secs(17));
    assert_eq!(admitted(&gpu.orders(secs(17))), [1]);
    gpu
}

#[test]
fn what_is_seen_in_memory_together_fits() {
    let mut gpu = unknown();
    let both = [listed("a", 1), listed("b", 1)];
    gpu.seen(&EndpointName::from("gpu"), &both, secs(18));
    assert_eq!(admitted(&gpu.orders(secs(18))), [2]);
}

#[test]
fn what_has_pushed_something_out_does_not_fit() {
    let mut gpu = unknown();
    gpu.seen(&EndpointName::from("gpu"), &[listed("b", 1)], secs(18));
    assert_eq!(gpu.orders(secs(18)), [], "1 runs");
    gpu.finished(RequestId(1), None, secs(20));
    gpu.orders(secs(20));
    assert_eq!(
        gpu.orders(secs(22)),
        [unload("b")],
        "a does not fit beside b"
    );
}

#[test]
fn what_is_pushed_out_while_its_successor_loads_does_not_fit_either() {
    let mut gpu = single();
    gpu.set_room(None);
    gpu.loaded(&runner("a"), 10, secs(14), secs(0));
    gpu.submit(ask(1, "x", "b"), secs(2));
    gpu.orders(secs(2));
    gpu.seen(&EndpointName::from("gpu"), &[], secs(5));
    gpu.loaded(&runner("b"), 10, secs(14), secs(17));
    let orders = gpu.orders(secs(17));
    let [
        Order::Admit {
            swap: Some(swap), ..
        },
    ] = orders.as_slice()
    else {
        panic!("{orders:?}");
    };
    assert_eq!(swap.evicted, Some(ModelName::new("a")));
    gpu.finished(RequestId(1), None, secs(18));
    gpu.submit(ask(2, "y", "a"), secs(18));
    gpu.orders(secs(18));
    assert_eq!(gpu.orders(secs(20)), [unload("b")]);
}

#[test]
fn a_model_that_somebody_else_uses_has_its_quantum() {
    let gpu_name = EndpointName::from("gpu");
    let mut gpu = single();
    gpu.seen(&gpu_name, &[listed("a", 1000)], secs(1));
    gpu.seen(&gpu_name, &[listed("a", 5000)], secs(5));
    gpu.submit(ask(1, "x", "b"), secs(6));
    assert_eq!(gpu.orders(secs(10)), []);
    assert_eq!(gpu.deadline(), Some(secs(46)), "45 s after it was found");
    assert_eq!(gpu.orders(secs(46)), [unload("a")]);
}
