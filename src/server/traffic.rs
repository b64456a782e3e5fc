//! The gateway among its neighbours: what it goes by, who it lets in, whom it tells.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agents::GatewayAccess;
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::served::Served;
use crate::core::settings::Settings;
use crate::engine::{EngineHandle, Input};
use crate::gateway::{
    Accepted, ConductorSettings, Gateway, GatewayError, GatewaySettings, Gauge, Patience, Seat,
    Upstream,
};

use crate::keeper::end_when_deaf;
use crate::telemetry::room;

use super::clock::read;
use super::fits::Fitting;
use super::run::{ServerError, ServerOptions};
use super::threads;

/// Records of requests that have ended and were not written yet; more are lost and counted.
const SERVED: usize = 1_024;
/// A client that takes nothing of its answer for this long loses it: it holds a slot that others wait
/// for.
const DEAF: Duration = Duration::from_secs(60);

/// The gateway and its ends towards the others.
pub(super) struct Parts {
    pub(super) gateway: Arc<Gateway>,
    /// Each request that has ended.
    pub(super) served: mpsc::Receiver<Served>,
    /// What it knows of models.
    pub(super) catalogue: watch::Sender<Arc<Catalogue>>,
}

/// The gateway of this squad.
pub(super) fn gateway(
    options: &ServerOptions,
    engine: &EngineHandle,
) -> Result<Parts, ServerError> {
    let upstream =
        Upstream::new(Arc::new(read), Patience::default()).map_err(GatewayError::Client)?;
    let (served, records) = mpsc::channel(SERVED);
    let (catalogue, known) = watch::channel(Arc::clone(&engine.view().borrow().catalogue));
    let settings = settings(&options.settings, &options.places.data_dir);
    let gateway = Gateway::new(settings, upstream, known, served);
    Ok(Parts {
        gateway,
        served: records,
        catalogue,
    })
}

fn settings(settings: &Settings, data: &Path) -> GatewaySettings {
    GatewaySettings {
        conductor: ConductorSettings {
            seats: seats(settings),
            models: settings.models.clone(),
            learned: Some(data.join("learned.json")),
            gauge: gauge(settings),
            ..ConductorSettings::default()
        },
        patience: settings.medic.no_answer,
        key: settings.gateway.key.clone().filter(|key| !key.is_empty()),
        default_model: settings.models.default.as_deref().map(ModelName::new),
        accepted: Some(Accepted(Arc::new(|socket| {
            if let Err(error) = end_when_deaf(socket, DEAF) {
                tracing::debug!(%error, "TCP_USER_TIMEOUT was refused");
            }
        }))),
    }
}

fn seats(settings: &Settings) -> Vec<Seat> {
    // What is in memory already is not known yet: the driver's figures mean nothing without it.
    let reserve = room::reserve(settings);
    let endpoints = settings.endpoints.iter();
    endpoints
        .map(|endpoint| Seat {
            name: EndpointName(endpoint.name.clone()),
            url: endpoint.url.clone(),
            parallel: endpoint.parallel,
            room: room::room(endpoint, &[], 0, reserve).map(|room| room.size),
            kv_cache: endpoint.kv_cache.unwrap_or_default(),
            gpu: endpoint
                .gpu
                .clone()
                .unwrap_or_else(|| endpoint.name.clone()),
        })
        .collect()
}

/// Reads the memory of this machine's GPUs, where an endpoint depends on it.
fn gauge(settings: &Settings) -> Option<Gauge> {
    let gpus = room::open(settings)?;
    let (endpoints, reserve) = (settings.endpoints.clone(), room::reserve(settings));
    Some(Gauge(Arc::new(move |name, taken| {
        let endpoint = endpoints.iter().find(|it| it.name == name.0)?;
        let room = room::room(endpoint, &gpus.read(), taken, reserve);
        room.map(|room| room.size)
    })))
}

/// How agents reach models.
pub(super) fn access(base: String, gateway: &Arc<Gateway>) -> GatewayAccess {
    let (admitting, assigning) = (Arc::clone(gateway), Arc::clone(gateway));
    let (revoking, choosing) = (Arc::clone(gateway), Arc::clone(gateway));
    GatewayAccess {
        base,
        admit: Arc::new(move |token, bond| admitting.grants().admit(token, bond)),
        assign: Arc::new(move |token, work| assigning.grants().assign(token, work)),
        catalogue: gateway.known(),
        context: Arc::new(move |endpoint, model, configured| {
            choosing.context(endpoint, model, configured)
        }),
        revoke: Arc::new(move |token| revoking.grants().revoke(token)),
    }
}

/// The gateway on a thread of its own until `stop`: a token passes at once, whatever else the
/// server does, and no second thread has to be woken for it.
pub(super) fn spawn(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    stop: CancellationToken,
) -> Result<CancellationToken, ServerError> {
    threads::spawn("gateway", |runtime| {
        if let Err(error) = runtime.block_on(gateway.serve(listener, stop)) {
            tracing::error!(%error, "the gateway has ended");
        }
    })
}

/// Keeps the gateway's catalogue as the engine's, and the engine's view of the gateway as the
/// gateway's own.
pub(super) async fn exchange(
    gateway: Arc<Gateway>,
    engine: EngineHandle,
    fitting: Arc<Fitting>,
    catalogue: watch::Sender<Arc<Catalogue>>,
) {
    let (mut view, mut report) = (engine.view(), gateway.report());
    loop {
        let open = tokio::select! {
            changed = view.changed() => {
                let (known, preferred) = {
                    let view = view.borrow_and_update();
                    (Arc::clone(&view.catalogue), view.preferred.clone())
                };
                gateway.prefer(preferred);
                catalogue.send_if_modified(|current| {
                    let differs = !Arc::ptr_eq(current, &known);
                    *current = known;
                    differs
                });
                changed.is_ok()
            }
            changed = report.changed() => {
                let now = Arc::new(report.borrow_and_update().clone());
                // New models are told with the catalogue; here it is the memory that may be new.
                let known = Arc::clone(&catalogue.borrow());
                changed.is_ok()
                    && engine.report(Input::Gateway(now)).await.is_ok()
                    && fitting.tell(&known).await.is_ok()
            }
        };
        if !open {
            return;
        }
    }
}
