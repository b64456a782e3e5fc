//! Client and discovery against the simulator, over real HTTP.

use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warpsquad::core::endpoint::EndpointHealth;
use warpsquad::core::model::ModelName;
use warpsquad::core::settings::{DiscoverySettings, EndpointSettings};
use warpsquad::discovery::{
    Controls, Discovery, EndpointReport, MeasureError, Pace, Subject, measure,
};
use warpsquad::ollama::wire::{ChatRequest, Message};
use warpsquad::ollama::{Client, OllamaError};
use warpsquad::simulator::{Scenario, serve};

const LIMIT: Duration = Duration::from_secs(30);
/// Long enough that no second look comes by itself during a test.
const NEVER: Duration = Duration::from_secs(3600);

struct Simulated {
    url: String,
    shutdown: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Simulated {
    fn start(more: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), more)
    }

    fn on(listener: TcpListener, more: &str) -> Self {
        let text = include_str!("../../assets/scenarios/default.toml");
        let scenario = Scenario::parse(&format!("{text}\n{more}"), "test.toml").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, scenario, shutdown.clone()));
        Self {
            url,
            shutdown,
            tasks,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Looking {
    reports: mpsc::Receiver<EndpointReport>,
    controls: Controls,
    _tasks: JoinSet<()>,
}

impl Looking {
    fn at(url: &str, interval: Duration) -> Self {
        let endpoint = EndpointSettings {
            name: "local".into(),
            url: url.into(),
            ..EndpointSettings::default()
        };
        let settings = DiscoverySettings {
            interval,
            backoff_max: interval,
            timeout: LIMIT,
        };
        let (discovery, controls) = Discovery::new(vec![endpoint], settings);
        let (sender, reports) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(discovery.run(sender, CancellationToken::new()));
        Self {
            reports,
            controls,
            _tasks: tasks,
        }
    }

    async fn next(&mut self) -> EndpointReport {
        let next = tokio::time::timeout(LIMIT, self.reports.recv()).await;
        next.unwrap().unwrap()
    }
}

fn chat(model: &str, prompt: &str) -> ChatRequest {
    ChatRequest {
        model: model.into(),
        messages: vec![Message::new("user", prompt)],
        stream: true,
        ..ChatRequest::default()
    }
}

#[tokio::test]
async fn a_look_shows_models_and_residency() {
    let simulated = Simulated::start("");
    let client = Client::new(&simulated.url, LIMIT).unwrap();
    client
        .load("llama3.1:8b", &serde_json::Map::new())
        .await
        .unwrap();
    let mut looking = Looking::at(&simulated.url, NEVER);
    let report = looking.next().await;
    assert_eq!(report.state.health, EndpointHealth::Ok);
    let coder = &report.state.models[&"qwen2.5-coder:7b".into()];
    assert_eq!(coder.context_length, Some(32_768));
    // The count in the model file, not the rounded one of the list; and its build comes along.
    assert_eq!(coder.parameters, Some(7_615_616_512));
    assert_eq!(coder.architecture.as_ref().unwrap().layers, Some(28));
    assert!(coder.can_chat());
    let resident: Vec<&str> = report
        .state
        .resident
        .keys()
        .map(ModelName::as_str)
        .collect();
    assert_eq!(resident, ["llama3.1:8b"]);
    client.unload("llama3.1:8b").await.unwrap();
    looking.controls.refresh();
    assert!(looking.next().await.state.resident.is_empty());
    simulated.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_goes_is_unknown_and_keeps_its_models_until_it_is_back() {
    let simulated = Simulated::start("");
    let mut looking = Looking::at(&simulated.url, Duration::from_millis(5));
    assert!(looking.next().await.state.health.is_ok());
    let (url, address) = (simulated.url.clone(), simulated.url.replace("http://", ""));
    simulated.stop().await;
    let gone = loop {
        let report = looking.next().await;
        if !report.state.health.is_ok() {
            break report;
        }
    };
    assert_eq!(gone.state.models.len(), 3);
    let refused = EndpointHealth::Unknown {
        why: format!("{url} refused the connection"),
    };
    // A connection that was open when the server went may be told first.
    let mut health = gone.state.health;
    while health != refused {
        health = looking.next().await.state.health;
    }
    let simulated = Simulated::on(TcpListener::bind(address).unwrap(), "");
    while !looking.next().await.state.health.is_ok() {}
    simulated.stop().await;
}

#[tokio::test]
async fn at_rest_only_a_request_looks() {
    let simulated = Simulated::start("");
    let mut looking = Looking::at(&simulated.url, Duration::from_millis(1));
    looking.controls.set_pace(Pace::Resting);
    looking.next().await;
    // Looks that were due before the pace changed are used up.
    while tokio::time::timeout(Duration::from_millis(200), looking.reports.recv())
        .await
        .is_ok()
    {}
    looking.controls.refresh();
    looking.next().await;
    looking.controls.set_pace(Pace::Active);
    looking.next().await;
    looking.next().await;
    simulated.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_ollama_is_unknown() {
    let mut looking = Looking::at("not a url", NEVER);
    let EndpointHealth::Unknown { why } = looking.next().await.state.health else {
        panic!("a text that is no URL cannot answer");
    };
    assert_eq!(why, "not a url is not a usable address");
}

#[tokio::test]
async fn every_fault_shows_as_what_it_is() {
    let fault = |prompt: &str, rest: &str| format!("[[fault]]\nprompt = \"{prompt}\"\n{rest}\n");
    let faults = [
        fault(
            "busy",
            "kind = \"status\"\nstatus = 503\nmessage = \"server busy\"",
        ),
        fault("broken", "kind = \"status\"\nmessage = \"no memory\""),
        fault("refused", "kind = \"refuse\""),
        fault("cut", "kind = \"cut\"\nafter = 1"),
        fault("killed", "kind = \"runner-killed\"\nafter = 1"),
        fault("garbage", "kind = \"malformed-line\"\nafter = 1"),
        fault("endless", "kind = \"no-done\"\nafter = 1"),
        fault("empty", "kind = \"empty\""),
        fault("thoughts", "kind = \"thinking-only\""),
    ];
    let simulated = Simulated::start(&faults.concat());
    let client = Client::new(&simulated.url, LIMIT).unwrap();
    let told = async |prompt: &str| {
        let request = chat("qwen2.5-coder:7b", prompt);
        let mut text = String::new();
        let mut stream = match client.chat(&request, LIMIT).await {
            Ok(stream) => stream,
            Err(error) => return format!("before: {error}"),
        };
        loop {
            match stream.next().await {
                Ok(Some(line)) if line.done => return format!("{text} done"),
                Ok(Some(line)) => {
                    text.push_str(&line.message.content);
                    text.push_str(line.message.thinking.as_deref().map_or("", |_| "?"));
                }
                Ok(None) => return format!("{text} ended"),
                Err(OllamaError::Unreachable { .. }) => return format!("{text} unreachable"),
                Err(OllamaError::Malformed { .. }) => return format!("{text} malformed"),
                Err(error) => return format!("{text} {error}"),
            }
        }
    };
    assert_eq!(told("hello").await, "No changes are needed. done");
    assert_eq!(
        told("busy").await,
        "before: the server is busy: server busy"
    );
    assert_eq!(
        told("broken").await,
        "before: the server failed (500): no memory"
    );
    assert!(
        told("refused")
            .await
            .starts_with("before: http://127.0.0.1:")
    );
    assert_eq!(told("cut").await, "No unreachable");
    let killed = "No the server failed (500): an error was encountered while running the model: unexpected EOF";
    assert_eq!(told("killed").await, killed);
    assert_eq!(told("garbage").await, "No malformed");
    assert_eq!(told("endless").await, "No ended");
    assert_eq!(told("empty").await, " done");
    assert!(told("thoughts").await.starts_with("??"));
    let missing = client.chat(&chat("none:1b", "x"), LIMIT).await.unwrap_err();
    assert!(matches!(missing, OllamaError::NotFound { .. }), "{missing}");
    simulated.stop().await;
}

fn subject(simulated: &Simulated, model: &str) -> Subject {
    Subject {
        endpoint: "local".into(),
        url: simulated.url.clone(),
        model: model.into(),
        context: 8_192,
        thinks: false,
    }
}

#[tokio::test]
async fn a_measurement_tries_one_to_eight_streams_and_leaves_the_model_as_it_was_asked_for() {
    let quick = "[[model]]\nname = \"quick:1b\"\nsize = \"1GB\"\nparameters = \"1B\"\n\
                 voice = \"endless\"\nrate = 2000.0\nprefill = 100000.0\nload_time = \"10ms\"";
    let simulated = Simulated::start(quick);
    let mut told = Vec::new();
    let subject = subject(&simulated, "quick:1b");
    let measured = measure(&subject, |level| told.push(level.streams))
        .await
        .unwrap();
    assert_eq!(told, [1, 2, 4, 8]);
    assert!(
        measured.levels.iter().all(|level| level.rate > 0.0),
        "{measured:?}"
    );
    assert!(measured.load_ms.is_some() && measured.prefill.is_some());
    assert!(measured.knee.is_some() && measured.slots.is_some());
    let client = Client::new(&simulated.url, LIMIT).unwrap();
    let running = client.running().await.unwrap();
    assert_eq!(running.models[0].context_length, Some(8_192));
    simulated.stop().await;
}

#[tokio::test]
async fn what_is_not_installed_is_not_measured() {
    let simulated = Simulated::start("");
    let error = measure(&subject(&simulated, "none:1b"), |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, MeasureError::Endpoint(OllamaError::NotFound { .. })),
        "{error}"
    );
    simulated.stop().await;
}
