//! The HTTP client towards endpoints: hyper's pooled client and nothing around it.
//!
//! Each request passes here before its first byte, so it does without the layers of a client for
//! the web. Endpoints are named by the configuration: neither a proxy of the environment nor an
//! endpoint's redirect has a say.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;

/// A connection that served nothing for this long is closed.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(15);
/// Longest answer that is read as a whole: what is resident, what became of a load.
const WHOLE_MAX: usize = 4 << 20;

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Request(#[from] legacy::Error),
    #[error("its answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its URL cannot be used: {0}")]
    Url(String),
    #[error("it says nothing since the machine woke up")]
    Silent,
    #[error("it has said nothing for {} s", .0.as_secs())]
    Late(Duration),
}

/// Which connection a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// One that is kept from a request before, if there is one.
    Kept,
    /// A new one, which is not kept.
    Fresh,
}

/// The client. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Http {
    kept: Pool,
    fresh: Pool,
    /// Parsed once: as many as there are endpoints, times the routes that are asked.
    targets: Arc<Mutex<HashMap<String, Target>>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    /// Of a name and a password in the URL.
    login: Option<HeaderValue>,
}

impl Http {
    /// # Errors
    /// The certificates that this machine trusts cannot be read.
    pub(super) fn new() -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = |builder: &mut legacy::Builder| builder.build(connector.clone());
        Ok(Self {
            kept: pool(
                legacy::Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE_MAX),
            ),
            fresh: pool(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0)),
            targets: Arc::default(),
        })
    }

    /// Sends a request with JSON in it, or none, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        connection: Connection,
        (method, url): (Method, &str),
        body: Bytes,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let target = self.target(url)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.uri;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(login) = target.login {
            headers.insert(header::AUTHORIZATION, login);
        }
        let pool = match connection {
            Connection::Kept => &self.kept,
            Connection::Fresh => &self.fresh,
        };
        Ok(pool.request(request).await?)
    }

    /// The whole answer within `limit`.
    pub(super) async fn whole(
        &self,
        connection: Connection,
        (method, url): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let asked = async {
            let answer = self.send(connection, (method, url), body).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), WHOLE_MAX);
            let read = body.collect().await.map_err(NoAnswer::Body)?;
            Ok((status, read.to_bytes()))
        };
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or(Err(NoAnswer::Late(limit)))
    }

    fn target(&self, url: &str) -> Result<Target, NoAnswer> {
        let mut targets = lock(&self.targets);
        if let Some(target) = targets.get(url) {
            return Ok(target.clone());
        }
        let target = Target::read(url).map_err(NoAnswer::Url)?;
        targets.insert(url.to_owned(), target.clone());
        Ok(target)
    }
}

impl Target {
    fn read(text: &str) -> Result<Self, String> {
        let mut url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let (name, password) = (url.username(), url.password().unwrap_or_default());
            let pair = format!("{}:{}", decoded(name), decoded(password));
            format!("Basic {}", BASE64_STANDARD.encode(pair))
        });
        let login = login.and_then(|login| {
            let mut value = HeaderValue::try_from(login).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        // A URL without a host has neither a name nor a password.
        let _without = (url.set_username(""), url.set_password(None));
        let uri = url.as_str().parse::<Uri>();
        Ok(Self {
            uri: uri.map_err(|error| error.to_string())?,
            login,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_of_a_url_become_a_header() {
        let target = Target::read("http://me:a%20b@[::1]:11434/api/chat").unwrap();
        assert_eq!(target.uri, "http://[::1]:11434/api/chat");
        // printf 'me:a b' | base64
        assert_eq!(target.login.unwrap(), "Basic bWU6YSBi");
        assert!(Target::read("http://h/").unwrap().login.is_none());
        assert!(Target::read("no url").is_err());
    }

    #[tokio::test]
    async fn an_endpoint_that_says_nothing_is_late_and_one_that_is_gone_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let http = Http::new().unwrap();
        let ask = || {
            let what = (Method::GET, url.as_str());
            http.whole(Connection::Fresh, what, Bytes::new(), IDLE)
        };
        assert!(matches!(ask().await, Err(NoAnswer::Late(_))));
        drop(listener);
        assert!(matches!(ask().await, Err(NoAnswer::Request(_))));
    }

    const IDLE: Duration = Duration::from_millis(50);
}
