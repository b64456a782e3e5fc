//! What an agent's model traffic looks like from the gateway, and what the gateway knows of it.
//!
//! Invariant: pure data.

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointName;
use super::ids::{AgentSlot, TaskId};
use super::model::ModelName;
use super::router::named_rule;
use super::task::{Category, Priority, Task, Tokens};

/// An agent's traffic so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests that generate and are open now.
    pub open: u32,
    /// What the open one does.
    pub phase: Phase,
    /// Tokens and ended requests.
    pub used: Tokens,
    /// The last refusal, if its last request was one.
    pub refusal: Option<String>,
    /// What is wrong with its traffic and goes on nevertheless: a prompt that was cut, a model that
    /// runs on the CPU, an endpoint that is tried again.
    pub trouble: Option<String>,
}

/// What an open request does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Phase {
    /// None is open.
    #[default]
    Idle,
    /// It waits for a slot behind so many others.
    Queued(u32),
    /// Its model is being loaded.
    Loading,
    /// An endpoint has it and no token has come back: it reads the prompt.
    Prefill,
    /// Tokens per second.
    Generating(f32),
}

/// What an agent is bound to for its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// Its job; what its requests are counted under.
    pub client: String,
    /// The endpoint that was chosen for it; another one with the same model may serve it.
    pub endpoint: EndpointName,
    /// Its model.
    pub model: ModelName,
    /// The context it was told at its start, tokens; what is written is never less.
    pub context: u32,
    /// Whether a model that can think does.
    pub thinks: bool,
}

/// What an agent works on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Its slot.
    pub agent: Option<AgentSlot>,
    /// The task.
    pub task: Option<TaskId>,
    /// The attempt.
    pub attempt: u32,
    /// What kind of work it is.
    pub category: Category,
    /// How urgent it is.
    pub priority: Priority,
    /// The task says which model, or by which rule: the router's strategy has no say.
    pub named: bool,
}

/// Whether a task's word for its model leaves nothing to the router's strategy.
fn is_named(word: Option<&str>) -> bool {
    let anything = Some(None);
    word.is_some_and(|word| named_rule(word) != anything)
}

impl Work {
    /// What the present attempt at a task is.
    pub fn of(task: &Task) -> Self {
        Self {
            agent: task.attempt().map(|attempt| attempt.slot),
            task: Some(task.id),
            attempt: task.attempt_number(),
            category: task.spec.category,
            priority: task.spec.priority,
            named: is_named(task.spec.model.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_and_a_rule_are_named_and_auto_is_not() {
        let table = [
            (None, false),
            (Some("auto"), false),
            (Some("qwen2.5-coder:7b"), true),
            (Some("fast"), true),
            (Some("best"), true),
        ];
        for (word, expected) in table {
            assert_eq!(is_named(word), expected, "{word:?}");
        }
    }
}
