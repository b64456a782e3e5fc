//! Ollama's scheduling on paused time: every moment is exact.
//!
//! The situations are those of Ollama's own scheduler tests and of its tracker.

mod any_order;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::simulator::Scenario;
use crate::simulator::request::{Ask, object};
use crate::simulator::simulated::Simulator;

/// Three models that load in ten seconds; an unload takes one.
const MODELS: &str = r#"
[[model]]
name = "a:1b"
size = "1GiB"
parameters = "1B"
kv_per_token = "0B"
load_time = "10s"
[[model]]
name = "b:1b"
size = "1GiB"
parameters = "1B"
kv_per_token = "0B"
load_time = "10s"
[[model]]
name = "c:1b"
size = "1GiB"
parameters = "1B"
kv_per_token = "0B"
load_time = "10s"
"#;
const SERVER: &str = "[server]\nvram = \"8GiB\"\nevict_time = \"1s\"\n";

struct World {
    simulator: Arc<Simulator>,
    shutdown: CancellationToken,
    start: Instant,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A server with these settings, the three models, and what else there is.
fn world(settings: &str, rest: &str) -> World {
    let text = format!("{SERVER}{settings}\n{MODELS}{rest}");
    custom(&text)
}

fn custom(text: &str) -> World {
    let scenario = Scenario::parse(text, "test.toml").unwrap();
    let shutdown = CancellationToken::new();
    let simulator = Simulator::start(&scenario, &TaskTracker::new(), &shutdown);
    World {
        simulator: Arc::new(simulator),
        shutdown,
        start: Instant::now(),
    }
}

impl World {
    /// A request as JSON: the model, and perhaps options and a keep-alive.
    async fn request(&self, body: &str) -> Result<Grant, Refusal> {
        let ask = Ask::chat(&object(body.as_bytes()).unwrap()).unwrap();
        let installed = self.simulator.installed(&ask.model).unwrap();
        let wanted = Wanted {
            blob: installed.blob,
            name: installed.name,
            digest: installed.digest,
            options: ask
                .runner_options(&installed.spec, &self.simulator.server)
                .unwrap(),
            model: installed.spec,
            keep_alive: ask.keep_alive,
            load_faults: self.simulator.faults.loads("/api/chat", &ask),
        };
        self.simulator.scheduler.acquire(wanted).await
    }

    async fn get(&self, model: &str) -> Grant {
        let granted = self.request(&format!(r#"{{"model": "{model}:1b"}}"#)).await;
        granted.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// A request that is not granted within a second.
    async fn waits(&self, model: &str) -> bool {
        timeout(Duration::from_secs(1), self.get(model))
            .await
            .is_err()
    }

    /// Loads a model and leaves it idle.
    async fn load(&self, model: &str) {
        drop(self.get(model).await);
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn listed(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .simulator
            .scheduler
            .loaded()
            .into_iter()
            .map(|m| m.name)
            .collect();
        names.sort();
        names
    }
}

/// Timers wake at whole milliseconds.
#[track_caller]
fn about(seconds: f64, expected: f64) {
    assert!(
        (seconds - expected).abs() < 0.02,
        "{seconds} s instead of {expected} s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cold_request_waits_for_the_load_and_a_warm_one_for_nothing() {
    let world = world("", "");
    let first = world.get("a").await;
    about(world.seconds(), 10.0);
    drop(first);
    world.load("a").await;
    about(world.seconds(), 10.0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_is_evicted_for_a_pending_request() {
    let world = world("max_loaded = 1", "");
    world.load("a").await;
    world.load("b").await;
    about(world.seconds(), 10.0 + 1.0 + 10.0);
    assert_eq!(world.listed(), ["b:1b"]);
}

#[tokio::test(start_paused = true)]
async fn another_context_reloads_and_waits_while_the_model_is_busy() {
    let world = world("", "");
    let busy = world.get("a").await;
    let mut other = Box::pin(world.request(r#"{"model": "a:1b", "options": {"num_ctx": 2048}}"#));
    assert!(timeout(Duration::from_secs(30), &mut other).await.is_err());
    drop(busy);
    other.await.unwrap();
    about(world.seconds(), 40.0 + 1.0 + 10.0);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_context_is_not_served_by_a_larger_one_and_both_are_capped_by_the_model() {
    let world = world("", "");
    let ask = |n: u64| format!(r#"{{"model": "a:1b", "options": {{"num_ctx": {n}}}}}"#);
    world.request(&ask(40_000)).await.unwrap();
    let loaded = world.seconds();
    // Trained for 32768: both mean that.
    world.request(&ask(90_000)).await.unwrap();
    about(world.seconds(), loaded);
    world.request(&ask(1_000)).await.unwrap();
    about(world.seconds(), loaded + 11.0);
}

#[tokio::test(start_paused = true)]
async fn options_of_the_answer_do_not_reload_and_those_of_the_runner_do() {
    let cases = [
        (r#"{"temperature": 0.1, "num_predict": 9}"#, false),
        (r#"{"num_gpu": -1, "num_ctx": 4096}"#, false),
        (r#"{"num_batch": 512}"#, false),
        (r#"{"num_batch": 1024}"#, true),
        (r#"{"num_thread": 3}"#, true),
        (r#"{"num_gpu": 3}"#, true),
        (r#"{"use_mmap": false}"#, true),
        (r#"{"draft_num_predict": 9}"#, true),
    ];
    for (options, reloads) in cases {
        let world = world("", "");
        world.load("a").await;
        let body = format!(r#"{{"model": "a:1b", "options": {options}}}"#);
        world.request(&body).await.unwrap();
        about(world.seconds(), if reloads { 21.0 } else { 10.0 });
    }
    let world = world("", "");
    world.load("a").await;
    world
        .request(r#"{"model": "a:1b", "shift": false}"#)
        .await
        .unwrap();
    about(world.seconds(), 21.0);
}

#[tokio::test(start_paused = true)]
async fn a_named_context_and_a_chosen_one_differ_when_their_numbers_do() {
    let world = world("context_length = 0", "");
    world.load("a").await;
    let named = r#"{"model": "a:1b", "options": {"num_ctx": 4096}}"#;
    world.request(named).await.unwrap();
    about(world.seconds(), 10.0);
    world
        .request(r#"{"model": "a:1b", "options": {"num_ctx": 8192}}"#)
        .await
        .unwrap();
    about(world.seconds(), 21.0);
    world.load("a").await;
    about(world.seconds(), 32.0);
}

#[tokio::test(start_paused = true)]
async fn two_names_of_the_same_weights_share_a_runner_or_fight_for_it() {
    let alias =
        "[[model]]\nname = \"z:1b\"\nblob = \"a:1b\"\nsize = \"1GiB\"\nparameters = \"1B\"\n";
    let same = world("", alias);
    same.load("a").await;
    same.load("z").await;
    about(same.seconds(), 10.0);
    assert_eq!(same.listed(), ["a:1b"]);
    let other = world("", &format!("{alias}num_ctx = 2048\nload_time = \"10s\"\n"));
    other.load("a").await;
    other.load("z").await;
    about(other.seconds(), 21.0);
    assert_eq!(other.listed(), ["z:1b"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_load_waits_and_a_loaded_model_passes_by() {
    let world = world("", "");
    world.load("a").await;
    let mut second = Box::pin(world.get("b"));
    assert!(timeout(Duration::from_secs(1), &mut second).await.is_err());
    let mut third = Box::pin(world.get("c"));
    assert!(timeout(Duration::from_secs(1), &mut third).await.is_err());
    world.load("a").await;
    about(world.seconds(), 12.0);
    let (_second, third) = tokio::join!(second, async { (third.await, world.seconds()) });
    about(third.1, 30.0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_but_not_requests_for_a_loaded_model() {
    let world = world("max_loaded = 1\nmax_queue = 2", "");
    let busy = world.get("a").await;
    let mut waiting = Vec::new();
    for model in ["b", "c", "b"] {
        let mut request = Box::pin(world.get(model));
        assert!(
            timeout(Duration::from_millis(10), &mut request)
                .await
                .is_err()
        );
        waiting.push(request);
    }
    let refusal = world.request(r#"{"model": "c:1b"}"#).await.err().unwrap();
    assert_eq!(refusal, Refusal::busy());
    about(world.seconds(), 10.03);
    world.load("a").await;
    drop((busy, waiting));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_while_queued_is_skipped() {
    let world = world("max_loaded = 1", "");
    let busy = world.get("a").await;
    let mut second = Box::pin(world.get("b"));
    assert!(timeout(Duration::from_secs(1), &mut second).await.is_err());
    assert!(world.waits("c").await, "the third is behind the second");
    drop(busy);
    drop(second.await);
    about(world.seconds(), 12.0 + 1.0 + 10.0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.listed(), ["b:1b"]);
}

#[tokio::test(start_paused = true)]
async fn a_load_ends_with_its_client() {
    let world = world("", "");
    let load = timeout(Duration::from_secs(4), world.get("a"));
    assert!(load.await.is_err());
    assert!(world.listed().is_empty());
    drop(world.get("a").await);
    about(world.seconds(), 14.0);
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_drains_still_takes_requests_and_the_other_model_starves() {
    let world = world("max_loaded = 1", "");
    let mut held = world.get("a").await;
    let mut other = Box::pin(world.get("b"));
    for _ in 0..100 {
        assert!(timeout(Duration::from_secs(1), &mut other).await.is_err());
        // The next one comes before the last one ends: the victim is never idle.
        held = world.get("a").await;
    }
    about(world.seconds(), 110.0);
    drop(held);
    drop(other.await);
    about(world.seconds(), 121.0);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_on_a_draining_victim_keeps_it_until_it_is_over() {
    let world = world("max_loaded = 1", "");
    let busy = world.get("a").await;
    let mut other = Box::pin(world.get("b"));
    assert!(timeout(Duration::from_secs(1), &mut other).await.is_err());
    let late = world
        .request(r#"{"model": "a:1b", "keep_alive": "60s"}"#)
        .await
        .unwrap();
    drop((busy, late));
    assert!(timeout(Duration::from_secs(59), &mut other).await.is_err());
    drop(other.await);
    about(world.seconds(), 11.0 + 60.0 + 1.0 + 10.0);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_meets_a_busy_model_is_tried_again_until_it_is_idle() {
    let world = world(
        "",
        "[[fault]]\nkind = \"slow-unload\"\nmodel = \"b:1b\"\nduration = \"20s\"\n",
    );
    world.load("b").await;
    drop(
        world
            .request(r#"{"model": "a:1b", "keep_alive": "5s"}"#)
            .await
            .unwrap(),
    );
    about(world.seconds(), 20.0);
    // For 20 seconds nothing else is looked at; meanwhile the first model's time is over.
    world.simulator.scheduler.unload("b:1b");
    sleep(Duration::from_secs(10)).await;
    let late = world
        .request(r#"{"model": "a:1b", "keep_alive": -1}"#)
        .await
        .unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.listed(), ["a:1b"]);
    drop(late);
    sleep(Duration::from_millis(20)).await;
    assert!(
        world.listed().is_empty(),
        "it goes although it should stay for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn the_victim_has_the_shortest_keep_alive_then_the_first_name_and_is_idle() {
    let full = "max_loaded = 2";
    let shortest = world(full, "");
    drop(
        shortest
            .request(r#"{"model": "a:1b", "keep_alive": "9m"}"#)
            .await
            .unwrap(),
    );
    drop(
        shortest
            .request(r#"{"model": "b:1b", "keep_alive": "8m"}"#)
            .await
            .unwrap(),
    );
    shortest.load("c").await;
    assert_eq!(shortest.listed(), ["a:1b", "c:1b"]);
    let name = world(full, "");
    name.load("b").await;
    name.load("a").await;
    name.load("c").await;
    assert_eq!(name.listed(), ["b:1b", "c:1b"]);
    let idle = world(full, "");
    let busy = idle.get("a").await;
    idle.load("b").await;
    idle.load("c").await;
    assert_eq!(idle.listed(), ["a:1b", "c:1b"]);
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn a_model_goes_when_its_keep_alive_is_over_and_not_while_it_is_used() {
    let world = world("keep_alive = \"1m\"", "");
    let held = world.get("a").await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.listed(), ["a:1b"]);
    drop(held);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(world.listed(), ["a:1b"]);
    sleep(Duration::from_secs(2)).await;
    assert!(world.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn slots_are_given_in_the_order_of_asking() {
    let world = Arc::new(world("num_parallel = 2", ""));
    world.load("a").await;
    let mut tasks = JoinSet::new();
    for number in 0..5_u32 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            sleep(Duration::from_millis(u64::from(number))).await;
            let grant = world.get("a").await;
            let slot = grant.slot("x").await.unwrap();
            let began = world.seconds();
            sleep(Duration::from_secs(2)).await;
            drop(slot);
            (number, began)
        });
    }
    let mut begins = tasks.join_all().await;
    begins.sort_by_key(|(number, _)| *number);
    for (number, began) in begins {
        about(began, 10.0 + f64::from(number / 2 * 2));
    }
}

#[tokio::test(start_paused = true)]
async fn some_families_have_one_slot_whatever_is_set() {
    let one = "[[model]]\nname = \"z:1b\"\nfamily = \"qwen3next\"\nsize = 1\nparameters = \"1B\"\n";
    let world = world("num_parallel = 4", one);
    let grant = world.get("z").await;
    let _slot = grant.slot("x").await.unwrap();
    assert!(
        timeout(Duration::from_secs(9), grant.slot("y"))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_loading_model_is_not_listed() {
    let world = world("", "");
    let mut load = Box::pin(world.get("a"));
    assert!(timeout(Duration::from_secs(9), &mut load).await.is_err());
    assert!(world.listed().is_empty());
    let _grant = load.await;
    assert_eq!(world.listed(), ["a:1b"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_with_a_lag_tells_what_was_true_before() {
    let world = world("", "[[fault]]\nkind = \"ps-lag\"\nduration = \"5s\"\n");
    world.load("a").await;
    assert!(world.listed().is_empty());
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.listed(), ["a:1b"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_prompt_ends_before_its_slot_is_free() {
    let world = world("", "");
    let grant = world.get("a").await;
    let slot = grant.slot("x").await.unwrap();
    grant.linger(slot, Instant::now() + Duration::from_secs(3));
    let grant = world.get("a").await;
    drop(grant.slot("y").await);
    about(world.seconds(), 13.0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_anew_has_nothing_loaded() {
    let world = world("", "");
    let held = world.get("a").await;
    world.simulator.scheduler.reset();
    assert!(world.listed().is_empty());
    // The old request's end does not count for the new runner.
    let next = world.get("a").await;
    drop(held);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.listed(), ["a:1b"]);
    drop(next);
}
