//! The swaps that the order of arrival would have made, counted as requests are served.

use super::steps::{ask, secs, with_a};
use crate::core::dispatch::*;

/// Serves everything that waits, a second each; loads take so long. What was avoided after each.
fn serve(gpu: &mut Dispatcher, requests: usize, load: u64, from: u64) -> Vec<u64> {
    let (mut now, mut done, mut avoided) = (from, 0, Vec::new());
    let mut running = Vec::new();
    while done < requests {
        now += 1;
        assert!(now < from + 1_000, "{done} of {requests} were served");
        for order in gpu.orders(secs(now)) {
            match order {
                Order::Admit { id, .. } => running.push(id),
                Order::Load { runner, .. } => gpu.loaded(&runner, 10, secs(load), secs(now)),
                Order::Unload { runner } => gpu.unloaded(&runner, secs(1), secs(now)),
            }
        }
        for id in running.drain(..) {
            gpu.finished(id, None, secs(now));
            done += 1;
            avoided.push(gpu.load(secs(now)).avoided);
        }
    }
    avoided
}

fn submit(gpu: &mut Dispatcher, models: &[(u64, &str)]) {
    for (id, model) in models {
        gpu.submit(ask(*id, &format!("c{id}"), model), secs(0));
    }
}

#[test]
fn swaps_that_the_order_of_arrival_would_have_made_are_counted_once_they_are_served() {
    let mut gpu = with_a();
    submit(
        &mut gpu,
        &[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a")],
    );
    // Served are 1 3 5 2 4. 3 counts with 2: b and a loaded for them are 2, less 1 that was made.
    // 5 counts with 4: 4 less 1.
    assert_eq!(serve(&mut gpu, 5, 14, 0), [0, 0, 0, 1, 3]);
    let loads = gpu.load(secs(99));
    assert_eq!(loads.swaps, 1, "a a a b b instead of a b a b a");
    assert_eq!((loads.swap_time, loads.avoided_time), (secs(15), secs(45)));
}

#[test]
fn requests_that_are_given_up_have_avoided_nothing() {
    let mut gpu = with_a();
    submit(
        &mut gpu,
        &[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a")],
    );
    assert_eq!(serve(&mut gpu, 1, 14, 0), [0]);
    for id in 2..=4 {
        gpu.withdraw(RequestId(id), secs(2));
    }
    assert_eq!(serve(&mut gpu, 1, 14, 2), [0], "a a");
}

#[test]
fn what_was_avoided_would_have_taken_as_long_as_swaps_do_on_average() {
    let mut gpu = with_a();
    submit(&mut gpu, &[(1, "a"), (2, "b"), (3, "a"), (4, "b")]);
    assert_eq!(serve(&mut gpu, 4, 14, 0).last(), Some(&2), "3 less 1");
    gpu.submit(ask(5, "c5", "c"), secs(50));
    serve(&mut gpu, 1, 2, 50);
    let loads = gpu.load(secs(99));
    assert_eq!(
        (loads.swaps, loads.avoided),
        (2, 2),
        "c is loaded either way"
    );
    // One swap of 14 + 1 s and one of 2 + 1 s.
    assert_eq!((loads.swap_time, loads.avoided_time), (secs(18), secs(18)));
}
