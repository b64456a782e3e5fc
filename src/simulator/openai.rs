//! `/v1/chat/completions`: the same answers in OpenAI's shapes.

use axum::response::Response;
use serde_json::{Value, json};

use super::admission::{self, Outcome};
use super::chat::{self, Collected};
use super::generation::Event;
use super::json::{json_response, with_retry_after};
use super::request::{Ask, Refusal, object};
use super::simulated::{Aborts, Simulator};
use crate::ollama::wire::Timings;

/// The whole of a request.
pub(super) async fn completions(simulator: &Simulator, aborts: &Aborts, body: &[u8]) -> Response {
    let (ask, wants_usage) = match object(body).and_then(|body| {
        let usage = body
            .get("stream_options")
            .and_then(|o| o.get("include_usage"));
        let wants_usage = usage.and_then(Value::as_bool).unwrap_or(false);
        Ask::openai(&body).map(|ask| (ask, wants_usage))
    }) {
        Ok(read) => read,
        Err(refusal) => return error(&refusal),
    };
    let now = simulator.clock.shown();
    let form = Form {
        id: format!("chatcmpl-{}", now.subsec_nanosecond() % 1000),
        created: now.as_second(),
        model: ask.model.clone(),
    };
    match admission::begin(simulator, aborts, "/v1/chat/completions", &ask).await {
        Err(refusal) => error(&refusal),
        Ok(Outcome::Loaded(_)) => error(&Refusal::new(400, "[] is too short - 'messages'")),
        Ok(Outcome::Answer(mut generation)) if ask.is_streamed => {
            let first = generation.next().await;
            if let Some(Event::Error(message)) = &first {
                return error(&Refusal::new(500, message.clone()));
            }
            chat::streamed(
                "text/event-stream",
                *generation,
                first,
                form.writer(wants_usage),
            )
        }
        Ok(Outcome::Answer(generation)) => form.whole(chat::collect(*generation).await),
    }
}

/// An error in OpenAI's shape.
pub(super) fn error(refusal: &Refusal) -> Response {
    let kind = match refusal.status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    let body = json!({"error": {
        "message": refusal.message, "type": kind, "param": null, "code": null,
    }});
    with_retry_after(json_response(refusal.status, &body), refusal)
}

struct Form {
    id: String,
    created: i64,
    model: String,
}

impl Form {
    /// Writes events as server-sent events; the first delta carries the role.
    fn writer(self, wants_usage: bool) -> impl FnMut(&Event) -> Option<String> + Send + 'static {
        let mut is_first = true;
        move |event| {
            let mut delta = |key: &str, text: &str| {
                let mut delta = json!({ key: text });
                if let (true, Some(map)) = (std::mem::take(&mut is_first), delta.as_object_mut()) {
                    map.insert("role".into(), "assistant".into());
                }
                data(&self.chunk(&json!([
                    {"index": 0, "delta": delta, "finish_reason": null}
                ])))
            };
            match event {
                Event::Text(text) => Some(delta("content", text)),
                Event::Thought(text) => Some(delta("reasoning", text)),
                Event::Raw(raw) => Some(format!("data: {raw}\n\n")),
                Event::Done { reason, timings } => Some(self.end(reason, timings, wants_usage)),
                Event::Error(message) => {
                    let body = json!({"error": {"message": message, "type": "api_error"}});
                    Some(data(&body))
                }
                Event::Cut | Event::End => None,
            }
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama", "choices": choices,
        })
    }

    fn end(&self, reason: &str, timings: &Timings, wants_usage: bool) -> String {
        let finish = json!([
            {"index": 0, "delta": {}, "finish_reason": reason}
        ]);
        let mut text = data(&self.chunk(&finish));
        if wants_usage {
            let mut chunk = self.chunk(&json!([]));
            if let Some(map) = chunk.as_object_mut() {
                map.insert("usage".into(), usage(timings));
            }
            text.push_str(&data(&chunk));
        }
        text.push_str("data: [DONE]\n\n");
        text
    }

    fn whole(&self, collected: Collected) -> Response {
        let (reason, timings) = match collected.end {
            Event::Done { reason, timings } => (Value::from(reason), timings),
            Event::Error(message) => return error(&Refusal::new(500, message)),
            Event::Cut | Event::End | Event::Text(_) | Event::Thought(_) | Event::Raw(_) => {
                (Value::Null, Timings::default())
            }
        };
        let mut message = json!({"role": "assistant", "content": collected.text});
        if let (false, Some(map)) = (collected.thoughts.is_empty(), message.as_object_mut()) {
            map.insert("reasoning".into(), collected.thoughts.into());
        }
        let body = json!({
            "id": self.id, "object": "chat.completion", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": usage(&timings),
        });
        json_response(200, &body)
    }
}

fn usage(timings: &Timings) -> Value {
    json!({
        "prompt_tokens": timings.prompt_eval_count,
        "completion_tokens": timings.eval_count,
        "total_tokens": timings.prompt_eval_count + timings.eval_count,
    })
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}
