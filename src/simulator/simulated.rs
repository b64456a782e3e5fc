//! One simulated server: its models, its faults, what it has loaded.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::coder::Script;
use super::fault::Faults;
use super::generation::Pace;
use super::outage::Outage;
use super::scenario::{FaultKind, ModelSpec, Scenario, ServerSpec};
use super::scheduler::Scheduler;
use super::text::Numbers;
use crate::core::model::ModelName;

/// One simulated server.
pub(super) struct Simulator {
    pub(super) server: ServerSpec,
    pub(super) clock: Clock,
    pub(super) scheduler: Scheduler,
    pub(super) faults: Arc<Faults>,
    pub(super) outage: Outage,
    pub(super) scripts: Vec<Script>,
    answers: Mutex<Numbers>,
    models: Mutex<Vec<Installed>>,
}

/// A name that points to a model.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) modified_at: String,
    /// Name of the weights.
    pub(super) blob: String,
    pub(super) spec: Arc<ModelSpec>,
}

/// Closes the connection that a request came by.
#[derive(Clone)]
pub(super) struct Aborts(CancellationToken);

impl Aborts {
    pub(super) fn new() -> Self {
        Self(CancellationToken::new())
    }

    pub(super) fn abort(&self) {
        self.0.cancel();
    }

    pub(super) async fn aborted(&self) {
        self.0.cancelled().await;
    }
}

impl Simulator {
    /// A server with its workers, which run until `shutdown`.
    pub(super) fn start(
        scenario: &Scenario,
        workers: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let server = &scenario.server;
        let clock = Clock::new(server.started_at, server.time_scale);
        let faults = Arc::new(Faults::new(&scenario.faults, server.seed, clock));
        let scheduler = Scheduler::start(server, Arc::clone(&faults), clock, (workers, shutdown));
        let models = scenario.models.iter().map(|spec| Installed {
            name: spec.name.clone(),
            digest: spec.digest.clone().unwrap_or_else(|| digest(&spec.name)),
            modified_at: spec.modified_at.clone(),
            blob: spec.weights().to_owned(),
            spec: Arc::new(spec.clone()),
        });
        Self {
            server: server.clone(),
            clock,
            scheduler,
            faults,
            outage: Outage::new(),
            scripts: scenario.scripts(),
            // A stream of its own: faults and unloads draw from others.
            answers: Mutex::new(Numbers::new(server.seed.rotate_left(16))),
            models: Mutex::new(models.collect()),
        }
    }

    pub(super) fn installed(&self, name: &str) -> Option<Installed> {
        let wanted = ModelName::new(name);
        let models = self.catalogue();
        let mut models = models.into_iter();
        models.find(|m| ModelName::new(&m.name).is_same(&wanted))
    }

    /// How the next answer's tokens vary.
    pub(super) fn pace(&self) -> Pace {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        Pace {
            clock: self.clock,
            jitter: self.server.jitter,
            numbers: Numbers::new(answers.next()),
        }
    }

    /// What is installed, after the scenario's changes.
    fn catalogue(&self) -> Vec<Installed> {
        let models = self.models().clone();
        let changed = models.into_iter().filter_map(|mut model| {
            let Some(fault) = self.faults.catalogue(&model.name) else {
                return Some(model);
            };
            if fault.kind == FaultKind::Removed {
                return None;
            }
            let old = &model.digest;
            model.digest = fault.digest.unwrap_or_else(|| digest(old));
            model.blob = format!("{}@{}", model.blob, model.digest);
            Some(model)
        });
        changed.collect()
    }

    pub(super) fn models(&self) -> MutexGuard<'_, Vec<Installed>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest first, as Ollama lists them.
    pub(super) fn listed(&self) -> Vec<Installed> {
        let mut models = self.catalogue();
        models.sort_by(|a, b| b.modified_at.cmp(&a.modified_at));
        models
    }
}

fn digest(name: &str) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(name.as_bytes()) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
