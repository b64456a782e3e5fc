//! Answers in JSON, with Ollama's headers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::Response;
use serde_json::{Value, json};

use super::request::Refusal;

/// `application/json` with a status.
pub(super) fn json_response(status: u16, body: &Value) -> Response {
    text_response(status, "application/json; charset=utf-8", body.to_string())
}

/// `{"error": …}` with a status.
pub(super) fn error_response(refusal: &Refusal) -> Response {
    let mut body = json!({ "error": refusal.message });
    if let (Some(url), Some(map)) = (&refusal.signin_url, body.as_object_mut()) {
        map.insert("signin_url".into(), url.clone().into());
    }
    with_retry_after(json_response(refusal.status, &body), refusal)
}

/// The header of a refusal that names a time.
pub(super) fn with_retry_after(mut response: Response, refusal: &Refusal) -> Response {
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
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
