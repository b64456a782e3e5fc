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
    /// Where it listens, `http://127.0.0.1:PORT`; empty before it does.
    pub address: String,
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
    /// Tokens a second that came from all endpoints within the last seconds.
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
    /// GPU memory that its models may take, bytes, where that is known.
    pub room: Option<u64>,
    /// The part of it that no model has taken, bytes; endpoints that share a GPU share it.
    pub free: Option<u64>,
    /// What a model that is not among `models` would meet, if something has to go for it.
    pub stranger: Option<Ahead>,
    /// Models with a request, a residency or a history on it.
    pub models: BTreeMap<ModelName, ModelLoad>,
}

/// What a request that came now would meet before it is served, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ahead {
    /// Until its model could take it, were it in memory.
    pub queue_ms: u64,
    /// What is left of loading its model; 0 when it is in memory.
    pub load_ms: u64,
    /// What unloading others for it costs, with their reloads as far as they will be needed.
    pub evict_ms: u64,
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
    /// What a request that came now would wait, the load of its model included, milliseconds.
    pub predicted_wait_ms: u64,
    /// The same in its parts, where the gateway has told them.
    pub ahead: Option<Ahead>,
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

impl GatewayReport {
    /// What the gateway says of a model on an endpoint.
    pub fn load(&self, endpoint: &EndpointName, model: &ModelName) -> Option<&ModelLoad> {
        self.endpoints.get(endpoint)?.models.get(model)
    }

    /// `3 swaps in 45 s, 9 avoided, 120 s saved`
    pub fn swaps_in_words(&self) -> String {
        let seconds = |millis: u64| millis.div_ceil(1_000);
        format!(
            "{} swaps in {} s, {} avoided, {} s saved",
            self.swaps,
            seconds(self.swap_ms),
            self.swaps_avoided,
            seconds(self.avoided_ms)
        )
    }
}

impl EndpointLoad {
    /// Requests that are served and that wait there.
    pub fn requests(&self) -> (u32, u32) {
        self.models
            .values()
            .fold((0, 0), |(running, queued), load| {
                (running + load.running, queued + load.queued)
            })
    }
}

impl ModelLoad {
    /// `busy 2/4, 3 queued`
    pub fn words(&self) -> String {
        let running = if self.running > 0 && self.slots > 0 {
            format!(" {}/{}", self.running, self.slots)
        } else {
            String::new()
        };
        let queued = if self.queued > 0 {
            format!(", {} queued", self.queued)
        } else {
            String::new()
        };
        format!("{}{running}{queued}", self.state.as_str())
    }
}

impl RunnerState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Unloading => "unloading",
        }
    }
}

impl BreakerState {
    /// What it keeps from passing, if it does.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Closed => None,
            Self::HalfOpen => Some("breaker half open: one request tries".into()),
            Self::Open { why, retry_ms } => Some(format!(
                "breaker open, tried in {} s: {why}",
                retry_ms.div_ceil(1_000)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_said_with_what_runs_and_what_waits() {
        let mut load = ModelLoad {
            slots: 4,
            ..ModelLoad::default()
        };
        assert_eq!(load.words(), "installed");
        load.state = RunnerState::Busy;
        load.running = 2;
        load.queued = 3;
        assert_eq!(load.words(), "busy 2/4, 3 queued");
    }

    #[test]
    fn an_open_breaker_says_why_and_until_when() {
        let open = BreakerState::Open {
            why: "refused".into(),
            retry_ms: 7_100,
        };
        assert_eq!(open.words().unwrap(), "breaker open, tried in 8 s: refused");
        assert_eq!(BreakerState::Closed.words(), None);
    }
}
