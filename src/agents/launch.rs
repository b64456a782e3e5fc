//! Starting an agent's job, or finding the one that a former server started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::core::catalogue::Catalogue;
use crate::core::endpoint::{Endpoint, EndpointName};
use crate::core::model::{Capability, ModelName};
use crate::core::pool::Binding;
use crate::core::size::Bytes;
use crate::core::task::Task;
use crate::core::traffic::{Bond, Traffic, Work};
use crate::core::{AgentSlot, TaskId};
use crate::engine::Fact;
use crate::git::{GitError, Repository};
use crate::keeper::{ClientError, JobExit, JobSpec, Origin, Output, Spawned};

use super::aider::flavour::{self, AgentPlan, Identity, UnusablePath};
use super::aider::prompt::{self, Delivery};
use super::jobs::Birth;
use super::settle::Chat;
use super::workshop::Workshop;

/// What the keeper stores with an agent's job; a new server rebuilds its agents from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMeta {
    /// Secret of its cues.
    pub nonce: String,
    /// Secret in its gateway address.
    pub token: String,
    /// What it is bound to; missing in the notes of a former version.
    #[serde(default)]
    pub bond: Option<Bond>,
    /// What a spare was made for; none for an agent that was started for its task.
    #[serde(default)]
    pub spare: Option<SpareMeta>,
}

impl AgentMeta {
    /// What its agent is bound to: by its notes, or by its task where they do not say.
    pub fn bond_of(&self, job: &str, endpoint: &str, model: &str) -> Bond {
        self.bond.clone().unwrap_or_else(|| Bond {
            client: job.to_owned(),
            endpoint: EndpointName(endpoint.to_owned()),
            model: ModelName::new(model),
            context: 0,
            thinks: false,
        })
    }
}

/// What is known of a spare beside its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareMeta {
    /// What it is bound to.
    pub binding: Binding,
    /// Its worktree.
    pub dir: PathBuf,
    /// The commit its worktree was made at.
    pub commit: String,
    /// The settings and the launcher it was started with ([`Workshop::fingerprint`]).
    #[serde(default)]
    pub settings: String,
    /// The attempt that took it.
    #[serde(default)]
    pub claim: Option<(TaskId, u32)>,
}

/// Puts a token in force and tells what is seen of it.
pub(super) type Admit = dyn Fn(&str, Bond) -> watch::Receiver<Traffic> + Send + Sync;

/// Says what the agent of a token works on.
pub(super) type Assign = dyn Fn(&str, Work) + Send + Sync;

/// The context that an agent is started with, tokens: by endpoint, model and what is configured.
pub(super) type ContextOf = dyn Fn(&EndpointName, &ModelName, Option<u32>) -> u32 + Send + Sync;

/// How agents reach models.
#[derive(Clone)]
pub struct GatewayAccess {
    /// Base of the gateway's address, `http://127.0.0.1:PORT`.
    pub base: String,
    /// Puts a token in force.
    pub admit: Arc<Admit>,
    /// Says what the agent of a token works on.
    pub assign: Arc<Assign>,
    /// What the gateway knows of endpoints and models.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// The context that an agent is started with.
    pub context: Arc<ContextOf>,
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

/// Id of the job of an attempt: that of the spare it took, or one of its own.
pub fn job_id(task: &Task) -> String {
    let taken = task.attempt().and_then(|attempt| attempt.job.clone());
    taken.unwrap_or_else(|| format!("agent-{}-{}", task.id, task.attempt_number()))
}

/// Where agents are made: what they all need.
#[derive(Debug, Clone)]
pub(super) struct Nursery {
    pub(super) workshop: Arc<Workshop>,
    pub(super) access: GatewayAccess,
    pub(super) python: PathBuf,
}

impl Nursery {
    /// An endpoint as it was seen; after a start it is waited for until somebody has looked. None
    /// if it is not configured any more.
    async fn endpoint(&self, name: &EndpointName) -> Option<Endpoint> {
        let mut catalogue = self.access.catalogue.clone();
        let settled = |catalogue: &Arc<Catalogue>| {
            let endpoint = catalogue.endpoints.get(name);
            endpoint.is_none_or(|endpoint| endpoint.health.was_asked())
        };
        let seen = catalogue.wait_for(settled).await;
        let seen = seen.map(|catalogue| catalogue.endpoints.get(name).cloned());
        match seen {
            Ok(endpoint) => endpoint,
            // The server ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What an agent is to be.
pub(super) struct Newborn<'a> {
    pub(super) job: String,
    pub(super) binding: &'a Binding,
    pub(super) worktree: &'a Path,
    /// Where its private files lie.
    pub(super) agent_dir: PathBuf,
    /// The task it is started for; none for a spare.
    pub(super) task: Option<&'a Task>,
    /// What is remembered of a spare.
    pub(super) spare: Option<SpareMeta>,
}

/// Starts the agent of the task's current attempt, or finds it.
pub(super) async fn start(
    nursery: &Nursery,
    task: &Task,
) -> Result<(Started, Option<Birth>), StartFault> {
    let attempt = task.attempt().ok_or(StartFault::NoWorkplace)?;
    let text = task.follow_up.as_deref().unwrap_or(&task.spec.prompt);
    let id = job_id(task);
    let keeper = nursery.workshop.jobs.keeper();
    let known = keeper.jobs().await?.into_iter().find(|job| job.id == id);
    let (job, birth) = if let Some(job) = known {
        (job, None)
    } else {
        let (spawned, birth) = fresh(nursery, task).await?;
        (spawned.job, Some(birth))
    };
    let meta: AgentMeta = serde_json::from_str(&job.meta).map_err(|_bad| StartFault::Meta)?;
    let prompt = if meta.spare.is_some() {
        hand_over(&nursery.workshop, task, &id).await?;
        prompt::handed_over(text)
    } else {
        prompt::literal(text)
    };
    let bond = meta.bond_of(&id, &attempt.endpoint, &attempt.model);
    let traffic = (nursery.access.admit)(&meta.token, bond);
    (nursery.access.assign)(&meta.token, Work::of(task));
    let started = Started {
        traffic,
        job: id,
        nonce: meta.nonce,
        token: meta.token,
        pid: u32::try_from(job.pid).unwrap_or_default(),
        fresh: birth.is_some(),
        delivered: job.delivered.iter().any(|key| key == "prompt"),
        prompt: prompt.map_err(|_empty| StartFault::EmptyPrompt)?,
    };
    Ok((started, birth))
}

/// What a spare is told of its task; its launcher reads it when the prompt comes.
async fn hand_over(workshop: &Workshop, task: &Task, job: &str) -> Result<(), StartFault> {
    let slot = task.attempt().map_or(0, |attempt| attempt.slot.0);
    let dir = workshop.task_dir(task.id);
    let agent_dir = workshop.agent_dir(job);
    let environment = workshop.environment(task, AgentSlot(slot));
    let own: BTreeMap<_, _> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with("SQUAD_"))
        .collect();
    let (handover, subject) = (Handover::of(task, &dir, own)?, task.spec.title());
    let text = serde_json::to_string(&handover).map_err(|error| StartFault::Files(error.into()))?;
    tokio::fs::create_dir_all(&dir).await?;
    tokio::fs::write(handover.subject, format!("{subject}\n")).await?;
    let fresh = agent_dir.join("handover.json.new");
    tokio::fs::write(&fresh, text).await?;
    tokio::fs::rename(&fresh, agent_dir.join("handover.json")).await?;
    Ok(())
}

/// The contents of `handover.json`.
#[derive(Serialize)]
struct Handover {
    env: BTreeMap<String, String>,
    agent_dir: PathBuf,
    subject: PathBuf,
    chat: PathBuf,
    log: PathBuf,
    files: Vec<PathBuf>,
    read: Vec<PathBuf>,
}

impl Handover {
    fn of(task: &Task, dir: &Path, env: BTreeMap<String, String>) -> Result<Self, StartFault> {
        let workplace = task.workplace.as_ref().ok_or(StartFault::NoWorkplace)?;
        let inside = |names: &[String]| names.iter().map(|name| workplace.dir.join(name)).collect();
        Ok(Self {
            env,
            agent_dir: dir.to_owned(),
            subject: dir.join("commit-subject"),
            chat: dir.join("chat.md"),
            log: dir.join("requests.log"),
            files: inside(&task.spec.files),
            read: inside(&task.spec.read),
        })
    }
}

async fn fresh(nursery: &Nursery, task: &Task) -> Result<(Spawned, Birth), StartFault> {
    let workplace = task.workplace.as_ref().ok_or(StartFault::NoWorkplace)?;
    let binding = Binding::of_attempt(task).ok_or(StartFault::NoWorkplace)?;
    let newborn = Newborn {
        job: job_id(task),
        binding: &binding,
        worktree: &workplace.dir,
        agent_dir: nursery.workshop.task_dir(task.id),
        task: Some(task),
        spare: None,
    };
    let spec = spec(nursery, newborn).await?;
    Ok(nursery.workshop.jobs.start(spec).await?)
}

/// The job of a new agent; its token is in force.
pub(super) async fn spec(nursery: &Nursery, newborn: Newborn<'_>) -> Result<JobSpec, StartFault> {
    let name = EndpointName(newborn.binding.endpoint.clone());
    let endpoint = nursery.endpoint(&name).await;
    let endpoint = endpoint.ok_or_else(|| StartFault::NoEndpoint(name.0.clone()))?;
    let mut plan = plan(nursery, &newborn, &endpoint).await?;
    let bond = Bond {
        client: newborn.job.clone(),
        endpoint: name,
        model: ModelName::new(&newborn.binding.model),
        context: plan.num_ctx,
        thinks: plan.tuning.thinking.unwrap_or(false),
    };
    let meta = AgentMeta {
        nonce: secret()?,
        token: secret()?,
        bond: Some(bond.clone()),
        spare: newborn.spare.clone(),
    };
    // In force before the agent's first request, which may come before `spawn` returns.
    drop((nursery.access.admit)(&meta.token, bond));
    if let Some(task) = newborn.task {
        (nursery.access.assign)(&meta.token, Work::of(task));
    }
    plan.nonce.clone_from(&meta.nonce);
    plan.gateway_url = format!("{}/agent/{}", nursery.access.base, meta.token);
    let mut launch = flavour::plan(&plan)?;
    if newborn.task.is_none() {
        launch.env.insert("SQUAD_AHEAD".into(), "1".into());
    }
    launch.write()?;
    let settings = &nursery.workshop.settings.agents;
    Ok(JobSpec {
        id: newborn.job,
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
        origin: Origin::Program,
        limits: nursery.workshop.limits(),
    })
}

async fn plan(
    nursery: &Nursery,
    newborn: &Newborn<'_>,
    endpoint: &Endpoint,
) -> Result<AgentPlan, StartFault> {
    let workshop = &nursery.workshop;
    let settings = &workshop.settings;
    let binding = newborn.binding;
    let mut tuning = settings.models.tuning(&binding.model);
    tuning.edit_format = tuning.edit_format.or_else(|| binding.edit_format.clone());
    let model = endpoint.model(&ModelName::new(&binding.model));
    let context = (nursery.access.context)(
        &EndpointName(binding.endpoint.clone()),
        &ModelName::new(&binding.model),
        tuning.context,
    );
    let identity = Repository::identity_at(newborn.worktree).await?;
    let task = newborn.task;
    let slot = task.and_then(Task::slot).unwrap_or(AgentSlot(1));
    let environment = match task {
        Some(task) => workshop.environment(task, slot),
        None => binding.environment.clone(),
    };
    let port = environment
        .get("SQUAD_PORT")
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    let named = |names: fn(&Task) -> &Vec<String>| task.map(names).cloned().unwrap_or_default();
    Ok(AgentPlan {
        python: nursery.python.clone(),
        agent_dir: newborn.agent_dir.clone(),
        worktree: newborn.worktree.to_owned(),
        model: binding.model.clone(),
        num_ctx: context,
        can_think: model.is_some_and(|model| model.capabilities.contains(&Capability::Thinking)),
        tuning,
        mode: binding.mode,
        files: named(|task| &task.spec.files),
        read: named(|task| &task.spec.read),
        map_tokens: settings.agents.map_tokens,
        auto_lint: settings.agents.auto_lint,
        shell_commands: asked(settings.agents.answers.get("shell").copied()),
        detect_urls: asked(settings.agents.answers.get("url").copied()),
        gateway_url: String::new(),
        user_git_configs: git_configs(&binding.environment),
        identity: Some(Identity {
            name: identity.name,
            email: identity.email,
        }),
        slot: slot.0,
        port,
        restore_chat: task
            .and_then(|task| task.attempts.split_last())
            .is_some_and(|(_, earlier)| Chat::of(earlier) == Chat::Begun),
        commit_subject: task.map(|task| task.spec.title()).unwrap_or_default(),
        nonce: String::new(),
        environment,
    })
}

fn asked(answer: Option<crate::core::settings::Answer>) -> bool {
    use crate::core::settings::Answer;
    matches!(answer, Some(Answer::Yes | Answer::Ask))
}

/// The user's own global git configuration, as git would look for it.
fn git_configs(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
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

/// How a job's process ended before its work was judged, and what is kept of that work.
pub(super) async fn loss(workshop: &Workshop, job: &str, when: &str, kept: String) -> Fact {
    let limit = Bytes(workshop.settings.quota.agent_memory as u64);
    let how = match workshop.jobs.ended(job).await {
        Ok(Some(exit)) => match over_memory(&exit, limit) {
            Some(fact) => return fact,
            None => in_words(&exit),
        },
        Ok(None) => "is not known to the keeper".into(),
        Err(_) => "was lost with the keeper".into(),
    };
    let why = format!("the agent {how} {when}");
    Fact::Lost { why, kept }
}

/// Where the kernel was faster than the census: another attempt would meet the same quota.
fn over_memory(exit: &JobExit, limit: Bytes) -> Option<Fact> {
    exit.out_of_memory.then(|| Fact::OverQuota {
        why: format!("over its quota, memory: more than {limit}; the kernel ended it"),
    })
}

/// The end of an agent's process as a fact.
pub(super) fn ended(exit: &JobExit) -> Fact {
    Fact::Ended {
        how: in_words(exit),
        cpu_ms: exit.cpu_ms,
        peak_kib: exit.peak_kib,
    }
}

fn in_words(exit: &JobExit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(15)) => "was ended".into(),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(71), _) => "did not get its task".into(),
        (Some(70), _) => "does not fit the launcher (run 'warpsquad setup')".into(),
        (Some(code), _) => format!("ended with code {code}"),
        (None, None) => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(out_of_memory: bool) -> JobExit {
        let exit = serde_json::json!({
            "signal": 9, "at_ms": 1, "out_of_memory": out_of_memory,
        });
        serde_json::from_value(exit).unwrap()
    }

    #[test]
    fn an_agent_that_the_kernel_ended_for_its_memory_is_over_its_quota() {
        let limit = Bytes(2 << 30);
        assert_eq!(over_memory(&exit(false), limit), None);
        let Some(Fact::OverQuota { why }) = over_memory(&exit(true), limit) else {
            panic!("not over its quota")
        };
        assert!(why.contains("more than 2.0 GiB"), "{why}");
    }
}
