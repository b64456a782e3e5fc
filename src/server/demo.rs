//! The demo's squad: its server runs the Ollama simulator as a job of the keeper.
//!
//! So the simulator goes on when the server is replaced, and ends with the squad.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::agents::Jobs;
use crate::config::Places;
use crate::core::demo::{DEMO_FILE, DemoSquad};
use crate::keeper::{ClientError, JobSpec, Limits, Origin, Output};

const JOB: &str = "simulator";
/// Before a simulator that ended is started again.
const PAUSE: Duration = Duration::from_millis(500);

/// The demo that a data directory belongs to, if it does.
///
/// # Errors
/// The file that says so cannot be read or understood.
pub fn demo_of(data_dir: &Path) -> std::io::Result<Option<DemoSquad>> {
    match std::fs::read(data_dir.join(DEMO_FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps the simulator running as long as the keeper can be reached.
pub(super) async fn keep_simulator(
    jobs: Jobs,
    demo: DemoSquad,
    places: Places,
    environment: BTreeMap<String, String>,
) {
    loop {
        match run_simulator(&jobs, &demo, &places, &environment).await {
            Ok(()) => tracing::warn!("the simulator ended"),
            Err(error) => {
                tracing::error!(%error, "the simulator cannot be run");
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn run_simulator(
    jobs: &Jobs,
    demo: &DemoSquad,
    places: &Places,
    environment: &BTreeMap<String, String>,
) -> Result<(), ClientError> {
    let program = std::env::current_exe().unwrap_or_else(|_| "warpsquad".into());
    let argv = [
        program.display().to_string(),
        "ollama-sim".into(),
        "--listen".into(),
        demo.simulator.clone(),
        "--scenario".into(),
        demo.scenario.display().to_string(),
    ];
    let spec = JobSpec {
        id: JOB.into(),
        argv: argv.into(),
        env: environment.clone(),
        cwd: places.data_dir.clone(),
        output: Output::File(places.logs().join("simulator.log")),
        nice: 0,
        time_limit: None,
        meta: String::new(),
        origin: Origin::Program,
        limits: Limits::default(),
    };
    jobs.run(spec).await?;
    jobs.keeper().forget(JOB).await
}
