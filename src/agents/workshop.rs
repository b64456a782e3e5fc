//! Where the squad's work lies on disk, and what every piece of it needs to run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use crate::core::quota::hard;
use crate::core::settings::Settings;
use crate::core::task::Task;
use crate::core::verify::VerifyRun;
use crate::core::{AgentSlot, TaskId};

use super::aider::flavour::LAUNCHER;
use super::jobs::Jobs;
use crate::keeper::{Limits, SquadLimits};

/// Ports between two agents' blocks.
const PORTS_PER_SLOT: u16 = 10;

/// Shared by everything that works on tasks.
#[derive(Debug)]
pub struct Workshop {
    /// The data directory.
    pub data: PathBuf,
    /// Jobs in the keeper.
    pub jobs: Jobs,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// Verify jobs that may still start.
    pub(super) verify_slots: Semaphore,
    baselines: Mutex<HashMap<String, Arc<OnceCell<VerifyRun>>>>,
    merges: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Workshop {
    /// A workshop in `data`.
    pub fn new(data: PathBuf, jobs: Jobs, settings: Arc<Settings>) -> Self {
        let verify_slots = Semaphore::new(usize::from(settings.verify.concurrency.max(1)));
        Self {
            data,
            jobs,
            settings,
            verify_slots,
            baselines: Mutex::default(),
            merges: Mutex::default(),
        }
    }

    /// Everything kept of a task besides its worktree: chat, logs, the agent's private files.
    pub fn task_dir(&self, task: TaskId) -> PathBuf {
        self.data.join("tasks").join(task.to_string())
    }

    /// What an agent may use, where the kernel enforces it.
    pub fn limits(&self) -> Limits {
        let quota = &self.settings.quota;
        Limits {
            memory: hard(quota.agent_memory as u64),
            processes: hard(quota.agent_processes.into()),
        }
    }

    /// What all jobs may use, where the kernel enforces it. More is held back, and nothing stopped.
    pub fn squad_limits(&self) -> SquadLimits {
        SquadLimits {
            cpu: self.settings.quota.squad_cpu.into(),
        }
    }

    /// What the kernel enforces: names of its controllers.
    pub fn enforced(&self) -> Vec<String> {
        let controllers = &self.jobs.keeper().welcome().controllers;
        controllers.iter().map(|it| it.name().to_owned()).collect()
    }

    /// Another one means that an agent made ahead would be made otherwise now.
    pub fn fingerprint(&self) -> String {
        let settings = &self.settings;
        let text = format!(
            "{:?} {:?} {:?} {LAUNCHER}",
            settings.agents, settings.models, settings.endpoints
        );
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// The private files of an agent that was started before its task was known.
    pub fn agent_dir(&self, job: &str) -> PathBuf {
        self.data.join("agents").join(job)
    }

    /// The worktree of a spare.
    pub fn spare_dir(&self, job: &str, repo: &Path) -> PathBuf {
        self.data
            .join("worktrees")
            .join(format!("{job}-{}", folder_slug(repo)))
    }

    /// Where the clean worktree of a task that is over waits for the next spare. What a killed
    /// server leaves there is swept like a spare.
    pub fn parked_dir(&self, task: &Task) -> PathBuf {
        self.data.join("worktrees").join(format!(
            "spare-of-{}-{}",
            task.id,
            folder_slug(&task.spec.repo)
        ))
    }

    /// The worktree that a task gets when it takes no spare.
    pub fn worktree_dir(&self, task: &Task) -> PathBuf {
        self.data
            .join("worktrees")
            .join(format!("{}-{}", task.id, folder_slug(&task.spec.repo)))
    }

    /// Where baselines run and are remembered.
    pub fn baseline_dir(&self) -> PathBuf {
        self.data.join("baselines")
    }

    /// The environment of a task's commands: the submitter's, and the slot's own numbers.
    pub fn environment(&self, task: &Task, slot: AgentSlot) -> BTreeMap<String, String> {
        let mut environment = task.spec.environment.clone();
        let port = self
            .settings
            .worktree
            .first_port
            .saturating_add((slot.0.saturating_sub(1)).saturating_mul(PORTS_PER_SLOT));
        environment.insert("SQUAD_SLOT".into(), slot.to_string());
        environment.insert("SQUAD_PORT".into(), port.to_string());
        environment.insert("SQUAD_TASK".into(), task.id.to_string());
        environment
    }

    /// Merges into one repository take turns: each would find its branch moved by another.
    pub fn merging(&self, repository: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut merges = self.merges.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(merges.entry(repository.to_owned()).or_default())
    }

    pub(super) fn baseline(&self, key: &str) -> Arc<OnceCell<VerifyRun>> {
        let mut baselines = self
            .baselines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(baselines.entry(key.to_owned()).or_default())
    }
}

/// Lower-case letters, digits and dashes of `text`, at most 32 of them; never empty.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 32 {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() {
        "task".to_owned()
    } else {
        slug.to_owned()
    }
}

fn folder_slug(repo: &Path) -> String {
    let name = repo.file_name().map(|name| name.to_string_lossy());
    slug(name.as_deref().unwrap_or("repo"))
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_short_plain_and_never_empty() {
        assert_eq!(
            slug("Add retry: to  HTTP client!"),
            "add-retry-to-http-client"
        );
        assert_eq!(slug("日本"), "task");
        assert!(slug(&"x".repeat(100)).len() <= 32);
    }
}
