//! What holds in any order of requests, leaving clients and unloads.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Visit {
    model: &'static str,
    context: u64,
    keep_alive: i64,
    comes: u64,
    stays: u64,
    /// Seconds after which the client gives up waiting.
    patience: u64,
}

fn visit() -> impl Strategy<Value = Visit> {
    let model = prop::sample::select(vec!["a", "b", "c"]);
    let context = prop::sample::select(vec![2_048, 4_096]);
    let patience = prop::sample::select(vec![3, 30, 100_000]);
    (model, context, 0..40_i64, 0..120_u64, 0..20_u64, patience).prop_map(
        |(model, context, keep_alive, comes, stays, patience)| Visit {
            model,
            context,
            keep_alive,
            comes,
            stays,
            patience,
        },
    )
}

/// Every model with its context takes 3 or 5 GiB of 8: some pairs fit, others do not.
const SIZES: &str = "kv_per_token = \"1MiB\"";

async fn run(visits: Vec<Visit>) -> Result<usize, TestCaseError> {
    let models = MODELS.replace("kv_per_token = \"0B\"", SIZES);
    let world = Arc::new(custom(&format!("{SERVER}max_loaded = 2\n{models}")));
    let mut tasks = JoinSet::new();
    for visit in visits {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            sleep(Duration::from_secs(visit.comes)).await;
            let body = format!(
                r#"{{"model": "{}:1b", "keep_alive": {}, "options": {{"num_ctx": {}}}}}"#,
                visit.model, visit.keep_alive, visit.context
            );
            let patience = Duration::from_secs(visit.patience);
            let granted = timeout(patience, world.request(&body)).await;
            let Ok(Ok(_grant)) = granted else {
                return Ok(0);
            };
            let loaded = world.simulator.scheduler.loaded();
            let name = format!("{}:1b", visit.model);
            let mine = loaded.iter().find(|loaded| loaded.name == name);
            prop_assert!(
                mine.is_some_and(|mine| mine.context == visit.context),
                "{loaded:?}"
            );
            prop_assert!(loaded.len() <= 2, "{loaded:?}");
            let used: u64 = loaded.iter().map(|loaded| loaded.size_vram).sum();
            prop_assert!(used <= 8 << 30, "{loaded:?}");
            sleep(Duration::from_secs(visit.stays)).await;
            Ok(1)
        });
    }
    let mut served = 0;
    while let Some(ended) = tasks.join_next().await {
        served += ended.unwrap()?;
    }
    // Whatever was loaded goes in the end.
    sleep(Duration::from_secs(100)).await;
    prop_assert!(world.listed().is_empty());
    Ok(served)
}

proptest! {
    #[test]
    fn nobody_waits_for_ever_and_memory_is_never_given_twice(
        visits in prop::collection::vec(visit(), 1..25)
    ) {
        let patient = visits.iter().filter(|visit| visit.patience > 1_000).count();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ended = runtime.block_on(async { timeout(Duration::from_secs(50_000), run(visits)).await });
        let served = ended.map_err(|_elapsed| TestCaseError::fail("somebody waits for ever"))??;
        prop_assert!(served >= patient, "{served} of {patient}");
    }
}
