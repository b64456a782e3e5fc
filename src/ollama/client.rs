//! Asks an Ollama endpoint: every call has a limit in time and in bytes.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wire::{ChatLine, ChatRequest, ErrorBody, Running, Show, Tags, Version};
use super::{LineDecoder, OllamaError};

/// Longest answer to a question. A verbose `/api/show` of a large model is a few MiB.
const ANSWER_MAX: usize = 64 << 20;
/// Longest line of a chat stream.
const LINE_MAX: usize = 16 << 20;
/// Loading a model may take this long: Ollama's own `OLLAMA_LOAD_TIMEOUT` is 5 min.
const LOAD_LIMIT: Duration = Duration::from_secs(330);

/// A client of one endpoint; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    limit: Duration,
}

impl Client {
    /// A client of the endpoint at `base` (`http://127.0.0.1:11434`) that waits at most `limit`
    /// for an answer.
    pub fn new(base: &str, limit: Duration) -> Result<Self, OllamaError> {
        // Whoever comes first installs the provider; all of us install the same one.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let url = reqwest::Url::parse(base)
            .map_err(|_reason| OllamaError::BadUrl { url: base.into() })?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("warpsquad/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limit)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().map_err(OllamaError::Setup)?,
            base: base.trim_end_matches('/').to_owned(),
            limit,
        })
    }

    /// The base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The server's version.
    pub async fn version(&self) -> Result<String, OllamaError> {
        let version: Version = self.get("/api/version").await?;
        Ok(version.version)
    }

    /// Installed models.
    pub async fn tags(&self) -> Result<Tags, OllamaError> {
        self.get("/api/tags").await
    }

    /// Loaded models.
    pub async fn running(&self) -> Result<Running, OllamaError> {
        self.get("/api/ps").await
    }

    /// What is known of one model.
    pub async fn show(&self, model: &str) -> Result<Show, OllamaError> {
        let body = json!({ "model": model });
        self.ask(self.post("/api/show", &body), self.limit).await
    }

    /// Loads a model with these options and returns when it is loaded.
    ///
    /// On its own connection: a load dies with the request that asked for it.
    pub async fn load(
        &self,
        model: &str,
        options: &serde_json::Map<String, Value>,
    ) -> Result<(), OllamaError> {
        let body = json!({ "model": model, "options": options });
        let request = self.post("/api/generate", &body);
        let _answer: Value = self.ask(request, LOAD_LIMIT).await?;
        Ok(())
    }

    /// Asks for a model to be unloaded as soon as nobody uses it.
    pub async fn unload(&self, model: &str) -> Result<(), OllamaError> {
        let body = json!({ "model": model, "keep_alive": 0 });
        let request = self.post("/api/generate", &body);
        let _answer: Value = self.ask(request, self.limit).await?;
        Ok(())
    }

    /// Starts a conversation turn. Returns with the first line's headers: a queued or loading
    /// request has none until then. `patience` limits that wait and each gap after it.
    pub async fn chat(
        &self,
        request: &ChatRequest,
        patience: Duration,
    ) -> Result<ChatStream, OllamaError> {
        let sent = self.post("/api/chat", request).send();
        let response = tokio::time::timeout(patience, sent)
            .await
            .map_err(|_elapsed| self.timed_out(patience))?
            .map_err(|error| OllamaError::transport(&self.base, patience, &error))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = self.body(response, patience).await?;
            return Err(OllamaError::status(status, error_text(&body)));
        }
        Ok(ChatStream {
            client: self.clone(),
            response,
            patience,
            decoder: LineDecoder::new(LINE_MAX),
            ready: VecDeque::new(),
            is_at_end: false,
        })
    }

    fn timed_out(&self, after: Duration) -> OllamaError {
        OllamaError::TimedOut {
            url: self.base.clone(),
            after,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, OllamaError> {
        let request = self.http.get(format!("{}{path}", self.base));
        self.ask(request, self.limit).await
    }

    fn post<T: Serialize>(&self, path: &str, body: &T) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).json(body)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        limit: Duration,
    ) -> Result<T, OllamaError> {
        let response = request
            .timeout(limit)
            .send()
            .await
            .map_err(|error| OllamaError::transport(&self.base, limit, &error))?;
        let status = response.status().as_u16();
        let body = self.body(response, limit).await?;
        if status != 200 {
            return Err(OllamaError::status(status, error_text(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| OllamaError::Malformed {
            url: self.base.clone(),
            what: error.to_string(),
        })
    }

    async fn body(
        &self,
        mut response: reqwest::Response,
        limit: Duration,
    ) -> Result<Vec<u8>, OllamaError> {
        let mut body = Vec::new();
        loop {
            let chunk = tokio::time::timeout(limit, response.chunk())
                .await
                .map_err(|_elapsed| self.timed_out(limit))?
                .map_err(|error| OllamaError::transport(&self.base, limit, &error))?;
            let Some(chunk) = chunk else { return Ok(body) };
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(OllamaError::Malformed {
                    url: self.base.clone(),
                    what: format!("an answer longer than {ANSWER_MAX} bytes"),
                });
            }
        }
    }
}

/// The answer to a chat request, line by line.
#[derive(Debug)]
pub struct ChatStream {
    client: Client,
    response: reqwest::Response,
    patience: Duration,
    decoder: LineDecoder,
    ready: VecDeque<Vec<u8>>,
    is_at_end: bool,
}

impl ChatStream {
    /// The next line; `None` at the end of the stream.
    ///
    /// A stream that ended without a line with `done` is a failure that only the caller can judge.
    pub async fn next(&mut self) -> Result<Option<ChatLine>, OllamaError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return self.parse(&line).map(Some);
            }
            if self.is_at_end {
                return Ok(None);
            }
            let (client, patience) = (&self.client, self.patience);
            let chunk = tokio::time::timeout(patience, self.response.chunk())
                .await
                .map_err(|_elapsed| client.timed_out(patience))?
                .map_err(|error| OllamaError::transport(&client.base, patience, &error))?;
            if let Some(chunk) = chunk {
                self.ready.extend(self.decoder.push(&chunk)?);
            } else {
                self.is_at_end = true;
                self.ready.extend(self.decoder.finish());
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<ChatLine, OllamaError> {
        if let Ok(ErrorBody { error }) = serde_json::from_slice(line) {
            return Err(OllamaError::status(500, error));
        }
        serde_json::from_slice(line).map_err(|error| OllamaError::Malformed {
            url: self.client.base.clone(),
            what: error.to_string(),
        })
    }
}

/// Ollama's `{"error": …}`, or the text as it is.
fn error_text(body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => String::from_utf8_lossy(body).chars().take(500).collect(),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
