//! Keeps the machine awake while tasks are under way, where that is configured.
//!
//! A job of the keeper holds the system's own inhibitor for as long as it runs, so nothing is left
//! behind when squad or machine end. A machine that has none is told once and goes on without.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agents::Jobs;
use crate::config::{Environment, Places};
use crate::core::event::SquadEvent;
use crate::core::task::TaskState;
use crate::engine::{EngineHandle, Input, View};
use crate::keeper::{ClientError, JobExit, JobSignal, JobSpec, Limits, Origin, Output};

const JOB: &str = "inhibit-sleep";
const GRACE: Duration = Duration::from_secs(2);

/// Holds and releases it until the engine has stopped, or it turns out that it cannot be held.
pub(super) async fn inhibit_sleep(
    jobs: Jobs,
    engine: EngineHandle,
    places: Places,
    environment: Environment,
) {
    let mut view = engine.view();
    loop {
        if view.wait_for(|view| is_busy(view)).await.is_err() {
            return;
        }
        let held = tokio::select! {
            ended = jobs.run(spec(&places, &environment)) => Some(ended),
            idle = view.wait_for(|view| !is_busy(view)) => {
                if idle.is_err() {
                    return;
                }
                None
            }
        };
        release(&jobs).await;
        let Some(ended) = held else { continue };
        let why = match ended {
            Ok(exit) => words(&exit),
            Err(ClientError::Disconnected) => return,
            Err(error) => error.to_string(),
        };
        tracing::warn!(%why, "the machine may fall asleep");
        let event = SquadEvent::SleepNotInhibited { why };
        if engine.report(Input::Squad(event)).await.is_err() {
            tracing::debug!("the engine has stopped");
        }
        return;
    }
}

fn is_busy(view: &View) -> bool {
    view.tasks
        .iter()
        .any(|task| task.state.holds_slot() || task.state == TaskState::Verifying)
}

fn words(exit: &JobExit) -> String {
    let program = command().first().copied().unwrap_or_default();
    match exit.code {
        Some(127) => format!("{program} is not there"),
        Some(code) => format!("{program} ended with code {code}"),
        None => format!("{program} was killed"),
    }
}

/// What holds the inhibitor until it is told to end.
fn command() -> &'static [&'static str] {
    if std::env::consts::OS == "macos" {
        return &["caffeinate", "-i"];
    }
    &[
        "systemd-inhibit",
        "--what=idle:sleep",
        "--who=warpsquad",
        "--why=tasks are under way",
        "--mode=block",
        "sleep",
        "infinity",
    ]
}

fn spec(places: &Places, environment: &Environment) -> JobSpec {
    let env: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    JobSpec {
        id: JOB.into(),
        argv: command().iter().map(|word| (*word).to_owned()).collect(),
        env,
        cwd: places.data_dir.clone(),
        output: Output::File(places.logs().join("inhibit-sleep.log")),
        nice: 0,
        time_limit: None,
        meta: String::new(),
        origin: Origin::Program,
        limits: Limits::default(),
    }
}

async fn release(jobs: &Jobs) {
    let keeper = jobs.keeper();
    if keeper.stop(JOB, JobSignal::Term, GRACE).await.is_ok() && jobs.ended(JOB).await.is_ok() {
        drop(keeper.forget(JOB).await);
    }
}
