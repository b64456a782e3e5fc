//! Whole requests without sockets on paused time, and every fault that a scenario can name.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{InProcess, Refused, Scenario};

const MODEL: &str = r#"
[[model]]
name = "m:1b"
size = "1GiB"
parameters = "1B"
rate = 10.0
prefill = 100.0
chars_per_token = 1.0
kv_per_token = 0
load_time = "5s"
voice = "endless"
"#;

fn scenario(server: &str, rest: &str) -> Scenario {
    let server =
        format!("[server]\njitter = 0.0\nstarted_at = \"2026-01-01T00:00:00Z\"\n{server}\n");
    Scenario::parse(&format!("{server}{MODEL}{rest}"), "test.toml").unwrap()
}

/// The same model, whose prompts take no time.
fn at_once(server: &str) -> InProcess {
    let server = format!("[server]\njitter = 0.0\n{server}\n");
    let model = MODEL.replace("prefill = 100.0", "prefill = 1000000.0");
    InProcess::start(&Scenario::parse(&format!("{server}{model}"), "test.toml").unwrap())
}

fn simulated(server: &str, rest: &str) -> InProcess {
    InProcess::start(&scenario(server, rest))
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

fn chat(prompt: &str, tokens: u64) -> Value {
    json!({
        "model": "m:1b",
        "messages": [{"role": "user", "content": prompt}],
        "options": {"num_predict": tokens},
    })
}

/// Status, lines and whether the answer was cut.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    lines: Vec<Value>,
    text: String,
    is_cut: bool,
}

impl Answer {
    fn last(&self) -> &Value {
        self.lines.last().unwrap()
    }

    fn error(&self) -> &str {
        self.last()["error"].as_str().unwrap_or_default()
    }
}

async fn send(server: &InProcess, path: &str, body: &Value) -> Result<Answer, Refused> {
    let response = server.call(post(path, body)).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let (mut bytes, mut is_cut) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_cut) => {
                is_cut = true;
                break;
            }
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null));
    Ok(Answer {
        status,
        lines: lines.collect(),
        is_cut,
        text: text.clone(),
    })
}

async fn ask(server: &InProcess, tokens: u64) -> Answer {
    send(server, "/api/chat", &chat("hello", tokens))
        .await
        .unwrap()
}

async fn get(server: &InProcess, path: &str) -> Value {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = server.call(request).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// Seconds of a duration in an answer.
fn seconds(answer: &Answer, key: &str) -> f64 {
    answer.last()[key].as_u64().unwrap_or(0) as f64 / 1e9
}

#[track_caller]
fn about(seconds: f64, expected: f64) {
    assert!(
        (seconds - expected).abs() < 0.02,
        "{seconds} s instead of {expected} s"
    );
}

#[tokio::test(start_paused = true)]
async fn the_durations_of_an_answer_are_those_of_the_scenario() {
    let server = simulated("", "");
    let answer = ask(&server, 20).await;
    // "user\nhello\n" and three more tokens.
    assert_eq!(answer.last()["prompt_eval_count"], 14);
    about(seconds(&answer, "load_duration"), 5.0);
    about(seconds(&answer, "prompt_eval_duration"), 0.14);
    about(seconds(&answer, "eval_duration"), 2.0);
    about(seconds(&answer, "total_duration"), 7.14);
    assert_eq!(answer.last()["created_at"], "2026-01-01T00:00:07.14Z");
}

#[tokio::test(start_paused = true)]
async fn a_scaled_clock_makes_everything_faster_but_not_the_clients_keep_alive() {
    let server = simulated("time_scale = 10.0", "");
    let answer = ask(&server, 20).await;
    about(seconds(&answer, "load_duration"), 0.5);
    about(seconds(&answer, "eval_duration"), 0.2);
    sleep(Duration::from_secs(299)).await;
    assert_eq!(
        get(&server, "/api/ps").await["models"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&server, "/api/ps").await["models"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn streams_share_the_runner_and_together_are_faster_than_one() {
    let server = std::sync::Arc::new(at_once("num_parallel = 4\nalpha = 0.5"));
    ask(&server, 1).await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let server = std::sync::Arc::clone(&server);
        tasks.spawn(async move { ask(&server, 100).await });
    }
    for answer in tasks.join_all().await {
        // Four streams make twice the tokens of one: each takes twice as long. The first token of
        // each finds fewer beside it.
        let time = seconds(&answer, "eval_duration");
        assert!((19.8..=20.0).contains(&time), "{time}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_slot_is_in_the_total_only() {
    let server = std::sync::Arc::new(at_once(""));
    ask(&server, 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..3_u64 {
        let server = std::sync::Arc::clone(&server);
        tasks.spawn(async move {
            sleep(Duration::from_millis(number)).await;
            ask(&server, 10).await
        });
    }
    let mut waits: Vec<f64> = Vec::new();
    for answer in tasks.join_all().await {
        let work = ["load_duration", "prompt_eval_duration", "eval_duration"];
        let work: f64 = work.iter().map(|key| seconds(&answer, key)).sum();
        waits.push(seconds(&answer, "total_duration") - work);
    }
    waits.sort_by(f64::total_cmp);
    for (wait, expected) in waits.iter().zip([0.0, 1.0, 2.0]) {
        assert!((wait - expected).abs() < 0.05, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_goes_on_is_read_from_where_it_was() {
    let server = simulated("", "");
    let first = ask(&server, 10).await;
    let said: String = first
        .lines
        .iter()
        .filter_map(|l| l["message"]["content"].as_str())
        .collect();
    let mut body = chat("hello", 1);
    let more = [
        json!({"role": "assistant", "content": said}),
        json!({"role": "user", "content": "go on"}),
    ];
    body["messages"].as_array_mut().unwrap().extend(more);
    let second = send(&server, "/api/chat", &body).await.unwrap();
    // New are the line end of the answer, "user\ngo on\n" and the three of every prompt.
    about(
        seconds(&second, "prompt_eval_duration"),
        0.01 * (1.0 + 11.0 + 3.0),
    );
    assert!(second.last()["prompt_eval_count"].as_u64().unwrap() > 40);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_the_slot_but_not_before_the_batch_of_its_prompt_ends() {
    let server = simulated("", "");
    ask(&server, 1).await;
    let start = Instant::now();
    // 1000 tokens: a batch of 512 takes 5.12 seconds.
    let long = chat(&"x".repeat(1_000), 10);
    let gone = timeout(Duration::from_secs(1), send(&server, "/api/chat", &long)).await;
    assert!(gone.is_err());
    let answer = ask(&server, 1).await;
    let waited = start.elapsed().as_secs_f64();
    assert!((5.12..5.5).contains(&waited), "{waited}: {answer:?}");
}

#[tokio::test(start_paused = true)]
async fn equal_requests_on_equal_seeds_get_equal_bytes_at_equal_moments() {
    let run = async |seed: u64| {
        let faults = "[[fault]]\nkind = \"error-line\"\nprobability = 0.4\nafter = 3\n";
        let server = format!("seed = {seed}\nvram = \"8GiB\"\nnum_parallel = 2");
        let text =
            format!("[server]\nstarted_at = \"2026-01-01T00:00:00Z\"\n{server}\n{MODEL}{faults}");
        let server = std::sync::Arc::new(InProcess::start(&Scenario::parse(&text, "s").unwrap()));
        let mut tasks = JoinSet::new();
        for number in 0..12_u64 {
            let server = std::sync::Arc::clone(&server);
            tasks.spawn(async move {
                sleep(Duration::from_millis(number * 700)).await;
                let body = chat(&format!("question {number}"), 12);
                (
                    number,
                    send(&server, "/api/chat", &body).await.unwrap().text,
                )
            });
        }
        let mut answers = tasks.join_all().await;
        answers.sort();
        answers
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
}

#[tokio::test(start_paused = true)]
async fn faults_of_requests_have_their_status_and_words() {
    let cases = [
        (
            "kind = \"busy\"",
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (
            "kind = \"status\"\nstatus = 502\nmessage = \"bad gateway\"",
            502,
            "bad gateway",
        ),
        (
            "kind = \"queue-error\"",
            500,
            "no slots available after 10 retries",
        ),
        (
            "kind = \"load-error\"",
            500,
            "llama-server process has terminated: exit status 1",
        ),
        (
            "kind = \"load-oom\"",
            500,
            "llama-server process has terminated: exit status 2: CUDA error: out of memory",
        ),
        (
            "kind = \"stuck-load\"",
            500,
            "timed out waiting for llama-server to start - ",
        ),
        (
            "kind = \"removed\"\nmodel = \"m:1b\"",
            404,
            "model 'm:1b' not found",
        ),
        ("kind = \"exceeded\"", 400, "{\"error\":{"),
        (
            "kind = \"error-line\"\nafter = 3",
            200,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"error-line\"",
            500,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"runner-killed\"\nafter = 3",
            200,
            "an error was encountered while running the model: unexpected EOF",
        ),
        (
            "kind = \"runner-oom\"\nafter = 3",
            200,
            "an error was encountered while running the model: CUDA error: out of memory",
        ),
    ];
    for (fault, status, error) in cases {
        let server = simulated("", &format!("[[fault]]\n{fault}\n"));
        let answer = ask(&server, 9).await;
        assert_eq!(answer.status, status, "{fault}: {answer:?}");
        assert!(answer.error().starts_with(error), "{fault}: {answer:?}");
        let lines = if status == 200 { 4 } else { 1 };
        assert_eq!(answer.lines.len(), lines, "{fault}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_streams_end_them_as_they_say() {
    let with = async |fault: &str| {
        let server = simulated("", &format!("[[fault]]\n{fault}\n"));
        let answer = timeout(Duration::from_secs(600), ask(&server, 60)).await;
        answer.ok()
    };
    assert_eq!(with("kind = \"stall\"\nafter = 3").await, None);
    let cut = with("kind = \"cut\"\nafter = 3").await.unwrap();
    assert!(cut.is_cut && cut.lines.len() == 3);
    let no_done = with("kind = \"no-done\"\nafter = 3").await.unwrap();
    assert!(!no_done.is_cut && no_done.lines.len() == 3 && no_done.last()["done"] == false);
    let malformed = with("kind = \"malformed-line\"\nafter = 3").await.unwrap();
    assert!(malformed.lines[3].is_null() && malformed.last()["done"] == true);
    let empty = with("kind = \"empty\"").await.unwrap();
    assert!(empty.lines.len() == 1 && empty.last()["done_reason"] == "stop");
    let thoughts = with("kind = \"thinking-only\"").await.unwrap();
    assert_eq!(thoughts.last()["done_reason"], "length");
    let first = &thoughts.lines[0]["message"];
    assert!(first["content"] == "" && first["thinking"].is_string());
    // 31 equal tokens, then a clean end without a last line.
    let repeat = with("kind = \"repeat\"\nafter = 3").await.unwrap();
    assert!(!repeat.is_cut && repeat.lines.len() == 34 && repeat.last()["done"] == false);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_cut_counts_half_the_context_and_two() {
    let server = simulated("", "[[fault]]\nkind = \"truncated\"\n");
    assert_eq!(ask(&server, 1).await.last()["prompt_eval_count"], 2_050);
    let server = simulated("", "");
    let long = send(&server, "/api/chat", &chat(&"x".repeat(9_000), 1))
        .await
        .unwrap();
    assert_eq!(long.last()["prompt_eval_count"], 2_050);
}

#[tokio::test(start_paused = true)]
async fn a_cloud_model_is_never_loaded_and_has_the_errors_of_a_cloud() {
    let cloud = "[[model]]\nname = \"big:cloud\"\nsize = 384\nparameters = \"480B\"\nremote_host = \"https://ollama.com:443\"\nvoice = \"endless\"\n\
        [[fault]]\nkind = \"status\"\nnth = 1\nstatus = 401\nmessage = \"unauthorized\"\nsignin_url = \"https://ollama.com/connect\"\n\
        [[fault]]\nkind = \"status\"\nnth = 2\nstatus = 429\nretry_after = 7\n";
    let server = simulated("", cloud);
    let mut body = chat("hello", 2);
    body["model"] = "big:cloud".into();
    let first = send(&server, "/api/chat", &body).await.unwrap();
    assert_eq!(first.status, 401);
    assert_eq!(
        *first.last(),
        json!({"error": "unauthorized", "signin_url": "https://ollama.com/connect"})
    );
    let second = server.call(post("/api/chat", &body)).await.unwrap();
    assert_eq!(
        (second.status().as_u16(), &second.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    let third = send(&server, "/api/chat", &body).await.unwrap();
    assert_eq!(third.last()["done_reason"], "length");
    assert_eq!(get(&server, "/api/ps").await["models"], json!([]));
    let tags = get(&server, "/api/tags").await;
    let models = tags["models"].as_array().unwrap();
    let big = models
        .iter()
        .find(|model| model["name"] == "big:cloud")
        .unwrap();
    assert_eq!(
        (&big["remote_model"], &big["remote_host"]),
        (&json!("big"), &json!("https://ollama.com:443"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_fault_has_a_window_that_comes_again() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"busy\"\nfrom = \"10s\"\nuntil = \"20s\"\nevery = \"60s\"\n",
    );
    let mut statuses = Vec::new();
    for _ in 0..9 {
        sleep(Duration::from_secs(15).saturating_sub(Duration::from_millis(1))).await;
        statuses.push(
            server
                .call(post("/api/chat", &json!({"model": "m:1b"})))
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    // At 15 s; the load takes five, so then at 35, 50, 65, 80 …
    assert_eq!(statuses, [503, 200, 200, 200, 503, 200, 200, 200, 503]);
}

#[tokio::test(start_paused = true)]
async fn matches_are_counted_for_nth_every_and_times() {
    let statuses = async |fault: &str| {
        let server = simulated("", &format!("[[fault]]\nkind = \"busy\"\n{fault}\n"));
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(ask(&server, 1).await.status);
        }
        statuses
    };
    assert_eq!(statuses("nth = 2").await, [200, 503, 200, 200, 200, 200]);
    assert_eq!(statuses("every = 3").await, [200, 200, 503, 200, 200, 503]);
    assert_eq!(statuses("times = 2").await, [503, 503, 200, 200, 200, 200]);
    assert_eq!(statuses("prompt = \"nobody says this\"").await, [200; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_points_elsewhere_has_another_digest_and_loads_anew() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"repointed\"\nmodel = \"m:1b\"\nfrom = \"60s\"\n",
    );
    ask(&server, 1).await;
    let digest = async || get(&server, "/api/tags").await["models"][0]["digest"].clone();
    let before = digest().await;
    sleep(Duration::from_secs(60)).await;
    assert_ne!(digest().await, before);
    about(seconds(&ask(&server, 1).await, "load_duration"), 5.0);
    let loaded = get(&server, "/api/ps").await;
    assert_eq!(loaded["models"].as_array().unwrap().len(), 2, "{loaded}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_refuses_and_comes_back_without_its_models() {
    let server = simulated(
        "",
        "[[fault]]\nkind = \"down\"\nfrom = \"30s\"\nuntil = \"40s\"\n",
    );
    ask(&server, 1).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        send(&server, "/api/chat", &chat("x", 1)).await,
        Err(Refused)
    );
    sleep(Duration::from_secs(10)).await;
    about(seconds(&ask(&server, 1).await, "load_duration"), 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_gets_no_answer() {
    let server = simulated("", "[[fault]]\nkind = \"refuse\"\nnth = 1\n");
    assert_eq!(
        send(&server, "/api/chat", &chat("x", 1)).await,
        Err(Refused)
    );
    assert_eq!(ask(&server, 1).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn slow_speech_is_the_same_text() {
    let prompt = |rate: &str| {
        format!(
            "{rate}@sim say {}\n@sim append a.py := one\\ntwo\n",
            "word ".repeat(65)
        )
    };
    let coder = MODEL.replace("m:1b", "c:1b").replace("endless", "coder");
    let server = simulated("", &coder);
    let mut said = Vec::new();
    for rate in ["", "@sim slow 10\n", "@sim slow 3.5\n"] {
        let body = json!({"model": "c:1b", "messages": [
            {"role": "system", "content": "Every *SEARCH/REPLACE block* must use this format:"},
            {"role": "user", "content": "I have *added these files to the chat*\n\na.py\n```\nzero\n```\n"},
            {"role": "assistant", "content": "Ok, any changes I propose will be to those files."},
            {"role": "user", "content": prompt(rate)},
        ]});
        let answer = send(&server, "/api/chat", &body).await.unwrap();
        assert_eq!(answer.last()["done_reason"], "stop", "{answer:?}");
        let text = answer
            .lines
            .iter()
            .filter_map(|line| line["message"]["content"].as_str());
        said.push(text.collect::<String>());
    }
    assert!(said[0].ends_with(">>>>>>> REPLACE\n```\n"), "{}", said[0]);
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
}

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

/// Real sockets and real time, but nothing here depends on how long anything takes.
#[tokio::test]
async fn the_listener_goes_and_comes_back_on_the_same_port() {
    let rest =
        "[[fault]]\nkind = \"down\"\nprompt = \"fall\"\nafter = 3\nduration = \"6s\"\ntimes = 1\n";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(super::serve(
        listener,
        scenario("time_scale = 20.0", rest),
        shutdown.clone(),
    ));
    let asked = async |host: &str, prompt: &str| -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let body = json!({"model": "m:1b", "messages": [{"role": "user", "content": prompt}], "options": {"num_predict": 5}});
        let body = body.to_string();
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    };
    let cut = asked("localhost", "fall").await.unwrap();
    assert!(
        cut.contains("\"done\":false") && !cut.contains("\"done\":true"),
        "{cut}"
    );
    let mut refusals = 0;
    let answer = loop {
        match asked("127.0.0.1:11434", "hello").await {
            Ok(answer) => break answer,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
                refusals += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    assert!(
        refusals > 0 && answer.contains("\"done\":true"),
        "{refusals}: {answer}"
    );
    let foreign = asked("example.com", "hello").await.unwrap();
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    shutdown.cancel();
    tasks.join_all().await;
}
