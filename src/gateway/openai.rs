//! OpenAI's chat completions in Ollama's own words, and the answers back.
//!
//! Upstream never sees OpenAI's shape: it has no context, no keep-alive and no timings.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::ask::{BadRequest, Members, Usage};
use super::lines::{End, Piece};

/// Options that have the same meaning under another name.
const OPTIONS: [(&str, &str); 7] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
];

/// Fields that have the same name and meaning; as they were written, so that the properties of a
/// schema keep their order.
const SAME: [&str; 4] = ["model", "tools", "logprobs", "top_logprobs"];

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Option<Box<RawValue>>,
}

/// The body of `/api/chat` that means the same.
pub(super) fn to_native(mut body: Members) -> Result<Members, BadRequest> {
    let mut native = Members::new();
    for key in SAME {
        if let Some(value) = body.remove(key).filter(|it| it.get() != "null") {
            native.insert(key.into(), value);
        }
    }
    let messages: Option<Vec<Value>> = value(&body, "messages");
    let messages = messages.ok_or_else(|| BadRequest::new("messages is required"))?;
    let messages: Vec<Value> = messages
        .into_iter()
        .map(message)
        .collect::<Result<_, _>>()?;
    let mut put = |key: &str, value: &Value| {
        if let Ok(raw) = to_raw_value(value) {
            native.insert(key.into(), raw);
        }
    };
    put("messages", &messages.into());
    put("options", &options(&body).into());
    if let Some(effort) = value::<String>(&body, "reasoning_effort") {
        put("think", &thinks(effort));
    }
    if let Some(format) = format(&body) {
        native.insert("format".into(), format);
    }
    Ok(native)
}

fn value<T: serde::de::DeserializeOwned>(body: &Members, key: &str) -> Option<T> {
    serde_json::from_str(body.get(key)?.get()).ok()
}

/// Ollama's levels are OpenAI's.
fn thinks(effort: String) -> Value {
    match effort.as_str() {
        "none" => false.into(),
        _ => effort.into(),
    }
}

fn options(body: &Members) -> Map<String, Value> {
    let mut options = Map::new();
    for (theirs, ours) in OPTIONS {
        let given = value::<Value>(body, theirs).filter(|it| !it.is_null());
        if let Some(given) = given {
            options.insert(ours.into(), given);
        }
    }
    match value::<Value>(body, "stop") {
        // Ollama takes a list only.
        Some(Value::String(word)) => drop(options.insert("stop".into(), json!([word]))),
        Some(Value::Null) | None => {}
        Some(words) => drop(options.insert("stop".into(), words)),
    }
    options
}

fn format(body: &Members) -> Option<Box<RawValue>> {
    let format: ResponseFormat = value(body, "response_format")?;
    match format.kind.as_str() {
        "json_object" => to_raw_value("json").ok(),
        "json_schema" => format.json_schema?.schema,
        _ => None,
    }
}

/// A message whose content may be a list of parts.
fn message(message: Value) -> Result<Value, BadRequest> {
    let Value::Object(mut native) = message else {
        return Err(BadRequest::new("a message is no object"));
    };
    if let Some(Value::Array(parts)) = native.get("content") {
        let (text, images) = content(parts)?;
        native.insert("content".into(), text.into());
        if !images.is_empty() {
            native.insert("images".into(), images.into());
        }
    }
    if let Some(Value::Array(calls)) = native.get_mut("tool_calls") {
        calls.iter_mut().for_each(arguments);
    }
    // The name of the tool whose result this is.
    if native.get("role").and_then(Value::as_str) == Some("tool")
        && let Some(name) = native.remove("name")
    {
        native.insert("tool_name".into(), name);
    }
    Ok(Value::Object(native))
}

/// Text and images of a content in parts.
fn content(parts: &[Value]) -> Result<(String, Vec<Value>), BadRequest> {
    let (mut text, mut images) = (String::new(), Vec::new());
    for part in parts {
        if let Some(piece) = part.get("text").and_then(Value::as_str) {
            text.push_str(piece);
        }
        let Some(image) = part.get("image_url") else {
            continue;
        };
        let url = image.get("url").unwrap_or(image).as_str();
        let data = url
            .filter(|it| it.starts_with("data:"))
            .and_then(|it| it.split_once("base64,"));
        let (_, data) = data.ok_or_else(|| {
            BadRequest::new("invalid image input: only data URLs (data:image/…;base64,…) are read")
        })?;
        images.push(Value::from(data));
    }
    Ok((text, images))
}

/// OpenAI gives the arguments of a call as a text, Ollama wants an object.
fn arguments(call: &mut Value) {
    let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(Value::String(text)) = function.get("arguments") {
        let object = serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        function.insert("arguments".into(), object.into());
    }
}

/// Writes one answer in OpenAI's shape.
#[derive(Debug)]
pub(super) struct Form {
    id: String,
    created: u64,
    model: String,
    usage: Usage,
    begun: bool,
    /// Tool calls so far.
    calls: usize,
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
            calls: 0,
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
        if let Some(calls) = piece.tool_calls.as_ref().and_then(Value::as_array) {
            delta.insert("tool_calls".into(), self.tool_calls(self.calls, calls));
            self.calls += calls.len();
        }
        let mut choices = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        if let Some(logprobs) = &piece.logprobs {
            choices[0]["logprobs"] = json!({ "content": logprobs });
        }
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
        if let Some(calls) = all.tool_calls.as_ref().and_then(Value::as_array) {
            message["tool_calls"] = self.tool_calls(0, calls);
        }
        let mut answer = json!({
            "id": self.id, "object": "chat.completion", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(end)}],
            "usage": used(end),
        });
        if let Some(logprobs) = &all.logprobs {
            answer["choices"][0]["logprobs"] = json!({ "content": logprobs });
        }
        answer
    }

    /// OpenAI gives arguments as a text and counts the calls of an answer; an id is not used again.
    fn tool_calls(&self, before: usize, calls: &[Value]) -> Value {
        let calls = calls.iter().zip(before..).map(|(call, index)| {
            let function = call.get("function").cloned().unwrap_or_default();
            let arguments = function.get("arguments").cloned().unwrap_or_default();
            let given = call.get("id").and_then(Value::as_str);
            let own = || format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"));
            json!({
                "index": index, "id": given.map_or_else(own, str::to_owned), "type": "function",
                "function": {"name": function.get("name"), "arguments": arguments.to_string()},
            })
        });
        calls.collect()
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "system_fingerprint": "fp_ollama", "choices": choices,
        })
    }
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

    fn native(body: &Value) -> Result<Value, BadRequest> {
        let members = serde_json::from_str(&body.to_string()).unwrap();
        Ok(json!(to_native(members)?))
    }

    #[test]
    fn a_conversation_with_tools_goes_both_ways() {
        let call = json!({"id": "c1", "type": "function",
            "function": {"name": "add", "arguments": "{\"a\":1}"}});
        let body = json!({"model": "m", "messages": [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "2"},
        ]});
        let messages = native(&body).unwrap()["messages"].clone();
        assert_eq!(
            messages[0]["tool_calls"][0]["function"]["arguments"],
            json!({"a": 1})
        );
        assert_eq!(messages[1]["tool_name"], "add");
        let mut form = Form::new(7, "m", Usage::Unwanted);
        let called = |name: &str| Piece {
            tool_calls: Some(json!([{"function": {"name": name, "arguments": {"a": 1}}}])),
            ..Piece::default()
        };
        let mut ids = Vec::new();
        for (index, name) in ["add", "sub"].into_iter().enumerate() {
            let call = delta(&form.piece(&called(name)))["tool_calls"][0].clone();
            assert_eq!(
                (&call["index"], &call["function"]["name"]),
                (&json!(index), &json!(name))
            );
            assert_eq!(call["function"]["arguments"], "{\"a\":1}");
            ids.push(call["id"].clone());
        }
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_schema_keeps_the_order_of_its_properties() {
        let text = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":
            {"type":"json_schema","json_schema":{"schema":{"reasoning":1,"answer":2}}}}"#;
        let native = to_native(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(native["format"].get(), r#"{"reasoning":1,"answer":2}"#);
    }

    #[test]
    fn an_image_that_would_have_to_be_fetched_is_refused() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ]}]});
        assert!(native(&body).unwrap_err().why.contains("data URLs"));
    }

    fn delta(bytes: &Bytes) -> Value {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let event = text.trim().strip_prefix("data: ").unwrap();
        let value: Value = serde_json::from_str(event).unwrap();
        value["choices"][0]["delta"].clone()
    }

    #[test]
    fn a_request_is_the_same_in_ollamas_words() {
        let body = json!({
            "model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": null,
            "response_format": {"type": "json_object"},
            "stop": "END",
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is "}, {"type": "text", "text": "this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]}],
        });
        assert_eq!(
            native(&body).unwrap(),
            json!({
                "model": "m", "format": "json",
                "options": {"num_predict": 5, "temperature": 0.5, "stop": ["END"]},
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
        assert_eq!(
            delta(&form.piece(&piece)),
            json!({"role": "assistant", "content": "hi"})
        );
        assert_eq!(delta(&form.piece(&piece)), json!({"content": "hi"}));
    }
}
