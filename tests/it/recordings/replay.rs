//! Sends a recording's requests again: same order, same overlap, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warpsquad::simulator::{Scenario, serve};

use super::compare;

/// The moments in the recordings are rounded to milliseconds, seconds.
const ROUNDING: f64 = 0.005;

/// A simulator on a free port; it ends when this is dropped.
pub(super) struct Server {
    pub(super) base: String,
    pub(super) http: reqwest::Client,
    shutdown: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Server {
    pub(super) fn start(scenario: Scenario) -> Self {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, scenario, shutdown.clone()));
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            shutdown,
            tasks,
        }
    }

    /// What SIGTERM does.
    async fn stop(&mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Everything sent before has been read by the server when this returns: its connections take
    /// turns on one thread.
    async fn barrier(&self) {
        for _ in 0..3 {
            let url = format!("{}/api/version", self.base);
            self.http
                .get(url)
                .send()
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
        }
    }

    async fn load(&self, model: &str, context: Option<u64>) {
        let mut body = json!({ "model": model });
        if let Some(context) = context {
            body["options"] = json!({ "num_ctx": context });
        }
        let url = format!("{}/api/generate", self.base);
        let response = self.http.post(url).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// One recorded request with its answer.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) recorded: Value,
    start: f64,
    end: f64,
}

impl Exchange {
    pub(super) fn path(&self) -> &str {
        self.recorded["request"]["path"].as_str().unwrap()
    }

    fn headers_at(&self) -> f64 {
        self.start + self.recorded["headers_at_s"].as_f64().unwrap_or(0.0)
    }

    fn model(&self) -> Option<&str> {
        self.recorded["request"]["body"]["model"].as_str()
    }

    /// Lines after which the recording's client hung up.
    fn drop_after(&self) -> Option<usize> {
        self.recorded["dropped_by_client"].as_bool()?;
        Some(compare::line_count(&self.recorded))
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub(super) struct Got {
    pub(super) status: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) text: String,
    pub(super) is_cut: bool,
    pub(super) headers: Option<Instant>,
    pub(super) end: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Sent,
    Headers,
    Lines(usize),
    Done,
}

pub(super) fn fixture(file: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/ollama/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every exchange of a recording, in the order of their starts.
fn exchanges(recording: &Value) -> Vec<Exchange> {
    fn walk(value: &Value, found: &mut Vec<Exchange>) {
        if value.get("request").is_some() {
            let start = value["started_at"].as_f64().unwrap();
            let end = start + value["total_s"].as_f64().unwrap();
            found.push(Exchange {
                recorded: value.clone(),
                start,
                end,
            });
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(map) => map.values().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&recording["data"], &mut found);
    found.sort_by(|a, b| a.start.total_cmp(&b.start));
    assert!(!found.is_empty(), "a recording holds at least one exchange");
    found
}

/// Models that were loaded before the recording began, with their context: those that the first
/// list shows before anybody asked for them, and those that were warm when first asked.
fn loaded_before(exchanges: &[Exchange]) -> BTreeMap<String, Option<u64>> {
    let mut loaded = BTreeMap::new();
    let mut asked: Vec<&str> = Vec::new();
    let mut is_listed = false;
    for exchange in exchanges {
        let models = exchange.recorded["json"]["models"].as_array();
        if let (Some(models), "/api/ps", false) = (models, exchange.path(), is_listed) {
            is_listed = true;
            for model in models {
                let name = model["name"].as_str().unwrap();
                if !asked.contains(&name) {
                    loaded.insert(name.to_owned(), model["context_length"].as_u64());
                }
            }
        }
        if let Some(name) = exchange.model().filter(|name| !asked.contains(name)) {
            let load = compare::load_duration(&exchange.recorded);
            let is_warm = load.is_some_and(|load| load < compare::WARM);
            if is_warm && exchange.recorded["status"] == 200 {
                loaded.entry(name.to_owned()).or_insert(None);
            }
            asked.push(name);
        }
    }
    loaded
}

/// Replays one recording and compares everything.
pub(super) async fn recording(file: &str, scenario: Scenario) {
    let limit = Duration::from_secs(60);
    let replayed = tokio::time::timeout(limit, replay(file, scenario)).await;
    replayed.unwrap_or_else(|_| panic!("{file}: not done within {limit:?}"));
}

async fn replay(file: &str, scenario: Scenario) {
    let recording = fixture(file);
    let exchanges = exchanges(&recording);
    let mut server = Server::start(scenario);
    for (model, context) in loaded_before(&exchanges) {
        server.load(&model, context).await;
    }
    let mut running = JoinSet::new();
    let mut stages: Vec<watch::Receiver<Stage>> = Vec::new();
    let gives_up = recording["data"].get("gives_up_while_queued").is_some();
    for (index, exchange) in exchanges.iter().enumerate() {
        for (earlier, stage) in exchanges.iter().zip(&mut stages) {
            let must_be = if earlier.end <= exchange.start + ROUNDING && !was_cut(file, earlier) {
                Stage::Done
            } else if earlier.headers_at() <= exchange.start {
                Stage::Headers
            } else {
                Stage::Sent
            };
            stage.wait_for(|stage| *stage >= must_be).await.unwrap();
        }
        if gives_up && index + 1 == exchanges.len() {
            give_up_while_queued(&server, exchange).await;
        }
        if file.starts_with("61") && index == 1 {
            stages[0]
                .wait_for(|stage| *stage >= Stage::Lines(6))
                .await
                .unwrap();
            server.stop().await;
        }
        let (sender, receiver) = watch::channel(Stage::Sent);
        stages.push(receiver);
        let sent = Arc::new(sender);
        let (http, base) = (server.http.clone(), server.base.clone());
        let exchange = exchange.clone();
        running.spawn(async move { (index, send(http, base, exchange, sent).await) });
        if !file.starts_with("61") {
            server.barrier().await;
        }
    }
    let mut got = vec![Got::default(); exchanges.len()];
    while let Some(ended) = running.join_next().await {
        let (index, answer) = ended.unwrap();
        got[index] = answer;
    }
    for (exchange, got) in exchanges.iter().zip(&got) {
        compare::exchange(file, exchange, got);
    }
    order(file, &exchanges, &got);
}

/// The answer that the end of the server cuts has no end of its own.
fn was_cut(file: &str, exchange: &Exchange) -> bool {
    file.starts_with("61") && exchange.path() == "/api/chat"
}

/// A request that waits for a slot and whose client leaves.
async fn give_up_while_queued(server: &Server, like: &Exchange) {
    let url = format!("{}{}", server.base, like.path());
    let body = &like.recorded["request"]["body"];
    let waiting = server.http.post(url).json(body).send();
    tokio::select! {
        _answer = waiting => panic!("there was no queue"),
        () = server.barrier() => {}
    }
}

async fn send(
    http: reqwest::Client,
    base: String,
    exchange: Exchange,
    stage: Arc<watch::Sender<Stage>>,
) -> Got {
    if exchange.path() == "/api/ps" && exchange.recorded["status"] == 200 {
        let got = poll_loaded(&http, &base, &exchange.recorded).await;
        stage.send_replace(Stage::Done);
        return got;
    }
    let request = &exchange.recorded["request"];
    let method = request["method"].as_str().unwrap().parse().unwrap();
    let mut builder = http.request(method, format!("{base}{}", exchange.path()));
    builder = match &request["body"] {
        Value::Null => builder,
        Value::String(raw) => builder.body(raw.clone()),
        body => builder.json(body),
    };
    let Ok(mut response) = builder.send().await else {
        stage.send_replace(Stage::Done);
        return Got::default();
    };
    let mut got = Got {
        status: Some(response.status().as_u16()),
        content_type: response
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned()),
        headers: Some(Instant::now()),
        ..Got::default()
    };
    stage.send_replace(Stage::Headers);
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => {
                got.is_cut = true;
                break;
            }
        }
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        stage.send_replace(Stage::Lines(lines));
        if exchange.drop_after().is_some_and(|enough| lines >= enough) {
            break;
        }
    }
    got.text = String::from_utf8(bytes).unwrap();
    drop(response);
    got.end = Some(Instant::now());
    stage.send_replace(Stage::Done);
    got
}

/// The list of loaded models: asked again until it is the recorded one. Whoever waits for a model
/// to load or go looks again, too.
async fn poll_loaded(http: &reqwest::Client, base: &str, recorded: &Value) -> Got {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let response = http.get(format!("{base}/api/ps")).send().await.unwrap();
        let got = Got {
            status: Some(response.status().as_u16()),
            content_type: Some("application/json; charset=utf-8".into()),
            text: response.text().await.unwrap(),
            ..Got::default()
        };
        let shown: Value = serde_json::from_str(&got.text).unwrap();
        if compare::loaded(&shown) == compare::loaded(&recorded["json"])
            || Instant::now() > deadline
        {
            return got;
        }
        tokio::task::yield_now().await;
    }
}

/// Whatever came clearly before something else must do so again.
fn order(file: &str, exchanges: &[Exchange], got: &[Got]) {
    /// Seconds between two moments of a recording that say something about their order.
    const CLEAR: f64 = 0.3;
    for (a, got_a) in exchanges.iter().zip(got) {
        for (b, got_b) in exchanges.iter().zip(got) {
            let is_answer = |e: &Exchange| e.path() == "/api/chat" && e.drop_after().is_none();
            if !is_answer(a) || !is_answer(b) {
                continue;
            }
            if let (Some(first), Some(second)) = (got_a.headers, got_b.headers) {
                let clear = a.headers_at() + CLEAR < b.headers_at();
                assert!(
                    !clear || first <= second,
                    "{file}: headers of {a:?} after {b:?}"
                );
            }
            if let (Some(first), Some(second)) = (got_a.end, got_b.end) {
                let clear = a.end + CLEAR < b.end;
                assert!(
                    !clear || first <= second,
                    "{file}: end of {a:?} after {b:?}"
                );
            }
        }
    }
}
