//! Scenario files: the models, the server's settings, scripted replies and faults, as TOML.
//!
//! The format is documented in `docs/simulator.md`. Unknown keys are errors with their line.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::coder::Script;
use super::units::{bytes, duration, optional_duration};

/// What a simulated server is like.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `[server]`
    #[serde(default)]
    pub(super) server: ServerSpec,
    /// `[[model]]`
    #[serde(default, rename = "model")]
    pub(super) models: Vec<ModelSpec>,
    /// `[[fault]]`
    #[serde(default, rename = "fault")]
    pub(super) faults: Vec<FaultSpec>,
    /// `[[reply]]`
    #[serde(default, rename = "reply")]
    pub(super) replies: Vec<ReplySpec>,
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The text is wrong.
    #[error("{path}:{line}: {message}")]
    Invalid {
        /// File.
        path: String,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No built-in scenario of that name.
    #[error(
        "there is no built-in scenario {name:?}; there are: {}",
        builtin_names()
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// File.
        path: String,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
}

/// Built-in scenarios by name.
const BUILTIN: [(&str, &str); 1] = [(
    "default",
    include_str!("../../assets/scenarios/default.toml"),
)];

fn builtin_names() -> String {
    let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// `[server]`: what Ollama takes from its environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerSpec {
    pub(super) version: String,
    /// `OLLAMA_NUM_PARALLEL`
    pub(super) num_parallel: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`
    pub(super) max_loaded: usize,
    /// `OLLAMA_MAX_QUEUE`
    pub(super) max_queue: usize,
    /// `OLLAMA_KEEP_ALIVE`
    #[serde(deserialize_with = "duration")]
    pub(super) keep_alive: Duration,
    /// `OLLAMA_CONTEXT_LENGTH`
    pub(super) context_length: u64,
    /// Bytes of GPU memory; 0 is a machine without a GPU.
    #[serde(deserialize_with = "bytes")]
    pub(super) vram: u64,
    /// From the end of a runner until its memory is free.
    #[serde(deserialize_with = "duration")]
    pub(super) evict_time: Duration,
    /// Seed of everything that is drawn.
    pub(super) seed: u64,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            version: "0.32.15".into(),
            num_parallel: 1,
            max_loaded: 3,
            max_queue: 512,
            keep_alive: Duration::from_secs(300),
            context_length: 4_096,
            vram: 0,
            evict_time: Duration::ZERO,
            seed: 1,
        }
    }
}

/// `[[model]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelSpec {
    pub(super) name: String,
    #[serde(deserialize_with = "bytes")]
    pub(super) size: u64,
    /// `7.6B`
    pub(super) parameters: String,
    /// Exact number, when it differs from the words.
    #[serde(default)]
    pub(super) parameter_count: Option<u64>,
    #[serde(default = "Defaults::quantisation")]
    pub(super) quantisation: String,
    #[serde(default = "Defaults::family")]
    pub(super) family: String,
    /// Trained context.
    #[serde(default = "Defaults::context")]
    pub(super) context: u64,
    #[serde(default = "Defaults::embedding_length")]
    pub(super) embedding_length: u64,
    #[serde(default = "Defaults::blocks")]
    pub(super) blocks: u64,
    #[serde(default = "Defaults::capabilities")]
    pub(super) capabilities: Vec<String>,
    /// Digest of the manifest; made from the name when missing.
    #[serde(default)]
    pub(super) digest: Option<String>,
    /// Name of the weights; models with the same share one runner. The name when missing.
    #[serde(default)]
    pub(super) blob: Option<String>,
    /// Model that this one was made from.
    #[serde(default)]
    pub(super) parent: String,
    #[serde(default = "Defaults::modified_at")]
    pub(super) modified_at: String,
    /// `num_ctx` in the model's own parameters.
    #[serde(default)]
    pub(super) num_ctx: Option<u64>,
    #[serde(default)]
    pub(super) temperature: Option<f64>,
    #[serde(default)]
    pub(super) system: Option<String>,
    #[serde(default)]
    pub(super) stop: Vec<String>,
    #[serde(default)]
    pub(super) template: Template,
    #[serde(default)]
    pub(super) voice: Voice,
    /// Tokens after which the voice `ends` ends.
    #[serde(default = "Defaults::length")]
    pub(super) length: usize,
    /// Tokens per second of one answer.
    #[serde(default = "Defaults::rate")]
    pub(super) rate: f64,
    /// Tokens per second of prompt.
    #[serde(default = "Defaults::prefill")]
    pub(super) prefill: f64,
    #[serde(default = "Defaults::load_time", deserialize_with = "duration")]
    pub(super) load_time: Duration,
    /// Bytes of memory for each token of context and slot.
    #[serde(default = "Defaults::kv_per_token", deserialize_with = "bytes")]
    pub(super) kv_per_token: u64,
    #[serde(default = "Defaults::chars_per_token")]
    pub(super) chars_per_token: f64,
}

struct Defaults;

impl Defaults {
    fn quantisation() -> String {
        "Q4_K_M".into()
    }
    fn family() -> String {
        "llama".into()
    }
    fn context() -> u64 {
        32_768
    }
    fn embedding_length() -> u64 {
        4_096
    }
    fn blocks() -> u64 {
        32
    }
    fn capabilities() -> Vec<String> {
        vec!["completion".into()]
    }
    fn modified_at() -> String {
        "2026-01-01T00:00:00Z".into()
    }
    fn length() -> usize {
        240
    }
    fn rate() -> f64 {
        60.0
    }
    fn prefill() -> f64 {
        2_000.0
    }
    fn load_time() -> Duration {
        Duration::from_millis(500)
    }
    fn kv_per_token() -> u64 {
        128 << 10
    }
    fn chars_per_token() -> f64 {
        4.0
    }
}

/// Where the prompt is put together: it decides what happens to one that is too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Template {
    /// Go template: the prompt is cut silently.
    #[default]
    Go,
    /// Jinja template: the request is refused.
    Jinja,
}

/// How a model talks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Voice {
    /// Answers Aider.
    #[default]
    Coder,
    /// Made-up words, for ever.
    Endless,
    /// Made-up words that end by themselves.
    Ends,
    /// Always the same word.
    Loop,
}

/// `[[fault]]`: what goes wrong, and when.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultSpec {
    /// What.
    pub(super) kind: FaultKind,
    /// Only requests for this model.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// Only requests to this path; all requests for an answer when missing.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// Only requests that contain this text.
    #[serde(default)]
    pub(super) prompt: Option<String>,
    /// Only the nth matching request, counted from 1.
    #[serde(default)]
    pub(super) nth: Option<u64>,
    /// Only every nth matching request.
    #[serde(default)]
    pub(super) every: Option<u64>,
    /// Only this share of matching requests.
    #[serde(default)]
    pub(super) probability: Option<f64>,
    /// At most so many times.
    #[serde(default)]
    pub(super) times: Option<u64>,
    /// Tokens before it happens.
    #[serde(default)]
    pub(super) after: usize,
    /// HTTP status, for `status`.
    #[serde(default = "FaultSpec::default_status")]
    pub(super) status: u16,
    /// Error text.
    #[serde(default)]
    pub(super) message: Option<String>,
    /// Load time, for `slow-load`.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(super) load_time: Option<Duration>,
}

impl FaultSpec {
    fn default_status() -> u16 {
        500
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultKind {
    /// An error status instead of an answer.
    Status,
    /// No more bytes, connection open.
    Stall,
    /// The connection is cut in the middle of the answer.
    Cut,
    /// A last line with an error.
    ErrorLine,
    /// A line that is no JSON, then the rest.
    MalformedLine,
    /// A clean end without a line with `done`.
    NoDone,
    /// An answer without text.
    Empty,
    /// All of the answer as thoughts.
    ThinkingOnly,
    /// A load that takes long.
    SlowLoad,
    /// The connection is closed without an answer.
    Refuse,
    /// The runner dies: an error line, and the next request loads again.
    RunnerKilled,
}

/// `[[reply]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplySpec {
    /// Part of the user's message.
    pub(super) prompt: String,
    /// Only for this model.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// Text or directives.
    pub(super) answer: String,
}

impl Scenario {
    /// Reads a scenario; `path` only appears in errors.
    pub fn parse(text: &str, path: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            ScenarioError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                message: error.message().to_owned(),
            }
        })?;
        scenario.check(text, path)?;
        Ok(scenario)
    }

    /// Reads a scenario file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(source) => Err(ScenarioError::Unreadable { path: name, source }),
        }
    }

    /// A scenario that comes with the program: `default`.
    pub fn builtin(name: &str) -> Result<Self, ScenarioError> {
        let found = BUILTIN.iter().find(|(known, _)| *known == name);
        let Some((_, text)) = found else {
            return Err(ScenarioError::Unknown { name: name.into() });
        };
        Self::parse(text, &format!("{name}.toml"))
    }

    /// The same scenario with more scripted replies, tried before its own.
    #[must_use]
    pub fn with_replies(mut self, replies: impl IntoIterator<Item = (String, String)>) -> Self {
        let more = replies.into_iter().map(|(prompt, answer)| ReplySpec {
            prompt,
            model: None,
            answer,
        });
        self.replies = more.chain(std::mem::take(&mut self.replies)).collect();
        self
    }

    pub(super) fn scripts(&self) -> Vec<Script> {
        let scripts = self.replies.iter().map(|reply| Script {
            prompt: reply.prompt.clone(),
            model: reply.model.clone(),
            answer: reply.answer.clone(),
        });
        scripts.collect()
    }

    /// What TOML's types cannot say.
    fn check(&self, text: &str, path: &str) -> Result<(), ScenarioError> {
        let invalid = |message: String, name: &str| {
            let quoted = format!("{name:?}");
            let at = text.lines().position(|line| line.contains(&quoted));
            Err(ScenarioError::Invalid {
                path: path.to_owned(),
                line: at.map_or(1, |index| index + 1),
                message,
            })
        };
        for (index, model) in self.models.iter().enumerate() {
            if self.models.iter().take(index).any(|m| m.name == model.name) {
                return invalid(format!("model {} is there twice", model.name), &model.name);
            }
            for (key, value) in [
                ("rate", model.rate),
                ("prefill", model.prefill),
                ("chars_per_token", model.chars_per_token),
            ] {
                if !(value.is_finite() && value > 0.0) {
                    let message = format!("{key} of {} must be above 0", model.name);
                    return invalid(message, &model.name);
                }
            }
        }
        if self.server.num_parallel == 0
            || self.server.max_loaded == 0
            || self.server.max_queue == 0
        {
            return invalid(
                "num_parallel, max_loaded and max_queue must be at least 1".into(),
                "server",
            );
        }
        if self
            .faults
            .iter()
            .any(|fault| !(100..=599).contains(&fault.status))
        {
            return invalid("status must be from 100 to 599".into(), "status");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            (
                "[server]\nparalel = 2\n",
                "s.toml:2: unknown field `paralel`",
            ),
            (
                "[server]\nvram = \"9 apples\"\n",
                "s.toml:2: \"9 apples\" is not a size",
            ),
            (
                "[server]\nmax_queue = 0\n",
                "s.toml:1: num_parallel, max_loaded",
            ),
            (
                "[[model]]\nname = \"a\"\nsize = 1\nparameters = \"1B\"\nrate = 0.0\n",
                "s.toml:2: rate of a must be above 0",
            ),
            (
                "[[fault]]\nkind = \"flood\"\n",
                "s.toml:2: unknown variant `flood`",
            ),
            ("[[reply]]\nprompt = 3\n", "s.toml:2: invalid type"),
        ];
        for (text, expected) in cases {
            let error = Scenario::parse(text, "s.toml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn every_builtin_scenario_is_valid() {
        for (name, _) in BUILTIN {
            assert!(
                !Scenario::builtin(name).unwrap().models.is_empty(),
                "{name}"
            );
        }
        let error = Scenario::builtin("none").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no built-in scenario \"none\"; there are: default"
        );
    }
}
