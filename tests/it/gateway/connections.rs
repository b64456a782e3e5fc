//! Connections to endpoints serve one request after the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::endpoint::{Endpoint, EndpointHealth};
use warpsquad::gateway::{GatewaySettings, Patience};

use super::world::{World, chat, model, read, upstream};

const ROUNDS: usize = 4;
/// From the last line to the end of the body.
const END_AFTER: std::time::Duration = std::time::Duration::from_millis(10);
const LINES: [&str; 2] = [
    "{\"message\":{\"content\":\"ok\"},\"done\":false}\n",
    "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
];

/// Where chats came from.
type Seen = Arc<Mutex<BTreeSet<SocketAddr>>>;

/// Lines as separate chunks, and the end of the body a moment after the last of them.
async fn answer(
    State(seen): State<Seen>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    if asked["messages"].as_array().unwrap().is_empty() {
        return axum::Json(json!({"done": true, "done_reason": "load"})).into_response();
    }
    seen.lock().unwrap().insert(peer);
    let lines = futures_util::stream::unfold(0, |at| async move {
        let Some(line) = LINES.get(at) else {
            // The end of the body comes by itself, as from an endpoint that is busy.
            tokio::time::sleep(END_AFTER).await;
            return None;
        };
        let line = Bytes::from(*line);
        Some((Ok::<_, std::convert::Infallible>(line), at + 1))
    });
    Body::from_stream(lines).into_response()
}

async fn endpoint(seen: Seen, tasks: &mut JoinSet<()>) -> String {
    let loaded = json!({"models": [{
        "name": "m:latest", "size": 1, "size_vram": 1, "context_length": 16_384,
    }]});
    let router = axum::Router::new()
        .route("/api/chat", post(answer))
        .route("/api/ps", get(async || axum::Json(loaded)))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tasks.spawn(async move { axum::serve(listener, service).await.unwrap() });
    url
}

#[tokio::test]
async fn answers_that_have_ended_leave_their_connection_to_the_next_request() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let seen = Seen::default();
    let mut tasks = JoinSet::new();
    let url = endpoint(Arc::clone(&seen), &mut tasks).await;
    let upstream = upstream(Patience::default());
    let settings = GatewaySettings::default();
    let world = World::before(vec![url.clone()], settings, upstream, tasks).await;
    let mut known = Endpoint::new(&url);
    known.health = EndpointHealth::Ok;
    let model = model("m:latest");
    known.models.insert(model.name.clone(), model);
    let mut catalogue = Catalogue::default();
    catalogue.endpoints.insert("e0".into(), known);
    world.catalogue.send_replace(Arc::new(catalogue));
    drop(world.agent("t", "m:latest"));
    for _ in 0..ROUNDS {
        let (text, last) = read(world.chat("t", "m:latest", "hello").await).await;
        assert_eq!((text.as_str(), &last["done"]), ("ok", &json!(true)));
        let mut whole = chat("m:latest", "hello");
        whole["stream"] = false.into();
        let answer = world.post("/agent/t/api/chat", &whole).await;
        assert_eq!(answer.json::<Value>().await.unwrap()["done"], true);
    }
    // Two, because a look at the endpoint may have one in the moment in which a chat begins.
    let connections = seen.lock().unwrap().len();
    assert!(connections <= 2, "{connections} for {} chats", 2 * ROUNDS);
}
