//! What can go wrong when an endpoint is asked, told apart by what it means for the caller.

use std::time::Duration;

use super::LineTooLong;

/// A failed question to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum OllamaError {
    /// The base URL cannot be used.
    #[error("{url} is not a usable address")]
    BadUrl {
        /// The URL.
        url: String,
    },
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// Nobody listens there.
    #[error("{url} refused the connection")]
    Refused {
        /// The base URL.
        url: String,
    },
    /// It took too long.
    #[error("{url} did not answer within {}", humantime::format_duration(*after))]
    TimedOut {
        /// The base URL.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The name is unknown, the network is down, the connection was cut, …
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// The innermost reason.
        why: String,
    },
    /// 503: the queue of loads is full; nothing was done.
    #[error("the server is busy: {message}")]
    Busy {
        /// Ollama's words.
        message: String,
    },
    /// 404: mostly a model that is not there.
    #[error("{message}")]
    NotFound {
        /// Ollama's words.
        message: String,
    },
    /// 4xx: asking again changes nothing.
    #[error("the request was refused ({status}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// Ollama's words.
        message: String,
    },
    /// 5xx, or an error line in a stream.
    #[error("the server failed ({status}): {message}")]
    Failed {
        /// HTTP status.
        status: u16,
        /// Ollama's words.
        message: String,
    },
    /// The answer is not what Ollama's API says.
    #[error("{url} does not answer like Ollama: {what}")]
    Malformed {
        /// The base URL.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// A line of a stream is too long.
    #[error(transparent)]
    LineTooLong(#[from] LineTooLong),
}

impl OllamaError {
    /// Classifies a failure below HTTP.
    pub(super) fn transport(url: &str, limit: Duration, error: &reqwest::Error) -> Self {
        let url = url.to_owned();
        if error.is_builder() {
            return Self::BadUrl { url };
        }
        if error.is_timeout() {
            return Self::TimedOut { url, after: limit };
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::ConnectionRefused
            {
                return Self::Refused { url };
            }
        }
        Self::Unreachable {
            url,
            why: cause.to_string(),
        }
    }

    /// Classifies an answer with an error status.
    pub(super) fn status(status: u16, message: String) -> Self {
        match status {
            503 => Self::Busy { message },
            404 => Self::NotFound { message },
            400..=499 => Self::Rejected { status, message },
            _ => Self::Failed { status, message },
        }
    }

    /// Whether the same request may succeed later or elsewhere.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Failed { .. } => true,
            Self::BadUrl { .. }
            | Self::Setup(_)
            | Self::NotFound { .. }
            | Self::Rejected { .. }
            | Self::Malformed { .. }
            | Self::LineTooLong(_) => false,
        }
    }
}
