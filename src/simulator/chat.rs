//! `/api/chat` and `/api/generate`: admission, prompt, answer.
//!
//! No byte is sent before the first token: until then a failure has a real status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::coder;
use super::generation::{Begin, Event, Generation};
use super::json::{error_response, json_response, now};
use super::request::{Ask, KeepAlive, Refusal, object};
use super::routes::{Aborts, Simulator};
use super::scenario::{FaultKind, FaultSpec, ModelSpec, Template};
use super::scheduler::{Grant, Wanted};
use super::text;
use crate::ollama::wire::Timings;

/// Which of the two native endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
}

/// Either an answer in the making, or a short reply that needs none.
pub(super) enum Outcome {
    Answer(Box<Generation>),
    Loaded(&'static str),
}

/// The whole of a native request.
pub(super) async fn native(
    simulator: &Simulator,
    aborts: &Aborts,
    body: &[u8],
    shape: Shape,
) -> Response {
    let path = match shape {
        Shape::Chat => "/api/chat",
        Shape::Generate => "/api/generate",
    };
    let ask = match object(body).and_then(|body| match shape {
        Shape::Chat => Ask::chat(&body),
        Shape::Generate => Ask::generate(&body),
    }) {
        Ok(ask) => ask,
        Err(refusal) => return error_response(&refusal),
    };
    match begin(simulator, aborts, path, &ask).await {
        Err(refusal) => error_response(&refusal),
        Ok(Outcome::Loaded(reason)) => json_response(200, &loaded(&ask.model, shape, reason)),
        Ok(Outcome::Answer(generation)) => {
            let form = Form {
                shape,
                model: ask.model.clone(),
            };
            if ask.is_streamed {
                stream(*generation, form).await
            } else {
                whole(*generation, &form).await
            }
        }
    }
}

/// Everything up to the first token.
pub(super) async fn begin(
    simulator: &Simulator,
    aborts: &Aborts,
    path: &str,
    ask: &Ask,
) -> Result<Outcome, Refusal> {
    let arrived = Instant::now();
    let fault = simulator.faults.of(path, ask);
    if let Some(refusal) = immediate(aborts, fault.as_ref()).await {
        return Err(refusal);
    }
    let installed = simulator
        .installed(&ask.model)
        .ok_or_else(|| Refusal::model_not_found(&ask.model))?;
    let model = Arc::clone(&installed.spec);
    ask.check_capabilities(&model)?;
    let options = ask.runner_options(&model, &simulator.server)?;
    let num_ctx = options.num_ctx;
    let wanted = Wanted {
        model: Arc::clone(&model),
        name: installed.name,
        digest: installed.digest,
        options,
        keep_alive: ask.keep_alive,
        load_time: fault.as_ref().and_then(slow_load),
    };
    let is_bare = ask.messages.is_empty();
    if is_bare && ask.keep_alive == Some(KeepAlive::For(Duration::ZERO)) {
        simulator.scheduler.unload(&wanted);
        return Ok(Outcome::Loaded("unload"));
    }
    let grant = match simulator.scheduler.acquire(wanted).await {
        Ok(Some(grant)) => grant,
        Ok(None) => return Err(Refusal::new(500, "the server is shutting down")),
        Err(_full) => {
            let busy = "server busy, please try again.  maximum pending requests exceeded";
            return Err(Refusal::new(503, busy));
        }
    };
    let granted = Instant::now();
    if is_bare {
        return Ok(Outcome::Loaded("load"));
    }
    let admitted = Admitted {
        grant,
        num_ctx,
        arrived,
        granted,
        fault,
    };
    let generation = start(simulator, ask, &model, admitted).await?;
    Ok(Outcome::Answer(Box::new(generation)))
}

/// The load time that a fault asks for.
fn slow_load(fault: &FaultSpec) -> Option<Duration> {
    let default = Duration::from_secs(60);
    (fault.kind == FaultKind::SlowLoad).then(|| fault.load_time.unwrap_or(default))
}

/// Faults that need no model.
async fn immediate(aborts: &Aborts, fault: Option<&FaultSpec>) -> Option<Refusal> {
    let fault = fault?;
    match fault.kind {
        FaultKind::Status => {
            let message = fault.message.clone();
            let message = message.unwrap_or_else(|| "something went wrong".into());
            Some(Refusal::new(fault.status, message))
        }
        FaultKind::Refuse => {
            aborts.abort();
            std::future::pending().await
        }
        FaultKind::Stall
        | FaultKind::Cut
        | FaultKind::ErrorLine
        | FaultKind::MalformedLine
        | FaultKind::NoDone
        | FaultKind::Empty
        | FaultKind::ThinkingOnly
        | FaultKind::SlowLoad
        | FaultKind::RunnerKilled => None,
    }
}

/// A request whose model is loaded.
struct Admitted {
    grant: Grant,
    num_ctx: u64,
    arrived: Instant,
    granted: Instant,
    fault: Option<FaultSpec>,
}

/// Slot, prompt and prefill.
async fn start(
    simulator: &Simulator,
    ask: &Ask,
    model: &ModelSpec,
    admitted: Admitted,
) -> Result<Generation, Refusal> {
    let Admitted { grant, num_ctx, .. } = admitted;
    let prompt = Prompt::fit(ask, model, num_ctx)?;
    let Some(slot) = grant.slot(&prompt.text).await else {
        return Err(Refusal::new(500, "the model was unloaded"));
    };
    let cached = slot.cached_chars as f64 / model.chars_per_token;
    let uncached = (prompt.tokens as f64 - cached).max(1.0);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(uncached / model.prefill)).await;
    let begin = Begin {
        arrived: admitted.arrived,
        granted: admitted.granted,
        prompt_tokens: prompt.tokens,
        prefill: began.elapsed(),
        num_ctx,
        reply: coder::answer(&prompt.messages, &ask.model, &simulator.scripts),
    };
    let held = (grant, slot);
    Ok(Generation::new(held, ask, model, &begin, admitted.fault))
}

/// A prompt that fits the context, as Ollama makes it fit.
struct Prompt {
    messages: Vec<crate::ollama::wire::Message>,
    text: String,
    tokens: u64,
}

impl Prompt {
    /// The oldest messages go first, system messages and the last one stay. What is still too long
    /// is cut by half the context, or refused.
    fn fit(ask: &Ask, model: &ModelSpec, num_ctx: u64) -> Result<Self, Refusal> {
        let mut messages = ask.messages.clone();
        if let Some(system) = &model.system
            && messages.iter().all(|message| message.role != "system")
        {
            messages.insert(0, crate::ollama::wire::Message::new("system", system));
        }
        let may_cut = ask.truncate && model.template == Template::Go;
        let mut prompt = Self::render(messages, model);
        while may_cut && prompt.tokens > num_ctx {
            let last = prompt.messages.len() - 1;
            let oldest = prompt.messages.iter().position(|m| m.role != "system");
            match oldest {
                Some(index) if index < last => {
                    prompt.messages.remove(index);
                    prompt = Self::render(prompt.messages, model);
                }
                _ => break,
            }
        }
        if prompt.tokens <= num_ctx {
            return Ok(prompt);
        }
        if may_cut {
            prompt.tokens = num_ctx / 2 + 2;
            return Ok(prompt);
        }
        let tokens = prompt.tokens;
        let inner = json!({"error": {
            "code": 400,
            "message": format!("request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"),
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": num_ctx,
        }});
        Err(Refusal::new(400, inner.to_string()))
    }

    fn render(messages: Vec<crate::ollama::wire::Message>, model: &ModelSpec) -> Self {
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

/// How lines of one answer are written.
struct Form {
    shape: Shape,
    model: String,
}

impl Form {
    fn piece(&self, text: &str, thought: Option<&str>, done: bool) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("model".into(), self.model.clone().into());
        line.insert("created_at".into(), now().into());
        match self.shape {
            Shape::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if let (Some(thought), Some(map)) = (thought, message.as_object_mut()) {
                    map.insert("thinking".into(), thought.into());
                }
                line.insert("message".into(), message);
            }
            Shape::Generate => {
                line.insert("response".into(), text.into());
                if let Some(thought) = thought {
                    line.insert("thinking".into(), thought.into());
                }
            }
        }
        line.insert("done".into(), done.into());
        line
    }

    fn done(
        &self,
        text: &str,
        thought: Option<&str>,
        reason: &str,
        timings: &Timings,
    ) -> Map<String, Value> {
        let mut line = self.piece(text, thought, true);
        line.insert("done_reason".into(), reason.into());
        if self.shape == Shape::Generate {
            let tokens = timings.prompt_eval_count + timings.eval_count;
            line.insert("context".into(), (0..tokens).collect::<Vec<u64>>().into());
        }
        if let Ok(Value::Object(figures)) = serde_json::to_value(timings) {
            line.extend(figures);
        }
        line
    }

    fn line(&self, event: &Event) -> Option<String> {
        let object = match event {
            Event::Text(text) => self.piece(text, None, false),
            Event::Thought(thought) => self.piece("", Some(thought), false),
            Event::Raw(raw) => return Some(format!("{raw}\n")),
            Event::Done { reason, timings } => self.done("", None, reason, timings),
            Event::Error(message) => return Some(format!("{}\n", json!({ "error": message }))),
            Event::Cut | Event::End => return None,
        };
        Some(format!("{}\n", Value::Object(object)))
    }
}

fn loaded(model: &str, shape: Shape, reason: &str) -> Value {
    let form = Form {
        shape,
        model: model.to_owned(),
    };
    let mut line = form.piece("", None, true);
    line.insert("done_reason".into(), reason.into());
    Value::Object(line)
}

/// Headers with the first token, then one line for each.
async fn stream(mut generation: Generation, form: Form) -> Response {
    let first = generation.next().await;
    if let Some(Event::Error(message)) = &first {
        return error_response(&Refusal::new(500, message.clone()));
    }
    streamed("application/x-ndjson", generation, first, move |event| {
        form.line(event)
    })
}

/// A chunked answer: `write` turns events into bytes.
pub(super) fn streamed(
    content_type: &'static str,
    generation: Generation,
    first: Option<Event>,
    mut write: impl FnMut(&Event) -> Option<String> + Send + 'static,
) -> Response {
    let state = (generation, first, false);
    let events =
        futures_util::stream::unfold(state, |(mut generation, first, is_over)| async move {
            if is_over {
                return None;
            }
            let event = match first {
                Some(event) => event,
                None => generation.next().await?,
            };
            let is_cut = event == Event::Cut;
            Some((event, (generation, None, is_cut)))
        });
    let lines = futures_util::StreamExt::filter_map(events, move |event| {
        let line = match &event {
            Event::Cut => Some(Err(std::io::Error::other(
                "the scenario cuts the answer here",
            ))),
            _ => write(&event).map(|line| Ok(Bytes::from(line))),
        };
        std::future::ready(line)
    });
    let mut response = Response::new(Body::from_stream(lines));
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// All of an answer that is not streamed.
pub(super) struct Collected {
    pub(super) text: String,
    pub(super) thoughts: String,
    pub(super) end: Event,
}

pub(super) async fn collect(mut generation: Generation) -> Collected {
    let (mut text, mut thoughts) = (String::new(), String::new());
    let end = loop {
        match generation.next().await {
            Some(Event::Text(piece)) => text.push_str(&piece),
            Some(Event::Thought(piece)) => thoughts.push_str(&piece),
            Some(Event::Raw(_)) => {}
            Some(end) => break end,
            None => break Event::End,
        }
    };
    Collected {
        text,
        thoughts,
        end,
    }
}

async fn whole(generation: Generation, form: &Form) -> Response {
    let Collected {
        text,
        thoughts,
        end,
    } = collect(generation).await;
    let thoughts = (!thoughts.is_empty()).then_some(thoughts.as_str());
    match end {
        Event::Done { reason, timings } => {
            let line = form.done(&text, thoughts, reason, &timings);
            json_response(200, &Value::Object(line))
        }
        Event::Error(message) => error_response(&Refusal::new(500, message)),
        Event::Cut => error_response(&Refusal::new(500, "unexpected EOF")),
        Event::End | Event::Text(_) | Event::Thought(_) | Event::Raw(_) => {
            json_response(200, &Value::Object(form.piece(&text, thoughts, false)))
        }
    }
}
