//! Whole scenarios, and a whole server with its listener.

use super::*;
use crate::simulator::serve;

/// What a client sees of a scenario in two minutes of one request after the other.
async fn seen(name: &str) -> std::collections::BTreeSet<String> {
    let scenario = Scenario::builtin(name).unwrap();
    let models: Vec<String> = scenario
        .models
        .iter()
        .map(|model| model.name.clone())
        .collect();
    let server = InProcess::start(&scenario);
    let mut seen = std::collections::BTreeSet::new();
    for (number, model) in (0..60).zip(models.iter().cycle()) {
        let messages = json!([{"role": "user", "content": "@sim say one two three four five six seven eight nine ten eleven twelve"}]);
        let body = json!({"model": model, "messages": messages});
        let answer = timeout(Duration::from_secs(600), send(&server, "/api/chat", &body)).await;
        seen.insert(match answer {
            Err(_stalled) => "silence".into(),
            Ok(Err(Refused)) => "refused".into(),
            Ok(Ok(answer)) if answer.is_cut => "cut".into(),
            Ok(Ok(answer)) if answer.status != 200 => answer.status.to_string(),
            Ok(Ok(answer)) if !answer.error().is_empty() => "error line".into(),
            Ok(Ok(answer)) if answer.lines.iter().any(Value::is_null) => "no JSON".into(),
            Ok(Ok(answer)) if answer.last()["done"] == false => "no end".into(),
            Ok(Ok(answer)) if answer.lines.len() == 1 => "empty".into(),
            Ok(Ok(answer)) if answer.lines[0]["message"]["content"] == "" => "thoughts".into(),
            Ok(Ok(answer)) if seconds(&answer, "load_duration") > 10.0 => "late".into(),
            Ok(Ok(_)) => "good".into(),
        });
        let loaded = get_or_none(&server, "/api/ps").await;
        let is_spilled = |model: &Value| model["size_vram"].as_u64() < model["size"].as_u64();
        let models = loaded
            .as_ref()
            .and_then(|loaded| loaded["models"].as_array());
        if models.is_some_and(|models| models.iter().any(is_spilled)) {
            seen.insert("spilled".into());
        }
        sleep(Duration::from_millis(1_500 + number % 7)).await;
    }
    seen
}

async fn get_or_none(server: &InProcess, path: &str) -> Option<Value> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = server.call(request).await.ok()?;
    let bytes = response.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice(&bytes).ok()
}

#[tokio::test(start_paused = true)]
async fn every_scenario_that_comes_along_shows_what_it_is_for() {
    let cases: [(&str, &[&str]); 12] = [
        ("default", &["good"]),
        ("three-models-one-gpu", &["late"]),
        ("slow-disk", &["good", "late"]),
        ("busy", &["good", "503"]),
        ("queues", &["good", "500"]),
        ("failing-loads", &["good", "500", "late"]),
        ("memory", &["good", "spilled"]),
        ("stopping", &["good", "late"]),
        (
            "streams",
            &["good", "silence", "cut", "error line", "no JSON", "no end"],
        ),
        ("empty-answers", &["good", "empty", "thoughts", "no end"]),
        ("catalogue", &["good", "404"]),
        ("outages", &["good", "refused"]),
    ];
    for (name, expected) in cases {
        let seen = seen(name).await;
        for what in expected {
            assert!(seen.contains(*what), "{name}: {what} is not among {seen:?}");
        }
    }
    let seen = seen("cloud").await;
    for status in ["401", "429", "502", "503", "good"] {
        assert!(seen.contains(status), "{seen:?}");
    }
}

/// A server with a listener, which goes for so long when a prompt says "fall".
struct Listening {
    address: std::net::SocketAddr,
    shutdown: tokio_util::sync::CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Listening {
    fn start(gone_for: &str) -> Self {
        let rest = format!(
            "[[fault]]\nkind = \"down\"\nprompt = \"fall\"\nafter = 3\nduration = \"{gone_for}\"\n"
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let mut tasks = JoinSet::new();
        let scenario = scenario("time_scale = 20.0", &rest);
        tasks.spawn(serve(listener, scenario, shutdown.clone()));
        Self {
            address,
            shutdown,
            tasks,
        }
    }

    async fn asked(&self, host: &str, prompt: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        let body = chat(prompt, 5).to_string();
        let length = body.len();
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}"
        );
        let request = format!("{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// The answer that the server's end cuts.
    async fn fall(&self) {
        let cut = self.asked("localhost", "fall").await.unwrap();
        let has = |text: &str| cut.contains(text);
        assert!(has("\"done\":false") && !has("\"done\":true"), "{cut}");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.join_all().await;
    }
}

#[tokio::test]
async fn a_server_that_is_gone_refuses_connections() {
    let server = Listening::start("30days");
    server.fall().await;
    let refused = server.asked("localhost", "hello").await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.stop().await;
}

#[tokio::test]
async fn a_server_comes_back_on_its_port_without_its_models() {
    let server = Listening::start("2s");
    server.fall().await;
    let answer = loop {
        match server.asked("127.0.0.1:11434", "hello").await {
            Ok(answer) => break answer,
            Err(_still_gone) => sleep(Duration::from_millis(20)).await,
        }
    };
    let last = answer
        .lines()
        .find(|line| line.contains("\"done\":true"))
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    // The load of five seconds, twenty times faster.
    assert!(
        last["load_duration"].as_u64().unwrap() >= 250_000_000,
        "{last}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_on_a_loopback_address_does_not_answer_foreign_names() {
    let server = Listening::start("1s");
    let answer = server.asked("example.com", "hello").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    server.stop().await;
}
