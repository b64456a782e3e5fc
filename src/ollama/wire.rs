//! Ollama's JSON, as 0.32 writes it; fields that older servers leave out are optional.
//!
//! Durations are whole nanoseconds, times RFC 3339, sizes bytes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Reads `null` as the default: Go writes an empty slice as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `GET /api/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `0.32.15`
    pub version: String,
}

/// What a model file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The model this one was made from; empty for none.
    pub parent_model: String,
    /// `gguf`
    pub format: String,
    /// `qwen2`
    pub family: String,
    /// All families.
    #[serde(deserialize_with = "null_is_default")]
    pub families: Vec<String>,
    /// `7.6B`
    pub parameter_size: String,
    /// `Q4_K_M`
    pub quantization_level: String,
    /// Trained context; only in recent `/api/tags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Only in recent `/api/tags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
}

/// `GET /api/tags`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// Installed models, the newest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub models: Vec<TaggedModel>,
}

/// One installed model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedModel {
    /// Name with tag.
    pub name: String,
    /// The same.
    #[serde(default)]
    pub model: String,
    /// The model's name on another host: a cloud model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_model: Option<String>,
    /// That host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// When the name was last pointed somewhere.
    #[serde(default)]
    pub modified_at: String,
    /// Bytes on disk.
    #[serde(default)]
    pub size: u64,
    /// Digest of the manifest.
    #[serde(default)]
    pub digest: String,
    /// Details.
    #[serde(default)]
    pub details: Details,
    /// Only in recent versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

/// `GET /api/ps`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Loaded models, the latest expiry first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub models: Vec<RunningModel>,
}

/// One loaded model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningModel {
    /// Name with tag.
    pub name: String,
    /// The same.
    #[serde(default)]
    pub model: String,
    /// Bytes it takes.
    #[serde(default)]
    pub size: u64,
    /// Digest of the manifest.
    #[serde(default)]
    pub digest: String,
    /// Details.
    #[serde(default)]
    pub details: Details,
    /// When it is unloaded if nobody asks.
    #[serde(default)]
    pub expires_at: String,
    /// Bytes in GPU memory.
    #[serde(default)]
    pub size_vram: u64,
    /// Context of one slot; only since 0.11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
}

/// `POST /api/show`: the parts that are used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Show {
    /// The model file as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub modelfile: String,
    /// Parameters as text, one `name value` a line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Prompt template.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// System prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// Details.
    pub details: Details,
    /// Keys of the model file: `general.parameter_count`, `<arch>.context_length`, …
    pub model_info: Map<String, Value>,
    /// Tensors by name, type and shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<Value>,
    /// What the model can do.
    pub capabilities: Vec<String>,
    /// When the name was last pointed somewhere.
    pub modified_at: String,
}

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    #[serde(default)]
    pub role: String,
    /// Text.
    #[serde(default, deserialize_with = "null_is_default")]
    pub content: String,
    /// What a thinking model thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
}

impl Message {
    /// A message.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            thinking: None,
        }
    }
}

/// `POST /api/chat`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model.
    pub model: String,
    /// The conversation; empty loads the model only.
    pub messages: Vec<Message>,
    /// Answer line by line. Ollama's default is true.
    pub stream: bool,
    /// Options: `num_ctx`, `temperature`, …
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// How long the model stays loaded: seconds or a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
    /// Whether a thinking model thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
}

/// One line of an answer of `/api/chat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatLine {
    /// The model.
    pub model: String,
    /// When the line was made.
    pub created_at: String,
    /// A piece of the answer.
    pub message: Message,
    /// Whether this is the last line. A stream may end without one.
    pub done: bool,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<String>,
    /// Figures, only on the last line.
    #[serde(flatten)]
    pub timings: Option<Timings>,
}

/// The figures of the last line, nanoseconds and tokens.
///
/// `total − load − prompt_eval − eval` is the wait for a slot, which no field shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From the arrival of the request to its end.
    pub total_duration: u64,
    /// Until the model was there: waiting for other models and loading.
    pub load_duration: u64,
    /// Tokens of the prompt, cached ones included.
    #[serde(default)]
    pub prompt_eval_count: u64,
    /// Time for those that were not cached.
    #[serde(default)]
    pub prompt_eval_duration: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub eval_count: u64,
    /// Time for them.
    #[serde(default)]
    pub eval_duration: u64,
}

/// Every error of the native API; also a line of a stream whose status is already 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: String,
}
