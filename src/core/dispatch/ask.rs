//! What the dispatcher is told and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::runners::EndpointLoad;
use crate::core::served::Swap;
use crate::core::task::Priority;

/// Time since an arbitrary start, on a clock that only goes forward.
pub type Moment = Duration;

/// Names a request from [`Ask`] to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A model on an endpoint with the options it is loaded with. The same model with another context
/// is another runner of the same weights: going from one to the other is a reload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Runner {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The model.
    pub model: ModelName,
    /// `num_ctx`, tokens.
    pub context: u32,
}

impl Runner {
    /// Whether both are the same weights on the same endpoint, of which only one can be loaded.
    pub fn is_same_model(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.model == other.model
    }
}

/// Whether a person looks at the agent that asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Focus {
    /// A person looks at it: it goes first.
    Focused,
    /// Nobody does.
    #[default]
    Background,
}

/// A request that wants to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Its name; never used again.
    pub id: RequestId,
    /// Whose it is: one flow of fair queueing, inside which order is kept. One for each agent.
    pub client: String,
    /// What it needs.
    pub runner: Runner,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether a person waits for it.
    pub focus: Focus,
    /// How long it will take once it is admitted, as far as can be predicted.
    pub work: Duration,
    /// Memory that the runner needs, bytes of VRAM; 0 when unknown.
    pub need: u64,
}

/// Something to do now. Each is given once, and reported back when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Send this request; say [`finished`](super::Dispatcher::finished) when it has ended.
    Admit {
        /// Which.
        id: RequestId,
        /// Counts the loads of this GPU: requests of one runner with equal epochs share a cache.
        epoch: u64,
        /// The swap that it has waited for.
        swap: Option<Swap>,
    },
    /// Load this runner on a connection of its own; say `loaded` or `load_failed`.
    Load {
        /// Which.
        runner: Runner,
        /// Other models that are to stay in memory; 0: it has the GPU to itself.
        beside: usize,
    },
    /// Unload this runner, which serves nobody; say `unloaded` once it is gone from memory, or
    /// `unload_stuck`.
    Unload {
        /// Which.
        runner: Runner,
    },
}

/// One line of an endpoint's list of loaded models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The model.
    pub model: ModelName,
    /// Context of one slot, tokens; 0 when the endpoint does not say.
    pub context: u32,
    /// Memory, bytes.
    pub size: u64,
    /// The part of it that is VRAM, bytes.
    pub size_vram: u64,
    /// When it will be unloaded if nobody asks; moves when a request starts or ends.
    pub expires_at: Timestamp,
}

/// What an endpoint said of a request that it served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceTiming {
    /// Until a runner was granted. Warm 1 to 100 ms; more means that the model was loaded again.
    pub load: Duration,
    /// Waiting for a slot inside the endpoint: total − load − prefill − decode.
    pub slot_wait: Duration,
    /// Reading the prompt.
    pub prefill: Duration,
    /// Generating.
    pub decode: Duration,
    /// Tokens generated.
    pub output_tokens: u64,
}

/// What a request for a runner would meet now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Until the runner would take it, its own load apart.
    pub queue: Duration,
    /// Its load; zero when it is resident.
    pub load: Duration,
    /// What unloading others for it costs, with their reloads as far as they will be needed.
    pub eviction: Duration,
    /// The load that it is resident since.
    pub epoch: Option<u64>,
}

/// How the dispatcher serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DispatchSettings {
    /// A batch is ended after this many swap times while others wait. 4 loses at most a fifth of
    /// a saturated GPU to swaps; 8 and 16 give little more and are less fair.
    pub quantum: u32,
    /// A swap before one was measured.
    pub swap: Duration,
    /// The longest wait at an idle resident model for its agents to come back.
    pub hold: Duration,
    /// The same as a part of a swap: one tenth.
    pub hold_part: u32,
}

impl Default for DispatchSettings {
    fn default() -> Self {
        Self {
            quantum: 4,
            swap: Duration::from_secs(10),
            hold: Duration::from_secs(2),
            hold_part: 10,
        }
    }
}

/// What the dispatcher knows of its endpoints, for the gateway's report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loads {
    /// By endpoint; breakers and rates are not the dispatcher's and stay at their defaults.
    pub endpoints: BTreeMap<EndpointName, EndpointLoad>,
    /// Swaps made.
    pub swaps: u64,
    /// What they took.
    pub swap_time: Duration,
    /// Swaps that serving in the order of arrival would have made on top.
    pub avoided: u64,
    /// What they would have taken, by the average of those that were made.
    pub avoided_time: Duration,
}
