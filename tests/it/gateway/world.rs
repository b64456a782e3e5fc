//! A gateway before simulated endpoints, all in this process over real sockets.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warpsquad::core::Timestamp;
use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::endpoint::EndpointName;
use warpsquad::core::model::Model;
use warpsquad::core::served::Served;
use warpsquad::core::settings::{DiscoverySettings, EndpointSettings};
use warpsquad::core::traffic::{Bond, Traffic};
use warpsquad::core::vram::KvCache;
use warpsquad::discovery::Looker;
use warpsquad::gateway::{ConductorSettings, Gateway, GatewaySettings, Patience, Seat, Upstream};
use warpsquad::simulator::{Scenario, serve};

/// Longest wait for anything here.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Models of every simulated endpoint.
pub(super) const MODELS: &str = r#"
[[model]]
name = "coder:7b"
size = "4GiB"
parameters = "7B"
rate = 5000
load_time = "20ms"

[[model]]
name = "talker:3b"
size = "4GiB"
parameters = "3B"
rate = 5000
load_time = "20ms"
capabilities = ["completion", "thinking"]
"#;

pub(super) struct World {
    pub(super) base: String,
    pub(super) gateway: Arc<Gateway>,
    pub(super) endpoints: Vec<String>,
    pub(super) records: mpsc::Receiver<Served>,
    pub(super) catalogue: watch::Sender<Arc<Catalogue>>,
    client: reqwest::Client,
    _tasks: JoinSet<()>,
}

impl World {
    /// A gateway before one endpoint for each scenario.
    pub(super) async fn new(scenarios: &[&str]) -> Self {
        Self::with(scenarios, GatewaySettings::default(), Patience::default()).await
    }

    pub(super) async fn with(
        scenarios: &[&str],
        settings: GatewaySettings,
        patience: Patience,
    ) -> Self {
        // reqwest is built without a provider of its own.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let mut tasks = JoinSet::new();
        let mut endpoints = Vec::new();
        for scenario in scenarios {
            let text = format!("{scenario}\n{MODELS}");
            let scenario = Scenario::parse(&text, "test.toml").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            endpoints.push(format!("http://{}", listener.local_addr().unwrap()));
            tasks.spawn(async move {
                serve(listener, scenario, CancellationToken::new())
                    .await
                    .unwrap();
            });
        }
        Self::before(endpoints, settings, upstream(patience), tasks).await
    }

    /// A gateway before endpoints that exist.
    pub(super) async fn before(
        endpoints: Vec<String>,
        settings: GatewaySettings,
        upstream: Upstream,
        mut tasks: JoinSet<()>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (catalogue, known) = watch::channel(Arc::new(look(&endpoints).await));
        let (served, records) = mpsc::channel(1_000);
        let settings = GatewaySettings {
            conductor: ConductorSettings {
                seats: seats(&endpoints),
                ..settings.conductor
            },
            ..settings
        };
        let gateway = Gateway::new(settings, upstream, known, served);
        let serving = Arc::clone(&gateway);
        tasks.spawn(async move {
            serving
                .serve(listener, CancellationToken::new())
                .await
                .unwrap();
        });
        Self {
            base,
            gateway,
            endpoints,
            records,
            catalogue,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _tasks: tasks,
        }
    }

    /// An agent with this token, bound to the first endpoint.
    pub(super) fn agent(&self, token: &str, model: &str) -> watch::Receiver<Traffic> {
        let bond = Bond {
            client: format!("agent-{token}"),
            endpoint: "e0".into(),
            model: model.into(),
            context: 8_192,
            thinks: false,
        };
        self.gateway.grants().admit(token, bond)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        tokio::time::timeout(LIMIT, request.send())
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn chat(&self, token: &str, model: &str, text: &str) -> reqwest::Response {
        let path = format!("/agent/{token}/api/chat");
        self.post(&path, &chat(model, text)).await
    }

    pub(super) async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.send().await.unwrap()
    }

    /// The record of the next request that has ended.
    pub(super) async fn record(&mut self) -> Served {
        tokio::time::timeout(LIMIT, self.records.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// What an endpoint says to this question itself.
    pub(super) async fn ask(&self, endpoint: usize, path: &str) -> Value {
        let url = format!("{}{path}", self.endpoints[endpoint]);
        let answer = self.client.get(url).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

pub(super) fn chat(model: &str, text: &str) -> Value {
    json!({
        "model": model, "messages": [{"role": "user", "content": text}],
        "options": {"num_ctx": 8940, "temperature": 0}, "stream": true,
    })
}

/// All text of a streamed native answer, and its last line.
pub(super) async fn read(response: reqwest::Response) -> (String, Value) {
    let text = tokio::time::timeout(LIMIT, response.text())
        .await
        .unwrap()
        .unwrap();
    let mut all = String::new();
    let mut last = Value::Null;
    for line in text.lines() {
        last = serde_json::from_str(line).unwrap();
        all.push_str(last["message"]["content"].as_str().unwrap_or_default());
    }
    (all, last)
}

fn name(index: usize) -> String {
    format!("e{index}")
}

fn seats(endpoints: &[String]) -> Vec<Seat> {
    let numbered = endpoints.iter().enumerate();
    numbered
        .map(|(index, url)| Seat {
            name: EndpointName(name(index)),
            url: url.clone(),
            parallel: None,
            room: None,
            kv_cache: KvCache::F16,
            gpu: name(index),
        })
        .collect()
}

/// The catalogue as discovery makes it.
pub(super) async fn look(endpoints: &[String]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (index, url) in endpoints.iter().enumerate() {
        let settings = EndpointSettings {
            name: name(index),
            url: url.clone(),
            ..EndpointSettings::default()
        };
        let looked = Looker::new(&settings, &DiscoverySettings::default())
            .look()
            .await;
        catalogue
            .endpoints
            .insert(EndpointName(name(index)), looked);
    }
    catalogue
}

/// A machine that stays awake.
pub(super) fn upstream(patience: Patience) -> Upstream {
    let began = tokio::time::Instant::now();
    let clocks = move || Timestamp(began.elapsed().as_millis().try_into().unwrap()).into();
    Upstream::new(Arc::new(clocks), patience).unwrap()
}

/// A model of which little is known.
pub(super) fn model(name: &str) -> Model {
    serde_json::from_value(json!({
        "name": name, "digest": "d", "size": 1, "parameters": null, "parameter_size": "1B",
        "quantisation": "Q4_0", "family": "llama", "context_length": 32_768,
        "capabilities": ["completion"], "remote": false,
    }))
    .unwrap()
}
