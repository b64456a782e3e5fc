//! A recording stand-in for Ollama: answers from a script, remembers every request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// One scripted answer of the model.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A text, ending by itself.
    Text(String),
    /// A text, ended by the token limit.
    Cut(String),
    /// An error status with this text.
    Refusal(u16, String),
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Request {
    /// The contents of its messages by one role.
    pub(crate) fn contents(&self, role: &str) -> Vec<String> {
        let messages = self.body["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        messages
            .iter()
            .filter(|message| message["role"] == role)
            .map(|message| message["content"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<Request>,
    answers: VecDeque<Answer>,
}

/// The server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Ollama {
    pub(crate) url: String,
    record: Arc<Mutex<Record>>,
    _runtime: Runtime,
}

impl Ollama {
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let record = Arc::new(Mutex::new(Record {
            requests: Vec::new(),
            answers: answers.into_iter().collect(),
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&record));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}"),
            record,
            _runtime: runtime,
        }
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.requests.clone()
    }

    /// The chat requests so far.
    pub(crate) fn chats(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == "/api/chat");
        requests
    }
}

async fn serve(State(record): State<Arc<Mutex<Record>>>, uri: Uri, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_chat = uri.path() == "/api/chat";
    let streams = body["stream"] == true;
    let answer = {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.requests.push(Request {
            path: uri.path().to_owned(),
            body,
        });
        let next = if is_chat {
            record.answers.pop_front()
        } else {
            None
        };
        next.unwrap_or_else(|| Answer::Text("Nothing more is scripted.".into()))
    };
    if !is_chat {
        return (
            StatusCode::NOT_FOUND,
            json!({"error": "not scripted"}).to_string(),
        )
            .into_response();
    }
    match answer {
        Answer::Text(text) => chat(&text, "stop", streams),
        Answer::Cut(text) => chat(&text, "length", streams),
        Answer::Refusal(status, text) => (
            StatusCode::from_u16(status).unwrap(),
            json!({"error": text}).to_string(),
        )
            .into_response(),
    }
}

fn chat(text: &str, reason: &str, streams: bool) -> Response {
    let line = |content: &str, done: bool| {
        let mut line = json!({
            "model": "m", "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": content}, "done": done,
        });
        if done {
            line["done_reason"] = json!(reason);
            line["prompt_eval_count"] = json!(100);
            line["eval_count"] = json!(20);
        }
        line.to_string()
    };
    if !streams {
        return line(text, true).into_response();
    }
    let mut lines: Vec<String> = text
        .split_inclusive(' ')
        .map(|word| line(word, false))
        .collect();
    lines.push(line("", true));
    lines.join("\n").into_response()
}
