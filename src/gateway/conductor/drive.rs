//! What takes time: loading, unloading, asking for looks, publishing, remembering.
//!
//! A swap is fenced and drained by the dispatcher before it comes here; here the old model is
//! unloaded, its end is confirmed in `/api/ps`, and the new one is loaded. Both are asked for on
//! connections of our own, with the keep-alive as eviction priority; no agent's request carries one,
//! because a keep-alive on a running model would undo a pending unload.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::look::{ASK_LIMIT, Fate, Look, fate, look, running};
use super::state::{Conductor, State};
use crate::core::dispatch::{Order, Runner};
use crate::core::endpoint::EndpointName;
use crate::core::failure::Failure;
use crate::gateway::upstream::Upstream;
use crate::ollama::wire::ErrorBody;

/// `/api/ps` is asked this often while something is going on.
const LOOK: Duration = Duration::from_secs(2);
/// After the last request the endpoints are looked at for so long.
pub(super) const AFTERGLOW: Duration = Duration::from_secs(10);
/// The report is published at most this often.
const PUBLISH: Duration = Duration::from_millis(500);
/// What is learned is written at most this often.
const REMEMBER: Duration = Duration::from_secs(30);
/// Ollama looks this often whether a runner's memory is free (`ollama.md`, 1.4.5).
const GONE_LOOK: Duration = Duration::from_millis(100);
/// Ollama's own `OLLAMA_LOAD_TIMEOUT` is 5 min without progress.
const LOAD_LIMIT: Duration = Duration::from_secs(330);
/// Works for the conductor for ever.
pub(in crate::gateway) async fn drive(conductor: Arc<Conductor>, upstream: Upstream) {
    let mut jobs = JoinSet::new();
    // What is in memory already says how much of it is there for models.
    for endpoint in conductor.endpoints() {
        jobs.spawn(look(Arc::clone(&conductor), upstream.clone(), endpoint));
    }
    let mut looked = None;
    let mut published = Instant::now();
    let mut remembered = Instant::now();
    let mut catalogue = conductor.catalogue.clone();
    let mut is_told = true;
    loop {
        for order in conductor.take_orders() {
            jobs.spawn(carry_out(Arc::clone(&conductor), upstream.clone(), order));
        }
        let now = Instant::now();
        let is_active = conductor.is_active();
        if is_active && looked.is_none_or(|at| now >= at + LOOK) {
            looked = Some(now);
            for endpoint in conductor.endpoints() {
                jobs.spawn(look(Arc::clone(&conductor), upstream.clone(), endpoint));
            }
        }
        if now >= published + PUBLISH && conductor.is_dirty() {
            conductor.publish();
            published = now;
        }
        if now >= remembered + REMEMBER && conductor.has_learned() {
            remembered = now;
            conductor.remember().await;
        }
        let look_due = looked.filter(|_| is_active).map(|at| at + LOOK);
        let pauses = (published + PUBLISH, remembered + REMEMBER);
        let (due, wake) = conductor.plan(look_due, pauses);
        tokio::select! {
            () = conductor.work.notified() => {}
            told = catalogue.changed(), if is_told => {
                is_told = told.is_ok();
                let contradicted = conductor.contradicted();
                for endpoint in contradicted.into_iter().filter(|_| !conductor.is_active()) {
                    jobs.spawn(look(Arc::clone(&conductor), upstream.clone(), endpoint));
                }
            }
            _ = jobs.join_next(), if !jobs.is_empty() => {}
            () = sleep_until(wake) => {
                if due.is_some_and(|at| at <= Instant::now()) {
                    conductor.change(|_, _| {});
                }
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn carry_out(conductor: Arc<Conductor>, upstream: Upstream, order: Order) {
    match order {
        Order::Load { runner, .. } => load(&conductor, &upstream, &runner).await,
        Order::Unload { runner } => unload(&conductor, &upstream, &runner).await,
        Order::Admit { .. } => {}
    }
}

async fn load(conductor: &Conductor, upstream: &Upstream, runner: &Runner) {
    let began = Instant::now();
    let keep_alive = conductor.look(|state, now| {
        let key = (runner.endpoint.clone(), runner.model.clone());
        state.warmth.keep_alive(&key, now).as_secs()
    });
    let body = json!({
        "model": runner.model.as_str(), "keep_alive": keep_alive, "stream": false, "messages": [],
        "options": {"num_ctx": runner.context},
    });
    let result = without_message(conductor, upstream, runner, &body, LOAD_LIMIT).await;
    match result.map_err(Failure::of_load) {
        Ok(()) => {
            let mut look = running(conductor, upstream, &runner.endpoint).await;
            conductor.change(|state, now| {
                state.moved(&runner.endpoint, look.as_mut());
                let size_vram = look.as_ref().and_then(|it| it.vram_of(runner)).unwrap_or(0);
                if let Some(gpu) = state.gpu(&runner.endpoint) {
                    gpu.loaded(runner, size_vram, began.elapsed(), now);
                }
                state.loaded(runner);
            });
            if let Some(look) = look {
                conductor.seen(&runner.endpoint, &look);
            }
        }
        Err(failure) => {
            tracing::warn!(
                endpoint = %runner.endpoint, model = %runner.model, why = %failure.why,
                "a model could not be loaded"
            );
            conductor.load_failed(runner, &failure);
        }
    }
}

async fn unload(conductor: &Conductor, upstream: &Upstream, runner: &Runner) {
    let began = Instant::now();
    let body = json!({
        "model": runner.model.as_str(), "keep_alive": 0, "stream": false, "messages": [],
    });
    if let Err(failure) = without_message(conductor, upstream, runner, &body, ASK_LIMIT).await {
        tracing::info!(model = %runner.model, why = %failure.why, "an unload was refused");
    }
    loop {
        let look = running(conductor, upstream, &runner.endpoint).await;
        let took = began.elapsed();
        if let Some(fate) = fate(look.as_ref(), runner, took) {
            return conductor.ended(runner, (fate, took), look);
        }
        sleep(GONE_LOOK).await;
    }
}

/// `/api/chat` without a message: loads or unloads. Other servers of this API may lack
/// `/api/generate`; this route they have.
async fn without_message(
    conductor: &Conductor,
    upstream: &Upstream,
    runner: &Runner,
    body: &serde_json::Value,
    limit: Duration,
) -> Result<(), Failure> {
    let Some(seat) = conductor.seat(&runner.endpoint) else {
        return Err(Failure::gone());
    };
    let url = format!("{}/api/chat", seat.url.trim_end_matches('/'));
    let body = Bytes::from(body.to_string());
    let asked = upstream.whole((Method::POST, &url), body, limit).await;
    let (status, text) = asked.map_err(|error| Failure::transport(&root_cause(&error)))?;
    if status.is_success() && serde_json::from_slice::<ErrorBody>(&text).is_err() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text);
    Err(Failure::status(status.as_u16(), &text, None))
}

pub(in crate::gateway) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

impl Conductor {
    fn take_orders(&self) -> Vec<Order> {
        self.begin(|state| state.orders.drain(..).collect())
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointName> {
        self.settings
            .seats
            .iter()
            .map(|seat| seat.name.clone())
            .collect()
    }

    fn is_active(&self) -> bool {
        self.look(|state, now| {
            let recent = state.active > Duration::ZERO && now < state.active + AFTERGLOW;
            recent || !state.waiting.is_empty()
        })
    }

    /// Whether anything is to be written.
    fn has_learned(&self) -> bool {
        self.look(|state, _| state.is_unsaved)
    }

    /// When a dispatcher has something to do, and when the driver wakes by itself: for that, for a
    /// look, for a report of what is new, or to write what was learned, and for nothing while there
    /// is none of it. Whoever changes something that is due sooner wakes it.
    fn plan(
        &self,
        look: Option<Instant>,
        (report, remember): (Instant, Instant),
    ) -> (Option<Instant>, Option<Instant>) {
        self.begin(|state| {
            let due = state.deadline().map(|at| self.instant(at));
            let rate = state.meter.due().map(|at| self.instant(at).max(report));
            let report = state.is_dirty.then_some(report);
            let remember = state.is_unsaved.then_some(remember);
            let all = [due, look, report, rate, remember];
            let wake = all.into_iter().flatten().min();
            state.wake = wake.map(|at| self.time_of(at));
            (due, wake)
        })
    }

    fn ended(&self, runner: &Runner, (fate, took): (Fate, Duration), mut look: Option<Look>) {
        self.change(|state, now| {
            state.moved(&runner.endpoint, look.as_mut());
            let key = (runner.endpoint.clone(), runner.model.clone());
            match fate.trouble() {
                Some(trouble) => state.trouble.insert(key, trouble.into()),
                None => state.trouble.remove(&key),
            };
            if let Some(gpu) = state.gpu(&runner.endpoint) {
                match fate {
                    Fate::Gone => gpu.unloaded(runner, took, now),
                    Fate::Stuck | Fate::Unknown => gpu.unload_stuck(runner, now),
                }
            }
        });
        if let Some(look) = look {
            self.seen(&runner.endpoint, &look);
        }
    }

    fn load_failed(&self, runner: &Runner, failure: &Failure) {
        self.change(|state, now| {
            state.moved(&runner.endpoint, None);
            state.failed(runner, failure, now);
            let waited = state
                .gpu(&runner.endpoint)
                .map(|gpu| gpu.load_failed(runner, now))
                .unwrap_or_default();
            for id in waited {
                if let Some(waiting) = state.waiting.remove(&id) {
                    // A client that went away meanwhile does not mind.
                    let _given_up = waiting.send(Err(failure.clone()));
                }
            }
        });
    }
}

impl State {
    /// A load went well.
    fn loaded(&mut self, runner: &Runner) {
        let key = (runner.endpoint.clone(), runner.model.clone());
        self.trouble.remove(&key);
        self.learned.loaded(runner);
        self.is_unsaved = true;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::gateway::conductor::ConductorSettings;

    #[tokio::test(start_paused = true)]
    async fn it_wakes_to_write_what_was_learned_and_never_when_nothing_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.json");
        let settings = ConductorSettings {
            learned: Some(path.clone()),
            ..ConductorSettings::default()
        };
        let (_keep, catalogue) = watch::channel(Arc::default());
        let conductor = Conductor::new(settings, catalogue);
        conductor.publish();
        let now = Instant::now();
        let plan = || conductor.plan(None, (now + PUBLISH, now + REMEMBER)).1;
        assert_eq!(plan(), None);
        conductor.remember().await;
        assert!(!path.exists(), "nothing was learned");
        conductor.begin(|state| state.is_unsaved = true);
        assert!(conductor.has_learned());
        assert_eq!(plan(), Some(now + REMEMBER));
        conductor.remember().await;
        assert!(path.exists());
        assert_eq!(plan(), None);
    }
}
