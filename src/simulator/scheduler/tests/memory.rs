//! Memory: what fits, what spills, what runs out, how long it takes to come free.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_model_fits_beside_others_in_four_fifths_of_what_is_free() {
    // 5 GiB of 6 are free: 1 GiB fits, 4.5 GiB do not.
    let big = "[[model]]\nname = \"z:1b\"\nsize = \"4.5GiB\"\nparameters = \"8B\"\nkv_per_token = 0\nload_time = \"10s\"\n";
    let world = custom(&format!(
        "[server]\nvram = \"6GiB\"\nevict_time = \"1s\"\n{MODELS}{big}"
    ));
    world.load("a").await;
    world.load("b").await;
    about(world.seconds(), 20.0);
    world.load("z").await;
    about(world.seconds(), 20.0 + 1.0 + 1.0 + 10.0);
    assert_eq!(world.listed(), ["z:1b"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_fit_alone_lies_partly_in_the_machines_memory_and_is_slow() {
    let big =
        "[[model]]\nname = \"z:1b\"\nsize = \"8GiB\"\nparameters = \"8B\"\nkv_per_token = 0\n";
    let world = custom(&format!("[server]\nvram = \"6GiB\"\n{big}"));
    let grant = world.get("z").await;
    let loaded = world.simulator.scheduler.loaded();
    assert_eq!((loaded[0].size >> 30, loaded[0].size_vram >> 30), (8, 6));
    let slot = grant.slot("x").await.unwrap();
    // Three quarters at full speed, a quarter ten times slower.
    about(slot.engine.decode_factor(), 0.75 + 2.5);
}

#[tokio::test(start_paused = true)]
async fn a_load_out_of_memory_is_tried_with_less_context_where_ollama_chose_it() {
    let oom = "[[fault]]\nkind = \"load-oom\"\nnth = 1\n";
    let server = "[server]\nvram = \"24GiB\"\nevict_time = \"1s\"\n";
    let world = custom(&format!("{server}context_length = 0\n{MODELS}{oom}"));
    world.load("a").await;
    about(world.seconds(), 20.0);
    assert_eq!(world.simulator.scheduler.loaded()[0].context, 4_096);
}

#[tokio::test(start_paused = true)]
async fn a_load_out_of_memory_evicts_all_others_and_then_fails() {
    let oom = "[[fault]]\nkind = \"load-oom\"\nmodel = \"c:1b\"\n";
    let once = world("", &format!("{oom}times = 1\n"));
    once.load("a").await;
    once.load("b").await;
    once.load("c").await;
    about(once.seconds(), 20.0 + 10.0 + 2.0 + 10.0);
    assert_eq!(once.listed(), ["c:1b"]);
    let always = world("", oom);
    always.load("a").await;
    let refusal = always.request(r#"{"model": "c:1b"}"#).await.err().unwrap();
    assert_eq!(
        (refusal.status, refusal.message.as_str()),
        (500, OUT_OF_MEMORY)
    );
    assert!(always.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_memory_than_predicted_runs_out_of_it() {
    let big = "[[model]]\nname = \"z:1b\"\nsize = \"7GiB\"\nparameters = \"8B\"\nkv_per_token = 0\noverhead = \"2GiB\"\n";
    let world = world("", big);
    let refusal = world.request(r#"{"model": "z:1b"}"#).await.err().unwrap();
    assert_eq!(refusal.message, OUT_OF_MEMORY);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_never_gets_on_is_given_up_after_the_time_out() {
    let world = world(
        "load_timeout = \"2m\"",
        "[[fault]]\nkind = \"stuck-load\"\ntimes = 1\n",
    );
    let refusal = world.request(r#"{"model": "a:1b"}"#).await.err().unwrap();
    assert_eq!(
        (refusal.status, refusal.message.as_str()),
        (500, LOAD_TIMED_OUT)
    );
    about(world.seconds(), 120.0);
    world.load("a").await;
    about(world.seconds(), 130.0);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_goes_stays_listed_with_its_time_over_and_blocks_the_others() {
    let stuck = "[[fault]]\nkind = \"stuck-unload\"\nmodel = \"a:1b\"\nduration = \"10m\"\n";
    let world = world("max_loaded = 1", stuck);
    world.load("a").await;
    let mut other = Box::pin(world.get("b"));
    assert!(timeout(Duration::from_secs(300), &mut other).await.is_err());
    let loaded = world.simulator.scheduler.loaded();
    assert_eq!(loaded[0].name, "a:1b");
    assert!(loaded[0].expires_at < world.simulator.clock.shown());
    drop(other.await);
    about(world.seconds(), 10.0 + 600.0 + 10.0);
}

#[tokio::test(start_paused = true)]
async fn a_load_on_the_processor_takes_no_gpu_memory_and_is_ten_times_slower() {
    let world = world("", "[[fault]]\nkind = \"cpu-only\"\n");
    let grant = world.get("a").await;
    assert_eq!(world.simulator.scheduler.loaded()[0].size_vram, 0);
    about(grant.slot("x").await.unwrap().engine.decode_factor(), 10.0);
}

#[tokio::test(start_paused = true)]
async fn a_runner_out_of_memory_takes_every_idle_model_with_it() {
    let world = world("", "");
    world.load("a").await;
    let grant = world.get("b").await;
    grant.expire_all();
    assert_eq!(world.listed(), ["b:1b"]);
    drop(grant);
    sleep(Duration::from_secs(2)).await;
    assert!(world.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_read_before_comes_from_memory() {
    let server = "[server]\nmax_loaded = 1\ndisk = \"100MB\"\npage_cache_rate = \"1GB\"\npage_cache = \"3GB\"\nspawn = \"1s\"\n";
    let model = |name: &str| {
        format!("[[model]]\nname = \"{name}:1b\"\nsize = \"1GB\"\nparameters = \"1B\"\n")
    };
    let models: String = ["a", "b", "c", "d"].map(model).concat();
    let world = custom(&format!("{server}{models}"));
    let mut last = 0.0;
    // Room for three files: the fourth drives the oldest out.
    for (model, expected) in [
        ("a", 11.0),
        ("b", 11.0),
        ("a", 2.0),
        ("c", 11.0),
        ("d", 11.0),
        ("b", 11.0),
    ] {
        world.load(model).await;
        about(world.seconds() - last, expected);
        last = world.seconds();
    }
}

#[tokio::test(start_paused = true)]
async fn an_unload_takes_between_half_and_one_and_a_half_seconds_the_same_for_the_same_seed() {
    let swap = async |seed: u64| {
        let text = format!("[server]\nvram = \"8GiB\"\nmax_loaded = 1\nseed = {seed}\n{MODELS}");
        let world = custom(&text);
        world.load("a").await;
        world.load("b").await;
        world.seconds() - 20.0
    };
    let (one, again, two) = (swap(1).await, swap(1).await, swap(2).await);
    about(one, again);
    assert!((one - two).abs() > 0.001);
    for time in [one, two] {
        assert!((0.55..=1.56).contains(&time), "{time}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_runner_stays_listed_and_its_reload_waits_five_seconds_for_memory() {
    let world = custom(&format!("[server]\nvram = \"8GiB\"\n{MODELS}"));
    let grant = world.get("a").await;
    grant.kill_runner();
    drop(grant);
    assert_eq!(world.listed(), ["a:1b"]);
    world.load("a").await;
    about(world.seconds(), 10.0 + 5.0 + 10.0);
}
