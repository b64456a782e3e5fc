//! What is known of a model: identity, size, abilities, and whether it is loaded.
//!
//! Source: `GET /api/tags`, `POST /api/show` and `GET /api/ps` of an Ollama server. Whatever an
//! older server leaves out is `None` or empty here, which means unknown, never zero.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::vram::Architecture;

/// A model's name as Ollama writes it, always with a tag: `qwen2.5-coder:7b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelName(String);

impl ModelName {
    /// The name with surrounding space removed and `:latest` added where the tag is missing.
    pub fn new(name: &str) -> Self {
        let name = name.trim();
        let last = name.rsplit('/').next().unwrap_or(name);
        if last.contains(':') {
            Self(name.to_owned())
        } else {
            Self(format!("{name}:latest"))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both name the same model: Ollama compares names without regard to case.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for ModelName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// What a model can be used for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Capability {
    /// Text generation.
    Completion,
    /// Tool calls.
    Tools,
    /// Fill in the middle.
    Insert,
    /// Images as input.
    Vision,
    /// Embeddings.
    Embedding,
    /// A separate thinking phase.
    Thinking,
    /// One that this version has no name for.
    Other(String),
}

impl From<String> for Capability {
    fn from(word: String) -> Self {
        match word.as_str() {
            "completion" => Self::Completion,
            "tools" => Self::Tools,
            "insert" => Self::Insert,
            "vision" => Self::Vision,
            "embedding" => Self::Embedding,
            "thinking" => Self::Thinking,
            _ => Self::Other(word),
        }
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        match capability {
            Capability::Completion => "completion".into(),
            Capability::Tools => "tools".into(),
            Capability::Insert => "insert".into(),
            Capability::Vision => "vision".into(),
            Capability::Embedding => "embedding".into(),
            Capability::Thinking => "thinking".into(),
            Capability::Other(word) => word,
        }
    }
}

/// One installed model of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// Digest of its manifest: the same name with another digest is another model.
    pub digest: String,
    /// Bytes on disk.
    pub size: u64,
    /// Number of parameters.
    pub parameters: Option<u64>,
    /// The same as Ollama words it: `7.6B`.
    pub parameter_size: String,
    /// Quantisation: `Q4_K_M`.
    pub quantisation: String,
    /// Family: `qwen2`.
    pub family: String,
    /// Context it was trained for, tokens.
    pub context_length: Option<u32>,
    /// What it can do; empty when the server does not say.
    pub capabilities: BTreeSet<Capability>,
    /// It runs elsewhere (a cloud model): prompts would leave the endpoint.
    pub remote: bool,
    /// How it is built; none until its endpoint was asked.
    #[serde(default)]
    pub architecture: Option<Architecture>,
    /// What else its endpoint says of it; kept in memory only.
    #[serde(skip)]
    pub shown: Option<Arc<Shown>>,
}

/// What an endpoint says of a model that only other clients want to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Prompt template.
    pub template: String,
    /// System prompt.
    pub system: String,
    /// Parameters as text, one `name value` a line.
    pub parameters: String,
    /// `gguf`.
    pub format: String,
    /// All families.
    pub families: Vec<String>,
    /// The model it was made from; empty for none.
    pub parent: String,
    /// Keys of the model file, as a JSON object.
    pub info: String,
    /// When its name was last pointed somewhere, RFC 3339.
    pub modified_at: String,
}

impl Model {
    /// Whether it can hold a conversation. An embedding-only model cannot.
    pub fn can_chat(&self) -> bool {
        if self.capabilities.is_empty() {
            // Servers before 0.6 report no capabilities; their embedding models are BERT-like.
            return !self.family.contains("bert") && !self.name.as_str().contains("embed");
        }
        self.capabilities.contains(&Capability::Completion)
    }

    /// Whether a context of `tokens` is within what it was trained for (unknown: assumed).
    pub fn fits(&self, tokens: u32) -> bool {
        self.context_length.is_none_or(|trained| trained >= tokens)
    }

    /// Order of ability: parameters, then bytes, then name.
    pub fn ability(&self) -> (u64, u64, &ModelName) {
        let counted = self.parameters;
        let worded = || parse_parameter_size(&self.parameter_size);
        (counted.or_else(worded).unwrap_or(0), self.size, &self.name)
    }
}

/// A model that is loaded on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// Bytes it takes, weights and context together.
    pub size: u64,
    /// Bytes of them in GPU memory; less than `size` means that a part runs on the CPU.
    pub size_vram: u64,
    /// Context of one slot, tokens.
    pub context_length: Option<u32>,
    /// When it is unloaded if nobody asks for it.
    pub expires_at: Option<Timestamp>,
}

/// Reads `7.6B`, `713K`, `117.92M`, `1.2T` as a number of parameters.
pub fn parse_parameter_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = text.chars().last()?;
    let factor: f64 = match unit.to_ascii_uppercase() {
        'K' => 1e3,
        'M' => 1e6,
        'B' => 1e9,
        'T' => 1e12,
        digit if digit.is_ascii_digit() => 1.0,
        _ => return None,
    };
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value = number.parse::<f64>().ok()? * factor;
    if !(0.0..1e18).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie in 0..1e18 just above"
    )]
    Some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        assert_eq!(ModelName::new("llama3").as_str(), "llama3:latest");
        assert_eq!(
            ModelName::new(" hf.co:443/a/b ").as_str(),
            "hf.co:443/a/b:latest"
        );
        assert_eq!(ModelName::new("a/b:7b").as_str(), "a/b:7b");
        assert!(ModelName::new("LLAMA3:8B").is_same(&"llama3:8b".into()));
    }

    #[test]
    fn parameter_sizes_are_read_in_every_unit() {
        assert_eq!(parse_parameter_size("7.6B"), Some(7_600_000_000));
        assert_eq!(parse_parameter_size("713K"), Some(713_000));
        assert_eq!(parse_parameter_size("117.92M"), Some(117_920_000));
        assert_eq!(parse_parameter_size("42"), Some(42));
        for wrong in ["", "B", "x7B", "-1B", "7 GiB"] {
            assert_eq!(parse_parameter_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_capability_without_a_name_here_survives_a_round_trip() {
        let text = r#"["completion","audio"]"#;
        let parsed: BTreeSet<Capability> = serde_json::from_str(text).unwrap();
        assert!(parsed.contains(&Capability::Other("audio".into())));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
    }
}
