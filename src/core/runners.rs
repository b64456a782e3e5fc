//! What the gateway says of the endpoints and the models on them: residency, load, health.
//!
//! The gateway publishes a whole report when something changes, at most twice a second; the engine
//! chooses models by it and the dashboards show it.
//!
//! Invariant: pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointName;
use super::model::ModelName;

/// Everything the gateway says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatewayReport {
    /// By endpoint.
    pub endpoints: BTreeMap<EndpointName, EndpointLoad>,
    /// Swaps made since the server started.
    pub swaps: u64,
    /// Time they took, milliseconds.
    pub swap_ms: u64,
    /// Swaps that serving in the order of arrival would have made on top.
    pub swaps_avoided: u64,
    /// What those would have taken, milliseconds.
    pub avoided_ms: u64,
    /// Requests that ended, since the server started.
    pub served: u64,
    /// Tokens generated, since the server started.
    pub output_tokens: u64,
    /// Tokens a second that all endpoints generate now.
    pub rate: f32,
}

/// One endpoint as the gateway sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointLoad {
    /// Its breaker.
    pub breaker: BreakerState,
    /// Traffic that is not ours was noticed within the last minute.
    pub foreign: bool,
    /// Models with a request, a residency or a history on it.
    pub models: BTreeMap<ModelName, ModelLoad>,
}

/// One model on one endpoint as the gateway sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelLoad {
    /// Where it is.
    pub state: RunnerState,
    /// `num_ctx` that it is loaded with, tokens.
    pub context: Option<u32>,
    /// Counts its loads.
    pub epoch: u64,
    /// Its slots, configured or inferred.
    pub slots: u16,
    /// Requests that it serves.
    pub running: u32,
    /// Requests that wait for it.
    pub queued: u32,
    /// What a request that came now would wait, milliseconds.
    pub predicted_wait_ms: u64,
    /// Prefill, learned, milliseconds a token.
    pub prefill_ms: Option<f64>,
    /// Generation, learned, milliseconds a token.
    pub decode_ms: Option<f64>,
    /// A load of it, learned, milliseconds.
    pub load_ms: Option<u64>,
    /// Its own breaker on this endpoint.
    pub breaker: BreakerState,
    /// What is wrong with it, in words: it runs on the CPU, it cannot be unloaded.
    pub trouble: Option<String>,
}

/// Where a model is on an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunnerState {
    /// On disk.
    #[default]
    Installed,
    /// On its way into memory.
    Loading,
    /// In memory, serving nobody.
    Idle,
    /// In memory, serving.
    Busy,
    /// On its way out of memory.
    Unloading,
}

/// Whether requests may go there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum BreakerState {
    /// They may.
    #[default]
    Closed,
    /// One tries whether they may again.
    HalfOpen,
    /// They may not.
    Open {
        /// Why.
        why: String,
        /// Until it is tried again, milliseconds.
        retry_ms: u64,
    },
}
