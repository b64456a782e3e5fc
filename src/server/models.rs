//! Discovery's reports become the engine's catalogue; the pace follows work and clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fits::Fitting;
use crate::core::catalogue::{Catalogue, diff};
use crate::core::endpoint::{Endpoint, EndpointName};
use crate::core::runners::GatewayReport;
use crate::core::settings::Settings;
use crate::discovery::{Controls, Discovery, EndpointReport, Pace};
use crate::engine::{EngineHandle, Input, View};
use crate::gateway::Gateway;

/// Endpoints are looked at for so long after the last request.
const AFTER_TRAFFIC: Duration = Duration::from_secs(60);
/// Reports waiting; the loops wait when it is full.
const REPORTS: usize = 64;

/// Looks at all endpoints until `stop`.
pub(super) async fn watch_endpoints(
    settings: Arc<Settings>,
    engine: EngineHandle,
    fitting: Arc<Fitting>,
    gateway: Arc<Gateway>,
    clients: watch::Receiver<usize>,
    stop: CancellationToken,
) {
    let (discovery, controls) =
        Discovery::new(settings.endpoints.clone(), settings.discovery.clone());
    let (sender, reports) = mpsc::channel(REPORTS);
    tokio::join!(
        discovery.run(sender, stop.clone()),
        collect(&settings, &engine, &fitting, reports),
        stop.run_until_cancelled(follow(controls, &gateway, engine.view(), clients)),
    );
}

/// The catalogue before anybody has looked: every endpoint, and nothing known of it.
pub(super) fn configured(settings: &Settings) -> Catalogue {
    let endpoints = settings.endpoints.iter();
    let unknown = endpoints.map(|it| (EndpointName(it.name.clone()), Endpoint::new(&it.url)));
    Catalogue {
        endpoints: unknown.collect(),
    }
}

async fn collect(
    settings: &Settings,
    engine: &EngineHandle,
    fitting: &Fitting,
    mut reports: mpsc::Receiver<EndpointReport>,
) {
    let mut catalogue = configured(settings);
    while let Some(report) = reports.recv().await {
        let mut next = catalogue.clone();
        next.endpoints.insert(report.endpoint, report.state);
        let changes = diff(&catalogue, &next)
            .iter()
            .map(ToString::to_string)
            .collect();
        catalogue = next;
        let input = Input::Catalogue {
            catalogue: Arc::new(catalogue.clone()),
            changes,
        };
        if fitting.tell(&catalogue).await.is_err() || engine.report(input).await.is_err() {
            return;
        }
    }
}

/// Active while there is unfinished work that needs a model, a client, or was a request lately; at
/// once when somebody asks for a look.
async fn follow(
    controls: Controls,
    gateway: &Gateway,
    mut view: watch::Receiver<Arc<View>>,
    mut clients: watch::Receiver<usize>,
) {
    let (mut report, mut wanted) = (gateway.report(), gateway.looks_wanted());
    let mut traffic = Traffic::default();
    loop {
        traffic.see(&report.borrow_and_update(), Instant::now());
        let busy = *clients.borrow_and_update() > 0
            || needs_models(&view.borrow_and_update())
            || traffic.until.is_some();
        controls.set_pace(if busy { Pace::Active } else { Pace::Resting });
        let open = tokio::select! {
            changed = view.changed() => changed.is_ok(),
            changed = clients.changed() => changed.is_ok(),
            changed = report.changed() => changed.is_ok(),
            changed = wanted.changed() => {
                controls.refresh();
                changed.is_ok()
            }
            () = traffic.over() => {
                traffic.until = None;
                true
            }
        };
        if !open {
            return;
        }
    }
}

/// Requests lately.
#[derive(Debug, Default)]
struct Traffic {
    served: u64,
    /// Until then endpoints are looked at because of them.
    until: Option<Instant>,
}

impl Traffic {
    fn see(&mut self, report: &GatewayReport, now: Instant) {
        let mut models = report.endpoints.values().flat_map(|it| it.models.values());
        let is_busy = models.any(|it| it.running > 0 || it.queued > 0);
        if is_busy || report.served != self.served {
            self.served = report.served;
            self.until = Some(now + AFTER_TRAFFIC);
        }
    }

    async fn over(&self) {
        match self.until {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

fn needs_models(view: &View) -> bool {
    use crate::core::task::TaskState;
    view.tasks.iter().any(|task| {
        matches!(
            task.state,
            TaskState::Queued | TaskState::Assigned | TaskState::Running | TaskState::Failed
        )
    })
}
