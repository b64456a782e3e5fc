//! Measures one model on one endpoint: load, prefill, and throughput of one to eight streams.
//!
//! It occupies the endpoint's GPU, and other requests there change what is measured: only when
//! somebody asks for it.

use std::time::Duration;

use serde_json::{Map, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::core::endpoint::EndpointName;
use crate::core::measure::{LEVELS, Level, Measured, Stream, a_second, knee, slots};
use crate::core::model::ModelName;
use crate::ollama::wire::{ChatRequest, Message, Timings};
use crate::ollama::{ChatStream, Client, OllamaError};

/// Tokens of each answer: long enough for a steady pace, a few seconds on a GPU.
const ANSWER: u64 = 128;
/// Numbers in the prompt that prefill is measured with; each is about four tokens.
const NUMBERS: u32 = 1_000;
/// The longest wait for one answer or for a load: Ollama's own limit of a load is 5 min.
const PATIENCE: Duration = Duration::from_secs(330);
/// The longest wait until a model is gone: after a crash Ollama itself waits 5 s for the memory.
const UNLOADED: Duration = Duration::from_secs(10);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The endpoint's name.
    pub endpoint: EndpointName,
    /// Its base URL.
    pub url: String,
    /// The model.
    pub model: ModelName,
    /// `num_ctx` to load it with, tokens.
    pub context: u32,
    /// Whether it can think, and so must be told not to.
    pub thinks: bool,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The endpoint did not answer as it should.
    #[error(transparent)]
    Endpoint(#[from] OllamaError),
    /// An answer came without figures.
    #[error("an answer of {model} ended without its figures")]
    NoFigures {
        /// The model.
        model: ModelName,
    },
}

/// Measures; `seen` is told each level as soon as it is known.
///
/// # Errors
/// The endpoint refuses, fails or answers without figures.
pub async fn measure(
    subject: &Subject,
    mut seen: impl FnMut(&Level),
) -> Result<Measured, MeasureError> {
    let client = Client::new(&subject.url, Duration::from_secs(10))?;
    let load_ms = load(&client, subject).await?;
    let prefill = prefill(&client, subject).await?;
    let mut levels = Vec::new();
    for streams in LEVELS {
        let level = level(&client, subject, streams).await?;
        seen(&level);
        levels.push(level);
    }
    Ok(Measured {
        endpoint: subject.endpoint.clone(),
        model: subject.model.clone(),
        context: subject.context,
        load_ms,
        prefill,
        knee: knee(&levels),
        slots: slots(&levels),
        levels,
    })
}

/// Unloads the model and loads it again; the time of that is worth something only when it was gone.
async fn load(client: &Client, subject: &Subject) -> Result<Option<f64>, MeasureError> {
    let model = subject.model.as_str();
    client.unload(model).await?;
    let is_gone = tokio::time::timeout(UNLOADED, gone(client, &subject.model)).await;
    let is_gone = match is_gone {
        Ok(answer) => answer.map(|()| true)?,
        Err(_elapsed) => false,
    };
    let began = Instant::now();
    client.load(model, &options(subject, None)).await?;
    Ok(is_gone.then(|| millis(began.elapsed())))
}

async fn gone(client: &Client, model: &ModelName) -> Result<(), OllamaError> {
    loop {
        let running = client.running().await?;
        let is_it = |name: &str| ModelName::new(name).is_same(model);
        if !running.models.iter().any(|running| is_it(&running.name)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tokens of prompt a second, on a prompt that no cache holds; none where it took no time.
async fn prefill(client: &Client, subject: &Subject) -> Result<Option<f64>, MeasureError> {
    let count = NUMBERS.min(subject.context / 8);
    let numbers: Vec<String> = (0..count)
        .map(|number| (number * 7_919 % 10_007).to_string())
        .collect();
    let prompt = format!("{} {}", nonce(), numbers.join(" "));
    let mut stream = client.chat(&request(subject, &prompt, 1), PATIENCE).await?;
    let (_, timings) = read(&mut stream, Instant::now()).await?;
    let timings = figures(timings, subject)?;
    let rate = a_second(
        timings.prompt_eval_count,
        nanos(timings.prompt_eval_duration),
    );
    Ok((rate > 0.0).then_some(rate))
}

/// So many answers at a time, all asked for at the same moment.
async fn level(client: &Client, subject: &Subject, streams: u16) -> Result<Level, MeasureError> {
    let mut asked = JoinSet::new();
    let began = Instant::now();
    for number in 0..streams {
        let prompt = format!(
            "{} {number}: count upwards from {number}, one number on each line, and do not stop.",
            nonce()
        );
        let (client, request) = (client.clone(), request(subject, &prompt, ANSWER));
        asked.spawn(async move {
            let mut stream = client.chat(&request, PATIENCE).await?;
            let (first, timings) = read(&mut stream, began).await?;
            Ok::<_, OllamaError>((first, timings, began.elapsed()))
        });
    }
    let mut timed = Vec::new();
    while let Some(answer) = asked.join_next().await {
        // A stream that panicked was asked by nobody else: it counts as one without figures.
        let (first, timings, ended) = answer.unwrap_or(Ok((None, None, Duration::ZERO)))?;
        let timings = figures(timings, subject)?;
        timed.push(timed_stream(&timings, first, ended));
    }
    Ok(Level::of(&timed))
}

fn timed_stream(timings: &Timings, first: Option<Duration>, ended: Duration) -> Stream {
    let busy = timings.load_duration + timings.prompt_eval_duration + timings.eval_duration;
    Stream {
        tokens: timings.eval_count,
        decode_ms: nanos(timings.eval_duration),
        waited_ms: nanos(timings.total_duration.saturating_sub(busy)),
        first_ms: millis(first.unwrap_or(ended)),
        ended_ms: millis(ended),
    }
}

/// Reads an answer to its end: when its first token came after `began`, and its figures.
async fn read(
    stream: &mut ChatStream,
    began: Instant,
) -> Result<(Option<Duration>, Option<Timings>), OllamaError> {
    let (mut first, mut timings) = (None, None);
    while let Some(line) = stream.next().await? {
        first = first.or_else(|| Some(began.elapsed()));
        timings = line.timings.or(timings);
    }
    Ok((first, timings))
}

fn figures(timings: Option<Timings>, subject: &Subject) -> Result<Timings, MeasureError> {
    timings.ok_or_else(|| MeasureError::NoFigures {
        model: subject.model.clone(),
    })
}

fn request(subject: &Subject, prompt: &str, tokens: u64) -> ChatRequest {
    ChatRequest {
        model: subject.model.to_string(),
        messages: vec![Message::new("user", prompt)],
        stream: true,
        options: options(subject, Some(tokens)),
        keep_alive: None,
        think: subject.thinks.then_some(json!(false)),
    }
}

fn options(subject: &Subject, tokens: Option<u64>) -> Map<String, serde_json::Value> {
    let mut options = Map::new();
    options.insert("num_ctx".into(), json!(subject.context));
    if let Some(tokens) = tokens {
        options.insert("num_predict".into(), json!(tokens));
    }
    options
}

/// Begins a prompt that no earlier one began with, so that nothing of it is cached.
fn nonce() -> u32 {
    getrandom::u32().unwrap_or_default()
}

fn nanos(count: u64) -> f64 {
    count as f64 / 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
