//! Where Aider is, and its installation where that is wanted.
//!
//! The installation is a job of the keeper, so it goes on when the server is replaced, and a new
//! server finds it by its id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::agents::Workshop;
use crate::agents::setup::Setup;
use crate::config::Environment;
use crate::core::task::TaskState;
use crate::engine::{EngineHandle, Input, Installation, View};
use crate::keeper::{JobExit, JobSpec, Limits, Origin, Output};

/// Between two looks while somebody waits for an installation.
const LOOK: Duration = Duration::from_secs(1);
/// Between two checks of an interpreter that failed.
const CHECK_AGAIN: Duration = Duration::from_secs(10);
const JOB: &str = "aider-setup";

/// Whether a missing Aider is installed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallPolicy {
    /// Only by `warpsquad setup`.
    OnRequest,
    /// At once.
    Automatic,
}

pub(super) struct Installer {
    /// The data directory that Aider is installed in.
    pub(super) home: PathBuf,
    pub(super) workshop: Arc<Workshop>,
    pub(super) engine: EngineHandle,
    pub(super) environment: Environment,
    pub(super) policy: InstallPolicy,
    pub(super) python: watch::Sender<Option<PathBuf>>,
    pub(super) clients: watch::Receiver<usize>,
}

impl Installer {
    /// Finds or installs Aider; returns when it can be used.
    pub(super) async fn run(mut self) {
        if let Some(python) = self.workshop.settings.agents.python.clone() {
            return self.configured(PathBuf::from(python)).await;
        }
        if self.found().await {
            return;
        }
        if self.policy == InstallPolicy::Automatic && self.install().await {
            return;
        }
        self.wait().await;
    }

    async fn say(&self, installation: Installation) {
        if self
            .engine
            .report(Input::Installation(installation))
            .await
            .is_err()
        {
            tracing::debug!("the engine has stopped");
        }
    }

    fn setup(&self) -> Setup {
        Setup::new(&self.home, self.variables())
    }

    fn variables(&self) -> BTreeMap<String, String> {
        self.environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// An interpreter that the configuration names. Checking it imports Aider, so that is done once
    /// and remembered: a server that is replaced goes on at once.
    async fn configured(&mut self, python: PathBuf) {
        let remembered = self.workshop.data.join("python-checked.json");
        let known = Known::read(&remembered).await;
        if let Some(known) = known.filter(|known| known.python == python) {
            return self.ready(python, known.aider).await;
        }
        loop {
            let (setup, path) = (self.setup(), python.clone());
            let checked = tokio::task::spawn_blocking(move || setup.check_python(&path)).await;
            match checked {
                Ok(Ok(checked)) => {
                    let known = Known {
                        python: python.clone(),
                        aider: checked.aider.clone(),
                    };
                    known.write(&remembered).await;
                    return self.ready(python, checked.aider).await;
                }
                Ok(Err(error)) => {
                    let why = format!("agents.python: {error}; {}", error.hint());
                    self.say(Installation::Failed { why }).await;
                }
                Err(error) => tracing::error!(%error, "the check of agents.python ended"),
            }
            if !self.somebody_waits().await {
                return;
            }
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    }

    async fn ready(&self, python: PathBuf, version: String) {
        self.python.send_replace(Some(python));
        self.say(Installation::Ready { version }).await;
    }

    async fn found(&self) -> bool {
        let Some(python) = self.setup().ready() else {
            return false;
        };
        self.ready(python, crate::agents::aider::flavour::VERSION.to_owned())
            .await;
        true
    }

    async fn install(&self) -> bool {
        self.say(Installation::Installing {
            message: "starting".into(),
        })
        .await;
        let log = self.workshop.data.join("log").join("aider-setup.log");
        match self.run_job(&log).await {
            Ok(exit) if exit.is_success() && self.found().await => true,
            Ok(_) => {
                let why = last_line(&log)
                    .await
                    .unwrap_or_else(|| "no word was said".into());
                self.say(Installation::Failed { why }).await;
                false
            }
            Err(why) => {
                self.say(Installation::Failed { why }).await;
                false
            }
        }
    }

    async fn run_job(&self, log: &Path) -> Result<JobExit, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let data = self.home.display().to_string();
        let argv = [
            program.display().to_string(),
            "--data-dir".into(),
            data,
            "setup".into(),
        ];
        let spec = JobSpec {
            id: JOB.into(),
            argv: argv.into(),
            env: self.variables(),
            cwd: self.workshop.data.clone(),
            output: Output::File(log.to_owned()),
            nice: 0,
            time_limit: None,
            meta: String::new(),
            origin: Origin::Program,
            limits: Limits::default(),
        };
        let job = self.workshop.jobs.run(spec);
        tokio::pin!(job);
        let exit = loop {
            tokio::select! {
                exit = &mut job => break exit.map_err(|error| error.to_string())?,
                () = tokio::time::sleep(LOOK) => {
                    if let Some(message) = last_line(log).await {
                        self.say(Installation::Installing { message }).await;
                    }
                }
            }
        };
        drop(self.workshop.jobs.keeper().forget(JOB).await);
        Ok(exit)
    }

    /// Looks again while tasks or clients wait for `warpsquad setup`.
    async fn wait(&mut self) {
        if self.policy == InstallPolicy::OnRequest {
            let why = "it is not installed: run 'warpsquad setup'".to_owned();
            self.say(Installation::Failed { why }).await;
        }
        while self.somebody_waits().await {
            tokio::time::sleep(LOOK).await;
            if self.found().await {
                return;
            }
        }
    }

    /// Returns when tasks or clients wait for Aider; false when the engine has stopped.
    async fn somebody_waits(&mut self) -> bool {
        let mut view = self.engine.view();
        loop {
            let clients = *self.clients.borrow_and_update();
            if clients > 0 || is_waited_for(&view.borrow_and_update()) {
                return true;
            }
            let open = tokio::select! {
                changed = view.changed() => changed.is_ok(),
                changed = self.clients.changed() => changed.is_ok(),
            };
            if !open {
                return false;
            }
        }
    }
}

/// An interpreter that was checked.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    python: PathBuf,
    aider: String,
}

impl Known {
    async fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&tokio::fs::read(file).await.ok()?).ok()
    }

    async fn write(&self, file: &Path) {
        let Ok(text) = serde_json::to_vec(self) else {
            return;
        };
        if let Err(error) = tokio::fs::write(file, text).await {
            tracing::warn!(%error, "the check of agents.python is not remembered");
        }
    }
}

fn is_waited_for(view: &View) -> bool {
    view.tasks
        .iter()
        .any(|task| task.state == TaskState::Queued)
}

async fn last_line(log: &Path) -> Option<String> {
    let text = tokio::fs::read(log).await.ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
}
