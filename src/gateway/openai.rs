//! OpenAI's chat completions in Ollama's own words, and the answers back.
//!
//! Upstream never sees OpenAI's shape: it has no context, no keep-alive and no timings.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use super::ask::{BadRequest, Usage};
use super::lines::{End, Piece};

/// Options that have the same meaning under another name.
const OPTIONS: [(&str, &str); 8] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("stop", "stop"),
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
];

/// The body of `/api/chat` that means the same.
pub(super) fn to_native(body: &Map<String, Value>) -> Result<Map<String, Value>, BadRequest> {
    let mut native = Map::new();
    for key in ["model", "tools"] {
        if let Some(value) = body.get(key) {
            native.insert(key.into(), value.clone());
        }
    }
    let messages = body.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| BadRequest {
        status: axum::http::StatusCode::BAD_REQUEST,
        why: "messages is required".into(),
    })?;
    let messages: Vec<Value> = messages.iter().map(message).collect();
    native.insert("messages".into(), messages.into());
    let mut options = Map::new();
    for (theirs, ours) in OPTIONS {
        let value = body.get(theirs).filter(|value| !value.is_null());
        if let Some(value) = value {
            options.insert(ours.into(), value.clone());
        }
    }
    native.insert("options".into(), options.into());
    if let Some(format) = format(body) {
        native.insert("format".into(), format);
    }
    if let Some(effort) = body.get("reasoning_effort").and_then(Value::as_str) {
        native.insert("think".into(), (effort != "none").into());
    }
    Ok(native)
}

fn format(body: &Map<String, Value>) -> Option<Value> {
    let format = body.get("response_format")?;
    match format.get("type")?.as_str()? {
        "json_object" => Some("json".into()),
        "json_schema" => format.get("json_schema")?.get("schema").cloned(),
        _ => None,
    }
}

/// A message whose content may be a list of parts.
fn message(message: &Value) -> Value {
    let Some(parts) = message.get("content").and_then(Value::as_array) else {
        return message.clone();
    };
    let (mut text, mut images) = (String::new(), Vec::new());
    for part in parts {
        if let Some(piece) = part.get("text").and_then(Value::as_str) {
            text.push_str(piece);
        }
        let url = part.get("image_url").and_then(|it| it.get("url"));
        let data = url
            .and_then(Value::as_str)
            .and_then(|it| it.split_once("base64,"));
        images.extend(data.map(|(_, image)| Value::from(image)));
    }
    let mut native = message.as_object().cloned().unwrap_or_default();
    native.insert("content".into(), text.into());
    if !images.is_empty() {
        native.insert("images".into(), images.into());
    }
    Value::Object(native)
}

/// Writes one answer in OpenAI's shape.
#[derive(Debug)]
pub(super) struct Form {
    id: String,
    created: u64,
    model: String,
    usage: Usage,
    begun: bool,
}

impl Form {
    pub(super) fn new(id: u64, model: &str, usage: Usage) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("chatcmpl-{id}"),
            created: created.map_or(0, |it| it.as_secs()),
            model: model.to_owned(),
            usage,
            begun: false,
        }
    }

    /// One piece as a server-sent event.
    pub(super) fn piece(&mut self, piece: &Piece) -> Bytes {
        let mut delta = Map::new();
        if !std::mem::replace(&mut self.begun, true) {
            delta.insert("role".into(), "assistant".into());
        }
        if let Some(thought) = &piece.thought {
            delta.insert("reasoning".into(), thought.clone().into());
        }
        delta.insert("content".into(), piece.text.clone().into());
        if let Some(calls) = piece.tool_calls.as_ref().and_then(tool_calls) {
            delta.insert("tool_calls".into(), calls);
        }
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        event(&self.chunk(&choices))
    }

    /// The end as server-sent events.
    pub(super) fn end(&self, end: &End) -> Bytes {
        let reason = finish_reason(end);
        let choices = json!([{"index": 0, "delta": {}, "finish_reason": reason}]);
        let mut text = event(&self.chunk(&choices)).to_vec();
        if self.usage == Usage::Wanted {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = used(end);
            text.extend_from_slice(&event(&chunk));
        }
        text.extend_from_slice(b"data: [DONE]\n\n");
        text.into()
    }

    /// A failure after the beginning.
    pub(super) fn error(why: &str) -> Bytes {
        event(&json!({"error": {"message": why, "type": "api_error", "param": null, "code": null}}))
    }

    /// The whole answer.
    pub(super) fn whole(&self, all: &Piece, end: &End) -> Value {
        let mut message = json!({"role": "assistant", "content": all.text});
        if let Some(thought) = &all.thought {
            message["reasoning"] = thought.clone().into();
        }
        if let Some(calls) = all.tool_calls.as_ref().and_then(tool_calls) {
            message["tool_calls"] = calls;
        }
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(end)}],
            "usage": used(end),
        })
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama", "choices": choices,
        })
    }
}

/// OpenAI gives arguments as a text and counts the calls.
fn tool_calls(native: &Value) -> Option<Value> {
    let calls = native.as_array()?.iter().enumerate().map(|(index, call)| {
        let function = call.get("function").cloned().unwrap_or_default();
        let arguments = function.get("arguments").cloned().unwrap_or_default();
        json!({
            "index": index, "id": format!("call_{index}"), "type": "function",
            "function": {"name": function.get("name"), "arguments": arguments.to_string()},
        })
    });
    Some(calls.collect())
}

fn finish_reason(end: &End) -> &str {
    match end.reason.as_str() {
        "length" => "length",
        _ if end.called => "tool_calls",
        _ => "stop",
    }
}

fn used(end: &End) -> Value {
    let (sent, received) = (end.timings.prompt_eval_count, end.timings.eval_count);
    json!({
        "prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received,
    })
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_in_ollamas_words() {
        let body = json!({
            "model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": null,
            "response_format": {"type": "json_object"},
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is "}, {"type": "text", "text": "this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]}],
        });
        let native = to_native(body.as_object().unwrap()).unwrap();
        assert_eq!(
            Value::Object(native),
            json!({
                "model": "m", "format": "json",
                "options": {"num_predict": 5, "temperature": 0.5},
                "messages": [{"role": "user", "content": "what is this", "images": ["AAAA"]}],
            })
        );
    }

    #[test]
    fn only_the_first_chunk_names_the_role() {
        let mut form = Form::new(1, "m", Usage::Unwanted);
        let piece = Piece {
            text: "hi".into(),
            ..Piece::default()
        };
        let delta = |bytes: Bytes| -> Value {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let value: Value =
                serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap();
            value["choices"][0]["delta"].clone()
        };
        assert_eq!(
            delta(form.piece(&piece)),
            json!({"role": "assistant", "content": "hi"})
        );
        assert_eq!(delta(form.piece(&piece)), json!({"content": "hi"}));
    }
}
