//! The routes of the local protocol (see [`super::wire`]).

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::TaskTracker;

use crate::core::command::{Refusal, RefusalKind, Request};
use crate::core::{AgentSlot, TaskId};
use crate::engine::journal::{EventFilter, JournalError, TaskFilter};
use crate::engine::{Query as StoreQuery, QueryReply};

use super::services::Services;
use super::wire::{ATTACH, CleanRequest, LogKind, StopRequest, UpgradeRequest};

/// Largest request: a submission of many tasks with long prompts.
const BODY_MAX: usize = 64 << 20;

#[derive(Clone)]
struct Face {
    services: Services,
    dashboards: TaskTracker,
}

/// All routes; `dashboards` owns the tasks of attached clients.
pub(super) fn routes(services: Services, dashboards: TaskTracker) -> Router {
    Router::new()
        .route("/v1/command", post(command))
        .route("/v1/alive", get(|| async {}))
        .route("/v1/view", get(view))
        .route("/v1/watch", get(watch))
        .route("/v1/tasks", get(tasks))
        .route("/v1/tasks/{id}", get(task))
        .route("/v1/tasks/{id}/events", get(events))
        .route("/v1/tasks/{id}/diff", get(diff))
        .route("/v1/tasks/{id}/log", get(log))
        .route("/v1/agents/{slot}/screen", get(screen))
        .route("/v1/clean", post(clean))
        .route("/v1/stop", post(stop))
        .route("/v1/upgrade", post(upgrade).get(upgraded))
        .route("/v1/attach", post(attach))
        .fallback(|| async {
            refused(
                &Refusal::user("there is no such route"),
                StatusCode::NOT_FOUND,
            )
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Face {
            services,
            dashboards,
        })
}

fn refused(refusal: &Refusal, status: StatusCode) -> Response {
    (status, Json(refusal)).into_response()
}

fn answer<T: serde::Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => {
            let status = match refusal.kind {
                RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
                RefusalKind::User => StatusCode::UNPROCESSABLE_ENTITY,
                RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            };
            refused(&refusal, status)
        }
    }
}

fn text(result: Result<String, Refusal>) -> Response {
    match result {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::user(format!("the request cannot be read: {error}")))
}

async fn command(State(face): State<Face>, body: Bytes) -> Response {
    match parse::<Request>(&body) {
        Ok(request) => answer((face.services.command)(request).await),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

#[derive(Deserialize)]
struct ViewQuery {
    #[serde(default)]
    look: bool,
}

async fn view(State(face): State<Face>, Query(query): Query<ViewQuery>) -> Response {
    if query.look {
        (face.services.look)(()).await;
    }
    let view = face.services.engine.view().borrow().clone();
    Json(&*view).into_response()
}

async fn watch(State(face): State<Face>) -> Response {
    let counted = Counted::new(face.services.clients.clone());
    let lines = WatchStream::new(face.services.engine.view()).map(move |view| {
        let _connected = &counted;
        let mut line = serde_json::to_vec(&*view)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// A client for as long as this lives.
struct Counted(tokio::sync::watch::Sender<usize>);

impl Counted {
    fn new(clients: tokio::sync::watch::Sender<usize>) -> Self {
        clients.send_modify(|count| *count += 1);
        Self(clients)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[derive(Deserialize)]
struct TasksQuery {
    filter: Option<String>,
}

async fn tasks(State(face): State<Face>, Query(query): Query<TasksQuery>) -> Response {
    let filter = match query
        .filter
        .as_deref()
        .map(serde_json::from_str::<TaskFilter>)
    {
        None => TaskFilter::default(),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            return answer::<()>(Err(Refusal::user(format!(
                "the filter cannot be read: {error}"
            ))));
        }
    };
    answer(stored_tasks(&face, StoreQuery::Tasks(filter)).await)
}

async fn task(State(face): State<Face>, Path(id): Path<u64>) -> Response {
    let found = stored_tasks(&face, StoreQuery::Task(TaskId(id))).await;
    answer(found.and_then(|tasks| {
        tasks.into_iter().next().ok_or_else(|| {
            Refusal::user(format!("there is no task {id}"))
                .hint("list them with 'warpsquad task list'")
        })
    }))
}

async fn stored_tasks(
    face: &Face,
    query: StoreQuery,
) -> Result<Vec<crate::core::task::Task>, Refusal> {
    match face
        .services
        .engine
        .query(query)
        .await
        .map_err(|error| store_refusal(&error))?
    {
        QueryReply::Tasks(tasks) => Ok(tasks),
        QueryReply::Events(_) => Ok(Vec::new()),
    }
}

fn store_refusal(error: &JournalError) -> Refusal {
    Refusal::unavailable(error.to_string())
}

async fn events(State(face): State<Face>, Path(id): Path<u64>) -> Response {
    let filter = EventFilter {
        task: Some(TaskId(id)),
        ..EventFilter::default()
    };
    let found = face.services.engine.query(StoreQuery::Events(filter)).await;
    answer(
        found
            .map_err(|error| store_refusal(&error))
            .map(|reply| match reply {
                QueryReply::Events(events) => events,
                QueryReply::Tasks(_) => Vec::new(),
            }),
    )
}

async fn diff(State(face): State<Face>, Path(id): Path<u64>) -> Response {
    text((face.services.diff)(TaskId(id)).await)
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    what: LogKind,
}

async fn log(
    State(face): State<Face>,
    Path(id): Path<u64>,
    Query(query): Query<LogQuery>,
) -> Response {
    text((face.services.log)((TaskId(id), query.what)).await)
}

async fn screen(State(face): State<Face>, Path(slot): Path<u16>) -> Response {
    let found = (face.services.screen)(AgentSlot(slot)).await;
    text(found.ok_or_else(|| {
        Refusal::user(format!("agent {slot} has no terminal yet"))
            .hint("see 'warpsquad agent list'")
    }))
}

async fn clean(State(face): State<Face>, body: Bytes) -> Response {
    match parse::<CleanRequest>(&body) {
        Ok(request) => answer((face.services.clean)(request).await),
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn stop(State(face): State<Face>, body: Bytes) -> Response {
    match parse::<StopRequest>(&body) {
        Ok(request) => {
            (face.services.stop)(request).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn upgrade(State(face): State<Face>, body: Bytes) -> Response {
    match parse::<UpgradeRequest>(&body) {
        Ok(request) => match (face.services.upgrade)(request).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(refusal) => answer::<()>(Err(refusal)),
        },
        Err(refusal) => answer::<()>(Err(refusal)),
    }
}

async fn upgraded(State(face): State<Face>) -> Response {
    answer((face.services.upgraded)(()).await)
}

async fn attach(State(face): State<Face>, request: HttpRequest) -> Response {
    let wanted = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    if wanted != Some(ATTACH) {
        let refusal = Refusal::user(format!("only 'Upgrade: {ATTACH}' is served here"));
        return refused(&refusal, StatusCode::UPGRADE_REQUIRED);
    }
    let (attach, clients) = (face.services.attach, face.services.clients);
    face.dashboards.spawn(async move {
        let _connected = Counted::new(clients);
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => attach(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a client left before it was attached"),
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, ATTACH)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
