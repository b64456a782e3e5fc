//! The prompt of a request, made to fit the context as Ollama makes it fit.

use serde_json::json;

use super::request::{Ask, Refusal};
use super::scenario::{FaultKind, ModelSpec, Template};
use super::text;
use crate::ollama::wire::Message;

/// A prompt that fits the context, as Ollama makes it fit.
pub(super) struct Prompt {
    pub(super) messages: Vec<Message>,
    pub(super) text: String,
    pub(super) tokens: u64,
}

impl Prompt {
    /// The oldest messages go first, system messages and the last one stay. What is still too long
    /// is cut by half the context, or refused.
    pub(super) fn fit(
        ask: &Ask,
        model: &ModelSpec,
        num_ctx: u64,
        fault: Option<FaultKind>,
    ) -> Result<Self, Refusal> {
        let mut messages = ask.messages.clone();
        if let Some(system) = &model.system
            && messages.iter().all(|message| message.role != "system")
        {
            messages.insert(0, Message::new("system", system));
        }
        let may_cut = ask.overflow.truncate && model.template == Template::Go;
        let mut prompt = Self::render(messages, model);
        if may_cut {
            prompt = prompt.without_oldest(model, num_ctx);
        }
        let is_faulty = matches!(fault, Some(FaultKind::Truncated | FaultKind::Exceeded));
        if prompt.tokens <= num_ctx && !is_faulty {
            return Ok(prompt);
        }
        let is_cut = if is_faulty {
            fault == Some(FaultKind::Truncated)
        } else {
            may_cut
        };
        if is_cut {
            prompt.tokens = num_ctx / 2 + 2;
            return Ok(prompt);
        }
        Err(too_long(prompt.tokens.max(num_ctx + 1), num_ctx))
    }

    /// Without as many of the oldest messages as it takes.
    fn without_oldest(mut self, model: &ModelSpec, num_ctx: u64) -> Self {
        while self.tokens > num_ctx {
            let last = self.messages.len() - 1;
            let oldest = self.messages.iter().position(|m| m.role != "system");
            let Some(index) = oldest.filter(|index| *index < last) else {
                break;
            };
            self.messages.remove(index);
            self = Self::render(self.messages, model);
        }
        self
    }

    fn render(messages: Vec<Message>, model: &ModelSpec) -> Self {
        let mut text = String::new();
        for message in &messages {
            text.push_str(&message.role);
            text.push('\n');
            text.push_str(&message.content);
            text.push('\n');
        }
        let tokens = text::count(&text, model.chars_per_token) + 3;
        Self {
            messages,
            text,
            tokens,
        }
    }
}

/// What the runner says of a prompt that does not fit.
fn too_long(tokens: u64, num_ctx: u64) -> Refusal {
    let inner = json!({"error": {
        "code": 400,
        "message": format!("request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"),
        "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens,
        "n_ctx": num_ctx,
    }});
    Refusal::new(400, inner.to_string())
}
