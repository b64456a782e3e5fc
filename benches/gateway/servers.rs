//! The endpoint and the gateway, each as a process of its own that says where it listens.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use warpsquad::core::Timestamp;
use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::endpoint::{Endpoint, EndpointHealth};
use warpsquad::core::traffic::Bond;
use warpsquad::core::vram::KvCache;
use warpsquad::gateway::{ConductorSettings, Gateway, GatewaySettings, Patience, Seat, Upstream};

/// To the first token, and between two.
const PACE: Duration = Duration::from_millis(5);
const CHUNKS: usize = 20;

fn announce(listener: &TcpListener) {
    println!("http://{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    announce(&listener);
    listener.set_nonblocking(true).unwrap();
    let loaded = json!({"models": [{
        "name": "m:latest", "size": 1, "size_vram": 1, "context_length": 16_384,
    }]});
    let router = Router::new()
        .route("/api/chat", post(chat))
        .route(
            "/api/show",
            post(|| async { axum::Json(json!({"details": {}, "model_info": {}})) }),
        )
        .route("/api/ps", get(move || async move { axum::Json(loaded) }))
        .route("/health", get(|| async { "ok" }));
    runtime().block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)
            .unwrap()
            .tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}

async fn chat(body: Bytes) -> Response {
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let is_load = asked["messages"].as_array().is_some_and(Vec::is_empty);
    if is_load {
        return axum::Json(json!({"done": true, "done_reason": "load"})).into_response();
    }
    let chunks = futures_util::stream::unfold(0, |number| async move {
        if number > CHUNKS {
            return None;
        }
        tokio::time::sleep(PACE).await;
        let line = if number == CHUNKS {
            json!({
                "model": "m", "created_at": "2026-01-01T00:00:00Z",
                "message": {"role": "assistant", "content": ""},
                "done": true, "done_reason": "stop", "total_duration": 105_000_000,
                "load_duration": 1_000_000, "prompt_eval_count": 300,
                "prompt_eval_duration": 4_000_000, "eval_count": 20, "eval_duration": 100_000_000,
            })
        } else {
            json!({
                "model": "m", "created_at": "2026-01-01T00:00:00Z",
                "message": {"role": "assistant", "content": "word "}, "done": false,
            })
        };
        let bytes = Bytes::from(format!("{line}\n"));
        Some((Ok::<_, std::convert::Infallible>(bytes), number + 1))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    response
        .headers_mut()
        .insert("content-type", "application/x-ndjson".parse().unwrap());
    response
}

/// The least that a proxy does which looks at what it passes on: threads that read and write.
pub(super) fn relay(endpoint: &str) {
    let address = endpoint.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    announce(&listener);
    for client in listener.incoming() {
        let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let ways = [
            (client.try_clone().unwrap(), server.try_clone().unwrap()),
            (server, client),
        ];
        for (from, to) in ways {
            std::thread::spawn(move || pass_on(from, to));
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    // The other side may be gone as well.
    drop(to.shutdown(Shutdown::Write));
}

pub(super) fn gateway(endpoint: &str) {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut known = Endpoint::new(endpoint);
    known.health = EndpointHealth::Ok;
    let model: warpsquad::core::model::Model = serde_json::from_value(json!({
        "name": "m:latest", "digest": "d", "size": 1, "parameters": null, "parameter_size": "1B",
        "quantisation": "Q4_0", "family": "llama", "context_length": 32_768,
        "capabilities": ["completion"], "remote": false,
    }))
    .unwrap();
    known.models.insert(model.name.clone(), model);
    let mut catalogue = Catalogue::default();
    catalogue.endpoints.insert("e".into(), known);
    let (_catalogue, catalogue) = watch::channel(Arc::new(catalogue));
    let settings = GatewaySettings {
        conductor: ConductorSettings {
            seats: vec![Seat {
                name: "e".into(),
                url: endpoint.into(),
                parallel: Some(16),
                room: None,
                kv_cache: KvCache::F16,
                gpu: "e".into(),
            }],
            ..ConductorSettings::default()
        },
        ..GatewaySettings::default()
    };
    let began = tokio::time::Instant::now();
    let clocks = move || Timestamp(began.elapsed().as_millis().try_into().unwrap()).into();
    let upstream = Upstream::new(Arc::new(clocks), Patience::default()).unwrap();
    let (served, mut records) = mpsc::channel(1_000);
    let gateway = Gateway::new(settings, upstream, catalogue, served);
    for number in 0..10 {
        let bond = Bond {
            client: format!("agent-{number}"),
            endpoint: "e".into(),
            model: "m:latest".into(),
            context: 16_384,
            thinks: false,
        };
        drop(gateway.grants().admit(&format!("t{number}"), bond));
    }
    announce(&listener);
    runtime().block_on(async {
        let draining = async { while records.recv().await.is_some() {} };
        let serving = gateway.serve(listener, CancellationToken::new());
        let (served, ()) = tokio::join!(serving, draining);
        served.unwrap();
    });
}
