//! The machine's load, sampled while agents work and their number is not fixed.

use std::time::Duration;

use crate::engine::{EngineHandle, Input, View};
use crate::telemetry::HostSampler;

/// Between two samples.
const PAUSE: Duration = Duration::from_secs(5);

/// Reports the load while any task is under way; nothing wakes up otherwise.
pub(super) async fn watch(engine: EngineHandle) {
    let mut view = engine.view();
    let mut sampler = HostSampler::default();
    loop {
        if view.wait_for(|view| is_busy(view)).await.is_err() {
            return;
        }
        let host = sampler.sample();
        let cores = host.processors.max(1) as f64;
        let input = Input::Machine {
            #[expect(clippy::cast_possible_truncation, reason = "a load is a small number")]
            load_per_core: (host.load / cores) as f32,
            free_kib: host.memory_available >> 10,
        };
        if engine.report(input).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_busy(view: &View) -> bool {
    view.tasks.iter().any(|task| task.state.holds_slot())
}
