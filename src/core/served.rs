//! One request that passed the gateway, whole: what the flight recorder writes and what all that
//! is learned (rates, waits, characters per token, outcomes) is learned from.
//!
//! Times are microseconds, because a gateway's own share of a request is less than a millisecond.
//!
//! Invariant: pure data; fields are only ever added, with a default, so that old logs stay
//! readable.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointName;
use super::ids::{AgentSlot, TaskId};
use super::model::ModelName;
use super::task::{Category, Priority};
use super::time::Timestamp;

/// A wait inside the endpoint that means "no slot was free"; below it is noise of its scheduler.
const SLOT_WAIT: Duration = Duration::from_millis(200);

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Counted from 1 for each server.
    pub id: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// Who asked: an agent's job, or the name of another client.
    pub client: String,
    /// The agent.
    #[serde(default)]
    pub agent: Option<AgentSlot>,
    /// The task it worked on.
    #[serde(default)]
    pub task: Option<TaskId>,
    /// The attempt at it.
    #[serde(default)]
    pub attempt: u32,
    /// What kind of work it was.
    #[serde(default)]
    pub category: Category,
    /// How urgent it was.
    #[serde(default)]
    pub priority: Priority,
    /// The model that answered, or was to.
    pub model: ModelName,
    /// The task says which model, or by which rule: the router's strategy had no say.
    #[serde(default)]
    pub named: bool,
    /// Digest of the model's manifest.
    #[serde(default)]
    pub digest: String,
    /// The endpoint that answered last, or was to.
    pub endpoint: EndpointName,
    /// `num_ctx` that was written into it, tokens.
    #[serde(default)]
    pub context: u32,
    /// Counts the loads of this runner: equal epochs share a prefix cache.
    #[serde(default)]
    pub epoch: u64,
    /// Hash of the conversation's first messages: equal ones are one conversation.
    #[serde(default)]
    pub conversation: u64,
    /// Characters of the prompt.
    #[serde(default)]
    pub prompt_chars: u64,
    /// Tokens of the prompt as estimated before it was sent.
    #[serde(default)]
    pub estimated_tokens: u64,
    /// Tokens of the prompt as the endpoint counted them.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the prompt that the endpoint had in its cache, as far as can be inferred.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub output_tokens: u64,
    /// From arrival until a slot was free, µs.
    #[serde(default)]
    pub queue_us: u64,
    /// Part of the waiting in which a model was unloaded and loaded for it, µs.
    #[serde(default)]
    pub load_us: u64,
    /// From arrival to the first token, µs; none when none came.
    #[serde(default)]
    pub first_token_us: Option<u64>,
    /// From arrival to the end, µs.
    pub total_us: u64,
    /// Until the endpoint had a runner for it, µs: a millisecond when the model was loaded.
    #[serde(default)]
    pub runner_load_us: u64,
    /// Prefill as the endpoint timed it, µs.
    #[serde(default)]
    pub prefill_us: u64,
    /// Generation as the endpoint timed it, µs.
    #[serde(default)]
    pub decode_us: u64,
    /// Waiting for a slot inside the endpoint (`total − load − prefill − decode`), µs.
    #[serde(default)]
    pub slot_wait_us: u64,
    /// Times it was sent to an endpoint.
    #[serde(default)]
    pub tries: u32,
    /// The swap that it waited for.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// The endpoint cut its prompt without saying so.
    #[serde(default)]
    pub cut: bool,
    /// How it ended.
    pub outcome: Outcome,
}

impl Served {
    /// Waiting inside the endpoint because it had no slot free, although one was thought to be.
    pub fn slot_wait(&self) -> Duration {
        let wait = Duration::from_micros(self.slot_wait_us);
        if wait >= SLOT_WAIT {
            wait
        } else {
            Duration::ZERO
        }
    }

    /// From arrival until it was served, wherever it waited.
    pub fn waited(&self) -> Duration {
        let queued = Duration::from_micros(self.queue_us);
        let total = Duration::from_micros(self.total_us);
        (queued + self.slot_wait()).min(total.max(queued))
    }

    /// From then to its end.
    pub fn service(&self) -> Duration {
        Duration::from_micros(self.total_us).saturating_sub(self.waited())
    }
}

/// A swap made for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The model that had to go; none when there was room.
    pub evicted: Option<ModelName>,
    /// Unloading and loading, µs.
    pub took_us: u64,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case")]
pub enum Outcome {
    /// The model finished.
    Done,
    /// The model was stopped by its limit of tokens.
    Length,
    /// The client went away.
    Cancelled,
    /// It never reached an endpoint: the answer was given at once.
    Refused {
        /// Why.
        why: String,
    },
    /// It failed before anything of an answer was passed on.
    Failed {
        /// Why.
        why: String,
    },
    /// It failed while the answer was passed on.
    Broken {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// Whether the client got a whole answer.
    pub fn is_answered(&self) -> bool {
        matches!(self, Self::Done | Self::Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(queue_ms: u64, slot_wait_ms: u64, total_ms: u64) -> Served {
        let mut served: Served = serde_json::from_value(serde_json::json!({
            "id": 1, "at": 0, "client": "agent-1", "model": "m:1b", "endpoint": "e",
            "total_us": total_ms * 1_000, "outcome": {"ended": "done"},
        }))
        .unwrap();
        served.queue_us = queue_ms * 1_000;
        served.slot_wait_us = slot_wait_ms * 1_000;
        served
    }

    #[test]
    fn a_wait_for_a_slot_inside_the_endpoint_is_no_service() {
        let times = |served: Served| {
            let (waited, service) = (served.waited(), served.service());
            (waited.as_millis(), service.as_millis())
        };
        assert_eq!(times(served(100, 3_000, 10_000)), (3_100, 6_900));
        // What its scheduler takes is.
        assert_eq!(times(served(100, 20, 10_000)), (100, 9_900));
        // Figures of the endpoint that exceed what was seen from outside.
        assert_eq!(times(served(100, 60_000, 10_000)), (10_000, 0));
    }
}
