//! `/api/chat` and `/api/generate`: what answers look like.
//!
//! No byte is sent before the first token: until then a failure has a real status.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::admission::{Outcome, begin};
use super::clock::Clock;
use super::generation::{Event, Generation};
use super::json::{error_response, json_response};
use super::request::{Ask, Refusal, object};
use super::simulated::{Aborts, Simulator};
use crate::ollama::wire::Timings;

/// Which of the two native endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
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
    let form = Form {
        shape,
        model: ask.model.clone(),
        clock: simulator.clock,
    };
    match begin(simulator, aborts, path, &ask).await {
        Err(refusal) => error_response(&refusal),
        Ok(Outcome::Loaded(reason)) => json_response(200, &loaded(&form, reason)),
        Ok(Outcome::Answer(generation)) if ask.is_streamed => stream(*generation, form).await,
        Ok(Outcome::Answer(generation)) => whole(*generation, &form).await,
    }
}

/// How lines of one answer are written.
struct Form {
    shape: Shape,
    model: String,
    clock: Clock,
}

impl Form {
    fn piece(&self, text: &str, thought: Option<&str>, done: bool) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("model".into(), self.model.clone().into());
        line.insert("created_at".into(), self.clock.shown().to_string().into());
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

fn loaded(form: &Form, reason: &str) -> Value {
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
