//! Everything that can be configured, as plain data; `config` fills it, `server` hands it out.
//!
//! Defaults are here, beside the field they belong to; durations are written as `"90s"` or `"5m"`
//! in the file and are `Duration` here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::router::Strategy;

use super::vram::KvCache;

/// All settings of one squad.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// `[agents]`
    pub agents: AgentSettings,
    /// `[tasks]`
    pub tasks: TaskSettings,
    /// `[worktree]`
    pub worktree: WorktreeSettings,
    /// `[verify]`
    pub verify: VerifySettings,
    /// `[merge]`
    pub merge: MergeSettings,
    /// `[[endpoints]]`
    pub endpoints: Vec<EndpointSettings>,
    /// `[discovery]`
    pub discovery: DiscoverySettings,
    /// `[vram]`
    pub vram: VramSettings,
    /// `[gateway]`
    pub gateway: GatewayKeys,
    /// `[models.defaults]` and `[models.by_name."name"]`
    pub models: ModelSettings,
    /// `[router]`
    pub router: RouterSettings,
    /// `[medic]`
    pub medic: MedicSettings,
    /// `[quota]`
    pub quota: QuotaSettings,
    /// `[clean]`
    pub clean: CleanSettings,
    /// `[recorder]`
    pub recorder: RecorderSettings,
    /// `[ui]`
    pub ui: UiSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[agents]`: how many work and what may be done on their behalf.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// Agents working at a time. Default 4.
    pub max: MaxAgents,
    /// Agents made ahead, at their prompt in a prepared worktree, on top of those that work.
    /// Default 2.
    pub spare: u16,
    /// Fork agents from one process that has imported Aider. Default on.
    pub fork: bool,
    /// Forks after which that process is replaced by a fresh one, as when its memory grows.
    /// Default 500.
    pub recycle: u32,
    /// Keep the machine awake while tasks are under way. Default off.
    pub inhibit_sleep: bool,
    /// Command that starts Aider instead of the private installation: a Python interpreter with
    /// Aider importable. Default: the private one made by `warpsquad setup`.
    pub python: Option<String>,
    /// Size of an agent's terminal that nobody watches. Default 120×40.
    pub columns: u16,
    /// See `columns`.
    pub rows: u16,
    /// Lines of scrollback kept for each agent. Default 2,000.
    pub scrollback: usize,
    /// A started agent must reach its prompt within this. Default 120 s.
    pub start_timeout: Duration,
    /// Aider's own lint after each edit. Default off: the verify command judges.
    pub auto_lint: bool,
    /// Tokens of repository map; 0 switches it off. Default 1,024.
    pub map_tokens: u32,
    /// Answer to each kind of question, by kind name (`create-file`, `add-file`, `fix-lint`,
    /// `fix-tests`, `shell`, `url`, `gitignore`, `token-limit`): `yes`, `no` or `ask`.
    pub answers: BTreeMap<String, Answer>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            max: MaxAgents::Fixed(4),
            spare: 2,
            fork: true,
            recycle: 500,
            inhibit_sleep: false,
            python: None,
            columns: 120,
            rows: 40,
            scrollback: 2_000,
            start_timeout: Duration::from_secs(120),
            auto_lint: false,
            map_tokens: 1_024,
            answers: BTreeMap::new(),
        }
    }
}

/// How many agents work at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxAgents {
    /// Always up to so many.
    Fixed(u16),
    /// As many as add throughput, 1 to [`AUTO_MAX`](super::pool::AUTO_MAX).
    Auto,
}

impl MaxAgents {
    /// The most there can be.
    pub fn ceiling(self) -> u16 {
        match self {
            Self::Fixed(count) => count,
            Self::Auto => super::pool::AUTO_MAX,
        }
    }
}

impl Default for MaxAgents {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

/// What to answer to a question of Aider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Leave it to a human: the agent is `waiting`.
    Ask,
}

/// `[tasks]`: the retry policy and limits of the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSettings {
    /// Further attempts after a failed one. Default 1.
    pub retries: u32,
    /// Wait before the first further attempt; doubles each time. Default 10 s.
    pub backoff: Duration,
    /// Longest wait between attempts. Default 10 min.
    pub backoff_max: Duration,
    /// An attempt is stopped after this. Default 2 h.
    pub time_limit: Duration,
    /// Longest prompt accepted, in bytes. Default 1 MiB.
    pub prompt_max: usize,
    /// Tasks waiting at most; one more is refused. Default 10,000.
    pub queue_max: usize,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            retries: 1,
            backoff: Duration::from_secs(10),
            backoff_max: Duration::from_secs(600),
            time_limit: Duration::from_secs(2 * 3600),
            prompt_max: 1 << 20,
            queue_max: 10_000,
        }
    }
}

/// `[worktree]`: what makes a fresh checkout usable.
#[derive(Debug, Clone, PartialEq)]
pub struct WorktreeSettings {
    /// Command run once in a new worktree. A repository may only propose it.
    pub setup: Option<String>,
    /// Limit of `setup`. Default 10 min.
    pub setup_timeout: Duration,
    /// Untracked files copied from the user's checkout (globs).
    pub copy: Vec<String>,
    /// Untracked files or folders linked to the user's checkout (globs).
    pub link: Vec<String>,
    /// First port of the block given to agents as `SQUAD_PORT` (slot n gets `first + (n-1) × 10`). Default 42000.
    pub first_port: u16,
}

impl Default for WorktreeSettings {
    fn default() -> Self {
        Self {
            setup: None,
            setup_timeout: Duration::from_secs(600),
            copy: Vec::new(),
            link: Vec::new(),
            first_port: 42_000,
        }
    }
}

/// `[verify]`: how a result is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifySettings {
    /// Default verify command. A repository may only propose it.
    pub command: Option<String>,
    /// Limit of one run. Default 10 min.
    pub timeout: Duration,
    /// Verify jobs at a time. Default 2.
    pub concurrency: u16,
    /// Niceness of verify jobs, 0…19. Default 10.
    pub nice: u8,
    /// Run once per base commit before judging, so that failures that were there are not blamed. Default on.
    pub baseline: bool,
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self {
            command: None,
            timeout: Duration::from_secs(600),
            concurrency: 2,
            nice: 10,
            baseline: true,
        }
    }
}

/// `[merge]`: how a result reaches its branch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MergeSettings {
    /// Squash (default), merge or rebase.
    pub strategy: MergeStrategy,
    /// Branch that collects merges instead of the branch a task started from.
    pub inbox: Option<String>,
}

/// How a task's commits become part of the target branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergeStrategy {
    /// One commit.
    #[default]
    Squash,
    /// A merge commit with the task's own commits behind it.
    Merge,
    /// The task's own commits, replayed on the target.
    Rebase,
}

/// `[[endpoints]]`: one Ollama server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Short unique name.
    pub name: String,
    /// Base URL, `http://127.0.0.1:11434`.
    pub url: String,
    /// Requests of one model that it serves at a time (`OLLAMA_NUM_PARALLEL`), which its API does
    /// not tell; 1 where nothing is said.
    pub parallel: Option<u16>,
    /// Bytes of memory of its GPUs together, where they are not this machine's.
    pub vram: Option<usize>,
    /// Type of its KV cache (`OLLAMA_KV_CACHE_TYPE`), which its API does not tell either; f16
    /// where nothing is said.
    pub kv_cache: Option<KvCache>,
    /// Endpoints that name the same GPU share it: one of their models is loaded at a time unless
    /// both fit. An endpoint that names none has GPUs of its own.
    pub gpu: Option<String>,
}

/// `[gateway]`: the address all model traffic goes through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatewayKeys {
    /// Clients that are no agents and send this key (`Authorization: Bearer …`) are served at the
    /// root of the gateway's address. Default none: nobody else is let in.
    pub key: Option<String>,
}

impl EndpointSettings {
    /// Whether it listens on this machine, so that its GPUs are probably this machine's.
    pub fn is_on_this_machine(&self) -> bool {
        let hosts = ["//127.", "//localhost", "//[::1]"];
        hosts.iter().any(|host| self.url.contains(host))
    }
}

/// `[vram]`: memory of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VramSettings {
    /// Bytes of each endpoint's GPU memory that models may not take. Default 1 GiB: what
    /// Ollama's own fit leaves free.
    pub reserve: usize,
}

impl Default for VramSettings {
    fn default() -> Self {
        Self { reserve: 1 << 30 }
    }
}

/// `[discovery]`: how often endpoints are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverySettings {
    /// Between two looks at a healthy endpoint while there is work or a client. Default 10 s.
    pub interval: Duration,
    /// Longest wait before an unreachable endpoint is tried again. Default 60 s.
    pub backoff_max: Duration,
    /// Time limit of one question. Default 5 s.
    pub timeout: Duration,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            backoff_max: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
        }
    }
}

/// `[models]`: what is told to Aider and Ollama about a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelSettings {
    /// Model of tasks that name none, when nothing fitting is resident.
    pub default: Option<String>,
    /// How the model of tasks that name none is selected, instead of by `router.strategy`.
    pub selection: Selection,
    /// `[models.defaults]`: for every model.
    pub defaults: ModelTuning,
    /// `[models.by_name."qwen2.5-coder:7b"]`: for one model; unset fields fall back to `defaults`.
    pub by_name: BTreeMap<String, ModelTuning>,
}

impl ModelSettings {
    /// The tuning of `model`: its own fields over the defaults.
    pub fn tuning(&self, model: &str) -> ModelTuning {
        let own = self.by_name.get(model).cloned().unwrap_or_default();
        let mut options = self.defaults.options.clone();
        options.extend(own.options);
        ModelTuning {
            context: own.context.or(self.defaults.context),
            temperature: own.temperature.or(self.defaults.temperature),
            edit_format: own
                .edit_format
                .or_else(|| self.defaults.edit_format.clone()),
            thinking: own.thinking.or(self.defaults.thinking),
            options,
        }
    }
}

/// `models.selection`: Aider's ways to select a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// As `router.strategy` says.
    #[default]
    Auto,
    /// The one that answers in the least time.
    Fastest,
    /// The one with the most parameters.
    MostCapable,
    /// One after the other.
    RoundRobin,
}

/// `[router]`: which model gets a task that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouterSettings {
    /// How it is picked. Default hybrid.
    pub strategy: Strategy,
    /// Seed of what is drawn. Default 0.
    pub seed: u32,
}

/// Settings of one model; `None` means "not said".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelTuning {
    /// Pinned `num_ctx`, tokens. Effective default 16,384, capped at the trained context.
    pub context: Option<u32>,
    /// Sampling temperature; Aider's own default is 0.
    pub temperature: Option<f64>,
    /// Aider's edit format: `whole`, `diff`, `udiff`, `diff-fenced`.
    pub edit_format: Option<String>,
    /// Ask a thinking model to think. Default off.
    pub thinking: Option<bool>,
    /// Further Ollama options, passed as they are (`top_p`, `num_predict`, …).
    pub options: BTreeMap<String, OptionValue>,
}

/// A value of an Ollama option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

/// `[medic]`: when an agent counts as stuck.
#[derive(Debug, Clone, PartialEq)]
pub struct MedicSettings {
    /// An agent that works is stuck after this without output and without a request. Default 5 min.
    pub stall: Duration,
    /// A request on which nothing comes back is given up after this. Default 30 min.
    pub no_answer: Duration,
    /// Aider is interrupted when it has repeated a request this often; 0 never. Default 4.
    pub retries: u32,
    /// A question waits this long for a human. Default 30 min.
    pub question_timeout: Duration,
    /// What then happens, by kind of question. Default `wait`.
    pub unanswered: BTreeMap<String, Unanswered>,
}

impl Default for MedicSettings {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(300),
            no_answer: Duration::from_secs(1_800),
            retries: 4,
            question_timeout: Duration::from_secs(1_800),
            unanswered: BTreeMap::new(),
        }
    }
}

/// What happens to a question that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// It goes on waiting.
    #[default]
    Wait,
    /// It is answered yes.
    Yes,
    /// It is answered no.
    No,
    /// The agent is ended; its task goes back to the queue.
    Hold,
}

/// `[quota]`: what an agent and the squad may use; 0 is no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaSettings {
    /// Memory of an agent with everything it started, bytes. Default 2 GiB.
    pub agent_memory: usize,
    /// Processor time of one attempt. Default none.
    pub agent_cpu: Duration,
    /// Processes of an agent. Default 256.
    pub agent_processes: u32,
    /// Tokens of a task, sent and received, over all its attempts. Default none.
    pub task_tokens: usize,
    /// A worktree on disk, bytes. Default none.
    pub worktree_disk: usize,
    /// Memory of all agents together, bytes. Default none.
    pub squad_memory: usize,
    /// Processor time of all agents, per cent of one processor. Default none.
    pub squad_cpu: u32,
    /// With less free where the data lies, nothing new is begun; bytes. Default 1 GiB.
    pub disk_free_floor: usize,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            agent_memory: 2 << 30,
            agent_cpu: Duration::ZERO,
            agent_processes: 256,
            task_tokens: 0,
            worktree_disk: 0,
            squad_memory: 0,
            squad_cpu: 0,
            disk_free_floor: 1 << 30,
        }
    }
}

/// `[clean]`: what is put away by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanSettings {
    /// At every start and once a day. Default on.
    pub automatic: bool,
    /// Only what is older than this. Default 30 days.
    pub after: Duration,
}

impl Default for CleanSettings {
    fn default() -> Self {
        Self {
            automatic: true,
            after: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// `[recorder]`: the record of all model requests, in the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderSettings {
    /// Default on.
    pub enabled: bool,
    /// Bytes of one file. Default 16 MiB: 20,000 requests.
    pub max_size: usize,
    /// Files kept, the one that is written included. Default 4.
    pub keep: usize,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: 16 << 20,
            keep: 4,
        }
    }
}

/// `[ui]`: the dashboard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UiSettings {
    /// Colours. Default auto: `NO_COLOR` and the terminal decide.
    pub colour: Colour,
    /// Only ASCII glyphs. Default: decided by the locale.
    pub ascii: Option<bool>,
    /// No moving glyphs.
    pub reduced_motion: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// As the terminal and `NO_COLOR` say.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `[log]`: the server's own log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`. Default info.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
        }
    }
}
