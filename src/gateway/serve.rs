//! Accepting on the keeper's listener, and which routes there are.
//!
//! An agent is served under `/agent/TOKEN/…`; other clients under `/…` with a key, where the
//! configuration lets them in. Both may generate and look; nobody may pull, push, create, copy or
//! delete through the squad.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ask::{Ask, BadRequest, Shape};
use super::callers::{identify, is_known, named};
use super::catalogue;
use super::conductor::{self, Conductor};
use super::course::{self, Caller};
use super::grants::Grants;
use super::looks::Looks;
use super::record::{Outbox, Record};
use super::reply::refusal;
use super::upstream::Upstream;
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::router::Fits;
use crate::core::runners::GatewayReport;
use crate::core::served::{Outcome, Served};
use crate::core::task::Category;
use crate::core::verdict::{self, Verdict, Verdicts};
use crate::core::{AgentSlot, Timestamp};

/// Largest request taken, a prompt with whole files in it.
const BODY_MAX: usize = 64 << 20;

/// The gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener is unusable.
    #[error("the gateway's listener cannot be used")]
    Listener(#[from] io::Error),
    /// No HTTP client can be made.
    #[error("no HTTP client can be made")]
    Client(#[source] io::Error),
}

/// Prepares a connection in a way that depends on the platform.
#[derive(Clone)]
pub struct Accepted(pub Arc<dyn Fn(BorrowedFd<'_>) + Send + Sync>);

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accepted")
    }
}

/// What the gateway goes by.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// What the dispatchers go by.
    pub conductor: conductor::ConductorSettings,
    /// A request waits this long at most for an endpoint that may be asked.
    pub patience: Duration,
    /// Prepares each accepted connection.
    pub accepted: Option<Accepted>,
    /// Key of clients that are no agents; none keeps them out.
    pub key: Option<String>,
    /// Model of those that name none of their own.
    pub default_model: Option<ModelName>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            conductor: conductor::ConductorSettings::default(),
            patience: Duration::from_secs(1_800),
            accepted: None,
            key: None,
            default_model: None,
        }
    }
}

/// The gateway: what its requests share.
#[derive(Debug)]
pub struct Gateway {
    pub(super) grants: Grants,
    pub(super) upstream: Upstream,
    pub(super) settings: GatewaySettings,
    pub(super) conductor: Arc<Conductor>,
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    verdicts: Mutex<Verdicts>,
    preferred: Mutex<Vec<(Category, ModelName)>>,
    served: Outbox,
    next: AtomicU64,
    pub(super) looks: Looks,
}

impl Gateway {
    /// A gateway that serves what `catalogue` holds and records what it served.
    pub fn new(
        settings: GatewaySettings,
        upstream: Upstream,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        served: mpsc::Sender<Served>,
    ) -> Arc<Self> {
        let conductor = Conductor::new(settings.conductor.clone(), catalogue.clone());
        Arc::new(Self {
            grants: Grants::default(),
            upstream,
            settings,
            conductor: Arc::new(conductor),
            catalogue,
            verdicts: Mutex::default(),
            preferred: Mutex::default(),
            served: Outbox::new(served),
            next: AtomicU64::new(1),
            looks: Looks::default(),
        })
    }

    /// The tokens in force.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// How many records found no reader in time.
    pub fn unrecorded(&self) -> Arc<AtomicU64> {
        self.served.missed()
    }

    /// How often a place was looked for so far, for requests new and waiting.
    pub fn decisions(&self) -> u64 {
        self.conductor.decisions()
    }

    /// What it says of endpoints and models; the latest counts.
    pub fn report(&self) -> watch::Receiver<GatewayReport> {
        self.conductor.report()
    }

    /// What it knows of endpoints and models; the latest counts.
    pub fn known(&self) -> watch::Receiver<Arc<Catalogue>> {
        self.catalogue.clone()
    }

    /// The context that an agent of `model` is started with, tokens.
    pub fn context(
        &self,
        endpoint: &EndpointName,
        model: &ModelName,
        configured: Option<u32>,
    ) -> u32 {
        self.conductor.context(endpoint, model, configured)
    }

    /// The models that do not fit into the memory of their endpoint.
    pub fn fits(&self, catalogue: &Catalogue) -> Fits {
        self.conductor.fits(catalogue)
    }

    /// The model that each category of tasks would get now.
    pub fn prefer(&self, models: Vec<(Category, ModelName)>) {
        *lock(&self.preferred) = models;
    }

    pub(super) fn best_for(&self, category: Category) -> Option<ModelName> {
        let preferred = lock(&self.preferred);
        let found = preferred.iter().find(|(of, _)| *of == category);
        found.map(|(_, model)| model.clone())
    }

    /// The agent that somebody looks at is served first.
    pub fn focus(&self, agent: Option<AgentSlot>) {
        let client = agent.and_then(|agent| self.grants.client_of(agent));
        self.conductor.focus(client.as_deref());
    }

    /// Accepts until `stop`, on the listener that the keeper owns, and keeps models in their place.
    ///
    /// # Errors
    /// The listener cannot be set up.
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        stop: CancellationToken,
    ) -> Result<(), GatewayError> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let accepted = self.settings.accepted.clone();
        self.conductor.listens_at(format!("http://{address}"));
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(move |stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY was refused");
            }
            if let Some(Accepted(prepare)) = &accepted {
                prepare(stream.as_fd());
            }
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self));
        let driving = conductor::drive(Arc::clone(&self.conductor), self.upstream.clone());
        let accepting =
            axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = async {
            tokio::select! {
                served = accepting => served,
                () = driving => Ok(()),
            }
        };
        // What was learned is written once more; answers that are under way go on meanwhile.
        let leaving = async {
            stop.cancelled().await;
            self.conductor.remember().await;
            Ok(())
        };
        tokio::try_join!(serving, leaving)?;
        Ok(())
    }

    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.borrow())
    }

    /// The verdict that is still in force for the same request.
    pub(super) fn verdict_of(&self, client: &str, hash: u64) -> Option<Verdict> {
        let now = self.conductor.now();
        lock(&self.verdicts).given(client, hash, now)
    }

    /// Remembers a verdict; gives its words.
    pub(super) fn remember(
        &self,
        client: &str,
        hash: u64,
        (status, why): (StatusCode, &str),
    ) -> String {
        let text = verdict::message(why);
        let verdict = Verdict {
            status: status.as_u16(),
            text: text.clone(),
        };
        let now = self.conductor.now();
        lock(&self.verdicts).remember(client, hash, verdict, now);
        text
    }

    /// The record of a request that has just arrived.
    pub(super) fn record(
        &self,
        caller: &Caller,
        ask: &Ask,
        request: &conductor::Request,
    ) -> Record {
        let served = Served {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            at: Timestamp(
                u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
            ),
            client: caller.client.clone(),
            agent: caller.work.agent,
            task: caller.work.task,
            attempt: caller.work.attempt,
            category: caller.work.category,
            priority: caller.work.priority,
            model: request.model.clone(),
            named: caller.work.named,
            digest: String::new(),
            endpoint: request.endpoint.clone(),
            context: request.context,
            epoch: 0,
            conversation: ask.conversation(),
            prompt_chars: ask.chars,
            estimated_tokens: request.tokens,
            prompt_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            queue_us: 0,
            load_us: 0,
            first_token_us: None,
            total_us: 0,
            runner_load_us: 0,
            prefill_us: 0,
            decode_us: 0,
            slot_wait_us: 0,
            tries: 0,
            swap: None,
            cut: false,
            outcome: Outcome::Cancelled,
        };
        Record::begin(served, caller.traffic.clone(), self.served.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (caller, rest) = match identify(&gateway, &path, request.headers()) {
        Ok(identified) => identified,
        Err(response) => return *response,
    };
    let shape = match rest {
        "/api/chat" => Shape::Chat,
        "/api/generate" => Shape::Generate,
        "/v1/chat/completions" => Shape::OpenAi {
            usage: super::ask::Usage::Unwanted,
        },
        _ => return look(&gateway, &caller, rest, request).await,
    };
    if request.method() != Method::POST {
        return refusal(
            None,
            StatusCode::METHOD_NOT_ALLOWED,
            "this is asked with POST",
        );
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), BODY_MAX).await else {
        let why = "the request is larger than 64 MiB";
        return refusal(Some(shape), StatusCode::PAYLOAD_TOO_LARGE, why);
    };
    let ask = match shape {
        Shape::Chat | Shape::Generate => Ask::native(shape, &body),
        Shape::OpenAi { .. } => Ask::openai(&body),
    };
    if let Ok(ask) = &ask
        && !is_known(&gateway, &ModelName::new(&ask.model))
    {
        gateway.look_again().await;
    }
    let ask = ask.and_then(|ask| named(&gateway, &caller, ask));
    match ask {
        Ok(ask) => course::serve(gateway, caller, ask).await,
        Err(BadRequest { status, why }) => refusal(Some(shape), status, &why),
    }
}

/// Questions that are answered from what discovery knows.
async fn look(gateway: &Gateway, caller: &Caller, path: &str, request: Request) -> Response {
    let method = request.method().clone();
    let is_read = matches!(method, Method::GET | Method::HEAD);
    let is_list = matches!(path, "/api/tags" | "/v1/models" | "/api/ps");
    // An agent is not kept waiting: it has its model.
    if is_list && caller.bond.is_none() {
        gateway.look_again().await;
    }
    match path {
        "/" if is_read => "Ollama is running".into_response(),
        "/api/version" if is_read => catalogue::version(),
        "/api/tags" if is_read => catalogue::tags(gateway, caller),
        "/v1/models" if is_read => catalogue::models(gateway, caller),
        "/api/ps" if is_read => catalogue::running(gateway),
        "/api/show" if method == Method::POST => {
            let Ok(body) = axum::body::to_bytes(request.into_body(), BODY_MAX).await else {
                return refusal(
                    None,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the request is too large",
                );
            };
            catalogue::show(gateway, caller, &body)
        }
        "/" | "/api/version" | "/api/tags" | "/v1/models" | "/api/ps" | "/api/show" => {
            refusal(None, StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
        _ => refusal(
            None,
            StatusCode::NOT_FOUND,
            "the squad's gateway serves /api/chat, /api/generate, /v1/chat/completions, /api/show, \
             /api/tags, /api/ps, /api/version and /v1/models only",
        ),
    }
}
