//! How Aider 0.86.2 is started: arguments, environment and files as one table.
//!
//! Nothing is inherited: the environment is complete. HOME stays the user's, so that git and
//! commands find what they know; the launcher gives Aider itself a private one.
//!
//! Invariant: `plan` is pure; only `Launch::write` touches the disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::config_files::{git_config, model_metadata, model_settings};
use crate::core::settings::ModelTuning;
use crate::core::task::Mode;

/// The launcher, written beside each agent's files so that it always fits this program.
pub const LAUNCHER: &str = include_str!("../../../assets/aider/launch.py");

/// The version of Aider that this table and the launcher are for.
pub const VERSION: &str = "0.86.2";

/// Everything an agent's start depends on.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of Aider's command line"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct AgentPlan {
    /// Interpreter that can import Aider.
    pub python: PathBuf,
    /// Directory of this agent: histories, logs, generated files.
    pub agent_dir: PathBuf,
    /// Where it works.
    pub worktree: PathBuf,
    /// The model, as Ollama names it.
    pub model: String,
    /// Its context, pinned for every request.
    pub num_ctx: u32,
    /// The model has the capability `thinking`.
    pub can_think: bool,
    /// What the settings say about the model.
    pub tuning: ModelTuning,
    /// How Aider works.
    pub mode: Mode,
    /// Files put into the chat for editing, relative to the worktree.
    pub files: Vec<String>,
    /// Files put into the chat for reading, relative to the worktree.
    pub read: Vec<String>,
    /// Tokens of repository map.
    pub map_tokens: u32,
    /// Aider's own lint after each edit.
    pub auto_lint: bool,
    /// The model may propose commands (each is a question).
    pub shell_commands: bool,
    /// URLs in prompts may be fetched (each is a question).
    pub detect_urls: bool,
    /// Where its requests go, with its token.
    pub gateway_url: String,
    /// The user's own global git configuration files.
    pub user_git_configs: Vec<PathBuf>,
    /// Name and address for commits, when the user's configuration is not enough.
    pub identity: Option<Identity>,
    /// Its place in the squad.
    pub slot: u16,
    /// First port of its own block.
    pub port: u16,
    /// Go on with the chat of an earlier attempt in this directory.
    pub restore_chat: bool,
    /// Subject of its commits.
    pub commit_subject: String,
    /// Secret of its cues.
    pub nonce: String,
    /// The submitter's environment.
    pub environment: BTreeMap<String, String>,
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user.name`
    pub name: String,
    /// `user.email`
    pub email: String,
}

/// What is needed to start one Aider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The command, program first.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Files that must exist before the start, with their contents.
    pub files: Vec<(PathBuf, String)>,
}

impl Launch {
    /// Writes the files, readable by the user only, each in one step.
    pub fn write(&self) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        for (path, text) in &self.files {
            let Some(dir) = path.parent() else { continue };
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
            let file = tempfile::Builder::new()
                .permissions(std::fs::Permissions::from_mode(0o600))
                .tempfile_in(dir)?;
            std::fs::write(file.path(), text)?;
            file.persist(path).map_err(|failed| failed.error)?;
        }
        Ok(())
    }
}

/// A path that cannot be written into a command line or a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not valid UTF-8", .0.display())]
pub struct UnusablePath(pub PathBuf);

/// Where the reply of the last turn is kept.
pub fn reply_file(agent_dir: &Path) -> PathBuf {
    agent_dir.join("reply.md")
}

/// Makes arguments, environment and files of a plan.
pub fn plan(plan: &AgentPlan) -> Result<Launch, UnusablePath> {
    let places = Places::of(plan)?;
    Ok(Launch {
        argv: arguments(plan, &places)?,
        env: environment(plan, &places),
        cwd: plan.worktree.clone(),
        files: files(plan, &places)?,
    })
}

/// The agent's files by name.
struct Places {
    python: String,
    launcher: String,
    dir: String,
    home: String,
    settings: String,
    metadata: String,
    git_config: String,
    subject: String,
    chat: String,
    input: String,
    log: String,
}

impl Places {
    fn of(plan: &AgentPlan) -> Result<Self, UnusablePath> {
        let inside = |name: &str| text(&plan.agent_dir.join(name));
        Ok(Self {
            python: text(&plan.python)?,
            launcher: inside("launch.py")?,
            dir: text(&plan.agent_dir)?,
            home: inside("home")?,
            settings: inside("model-settings.yml")?,
            metadata: inside("model-metadata.json")?,
            git_config: inside("gitconfig")?,
            subject: inside("commit-subject")?,
            chat: inside("chat.md")?,
            input: inside("input-history")?,
            log: inside("requests.log")?,
        })
    }
}

fn text(path: &Path) -> Result<String, UnusablePath> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| UnusablePath(path.to_owned()))
}

/// Always the same, whatever the task.
const FIXED: &[&str] = &[
    "--timeout",
    "3600",
    "--encoding",
    "utf-8",
    "--no-check-update",
    "--no-show-release-notes",
    "--no-analytics",
    "--no-show-model-warnings",
    "--no-gitignore",
    "--skip-sanity-check-repo",
    "--no-auto-test",
    "--auto-accept-architect",
    "--no-attribute-author",
    "--no-attribute-committer",
];

fn arguments(plan: &AgentPlan, places: &Places) -> Result<Vec<String>, UnusablePath> {
    let model = format!("ollama_chat/{}", plan.model);
    let mut argv: Vec<String> = [&places.python, "-I", "-X", "utf8", &places.launcher, "--"]
        .map(str::to_owned)
        .into();
    let mut pair = |flag: &str, value: &str| argv.extend([flag.to_owned(), value.to_owned()]);
    pair("--model", &model);
    pair("--weak-model", &model);
    pair("--editor-model", &model);
    pair("--model-settings-file", &places.settings);
    pair("--model-metadata-file", &places.metadata);
    pair("--chat-history-file", &places.chat);
    pair("--input-history-file", &places.input);
    pair("--llm-history-file", &places.log);
    pair("--map-tokens", &plan.map_tokens.to_string());
    for (flag, format) in formats(plan) {
        pair(flag, &format);
    }
    for file in &plan.files {
        pair("--file", &text(&plan.worktree.join(file))?);
    }
    for file in &plan.read {
        pair("--read", &text(&plan.worktree.join(file))?);
    }
    argv.extend(FIXED.iter().map(|flag| (*flag).to_owned()));
    argv.extend(switches(plan).map(str::to_owned));
    Ok(argv)
}

fn switches(plan: &AgentPlan) -> impl Iterator<Item = &'static str> {
    let either = |is_on, on, off| if is_on { on } else { off };
    [
        either(plan.auto_lint, "--auto-lint", "--no-auto-lint"),
        either(
            plan.shell_commands,
            "--suggest-shell-commands",
            "--no-suggest-shell-commands",
        ),
        either(plan.detect_urls, "--detect-urls", "--no-detect-urls"),
        either(
            plan.restore_chat,
            "--restore-chat-history",
            "--no-restore-chat-history",
        ),
    ]
    .into_iter()
}

/// Aider names its modes as edit formats.
fn formats(plan: &AgentPlan) -> Vec<(&'static str, String)> {
    let tuned = plan.tuning.edit_format.clone();
    match plan.mode {
        Mode::Ask => vec![("--edit-format", "ask".into())],
        Mode::Code => tuned.map(|it| ("--edit-format", it)).into_iter().collect(),
        Mode::Architect => {
            let editor = tuned.map(|it| match it.as_str() {
                "whole" | "diff" | "diff-fenced" => format!("editor-{it}"),
                _ => it,
            });
            let mut formats = vec![("--edit-format", "architect".to_owned())];
            formats.extend(editor.map(|it| ("--editor-edit-format", it)));
            formats
        }
    }
}

/// Variables of the submitter that would change Aider, its Python, its terminal, git or its way
/// to the model.
const DROPPED_PREFIXES: &[&str] = &[
    "AIDER_",
    "ANTHROPIC_",
    "GIT_",
    "LD_",
    "DYLD_",
    "LITELLM_",
    "OLLAMA_",
    "OPENAI_",
    "OPENROUTER_",
    "PROMPT_TOOLKIT_",
    "PYTHON",
    "SQUAD_",
    "SSL_",
    "WARPSQUAD_",
];
const DROPPED_SUFFIXES: &[&str] = &["_PROXY", "_API_KEY", "_API_BASE"];
const DROPPED: &[&str] = &[
    "BROWSER",
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_COPILOT_TOKEN",
    "LINES",
    "NO_COLOR",
    "OLDPWD",
    "PWD",
    "REQUESTS_CA_BUNDLE",
    "TTY_COMPATIBLE",
    "VIRTUAL_ENV",
];

fn is_kept(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !DROPPED.contains(&name.as_str())
        && !DROPPED_PREFIXES.iter().any(|it| name.starts_with(it))
        && !DROPPED_SUFFIXES.iter().any(|it| name.ends_with(it))
}

/// Settings of git that stand above every file: agents' commits are never signed, run no hooks
/// (the user's apply to the final commit) and start no background work.
const GIT_OVERRIDES: &[(&str, &str)] = &[
    ("commit.gpgsign", "false"),
    ("tag.gpgsign", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
];

fn environment(plan: &AgentPlan, places: &Places) -> BTreeMap<String, String> {
    let kept = plan.environment.iter().filter(|(name, _)| is_kept(name));
    let mut env: BTreeMap<String, String> = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let fallbacks = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("SHELL", "/bin/sh"),
        ("HOME", &places.home),
    ];
    for (name, value) in fallbacks {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    for (name, value) in [
        ("TERM", "xterm-256color"),
        ("COLORTERM", "truecolor"),
        ("PROMPT_TOOLKIT_NO_CPR", "1"),
        ("BROWSER", "true"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("GIT_EDITOR", "true"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("HF_HUB_OFFLINE", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("OPENBLAS_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("NO_PROXY", "*"),
        ("OLLAMA_API_BASE", &plan.gateway_url),
        ("GIT_CONFIG_GLOBAL", &places.git_config),
        ("SQUAD_AGENT_DIR", &places.dir),
        ("SQUAD_AGENT_HOME", &places.home),
        ("SQUAD_COMMIT_SUBJECT", &places.subject),
        ("SQUAD_CUE_NONCE", &plan.nonce),
        ("SQUAD_SLOT", &plan.slot.to_string()),
        ("SQUAD_PORT", &plan.port.to_string()),
    ] {
        set(name, value);
    }
    set("GIT_CONFIG_COUNT", &GIT_OVERRIDES.len().to_string());
    for (index, (key, value)) in GIT_OVERRIDES.iter().enumerate() {
        set(&format!("GIT_CONFIG_KEY_{index}"), key);
        set(&format!("GIT_CONFIG_VALUE_{index}"), value);
    }
    env
}

fn files(plan: &AgentPlan, places: &Places) -> Result<Vec<(PathBuf, String)>, UnusablePath> {
    let subject = plan.commit_subject.lines().next().unwrap_or_default();
    let files = [
        (&places.launcher, LAUNCHER.to_owned()),
        (&places.settings, model_settings(plan)),
        (&places.metadata, model_metadata(plan)),
        (&places.git_config, git_config(plan)?),
        (&places.subject, format!("{subject}\n")),
    ]
    .map(|(path, text)| (PathBuf::from(path), text));
    Ok(files.into())
}

#[cfg(test)]
#[path = "flavour_tests.rs"]
mod tests;
