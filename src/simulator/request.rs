//! What a client asks for, checked as Ollama checks it, with Ollama's words.

use std::time::Duration;

use serde_json::{Map, Value};

use super::fields;
use super::go;
use super::scenario::{ModelSpec, ServerSpec};
use crate::ollama::wire::Message;

/// An answer with an error status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    /// `Retry-After` in seconds.
    pub(super) retry_after: Option<u64>,
    /// Where to sign in: only in answers for cloud models.
    pub(super) signin_url: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            signin_url: None,
        }
    }

    /// The queue of loads is full.
    pub(super) fn busy() -> Self {
        let busy = "server busy, please try again.  maximum pending requests exceeded";
        Self::new(503, busy)
    }

    pub(super) fn model_not_found(name: &str) -> Self {
        Self::new(404, format!("model '{name}' not found"))
    }
}

/// How long a model stays loaded. The order is that of the keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeepAlive {
    For(Duration),
    Forever,
}

/// The options that a runner is started with: a difference reloads the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunnerOptions {
    pub(super) num_ctx: u64,
    /// Ollama chose `num_ctx`: neither the request nor the model nor the server named one.
    pub(super) is_context_chosen: bool,
    num_batch: Option<u64>,
    num_gpu: Option<i64>,
    main_gpu: i64,
    num_thread: i64,
    draft_num_predict: i64,
    use_mmap: Option<bool>,
    shift: bool,
}

impl RunnerOptions {
    /// Whether a runner started with `self`, which took `batch`, serves a request for `wanted`.
    pub(super) fn serves(&self, wanted: &Self, batch: u64) -> bool {
        let is_context_same =
            self.is_context_chosen && wanted.is_context_chosen || self.num_ctx == wanted.num_ctx;
        let is_batch_same = match (self.num_batch, wanted.num_batch) {
            (None, None) => true,
            (_, asked) => batch == asked.unwrap_or(DEFAULT_BATCH),
        };
        is_context_same
            && is_batch_same
            && (wanted.num_gpu.is_none() || self.num_gpu == wanted.num_gpu)
            && self.main_gpu == wanted.main_gpu
            && self.num_thread == wanted.num_thread
            && self.draft_num_predict == wanted.draft_num_predict
            && (wanted.use_mmap.is_none() || self.use_mmap == wanted.use_mmap)
            && self.shift == wanted.shift
    }

    /// The batch that was asked for.
    pub(super) fn batch(&self) -> Option<u64> {
        self.num_batch
    }

    /// Layers that shall be on the GPU.
    pub(super) fn gpu_layers(&self) -> Option<u64> {
        self.num_gpu.and_then(|layers| u64::try_from(layers).ok())
    }

    /// The next smaller context, where Ollama chose it: more than 32768, 32768, 4096.
    pub(super) fn next_tier(&self) -> Option<Self> {
        let num_ctx = match self.num_ctx {
            _ if !self.is_context_chosen => return None,
            32_769.. => 32_768,
            4_097..=32_768 => 4_096,
            _ => return None,
        };
        Some(Self {
            num_ctx,
            ..self.clone()
        })
    }
}

/// A request for an answer, native or translated from `/v1`.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) messages: Vec<Message>,
    pub(super) is_streamed: bool,
    pub(super) options: Map<String, Value>,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) format: Option<Value>,
    pub(super) has_tools: bool,
    pub(super) think: Option<bool>,
    pub(super) overflow: Overflow,
}

/// What may be done about a context that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow {
    /// A prompt may be cut.
    pub(super) truncate: bool,
    /// The context may be shifted.
    pub(super) shift: bool,
}

/// `num_batch` when nobody names one.
const DEFAULT_BATCH: u64 = 512;

/// What an option must be.
#[derive(Clone, Copy)]
enum OptionKind {
    Integer,
    Float,
    Boolean,
    Texts,
}

/// Options that Ollama knows (`api.Options`), by their exact names.
const OPTIONS: [(&str, OptionKind); 20] = [
    ("num_keep", OptionKind::Integer),
    ("seed", OptionKind::Integer),
    ("num_predict", OptionKind::Integer),
    ("top_k", OptionKind::Integer),
    ("top_p", OptionKind::Float),
    ("min_p", OptionKind::Float),
    ("typical_p", OptionKind::Float),
    ("repeat_last_n", OptionKind::Integer),
    ("temperature", OptionKind::Float),
    ("repeat_penalty", OptionKind::Float),
    ("presence_penalty", OptionKind::Float),
    ("frequency_penalty", OptionKind::Float),
    ("stop", OptionKind::Texts),
    ("num_ctx", OptionKind::Integer),
    ("num_batch", OptionKind::Integer),
    ("num_gpu", OptionKind::Integer),
    ("main_gpu", OptionKind::Integer),
    ("use_mmap", OptionKind::Boolean),
    ("num_thread", OptionKind::Integer),
    ("draft_num_predict", OptionKind::Integer),
];

impl OptionKind {
    /// What the value is not.
    fn mistake(self, value: &Value) -> Option<&'static str> {
        match (self, value) {
            (Self::Integer | Self::Float, Value::Number(_)) | (Self::Boolean, Value::Bool(_)) => {
                None
            }
            (Self::Texts, Value::Array(items)) => {
                let is_wrong = !items.iter().all(Value::is_string);
                is_wrong.then_some("an array of strings")
            }
            (Self::Integer, _) => Some("type integer"),
            (Self::Float, _) => Some("type float32"),
            (Self::Boolean, _) => Some("type boolean"),
            (Self::Texts, _) => Some("type array"),
        }
    }
}

/// The body as a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Err(Refusal::new(400, "missing request body"));
    }
    let text = String::from_utf8_lossy(body);
    match serde_json::from_str(&text) {
        // Go finds fields without looking at case.
        Ok(Value::Object(object)) => Ok(object
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect()),
        Ok(other) => {
            let message = go::type_error(&other, "Request", "", "map[string]interface {}");
            Err(Refusal::new(400, message))
        }
        Err(error) => Err(Refusal::new(400, go::syntax_error(&text, &error))),
    }
}

/// The name of the model.
pub(super) fn model_name(body: &Map<String, Value>) -> Result<String, Refusal> {
    let named = body.get("model").or_else(|| body.get("name"));
    match named.and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Refusal::new(400, "model is required")),
    }
}

impl Ask {
    /// Reads the body of `/api/chat`.
    pub(super) fn chat(body: &Map<String, Value>) -> Result<Self, Refusal> {
        let body = fields::read(body, fields::CHAT, "ChatRequest")?;
        Self::common(&body, messages(&body))
    }

    /// Reads the body of `/api/generate`; the prompt becomes messages. Without one it is a load,
    /// whatever else it says.
    pub(super) fn generate(body: &Map<String, Value>) -> Result<Self, Refusal> {
        let body = fields::read(body, fields::GENERATE, "GenerateRequest")?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut messages = Vec::new();
        if !text("prompt").is_empty() {
            let both = [("system", "system"), ("prompt", "user")];
            let said = both.into_iter().filter(|(key, _)| !text(key).is_empty());
            messages.extend(said.map(|(key, role)| Message::new(role, text(key))));
        }
        Self::common(&body, messages)
    }

    /// Reads the body of `/v1/chat/completions`.
    pub(super) fn openai(body: &Map<String, Value>) -> Result<Self, Refusal> {
        let body = fields::read(body, fields::OPENAI, "ChatCompletionRequest")?;
        let mut ask = Self::common(&body, messages(&body))?;
        ask.is_streamed = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        ask.options = Map::new();
        let limit = body
            .get("max_tokens")
            .or_else(|| body.get("max_completion_tokens"));
        let stop = body.get("stop").map(|stop| match stop {
            Value::String(_) => Value::Array(vec![stop.clone()]),
            other => other.clone(),
        });
        for (option, value) in [
            ("num_predict", limit),
            ("temperature", body.get("temperature")),
            ("stop", stop.as_ref()),
        ] {
            if let Some(value) = value {
                ask.options.insert(option.into(), value.clone());
            }
        }
        ask.keep_alive = None;
        Ok(ask)
    }

    fn common(body: &Map<String, Value>, messages: Vec<Message>) -> Result<Self, Refusal> {
        let flag = |key: &str| body.get(key).and_then(Value::as_bool);
        let options = body.get("options").and_then(Value::as_object);
        let think = match body.get("think") {
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(_)) => Some(true),
            _ => None,
        };
        let tools = body.get("tools").and_then(Value::as_array);
        Ok(Self {
            model: model_name(body)?,
            messages,
            is_streamed: flag("stream").unwrap_or(true),
            options: options.cloned().unwrap_or_default(),
            keep_alive: keep_alive(body.get("keep_alive"))?,
            format: body
                .get("format")
                .filter(|format| format.as_str() != Some(""))
                .cloned(),
            has_tools: tools.is_some_and(|tools| !tools.is_empty()),
            think,
            overflow: Overflow {
                truncate: flag("truncate").unwrap_or(true),
                shift: flag("shift").unwrap_or(true),
            },
        })
    }

    /// Whether the answer begins with thoughts: a model that can think does unless it is told not
    /// to.
    pub(super) fn thinks(&self, model: &ModelSpec) -> bool {
        let can_think = model.capabilities.iter().any(|word| word == "thinking");
        can_think && self.think != Some(false)
    }

    /// Checks the format, which Ollama does when it asks the runner.
    pub(super) fn check_format(&self) -> Result<(), Refusal> {
        match &self.format {
            None | Some(Value::Object(_)) => Ok(()),
            Some(Value::String(word)) if word == "json" => Ok(()),
            Some(other) => {
                let raw = other.to_string();
                let text = format!(
                    "invalid format: {raw:?}; expected \"json\" or a valid JSON Schema object"
                );
                Err(Refusal::new(500, text))
            }
        }
    }

    /// Checks what the model must be able to do.
    pub(super) fn check_capabilities(&self, model: &ModelSpec) -> Result<(), Refusal> {
        let can = |capability: &str| model.capabilities.iter().any(|word| word == capability);
        let name = &self.model;
        if !can("completion") {
            return Err(Refusal::new(400, format!("{name:?} does not support chat")));
        }
        if self.has_tools && !can("tools") {
            let full = format!("registry.ollama.ai/library/{}", model.name);
            return Err(Refusal::new(400, format!("{full} does not support tools")));
        }
        if self.think == Some(true) && !can("thinking") {
            return Err(Refusal::new(
                400,
                format!("{name:?} does not support thinking"),
            ));
        }
        Ok(())
    }

    /// The options that decide about a reload.
    pub(super) fn runner_options(
        &self,
        model: &ModelSpec,
        server: &ServerSpec,
    ) -> Result<RunnerOptions, Refusal> {
        self.check_options()?;
        let asked = self
            .integer("num_ctx")?
            .map(|n| u64::try_from(n).unwrap_or(0));
        let named = asked.or(model.num_ctx);
        let positive = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
        // Ollama starts a vision model with at least 2048.
        let least = if model.capabilities.iter().any(|word| word == "vision") {
            2_048
        } else {
            4
        };
        let num_ctx = named.unwrap_or_else(|| server.default_context());
        Ok(RunnerOptions {
            num_ctx: num_ctx.max(least).min(model.context.max(4)),
            is_context_chosen: named.is_none() && server.chooses_context(),
            num_batch: positive(self.integer("num_batch")?).filter(|n| *n > 0),
            num_gpu: self.integer("num_gpu")?.filter(|n| *n >= 0),
            main_gpu: self.integer("main_gpu")?.unwrap_or(0),
            num_thread: self.integer("num_thread")?.unwrap_or(0),
            // The default in Ollama's api.DefaultOptions.
            draft_num_predict: self.integer("draft_num_predict")?.unwrap_or(4),
            use_mmap: self.options.get("use_mmap").and_then(Value::as_bool),
            shift: self.overflow.shift,
        })
    }

    /// Options of the wrong type; those that nobody knows are passed over.
    fn check_options(&self) -> Result<(), Refusal> {
        for (key, value) in self.options.iter().filter(|(_, value)| !value.is_null()) {
            let known = OPTIONS.iter().find(|(known, _)| known == key);
            let wrong = known.and_then(|(_, kind)| kind.mistake(value));
            if let Some(wrong) = wrong {
                return Err(Refusal::new(
                    500,
                    format!("option {key:?} must be of {wrong}"),
                ));
            }
        }
        Ok(())
    }

    /// A whole-numbered option.
    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>, Refusal> {
        match self.options.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "Ollama truncates the float that JSON gave it just the same"
                )]
                let truncated = || number.as_f64().map(|float| float as i64);
                Ok(number.as_i64().or_else(truncated))
            }
            Some(_) => {
                let text = format!("option {key:?} must be of type integer");
                Err(Refusal::new(500, text))
            }
        }
    }

    /// Texts that end the answer.
    pub(super) fn stops(&self) -> Vec<String> {
        let stops = self.options.get("stop").and_then(Value::as_array);
        let texts = stops.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}

fn messages(body: &Map<String, Value>) -> Vec<Message> {
    let items = body.get("messages").and_then(Value::as_array);
    let read = items.into_iter().flatten().map(|item| {
        let role = item.get("role").and_then(Value::as_str).unwrap_or_default();
        Message::new(&role.to_lowercase(), content(item.get("content")))
    });
    read.collect()
}

/// A text, or the text parts of a list of parts.
fn content(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn keep_alive(value: Option<&Value>) -> Result<Option<KeepAlive>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_f64().unwrap_or(0.0);
            let duration = Duration::try_from_secs_f64(seconds);
            Ok(Some(duration.map_or(KeepAlive::Forever, KeepAlive::For)))
        }
        Some(Value::String(text)) => match go::duration(text) {
            Ok(duration) => Ok(Some(duration.map_or(KeepAlive::Forever, KeepAlive::For))),
            Err(message) => Err(Refusal::new(400, message)),
        },
        Some(other) => {
            let found = match other {
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            let text = format!("unsupported duration type: '{found}'");
            Err(Refusal::new(400, text))
        }
    }
}
