//! The facts of a model's build that decide how much memory its context takes.

use serde::{Deserialize, Serialize};

/// What a model file says of itself; whatever it leaves out is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Architecture {
    /// Its name: `llama`, `qwen2`, `gemma3`.
    pub name: String,
    /// Layers (`block_count`).
    pub layers: Option<u32>,
    /// Attention heads (`attention.head_count`), the most of any layer.
    pub heads: Option<u32>,
    /// Key and value heads of all layers together (`attention.head_count_kv`); a layer without
    /// attention has none.
    pub kv_heads: Option<u32>,
    /// The fewest of a layer that has any.
    pub kv_heads_least: Option<u32>,
    /// Numbers in one head's key (`attention.key_length`).
    pub key_length: Option<u32>,
    /// Numbers in one head's value (`attention.value_length`).
    pub value_length: Option<u32>,
    /// Numbers in a token's embedding (`embedding_length`).
    pub embedding: Option<u32>,
    /// Tokens it knows (`vocab_size`).
    pub vocabulary: Option<u32>,
    /// Tokens that a layer with a sliding window sees (`attention.sliding_window`).
    pub window: Option<u32>,
    /// Layers with such a window; none when it is not known, which counts as no layer.
    pub window_layers: Option<u32>,
    /// Numbers that recurrent layers keep for each sequence, all layers together (`ssm.*`).
    pub recurrent: Option<u64>,
}

impl Architecture {
    /// Numbers in one head's key: what is said, else the embedding divided by the heads.
    pub fn key(&self) -> Option<u32> {
        self.key_length.or_else(|| self.head())
    }

    /// Numbers in one head's value.
    pub fn value(&self) -> Option<u32> {
        self.value_length.or_else(|| self.head())
    }

    pub(super) fn head(&self) -> Option<u32> {
        self.embedding?.checked_div(self.heads?)
    }

    /// Whether Ollama serves it one request at a time whatever `OLLAMA_NUM_PARALLEL` says.
    ///
    /// Source: the families that Ollama 0.30 to 0.33 forces to one sequence.
    pub fn is_single_slot(&self) -> bool {
        const FAMILIES: [&str; 8] = [
            "mllama",
            "qwen3vl",
            "qwen35",
            "qwen3next",
            "lfm2",
            "nemotron_h",
            "bert",
            "nomic-bert",
        ];
        FAMILIES
            .iter()
            .any(|family| self.name == *family || self.name == format!("{family}moe"))
            || self.name.starts_with("nemotron_h_")
    }
}
