//! `[[model]]` of a scenario.

use std::time::Duration;

use serde::Deserialize;

use crate::simulator::units::{bytes, optional_duration};

/// `[[model]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::simulator) struct ModelSpec {
    pub(in crate::simulator) name: String,
    #[serde(deserialize_with = "bytes")]
    pub(in crate::simulator) size: u64,
    /// `7.6B`
    pub(in crate::simulator) parameters: String,
    /// Exact number, when it differs from the words.
    #[serde(default)]
    pub(in crate::simulator) parameter_count: Option<u64>,
    #[serde(default = "Defaults::quantisation")]
    pub(in crate::simulator) quantisation: String,
    #[serde(default = "Defaults::family")]
    pub(in crate::simulator) family: String,
    /// Trained context.
    #[serde(default = "Defaults::context")]
    pub(in crate::simulator) context: u64,
    #[serde(default = "Defaults::embedding_length")]
    pub(in crate::simulator) embedding_length: u64,
    #[serde(default = "Defaults::blocks")]
    pub(in crate::simulator) blocks: u64,
    #[serde(default = "Defaults::capabilities")]
    pub(in crate::simulator) capabilities: Vec<String>,
    /// Digest of the manifest; made from the name when missing.
    #[serde(default)]
    pub(in crate::simulator) digest: Option<String>,
    /// Name of the weights; models with the same share one runner. The name when missing.
    #[serde(default)]
    pub(in crate::simulator) blob: Option<String>,
    /// Model that this one was made from.
    #[serde(default)]
    pub(in crate::simulator) parent: String,
    #[serde(default = "Defaults::modified_at")]
    pub(in crate::simulator) modified_at: String,
    /// `num_ctx` in the model's own parameters.
    #[serde(default)]
    pub(in crate::simulator) num_ctx: Option<u64>,
    #[serde(default)]
    pub(in crate::simulator) temperature: Option<f64>,
    #[serde(default)]
    pub(in crate::simulator) system: Option<String>,
    #[serde(default)]
    pub(in crate::simulator) stop: Vec<String>,
    #[serde(default)]
    pub(in crate::simulator) template: Template,
    #[serde(default)]
    pub(in crate::simulator) voice: Voice,
    /// Tokens after which the voice `ends` ends.
    #[serde(default = "Defaults::length")]
    pub(in crate::simulator) length: usize,
    /// Tokens per second of one answer.
    #[serde(default = "Defaults::rate")]
    pub(in crate::simulator) rate: f64,
    /// Tokens per second of prompt.
    #[serde(default = "Defaults::prefill")]
    pub(in crate::simulator) prefill: f64,
    /// What a load takes; from the disk's pace when missing.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(in crate::simulator) load_time: Option<Duration>,
    /// Bytes of memory for each token of context and slot.
    #[serde(default = "Defaults::kv_per_token", deserialize_with = "bytes")]
    pub(in crate::simulator) kv_per_token: u64,
    /// Bytes of memory that the server's prediction leaves out.
    #[serde(default, deserialize_with = "bytes")]
    pub(in crate::simulator) overhead: u64,
    /// Slots, whatever the server says.
    #[serde(default)]
    pub(in crate::simulator) parallel: Option<usize>,
    /// Host that really answers: a cloud model, which is never loaded here.
    #[serde(default)]
    pub(in crate::simulator) remote_host: Option<String>,
    #[serde(default = "Defaults::chars_per_token")]
    pub(in crate::simulator) chars_per_token: f64,
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
pub(in crate::simulator) enum Template {
    /// Go template: the prompt is cut silently.
    #[default]
    Go,
    /// Jinja template: the request is refused.
    Jinja,
}

/// How a model talks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::simulator) enum Voice {
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

/// Families that Ollama runs with one slot whatever is set (`server/sched.go`).
const ONE_SLOT: [&str; 11] = [
    "mllama",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "nemotron_h_omni",
];

impl ModelSpec {
    /// Slots of a runner of this model on a server that gives `parallel`.
    pub(in crate::simulator) fn slots(&self, parallel: usize) -> usize {
        let is_embedding = self.capabilities.iter().any(|word| word == "embedding");
        let is_one = is_embedding || ONE_SLOT.contains(&self.family.as_str());
        match self.parallel {
            Some(slots) => slots.max(1),
            None if is_one => 1,
            None => parallel,
        }
    }

    /// Name of the weights.
    pub(in crate::simulator) fn weights(&self) -> &str {
        self.blob.as_deref().unwrap_or(&self.name)
    }
}
