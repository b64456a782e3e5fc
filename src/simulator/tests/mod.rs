//! Whole requests without sockets on paused time, and every fault that a scenario can name.

mod faults;
mod requests;
mod whole;

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
async fn of_a_prompt_that_was_given_up_only_what_was_read_is_cached() {
    let server = simulated("", "");
    ask(&server, 1).await;
    let long = chat(&"x".repeat(2_000), 1);
    // Of batches of 512 tokens one is read, the second has begun and is read to its end.
    let gone = timeout(Duration::from_secs(6), send(&server, "/api/chat", &long)).await;
    assert!(gone.is_err());
    let again = send(&server, "/api/chat", &long).await.unwrap();
    // 2000 times x, a line end and three of every prompt, without the two batches; "user\n" was
    // there before.
    about(
        seconds(&again, "prompt_eval_duration"),
        0.01 * f64::from(2_000 + 1 + 3 - 2 * 512),
    );
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
