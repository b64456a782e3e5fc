//! A runner that is in memory in part only, told step by step.

use super::steps::{admitted, ask, load, runner, secs, single, unload, with_a};
use crate::core::dispatch::*;

#[test]
fn a_reload_is_drained_unloaded_and_loaded_for_those_who_wait() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    assert_eq!(admitted(&gpu.orders(secs(0))), [1]);
    assert!(gpu.reload(&runner("a"), secs(1)));
    gpu.submit(ask(2, "y", "a"), secs(2));
    assert_eq!(gpu.orders(secs(2)), [], "it waits for the first to end");
    gpu.finished(RequestId(1), None, secs(3));
    assert_eq!(gpu.orders(secs(3)), [unload("a")]);
    gpu.unloaded(&runner("a"), secs(1), secs(4));
    assert_eq!(gpu.orders(secs(4)), [load("a")]);
    gpu.loaded(&runner("a"), 10, secs(5), secs(9));
    assert_eq!(admitted(&gpu.orders(secs(9))), [2]);
    assert_eq!(gpu.load(secs(9)).swaps, 0, "no other model was left for it");
}

#[test]
fn a_reload_that_nobody_waits_for_unloads_and_the_next_request_loads() {
    let mut gpu = with_a();
    assert!(gpu.reload(&runner("a"), secs(1)));
    assert_eq!(gpu.orders(secs(1)), [unload("a")]);
    gpu.unloaded(&runner("a"), secs(1), secs(2));
    assert_eq!(gpu.orders(secs(2)), []);
    gpu.submit(ask(1, "x", "a"), secs(60));
    assert_eq!(gpu.orders(secs(60)), [load("a")]);
}

#[test]
fn a_reload_is_not_repeated_soon_and_never_begun_during_a_swap() {
    let mut gpu = with_a();
    assert!(gpu.reload(&runner("a"), secs(1)));
    gpu.orders(secs(1));
    gpu.unloaded(&runner("a"), secs(1), secs(2));
    gpu.orders(secs(2));
    gpu.loaded(&runner("a"), 10, secs(5), secs(9));
    assert!(!gpu.reload(&runner("a"), secs(10)));
    assert!(!gpu.reload(&runner("a"), secs(600)));
    gpu.submit(ask(1, "x", "b"), secs(601));
    assert_eq!(gpu.orders(secs(601)), [unload("a")]);
    assert!(!gpu.reload(&runner("a"), secs(602)), "it is being unloaded");

    let mut gpu = single();
    assert!(!gpu.reload(&runner("a"), secs(0)), "it is not in memory");
}

#[test]
fn a_runner_that_dies_while_it_is_to_be_loaded_again_is_loaded_for_those_who_wait() {
    let mut gpu = with_a();
    gpu.submit(ask(1, "x", "a"), secs(0));
    gpu.orders(secs(0));
    assert!(gpu.reload(&runner("a"), secs(1)));
    gpu.submit(ask(2, "y", "a"), secs(2));
    gpu.runner_died(&runner("a"), secs(3));
    gpu.finished(RequestId(1), None, secs(3));
    assert_eq!(gpu.orders(secs(3)), [load("a")]);
}
