//! Answers in JSON, with Ollama's headers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Value, json};

use super::request::Refusal;

/// The moment, as Ollama writes it.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// `application/json` with a status.
pub(super) fn json_response(status: u16, body: &Value) -> Response {
    text_response(status, "application/json; charset=utf-8", body.to_string())
}

/// `{"error": …}` with a status.
pub(super) fn error_response(refusal: &Refusal) -> Response {
    json_response(refusal.status, &json!({ "error": refusal.message }))
}

/// Any text with a status.
pub(super) fn text_response(status: u16, content_type: &str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}
