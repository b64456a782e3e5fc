//! Starting an agent's job, or finding the one that a former server started.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::core::catalogue::Catalogue;
use crate::core::endpoint::EndpointName;
use crate::core::model::{Capability, ModelName};
use crate::core::task::{Attempt, Task, Workplace};
use crate::core::traffic::Traffic;
use crate::git::{GitError, Repository};
use crate::keeper::{ClientError, JobSpec, Output};

use super::aider::flavour::{self, AgentPlan, Identity, UnusablePath};
use super::aider::prompt::{self, Delivery};
use super::workshop::Workshop;

/// `num_ctx` where nothing is configured, capped at the trained context.
const CONTEXT_DEFAULT: u32 = 16_384;

/// What the keeper stores with an agent's job; a new server rebuilds its agents from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMeta {
    /// Secret of its cues.
    pub nonce: String,
    /// Secret in its gateway address.
    pub token: String,
    /// The endpoint's base URL.
    pub url: String,
}

/// Puts `(token, url)` in force and tells what is seen of it.
pub(super) type Admit = dyn Fn(&str, &str) -> watch::Receiver<Traffic> + Send + Sync;

/// How agents reach models: puts a token in force for an endpoint's URL.
#[derive(Clone)]
pub struct GatewayAccess {
    /// Base of the gateway's address, `http://127.0.0.1:PORT`.
    pub base: String,
    /// Puts `(token, url)` in force.
    pub admit: Arc<Admit>,
    /// Makes a token worthless.
    pub revoke: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for GatewayAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayAccess")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// An agent's job, running or ended.
pub(super) struct Started {
    pub(super) job: String,
    pub(super) nonce: String,
    pub(super) token: String,
    pub(super) pid: u32,
    pub(super) fresh: bool,
    pub(super) delivered: bool,
    pub(super) prompt: Delivery,
    pub(super) traffic: watch::Receiver<Traffic>,
}

/// An agent that could not be started; never the task's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartFault {
    #[error("the task has no worktree")]
    NoWorkplace,
    #[error("the endpoint {0} is not configured any more")]
    NoEndpoint(String),
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the repository cannot be used: {0}")]
    Git(#[from] GitError),
    #[error("{0}")]
    Path(#[from] UnusablePath),
    #[error("the agent's files cannot be written: {0}")]
    Files(#[from] std::io::Error),
    #[error("{0}")]
    Keeper(#[from] ClientError),
    #[error("no random numbers can be had: {0}")]
    Random(String),
    #[error("the keeper's notes on the agent cannot be read")]
    Meta,
}

/// Id of the job of an attempt.
pub fn job_id(task: &Task) -> String {
    format!("agent-{}-{}", task.id, task.attempt_number())
}

/// Starts the agent of the task's current attempt, or finds it.
pub(super) async fn start(
    workshop: &Workshop,
    access: &GatewayAccess,
    python: &Path,
    catalogue: &Catalogue,
    task: &Task,
) -> Result<Started, StartFault> {
    let attempt = task.attempt().ok_or(StartFault::NoWorkplace)?;
    let text = task.follow_up.as_deref().unwrap_or(&task.spec.prompt);
    let prompt = prompt::literal(text).map_err(|_empty| StartFault::EmptyPrompt)?;
    let id = job_id(task);
    let known = workshop
        .jobs
        .keeper()
        .jobs()
        .await?
        .into_iter()
        .find(|job| job.id == id);
    let (job, fresh) = if let Some(job) = known {
        (job, false)
    } else {
        let spec = fresh_spec(workshop, access, python, catalogue, task, attempt).await?;
        let spawned = workshop.jobs.keeper().spawn(spec).await?;
        (spawned.job, spawned.fresh)
    };
    let meta: AgentMeta = serde_json::from_str(&job.meta).map_err(|_bad| StartFault::Meta)?;
    Ok(Started {
        traffic: (access.admit)(&meta.token, &meta.url),
        job: id,
        nonce: meta.nonce,
        token: meta.token,
        pid: u32::try_from(job.pid).unwrap_or_default(),
        fresh,
        delivered: job.delivered.iter().any(|key| key == "prompt"),
        prompt,
    })
}

async fn fresh_spec(
    workshop: &Workshop,
    access: &GatewayAccess,
    python: &Path,
    catalogue: &Catalogue,
    task: &Task,
    attempt: &Attempt,
) -> Result<JobSpec, StartFault> {
    let workplace = task.workplace.as_ref().ok_or(StartFault::NoWorkplace)?;
    let endpoint = EndpointName(attempt.endpoint.clone());
    let url = catalogue
        .endpoints
        .get(&endpoint)
        .map(|endpoint| endpoint.url.clone())
        .ok_or_else(|| StartFault::NoEndpoint(attempt.endpoint.clone()))?;
    let meta = AgentMeta {
        nonce: secret()?,
        token: secret()?,
        url,
    };
    // In force before the agent's first request, which may come before `spawn` returns.
    drop((access.admit)(&meta.token, &meta.url));
    let mut plan = plan(workshop, catalogue, task, attempt, workplace).await?;
    python.clone_into(&mut plan.python);
    plan.nonce.clone_from(&meta.nonce);
    plan.gateway_url = format!("{}/agent/{}", access.base, meta.token);
    let launch = flavour::plan(&plan)?;
    launch.write()?;
    let settings = &workshop.settings.agents;
    Ok(JobSpec {
        id: job_id(task),
        argv: launch.argv,
        env: launch.env,
        cwd: launch.cwd,
        output: Output::Pty {
            cols: settings.columns,
            rows: settings.rows,
        },
        nice: 0,
        time_limit: None,
        meta: serde_json::to_string(&meta).map_err(|_bad| StartFault::Meta)?,
    })
}

async fn plan(
    workshop: &Workshop,
    catalogue: &Catalogue,
    task: &Task,
    attempt: &Attempt,
    workplace: &Workplace,
) -> Result<AgentPlan, StartFault> {
    let settings = &workshop.settings;
    let tuning = settings.models.tuning(&attempt.model);
    let model = catalogue
        .endpoints
        .get(&EndpointName(attempt.endpoint.clone()))
        .and_then(|endpoint| endpoint.model(&ModelName::new(&attempt.model)));
    let trained = model
        .and_then(|model| model.context_length)
        .unwrap_or(u32::MAX);
    let identity = Repository::open(&workplace.dir).await?.identity().await?;
    let environment = workshop.environment(task, attempt.slot);
    let port = environment
        .get("SQUAD_PORT")
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    Ok(AgentPlan {
        python: PathBuf::new(),
        agent_dir: workshop.task_dir(task.id),
        worktree: workplace.dir.clone(),
        model: attempt.model.clone(),
        num_ctx: tuning.context.unwrap_or(CONTEXT_DEFAULT).min(trained),
        can_think: model.is_some_and(|model| model.capabilities.contains(&Capability::Thinking)),
        tuning,
        mode: task.spec.mode,
        files: task.spec.files.clone(),
        read: task.spec.read.clone(),
        map_tokens: settings.agents.map_tokens,
        auto_lint: settings.agents.auto_lint,
        shell_commands: asked(settings.agents.answers.get("shell").copied()),
        detect_urls: asked(settings.agents.answers.get("url").copied()),
        gateway_url: String::new(),
        user_git_configs: git_configs(&task.spec.environment),
        identity: Some(Identity {
            name: identity.name,
            email: identity.email,
        }),
        slot: attempt.slot.0,
        port,
        restore_chat: task.attempts.len() > 1,
        commit_subject: task.spec.title(),
        nonce: String::new(),
        environment,
    })
}

fn asked(answer: Option<crate::core::settings::Answer>) -> bool {
    use crate::core::settings::Answer;
    matches!(answer, Some(Answer::Yes | Answer::Ask))
}

/// The user's own global git configuration, as git would look for it.
fn git_configs(environment: &std::collections::BTreeMap<String, String>) -> Vec<PathBuf> {
    if let Some(file) = environment.get("GIT_CONFIG_GLOBAL") {
        return vec![PathBuf::from(file)];
    }
    let Some(home) = environment.get("HOME").map(PathBuf::from) else {
        return Vec::new();
    };
    let xdg = environment
        .get("XDG_CONFIG_HOME")
        .map_or_else(|| home.join(".config"), PathBuf::from);
    vec![xdg.join("git/config"), home.join(".gitconfig")]
}

fn secret() -> Result<String, StartFault> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartFault::Random(error.to_string()))?;
    Ok(super::workshop::hex(&bytes))
}

/// In words: how a job's process ended.
pub(super) async fn how_it_ended(workshop: &Workshop, job: &str) -> String {
    let exit = match workshop.jobs.ended(job).await {
        Ok(Some(exit)) => exit,
        Ok(None) => return "is not known to the keeper".into(),
        Err(_) => return "was lost with the keeper".into(),
    };
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(70), _) => "does not fit the launcher (run 'warpsquad setup')".into(),
        (Some(code), _) => format!("ended with code {code}"),
        (None, None) => "ended".into(),
    }
}
