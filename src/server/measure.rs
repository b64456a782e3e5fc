//! What becomes of a request's record: it is measured, written, and summed up for the views.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::core::measurement::MeasurementReport;
use crate::core::served::Served;
use crate::core::settings::RecorderSettings;
use crate::engine::{EngineHandle, Input};
use crate::telemetry::{Measurements, Recorder};

use super::run::ServerOptions;

/// Views get a new summary at most this often, and only when a request has ended.
const SUMMARY: Duration = Duration::from_secs(1);
/// Requests that are cut when the server ends are recorded if they end within this.
const LAST: Duration = Duration::from_millis(200);

/// Where requests are recorded, and how.
pub(super) fn recorder(options: &ServerOptions) -> (PathBuf, RecorderSettings) {
    let folder = options.places.data_dir.join("requests");
    (folder, options.settings.recorder)
}

/// Takes in the records of all requests until `stop`. While no request ends, nothing wakes up.
pub(super) async fn measure(
    mut served: mpsc::Receiver<Served>,
    unrecorded: Arc<AtomicU64>,
    (folder, settings): (PathBuf, RecorderSettings),
    engine: EngineHandle,
    stop: CancellationToken,
) {
    let mut desk = match Recorder::start(&folder, settings) {
        Ok(recorder) => Desk {
            recorder,
            unrecorded,
            measurements: Measurements::default(),
            due: None,
        },
        Err(error) => {
            tracing::error!(%error, "requests are not recorded");
            return;
        }
    };
    while let Some(event) = desk.next(&mut served, &stop).await {
        match event {
            Event::Ended(served) => desk.take(&served),
            Event::Due => {
                desk.due = None;
                let report = Arc::new(desk.report());
                if engine.report(Input::Measured(report)).await.is_err() {
                    tracing::debug!("the engine has stopped");
                }
            }
        }
    }
    while let Ok(Some(served)) = timeout(LAST, served.recv()).await {
        desk.take(&served);
    }
    let recorder = desk.recorder;
    match tokio::task::spawn_blocking(move || recorder.finish()).await {
        Ok(report) => tracing::info!(%report, "the recorder has ended"),
        Err(error) => tracing::warn!(%error, "the recorder has failed"),
    }
}

struct Desk {
    recorder: Recorder,
    /// Requests whose records came to nobody.
    unrecorded: Arc<AtomicU64>,
    measurements: Measurements,
    /// When a summary is to be sent: a request has ended since the last one.
    due: Option<Instant>,
}

enum Event {
    Ended(Box<Served>),
    Due,
}

impl Desk {
    async fn next(
        &self,
        served: &mut mpsc::Receiver<Served>,
        stop: &CancellationToken,
    ) -> Option<Event> {
        let due = async {
            match self.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => None,
            served = served.recv() => served.map(|served| Event::Ended(Box::new(served))),
            () = due => Some(Event::Due),
        }
    }

    fn take(&mut self, served: &Served) {
        self.measurements.record(served);
        self.recorder.record(served);
        self.due.get_or_insert_with(|| Instant::now() + SUMMARY);
    }

    fn report(&self) -> MeasurementReport {
        let mut recorder = self.recorder.report();
        recorder.lost += self.unrecorded.load(Ordering::Relaxed);
        MeasurementReport {
            recorder,
            ..self.measurements.report()
        }
    }
}
