//! An endpoint: one Ollama server, and what the last look at it showed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::model::{Model, ModelName, Residency};

/// An endpoint's short unique name, as configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointName(pub String);

impl EndpointName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for EndpointName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// What the last look at an endpoint says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum EndpointHealth {
    /// It could not be asked; a failed probe is neither health nor an error of the endpoint's.
    Unknown {
        /// What went wrong, for a person.
        why: String,
    },
    /// It answered.
    Ok,
}

impl EndpointHealth {
    /// The health of an endpoint that has not been asked yet.
    pub fn not_asked() -> Self {
        Self::Unknown {
            why: "not asked yet".into(),
        }
    }

    /// Whether anybody has looked.
    pub fn was_asked(&self) -> bool {
        *self != Self::not_asked()
    }

    /// Whether the last look was answered.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Ok => true,
            Self::Unknown { .. } => false,
        }
    }
}

/// One endpoint. While its health is unknown, models and residency are those last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Base URL, `http://127.0.0.1:11434`.
    pub url: String,
    /// Server version.
    pub version: Option<String>,
    /// What the last look says.
    pub health: EndpointHealth,
    /// When the last answered look was.
    pub seen_at: Option<Timestamp>,
    /// Installed models.
    pub models: BTreeMap<ModelName, Model>,
    /// Models that are loaded.
    pub resident: BTreeMap<ModelName, Residency>,
}

impl Endpoint {
    /// An endpoint that has not been asked yet.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            version: None,
            health: EndpointHealth::not_asked(),
            seen_at: None,
            models: BTreeMap::new(),
            resident: BTreeMap::new(),
        }
    }

    /// The installed model of that name, compared as Ollama does.
    pub fn model(&self, name: &ModelName) -> Option<&Model> {
        self.models
            .get(name)
            .or_else(|| self.models.values().find(|model| model.name.is_same(name)))
    }
}
