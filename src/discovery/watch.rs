//! The loops: when to look.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Looker;
use crate::core::endpoint::{Endpoint, EndpointName};
use crate::core::settings::{DiscoverySettings, EndpointSettings};

/// Pause after the first failed look; doubles up to the configured longest one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// How eagerly endpoints are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// No work and no client: only when a look is asked for.
    Resting,
    /// By the configured interval.
    Active,
}

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointReport {
    /// Which endpoint.
    pub endpoint: EndpointName,
    /// Its new state, whole.
    pub state: Endpoint,
}

/// Steers the loops; they end when it is dropped.
#[derive(Debug)]
pub struct Controls {
    pace: watch::Sender<Pace>,
    asked: watch::Sender<u64>,
}

impl Controls {
    /// Sets the pace. Becoming active looks at once where the last look is older than the interval.
    pub fn set_pace(&self, pace: Pace) {
        self.pace
            .send_if_modified(|current| std::mem::replace(current, pace) != pace);
    }

    /// Asks for a look at every endpoint now, whatever the pace.
    pub fn refresh(&self) {
        self.asked.send_modify(|count| *count += 1);
    }
}

/// All loops, one per endpoint.
#[derive(Debug)]
pub struct Discovery {
    endpoints: Vec<EndpointSettings>,
    settings: DiscoverySettings,
    pace: watch::Receiver<Pace>,
    asked: watch::Receiver<u64>,
}

impl Discovery {
    /// Loops that start active, and their controls.
    pub fn new(endpoints: Vec<EndpointSettings>, settings: DiscoverySettings) -> (Self, Controls) {
        let (pace_sender, pace) = watch::channel(Pace::Active);
        let (asked_sender, asked) = watch::channel(0);
        let discovery = Self {
            endpoints,
            settings,
            pace,
            asked,
        };
        let controls = Controls {
            pace: pace_sender,
            asked: asked_sender,
        };
        (discovery, controls)
    }

    /// Looks at every endpoint at once and then by pace, until `shutdown`, until the controls are
    /// gone or until nobody takes reports. A full channel holds the loops back, nothing is lost.
    pub async fn run(self, reports: mpsc::Sender<EndpointReport>, shutdown: CancellationToken) {
        let mut loops = JoinSet::new();
        for endpoint in &self.endpoints {
            let one = EndpointLoop {
                name: EndpointName(endpoint.name.clone()),
                looker: Looker::new(endpoint, &self.settings),
                settings: self.settings.clone(),
                pace: self.pace.clone(),
                asked: self.asked.clone(),
                reports: reports.clone(),
            };
            loops.spawn(shutdown.clone().run_until_cancelled_owned(one.run()));
        }
        drop(reports);
        while loops.join_next().await.is_some() {}
    }
}

struct EndpointLoop {
    name: EndpointName,
    looker: Looker,
    settings: DiscoverySettings,
    pace: watch::Receiver<Pace>,
    asked: watch::Receiver<u64>,
    reports: mpsc::Sender<EndpointReport>,
}

impl EndpointLoop {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let state = self.looker.look().await;
            failures = if state.health.is_ok() {
                0
            } else {
                failures + 1
            };
            let report = EndpointReport {
                endpoint: self.name.clone(),
                state,
            };
            if self.reports.send(report).await.is_err() {
                return;
            }
            let due = Instant::now() + self.pause(failures);
            if self.wait(due).await.is_none() {
                return;
            }
        }
    }

    /// Waits until a look is due and wanted; `None` when the controls are gone.
    async fn wait(&mut self, due: Instant) -> Option<()> {
        loop {
            let pace = *self.pace.borrow_and_update();
            let is_due = async {
                match pace {
                    Pace::Active => tokio::time::sleep_until(due).await,
                    Pace::Resting => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_due => return Some(()),
                changed = self.asked.changed() => return changed.ok(),
                changed = self.pace.changed() => changed.ok()?,
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        if failures == 0 {
            return self.settings.interval;
        }
        let doubled = FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16));
        doubled
            .min(self.settings.backoff_max)
            .mul_f64(jitter_factor())
    }
}

/// 0.8…1.2, so that many squads do not knock at the same moment.
fn jitter_factor() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    0.8 + 0.4 * f64::from(random) / f64::from(u32::MAX)
}
