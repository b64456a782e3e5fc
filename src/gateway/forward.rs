//! Accepting on the keeper's listener and passing requests on, unchanged.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::grants::{Grant, Grants};
use super::observe::Observation;
use super::upstream::{Answer, Passing, Upstream};

/// Largest request taken, a prompt with whole files in it.
const BODY_MAX: usize = 64 << 20;

/// Headers that belong to one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// The gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener is unusable.
    #[error("the gateway's listener cannot be used")]
    Listener(#[from] io::Error),
    /// No HTTP client can be made.
    #[error("no HTTP client can be made")]
    Client(#[from] reqwest::Error),
}

#[derive(Clone)]
struct Gateway {
    grants: Grants,
    upstream: Upstream,
}

/// Accepts until `stop`, on the listener that the keeper owns.
///
/// # Errors
/// The listener cannot be set up.
pub async fn serve(
    listener: std::net::TcpListener,
    grants: Grants,
    upstream: Upstream,
    stop: CancellationToken,
) -> Result<(), GatewayError> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
    });
    let gateway = Gateway { grants, upstream };
    let router = Router::new().fallback(forward).with_state(gateway);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}

async fn forward(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path();
    let Some((token, rest)) = split(path) else {
        return refusal(
            StatusCode::NOT_FOUND,
            "agents are served under /agent/TOKEN/",
        );
    };
    let Some(grant) = gateway.grants.get(token) else {
        return refusal(StatusCode::FORBIDDEN, "this agent's token is not in force");
    };
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let url = format!("{}{rest}{query}", grant.url);
    let generates = matches!(rest, "/api/chat" | "/api/generate" | "/v1/chat/completions");
    let observation = generates.then(|| Observation::begin(grant.traffic.clone()));
    pass(&gateway.upstream, &grant, url, request, observation).await
}

/// `/agent/TOKEN/rest` → (TOKEN, /rest)
fn split(path: &str) -> Option<(&str, &str)> {
    let tail = path.strip_prefix("/agent/")?;
    let slash = tail.find('/')?;
    Some(tail.split_at(slash))
}

async fn pass(
    upstream: &Upstream,
    grant: &Grant,
    url: String,
    request: Request,
    observation: Option<Observation>,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is larger than 64 MiB",
        );
    };
    let passing = Passing {
        method: parts.method,
        url,
        headers: end_to_end(&parts.headers),
        body,
    };
    match upstream.ask(passing).await {
        Ok(answer) => answered(answer, observation),
        Err(error) => {
            let why = format!(
                "endpoint {} cannot be reached: {}",
                grant.url,
                root_cause(&error)
            );
            if let Some(observation) = observation {
                observation.refused(why.clone());
            }
            refusal(StatusCode::BAD_GATEWAY, &why)
        }
    }
}

fn answered(
    answer: Answer<impl Stream<Item = io::Result<Bytes>> + Send + 'static>,
    observation: Option<Observation>,
) -> Response {
    let status = answer.status;
    let headers = end_to_end(&answer.headers);
    if let Some(observation) = &observation
        && !status.is_success()
    {
        observation.refused(format!("the endpoint answered {status}"));
    }
    let body = watched(answer.body, observation);
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The same bytes, seen on the way; dropped with the connection.
fn watched(
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    mut observation: Option<Observation>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream.inspect(move |item| {
        if let (Ok(bytes), Some(observation)) = (item, observation.as_mut()) {
            observation.chunk(bytes);
        }
    })
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_split_into_token_and_rest() {
        assert_eq!(split("/agent/abc/api/chat"), Some(("abc", "/api/chat")));
        assert_eq!(split("/agent/abc"), None);
        assert_eq!(split("/api/chat"), None);
    }
}
