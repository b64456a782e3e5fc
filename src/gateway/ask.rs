//! A request to generate, whatever shape it came in: read once, written natively.
//!
//! What nobody here has to look into is passed on as it was written: a prompt may hold whole files.
//! Upstream always speaks Ollama's own API, streamed: only there are timings, and only there can
//! the context be set. What a client may not decide (context, keep-alive, the model of an agent)
//! is taken out here, so nothing of it can slip through.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::prompt::{Part, messages, prefixes, texts};

/// Options of the runner: with another value the model would be loaded again.
const RUNNER_OPTIONS: [&str; 6] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
];

/// The API a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
    /// `/v1/chat/completions`
    OpenAi {
        /// A last chunk with the tokens is wanted.
        usage: Usage,
    },
}

/// Whether a stream in OpenAI's shape ends with the tokens used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Wanted,
    Unwanted,
}

impl Shape {
    /// The path upstream.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat | Self::OpenAi { .. } => "/api/chat",
            Self::Generate => "/api/generate",
        }
    }
}

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Piece by piece.
    Streamed,
    /// In one piece.
    Whole,
}

/// A request that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRequest {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

impl BadRequest {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: why.into(),
        }
    }
}

/// What is written into a request before it goes on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pins<'a> {
    /// The model, as its endpoint names it.
    pub(super) model: &'a str,
    /// `num_ctx`, tokens.
    pub(super) context: u32,
    /// Most tokens of the answer; none leaves the client's own limit.
    pub(super) num_predict: Option<u32>,
    /// Whether a model that can think does; none for those that cannot.
    pub(super) think: Option<bool>,
}

/// The members of a body, each as it was written.
pub(super) type Members = BTreeMap<String, Box<RawValue>>;

/// A request to generate.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) shape: Shape,
    pub(super) delivery: Delivery,
    /// The model that was asked for.
    pub(super) model: String,
    /// Nothing is to be generated: the client wants the model loaded or unloaded.
    pub(super) bare: Option<Bare>,
    /// Characters of the prompt.
    pub(super) chars: u64,
    /// Most tokens of the answer that the client wants.
    pub(super) limit: Option<u32>,
    /// Whether the client itself asks to think.
    pub(super) think: Option<bool>,
    /// How much, for models that know levels.
    level: Option<String>,
    /// Hashes of the prompt's parts, each over all before it, with the characters so far.
    pub(super) prefixes: Vec<(u64, u64)>,
    /// Hash of all that decides the answer.
    pub(super) hash: u64,
    options: Map<String, Value>,
    /// What is passed on as it is.
    rest: Members,
}

/// A body as it goes on.
#[derive(Serialize)]
struct Written<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Value>,
    options: &'a Map<String, Value>,
    #[serde(flatten)]
    rest: &'a Members,
}

/// A request without a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    Load,
    Unload,
}

impl Ask {
    /// Reads a body of Ollama's own API.
    pub(super) fn native(shape: Shape, body: &[u8]) -> Result<Self, BadRequest> {
        let mut body = members(body)?;
        let is_whole = body.remove("stream").is_some_and(|it| it.get() == "false");
        let delivery = if is_whole {
            Delivery::Whole
        } else {
            Delivery::Streamed
        };
        let unloads = take::<Value>(&mut body, "keep_alive").is_some_and(|it| is_zero(&it));
        let parts = match shape {
            Shape::Chat | Shape::OpenAi { .. } => messages(&body)?,
            Shape::Generate => texts(&body)?,
        };
        let bare = parts
            .is_empty()
            .then_some(if unloads { Bare::Unload } else { Bare::Load });
        Self::read(shape, delivery, body, &parts, bare)
    }

    /// Reads a body of OpenAI's API and turns it into Ollama's own.
    pub(super) fn openai(body: &[u8]) -> Result<Self, BadRequest> {
        let body: Members = members(body)?;
        let options = body.get("stream_options");
        let options = options.and_then(|it| serde_json::from_str::<Value>(it.get()).ok());
        let usage = options.and_then(|it| it.get("include_usage")?.as_bool());
        let usage = if usage == Some(true) {
            Usage::Wanted
        } else {
            Usage::Unwanted
        };
        let delivery = if body.get("stream").is_some_and(|it| it.get() == "true") {
            Delivery::Streamed
        } else {
            Delivery::Whole
        };
        let native = super::openai::to_native(body)?;
        let parts = messages(&native)?;
        if parts.is_empty() {
            return Err(BadRequest::new("[] is too short - 'messages'"));
        }
        Self::read(Shape::OpenAi { usage }, delivery, native, &parts, None)
    }

    fn read(
        shape: Shape,
        delivery: Delivery,
        mut rest: Members,
        parts: &[Part],
        bare: Option<Bare>,
    ) -> Result<Self, BadRequest> {
        let model = take::<String>(&mut rest, "model").filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| BadRequest::new("model is required"))?;
        let think = take::<Value>(&mut rest, "think").filter(|it| !it.is_null());
        let level = think.as_ref().and_then(Value::as_str).map(str::to_owned);
        let think = think.map(|it| it != Value::Bool(false));
        // With another value the model would be loaded again.
        rest.remove("shift");
        let mut options: Map<String, Value> = take(&mut rest, "options").unwrap_or_default();
        options.remove("num_ctx");
        for name in RUNNER_OPTIONS {
            options.remove(name);
        }
        let limit = options.remove("num_predict").and_then(|it| tokens(&it));
        let hash = decides((&model, &options, &rest), (think, &level, limit));
        let (chars, prefixes) = prefixes(parts, rest.get("tools").map(|it| it.get()));
        Ok(Self {
            shape,
            delivery,
            model,
            bare,
            chars,
            limit,
            think,
            level,
            prefixes,
            hash,
            options,
            rest,
        })
    }

    /// The first messages' hash: what makes it the same conversation as another one.
    pub(super) fn conversation(&self) -> u64 {
        let first = self.prefixes.get(1).or_else(|| self.prefixes.first());
        first.map_or(0, |(hash, _)| *hash)
    }

    /// The body as it goes on: pinned, streamed. Whatever it was pinned to before is replaced.
    pub(super) fn write(&mut self, pins: &Pins<'_>) -> Bytes {
        let options = &mut self.options;
        options.insert("num_ctx".into(), pins.context.into());
        match pins.num_predict {
            Some(tokens) => drop(options.insert("num_predict".into(), tokens.into())),
            None => drop(options.remove("num_predict")),
        }
        let level = self.level.as_deref();
        let think = pins.think.map(|thinks| match level {
            Some(level) if thinks => level.into(),
            Some(_) | None => thinks.into(),
        });
        let written = Written {
            model: pins.model,
            stream: true,
            think,
            options,
            rest: &self.rest,
        };
        Bytes::from(serde_json::to_vec(&written).unwrap_or_default())
    }
}

/// Hash of all that decides the answer.
fn decides(
    (model, options, rest): (&str, &Map<String, Value>, &Members),
    own: impl std::hash::Hash,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.to_ascii_lowercase().hash(&mut hasher);
    options.hash(&mut hasher);
    own.hash(&mut hasher);
    for (name, value) in rest {
        (name, value.get()).hash(&mut hasher);
    }
    hasher.finish()
}

/// A limit of tokens: Ollama cuts a fraction off, and takes what is negative for none.
fn tokens(value: &Value) -> Option<u32> {
    let whole = value.as_f64().filter(|tokens| *tokens >= 1.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a conversion of this kind saturates"
    )]
    let tokens = whole as u32;
    Some(tokens)
}

/// The members of an object. As in Go, whose JSON Ollama reads, a name may be written in any case.
fn members(body: &[u8]) -> Result<Members, BadRequest> {
    if body.is_empty() {
        return Err(BadRequest::new("missing request body"));
    }
    let read: Members = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            BadRequest::new("the body is not a JSON object")
        } else {
            BadRequest::new(error.to_string())
        }
    })?;
    let lower = |(name, value): (String, _)| (name.to_ascii_lowercase(), value);
    Ok(read.into_iter().map(lower).collect())
}

/// Takes a member out; none where it is of another type.
fn take<T: serde::de::DeserializeOwned>(body: &mut Members, name: &str) -> Option<T> {
    serde_json::from_str(body.remove(name)?.get()).ok()
}

/// Ollama writes it as seconds or as a duration (`"0"`, `"0s"`).
fn is_zero(keep_alive: &Value) -> bool {
    match keep_alive {
        Value::Number(seconds) => seconds.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "0" | "0s" | "0m" | "0h"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::prompt::IMAGE_CHARS;
    use serde_json::json;

    fn pins() -> Pins<'static> {
        Pins {
            model: "coder:7b",
            context: 16_384,
            num_predict: Some(100),
            think: Some(false),
        }
    }

    fn written(ask: &mut Ask, pins: &Pins<'_>) -> Value {
        serde_json::from_slice(&ask.write(pins)).unwrap()
    }

    #[test]
    fn what_a_client_may_not_decide_is_replaced_or_dropped() {
        let body = json!({
            "model": "Coder:7B", "messages": [{"role": "user", "content": "hi"}], "stream": false,
            "keep_alive": "5m", "think": true,
            "options": {"num_ctx": 8940, "num_gpu": 0, "num_predict": 0, "temperature": 0},
        });
        let mut ask = Ask::native(Shape::Chat, body.to_string().as_bytes()).unwrap();
        assert_eq!((ask.delivery, ask.limit), (Delivery::Whole, None));
        assert_eq!(
            written(&mut ask, &pins()),
            json!({
                "model": "coder:7b", "messages": [{"role": "user", "content": "hi"}],
                "stream": true, "think": false,
                "options": {"num_ctx": 16_384, "num_predict": 100, "temperature": 0},
            })
        );
        let elsewhere = Pins {
            model: "coder:14b",
            context: 8_192,
            num_predict: None,
            think: None,
        };
        assert_eq!(
            written(&mut ask, &elsewhere),
            json!({
                "model": "coder:14b", "messages": [{"role": "user", "content": "hi"}],
                "stream": true, "options": {"num_ctx": 8_192, "temperature": 0},
            })
        );
    }

    #[test]
    fn what_nobody_looks_into_is_passed_on_as_it_was_written() {
        let body = r#"{"model":"m","messages":[{"content":"\u00e4\/ 1.0","role":"user"}],
            "format":{"b":1.50,"a":18446744073709551616},"options":null,"think":null}"#;
        let mut ask = Ask::native(Shape::Chat, body.as_bytes()).unwrap();
        assert_eq!(ask.think, None);
        let expected = concat!(
            r#"{"model":"coder:7b","stream":true,"think":false,"#,
            r#""options":{"num_ctx":16384,"num_predict":100},"#,
            r#""format":{"b":1.50,"a":18446744073709551616},"#,
            r#""messages":[{"content":"\u00e4\/ 1.0","role":"user"}]}"#,
        );
        assert_eq!(ask.write(&pins()), expected);
    }

    #[test]
    fn names_may_be_written_in_any_case_and_what_loads_again_is_dropped() {
        let body = r#"{"Model":"m","Keep_Alive":0,"Messages":[{"content":"x"}],"shift":false,
            "Options":{"draft_num_predict":1,"num_ctx":5,"num_predict":2.9}}"#;
        let mut ask = Ask::native(Shape::Chat, body.as_bytes()).unwrap();
        assert_eq!((ask.bare, ask.limit), (None, Some(2)));
        assert_eq!(
            written(&mut ask, &pins()),
            json!({
                "model": "coder:7b", "messages": [{"content": "x"}], "stream": true,
                "think": false, "options": {"num_ctx": 16_384, "num_predict": 100},
            })
        );
    }

    #[test]
    fn a_level_of_thinking_is_kept_where_the_model_thinks() {
        let body = r#"{"model":"m","messages":[{"content":"x"}],"think":"high"}"#;
        let mut ask = Ask::native(Shape::Chat, body.as_bytes()).unwrap();
        assert_eq!(ask.think, Some(true));
        let thinks = Pins {
            think: Some(true),
            ..pins()
        };
        assert_eq!(written(&mut ask, &thinks)["think"], "high");
        assert_eq!(written(&mut ask, &pins())["think"], false);
    }

    #[test]
    fn tools_calls_and_images_count() {
        let chars = |body: Value| {
            let text = body.to_string();
            Ask::native(Shape::Chat, text.as_bytes()).unwrap().chars
        };
        let plain = chars(json!({"model": "m", "messages": [{"content": "x"}]}));
        let with = |key: &str, value: Value| json!({"content": "x", key: value});
        let image = chars(json!({"model": "m", "messages": [with("images", json!(["A"]))]}));
        assert_eq!(image - plain, IMAGE_CHARS);
        let called = chars(json!({"model": "m", "messages": [with("tool_calls", json!([1]))]}));
        assert_eq!(called - plain, 3);
        let tools = json!({"model": "m", "messages": [{"content": "x"}], "tools": ["t"]});
        assert_eq!(chars(tools) - plain, 5);
    }

    #[test]
    fn an_empty_prompt_asks_for_a_load_or_an_unload() {
        let bare = |text: &str| {
            let ask = Ask::native(Shape::Generate, text.as_bytes()).unwrap();
            ask.bare
        };
        assert_eq!(bare(r#"{"model":"m"}"#), Some(Bare::Load));
        assert_eq!(bare(r#"{"model":"m","keep_alive":0}"#), Some(Bare::Unload));
        assert_eq!(bare(r#"{"model":"m","prompt":"x","keep_alive":0}"#), None);
    }

    #[test]
    fn the_same_request_has_the_same_hash_whatever_context_it_asks_for() {
        let hash = |context: u32, text: &str| {
            let body = json!({
                "model": "m", "messages": [{"role": "user", "content": text}],
                "options": {"num_ctx": context},
            });
            let ask = Ask::native(Shape::Chat, body.to_string().as_bytes());
            ask.unwrap().hash
        };
        assert_eq!(hash(1, "a"), hash(2, "a"));
        assert_ne!(hash(1, "a"), hash(1, "b"));
    }

    #[test]
    fn conversations_share_the_hashes_of_their_beginning() {
        let ask = |texts: &[&str]| {
            let messages: Vec<Value> = texts
                .iter()
                .map(|text| json!({"role": "user", "content": text}))
                .collect();
            let body = json!({"model": "m", "messages": messages}).to_string();
            Ask::native(Shape::Chat, body.as_bytes()).unwrap()
        };
        let (short, long) = (ask(&["one", "two"]), ask(&["one", "two", "three"]));
        assert_eq!(short.prefixes[..], long.prefixes[..2]);
        assert_eq!(short.conversation(), long.conversation());
        assert_eq!(short.chars, 2 * 9);
    }

    #[test]
    fn what_cannot_be_read_says_so_as_ollama_does() {
        let why = |text: &str| Ask::native(Shape::Chat, text.as_bytes()).unwrap_err().why;
        assert_eq!(why(""), "missing request body");
        assert_eq!(why("{}"), "model is required");
        assert_eq!(why("[1]"), "the body is not a JSON object");
        assert_eq!(
            why(r#"{"model":"m","messages":5}"#),
            "'messages' is no list"
        );
        assert_eq!(
            why("{\"a\":"),
            "EOF while parsing a value at line 1 column 5"
        );
    }
}
