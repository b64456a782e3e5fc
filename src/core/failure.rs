//! What went wrong with a request, whose fault it is and what helps.
//!
//! Ollama says the same thing in many words and with few status codes: a model that does not fit
//! is a 500, a full queue a 503, an unknown model a 404. This module turns status, text and what
//! happened to the connection into one [`FailureKind`] with one [`Remedy`].
//!
//! Invariant: pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One failure of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it is.
    pub kind: FailureKind,
    /// In words, on one line.
    pub why: String,
    /// What it says about.
    pub scope: Scope,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Tokens of a prompt that was too long, where the endpoint counted them.
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No connection could be made.
    Unreachable,
    /// The connection broke.
    Cut,
    /// Too many requests wait there already: it is busy, not ill.
    Saturated,
    /// No byte came for too long.
    Stalled,
    /// The stream ended without its last line.
    NoDone,
    /// The model said the same thing over and over: Ollama ends the stream without a last line.
    RepeatAbort,
    /// An error came as a line of an answer.
    MidStream,
    /// The model's process is gone, although it may still be listed.
    RunnerGone,
    /// The model needs more memory than there is.
    OutOfMemory,
    /// The model could not be loaded for another reason.
    LoadFailed,
    /// The model is not installed there.
    ModelMissing,
    /// The prompt is longer than the context.
    ContextExceeded,
    /// The model answered nothing.
    Empty,
    /// The model thought and answered nothing.
    ThinkingOnly,
    /// The endpoint wants a key or a payment.
    Unauthorised,
    /// The request itself is wrong.
    BadRequest,
    /// The endpoint failed in a way that has no name here.
    Server,
    /// Whoever asked is gone.
    Gone,
}

/// What a failure says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The endpoint as a whole.
    Endpoint,
    /// One model on the endpoint.
    Model,
    /// This request only.
    Request,
    /// Nothing.
    None,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Another endpoint; the same one if there is no other.
    RetryElsewhere,
    /// The same endpoint again.
    RetrySame,
    /// A smaller context.
    SmallerContext,
    /// A larger context.
    LargerContext,
    /// Another endpoint with this model, else another model.
    OtherModel,
    /// The catalogue is out of date there.
    AskCatalogue,
    /// Waiting.
    Wait,
    /// Nothing.
    Refuse,
}

/// Words of Ollama and llama-server and what they mean; the first that applies wins. Sources: the
/// error table of Ollama's server (0.30 to 0.33) and recorded answers of 0.32.
const WORDS: &[(&str, FailureKind)] = &[
    ("exceed_context_size", FailureKind::ContextExceeded),
    (
        "exceeds the available context",
        FailureKind::ContextExceeded,
    ),
    ("exceeds the context length", FailureKind::ContextExceeded),
    (
        "longer than the context length",
        FailureKind::ContextExceeded,
    ),
    (
        "exceeds maximum context length",
        FailureKind::ContextExceeded,
    ),
    ("out of memory", FailureKind::OutOfMemory),
    ("requires more system memory", FailureKind::OutOfMemory),
    ("cudaMalloc failed", FailureKind::OutOfMemory),
    ("unable to allocate", FailureKind::OutOfMemory),
    ("maximum pending requests exceeded", FailureKind::Saturated),
    ("server busy", FailureKind::Saturated),
    ("Server overloaded", FailureKind::Saturated),
    ("timed out waiting for llama", FailureKind::LoadFailed),
    ("aborting load", FailureKind::LoadFailed),
    ("llm server loading model", FailureKind::LoadFailed),
    ("may be incompatible", FailureKind::LoadFailed),
    ("unexpected EOF", FailureKind::RunnerGone),
    ("process has terminated", FailureKind::RunnerGone),
    ("has unexpectedly stopped", FailureKind::RunnerGone),
    ("no slots available", FailureKind::RunnerGone),
    ("token repeat limit", FailureKind::RepeatAbort),
    // Of one request's own fields, and a 500 all the same.
    ("must be of type", FailureKind::BadRequest),
    ("cannot unmarshal", FailureKind::BadRequest),
];

/// Longest text of a failure, characters.
const WHY_MAX: usize = 300;

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, why: &str) -> Self {
        let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            kind,
            why: line.chars().take(WHY_MAX).collect(),
            scope: kind.scope(),
            retry_after: None,
            prompt_tokens: None,
        }
    }

    /// What an endpoint answered instead of an answer: `body` is its text, JSON or not.
    pub fn status(status: u16, body: &str, retry_after: Option<Duration>) -> Self {
        let text = error_text(body);
        let kind = of_status(status, &text);
        let why = if text.is_empty() {
            format!("the endpoint answered with status {status}")
        } else {
            format!("{text} (status {status})")
        };
        let too_long = kind == FailureKind::ContextExceeded;
        Self {
            retry_after,
            prompt_tokens: too_long.then(|| counted(&text)).flatten(),
            ..Self::new(kind, &why)
        }
    }

    /// A model that runs on another host says nothing about the endpoint that passes it on, as long
    /// as that answers.
    #[must_use]
    pub fn of_remote(mut self) -> Self {
        let passed_on = matches!(self.kind, FailureKind::Server | FailureKind::Unauthorised);
        if passed_on {
            self.scope = Scope::Model;
        }
        self
    }

    /// A load that failed in words without a name here says something about its model only.
    #[must_use]
    pub fn of_load(self) -> Self {
        match self.kind {
            FailureKind::Server | FailureKind::BadRequest => Self {
                kind: FailureKind::LoadFailed,
                scope: FailureKind::LoadFailed.scope(),
                ..self
            },
            _ => self,
        }
    }

    /// No answer came, because of the connection.
    pub fn transport(why: &str) -> Self {
        let lost = [
            "reset",
            "closed",
            "broken pipe",
            "incomplete",
            "silent",
            "says nothing",
        ];
        let text = why.to_ascii_lowercase();
        let kind = if lost.iter().any(|word| text.contains(word)) {
            FailureKind::Cut
        } else {
            FailureKind::Unreachable
        };
        Self::new(kind, &format!("the endpoint cannot be reached: {why}"))
    }

    /// The connection broke while the answer came.
    pub fn cut(why: &str) -> Self {
        Self::new(FailureKind::Cut, &format!("the answer was cut: {why}"))
    }

    /// No byte came within `limit`.
    pub fn stalled(limit: Duration) -> Self {
        let why = format!("the endpoint has said nothing for {} s", limit.as_secs());
        Self::new(FailureKind::Stalled, &why)
    }

    /// The stream ended without its last line.
    pub fn no_done() -> Self {
        let why = "the endpoint ended the answer in the middle";
        Self::new(FailureKind::NoDone, why)
    }

    /// The stream ended without its last line after the same piece came again and again.
    pub fn repeat_abort() -> Self {
        let why = "the model repeated itself and was stopped by the endpoint";
        Self::new(FailureKind::RepeatAbort, why)
    }

    /// An error line inside an answer.
    pub fn mid_stream(why: &str) -> Self {
        let known = by_words(why);
        Self::new(known.unwrap_or(FailureKind::MidStream), why)
    }

    /// The model answered nothing.
    pub fn empty() -> Self {
        Self::new(FailureKind::Empty, "the model answered nothing")
    }

    /// The model thought and answered nothing.
    pub fn thinking_only() -> Self {
        let why = "the model answered nothing: it only thought";
        Self::new(FailureKind::ThinkingOnly, why)
    }

    /// Whoever asked is gone.
    pub fn gone() -> Self {
        Self::new(FailureKind::Gone, "whoever asked is gone")
    }

    /// What helps.
    pub fn remedy(&self) -> Remedy {
        self.kind.remedy()
    }

    /// No connection could be made: the request was not tried at all.
    pub fn is_unreachable(&self) -> bool {
        self.kind == FailureKind::Unreachable
    }

    /// The model itself has answered nothing; the endpoint did what it should.
    pub fn is_of_the_model(&self) -> bool {
        matches!(self.kind, FailureKind::Empty | FailureKind::ThinkingOnly)
    }

    /// What was asked is wrong or too long, whoever is asked.
    pub fn is_of_the_request(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::BadRequest | FailureKind::ContextExceeded
        )
    }

    /// The model has to be loaded again.
    pub fn is_runner_gone(&self) -> bool {
        self.kind == FailureKind::RunnerGone
    }
}

impl FailureKind {
    /// What it says something about. Saturation and a missing model are no illness, and a bad
    /// request says nothing about who was asked.
    pub fn scope(self) -> Scope {
        match self {
            Self::Unreachable | Self::Cut | Self::Server => Scope::Endpoint,
            // A key is asked for by the host of one model.
            Self::Unauthorised
            | Self::Stalled
            | Self::RunnerGone
            | Self::OutOfMemory
            | Self::LoadFailed
            | Self::MidStream
            | Self::NoDone => Scope::Model,
            Self::RepeatAbort
            | Self::Empty
            | Self::ThinkingOnly
            | Self::ContextExceeded
            | Self::BadRequest => Scope::Request,
            Self::Saturated | Self::ModelMissing | Self::Gone => Scope::None,
        }
    }

    /// What helps.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Unreachable
            | Self::Cut
            | Self::Stalled
            | Self::Server
            | Self::Unauthorised
            | Self::LoadFailed => Remedy::RetryElsewhere,
            Self::RunnerGone
            | Self::MidStream
            | Self::NoDone
            | Self::RepeatAbort
            | Self::Empty
            | Self::ThinkingOnly => Remedy::RetrySame,
            Self::OutOfMemory => Remedy::SmallerContext,
            Self::ModelMissing => Remedy::AskCatalogue,
            Self::Saturated => Remedy::Wait,
            Self::ContextExceeded => Remedy::LargerContext,
            Self::BadRequest | Self::Gone => Remedy::Refuse,
        }
    }
}

fn of_status(status: u16, text: &str) -> FailureKind {
    if let Some(kind) = by_words(text) {
        return kind;
    }
    match status {
        404 => FailureKind::ModelMissing,
        401..=403 => FailureKind::Unauthorised,
        429 | 503 => FailureKind::Saturated,
        400..=499 => FailureKind::BadRequest,
        _ => FailureKind::Server,
    }
}

/// llama-server's `"n_prompt_tokens": 20009`, in JSON that may itself be quoted.
fn counted(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("n_prompt_tokens")?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits.get(..end.unwrap_or(digits.len()))?.parse().ok()
}

fn by_words(text: &str) -> Option<FailureKind> {
    let found = WORDS.iter().find(|(words, _)| text.contains(words));
    found.map(|(_, kind)| *kind)
}

/// The text of `{"error": "…"}` or `{"error": {"message": "…"}}`, else all of it.
fn error_text(body: &str) -> String {
    // Ollama's own errors are one JSON text; whatever else a proxy in between says is shown as
    // it is.
    let body = body.trim();
    let Some(rest) = body.strip_prefix('{') else {
        return body.to_owned();
    };
    let value = rest
        .trim_start()
        .strip_prefix("\"error\"")
        .and_then(|rest| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .and_then(|rest| rest.strip_prefix('"'));
    match value {
        Some(rest) => unescaped(rest),
        None => body.to_owned(),
    }
}

/// A JSON text up to its closing quote.
fn unescaped(rest: &str) -> String {
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n' | 'r' | 't') => text.push(' '),
                Some(other) => text.push(other),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> FailureKind {
        Failure::status(status, body, None).kind
    }

    #[test]
    fn what_ollama_says_has_its_kind() {
        let busy =
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#;
        assert_eq!(kind(503, busy), FailureKind::Saturated);
        assert_eq!(
            kind(404, r#"{"error":"model 'x' not found"}"#),
            FailureKind::ModelMissing
        );
        let memory = r#"{"error":"llama-server process has terminated: exit status 2: CUDA error: out of memory"}"#;
        assert_eq!(kind(500, memory), FailureKind::OutOfMemory);
        let long =
            r#"{"error":"{\"error\":{\"code\":400,\"type\":\"exceed_context_size_error\"}}"}"#;
        assert_eq!(kind(400, long), FailureKind::ContextExceeded);
        assert_eq!(
            kind(400, r#"{"error":"model is required"}"#),
            FailureKind::BadRequest
        );
        assert_eq!(kind(502, "<html>bad gateway</html>"), FailureKind::Server);
        assert_eq!(kind(429, ""), FailureKind::Saturated);
        let eof = "an error was encountered while running the model: unexpected EOF";
        assert_eq!(Failure::mid_stream(eof).kind, FailureKind::RunnerGone);
    }

    #[test]
    fn a_wrong_field_is_the_requests_own_fault_whatever_the_status() {
        let option = r#"{"error":"option \"temperature\" must be of type float32"}"#;
        assert_eq!(kind(500, option), FailureKind::BadRequest);
        let field = r#"{"error":"json: cannot unmarshal string into Go struct field X"}"#;
        assert_eq!(kind(500, field), FailureKind::BadRequest);
    }

    #[test]
    fn a_load_that_fails_closes_no_endpoint() {
        let failure = Failure::status(500, "weights are broken", None);
        assert_eq!(failure.scope, Scope::Endpoint);
        let failure = failure.of_load();
        assert_eq!(
            (failure.kind, failure.scope),
            (FailureKind::LoadFailed, Scope::Model)
        );
        let down = Failure::transport("connection refused").of_load();
        assert_eq!(down.kind, FailureKind::Unreachable);
    }

    #[test]
    fn a_prompt_that_is_too_long_says_how_long_it_is() {
        let body = r#"{"error":"{\"error\":{\"code\":400,\"message\":\"request exceeds the available context size\",\"n_prompt_tokens\":20009,\"n_ctx\":16384,\"type\":\"exceed_context_size_error\"}}"}"#;
        let failure = Failure::status(400, body, None);
        assert_eq!(failure.kind, FailureKind::ContextExceeded);
        assert_eq!(failure.prompt_tokens, Some(20_009));
        let uncounted = Failure::status(400, "the prompt exceeds the context length", None);
        assert_eq!(uncounted.prompt_tokens, None);
    }

    #[test]
    fn the_words_are_the_endpoints_own_on_one_line() {
        let failure = Failure::status(500, "{\"error\":\"a \\\"b\\\"\\nc\"}", None);
        assert_eq!(failure.why, "a \"b\" c (status 500)");
    }

    #[test]
    fn a_bad_request_and_a_busy_endpoint_say_nothing_against_it() {
        for body in [(400, "bad"), (503, "busy"), (404, "gone"), (429, "")] {
            let scope = Failure::status(body.0, body.1, None).scope;
            assert!(matches!(scope, Scope::Request | Scope::None), "{body:?}");
        }
    }
}
