//! Answers in the shape that a client speaks: errors, whole answers, lines of a stream.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::ask::{Bare, Shape};
use super::lines::{End, Line, Piece};
use super::openai;

/// How one answer is written.
#[derive(Debug)]
pub(super) enum Form {
    /// As Ollama does; lines of the endpoint are passed on as they came.
    Native(Shape),
    /// As OpenAI does.
    OpenAi(openai::Form),
}

impl Form {
    pub(super) fn new(shape: Shape, id: u64, model: &str) -> Self {
        match shape {
            Shape::Chat | Shape::Generate => Self::Native(shape),
            Shape::OpenAi { usage } => Self::OpenAi(openai::Form::new(id, model, usage)),
        }
    }

    /// The type of a stream.
    pub(super) fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Native(_) => "application/x-ndjson",
            Self::OpenAi(_) => "text/event-stream",
        })
    }

    /// A line that is not the last one.
    pub(super) fn line(&mut self, line: Line) -> Bytes {
        match (self, &line.said) {
            (Self::Native(_), _) => line.bytes,
            (Self::OpenAi(form), super::lines::Said::Piece(piece)) => form.piece(piece),
            (Self::OpenAi(_), _) => Bytes::new(),
        }
    }

    /// The last line.
    pub(super) fn last(&mut self, line: Line, end: &End) -> Bytes {
        match self {
            Self::Native(_) => line.bytes,
            Self::OpenAi(form) => form.end(end),
        }
    }

    /// What is said when the answer breaks off after its beginning.
    pub(super) fn broken(&self, why: &str) -> Bytes {
        match self {
            Self::Native(_) => Bytes::from(format!("{}\n", json!({ "error": why }))),
            Self::OpenAi(_) => openai::Form::error(why),
        }
    }

    /// The whole answer at once.
    pub(super) fn whole(&self, all: &Piece, end: &End, last: &Line) -> Response {
        match self {
            Self::Native(shape) => json_response(StatusCode::OK, &native(*shape, all, last)),
            Self::OpenAi(form) => json_response(StatusCode::OK, &form.whole(all, end)),
        }
    }
}

/// The last line with everything that came before it.
fn native(shape: Shape, all: &Piece, last: &Line) -> Value {
    let mut value: Value = serde_json::from_slice(&last.bytes).unwrap_or_default();
    if let Some(logprobs) = &all.logprobs {
        value["logprobs"] = logprobs.clone();
    }
    match shape {
        Shape::Generate => {
            value["response"] = all.text.clone().into();
            if let Some(thought) = &all.thought {
                value["thinking"] = thought.clone().into();
            }
        }
        Shape::Chat | Shape::OpenAi { .. } => {
            value["message"]["role"] = "assistant".into();
            value["message"]["content"] = all.text.clone().into();
            if let Some(thought) = &all.thought {
                value["message"]["thinking"] = thought.clone().into();
            }
            if let Some(calls) = &all.tool_calls {
                value["message"]["tool_calls"] = calls.clone();
            }
        }
    }
    value
}

/// A refusal in the client's shape.
pub(super) fn refusal(shape: Option<Shape>, status: StatusCode, why: &str) -> Response {
    let body = match shape {
        Some(Shape::OpenAi { .. }) => {
            let kind = match status {
                StatusCode::NOT_FOUND => "not_found_error",
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
                _ if status.is_client_error() => "invalid_request_error",
                _ => "api_error",
            };
            json!({"error": {"message": why, "type": kind, "param": null, "code": null}})
        }
        Some(Shape::Chat | Shape::Generate) | None => json!({ "error": why }),
    };
    json_response(status, &body)
}

/// What Ollama says to a request without a prompt. The squad decides itself what is loaded.
pub(super) fn bare(shape: Shape, model: &str, bare: Bare) -> Response {
    let reason = match bare {
        Bare::Load => "load",
        Bare::Unload => "unload",
    };
    let mut value = json!({
        "model": model, "created_at": jiff::Timestamp::now().to_string(),
        "done": true, "done_reason": reason,
    });
    match shape {
        Shape::Generate => value["response"] = "".into(),
        Shape::Chat | Shape::OpenAi { .. } => {
            value["message"] = json!({"role": "assistant", "content": ""});
        }
    }
    json_response(StatusCode::OK, &value)
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A stream that is flushed piece by piece.
pub(super) fn streamed(content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_native_answer_is_the_last_line_with_all_of_the_text() {
        let last = Line::read(
            br#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":3}"#
                .to_vec(),
        );
        let all = Piece {
            text: "hello".into(),
            ..Piece::default()
        };
        assert_eq!(
            native(Shape::Chat, &all, &last),
            json!({
                "model": "m", "message": {"role": "assistant", "content": "hello"},
                "done": true, "eval_count": 3,
            })
        );
    }
}
