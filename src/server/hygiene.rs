//! The automatic policy of `clean`: at every start and once a day, only what is old.

use std::sync::Arc;
use std::time::Duration;

use crate::agents::Workshop;
use crate::api::wire::{CleanReport, CleanRequest};
use crate::core::event::SquadEvent;
use crate::core::size::Bytes;
use crate::engine::{EngineHandle, Input};

use super::clean::{self, Sizes};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Removes what is old until the server stops.
pub(super) async fn tidy(workshop: Arc<Workshop>, engine: EngineHandle) {
    let after = workshop.settings.clean.after;
    let request = CleanRequest {
        dry_run: false,
        older_than_ms: Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    };
    loop {
        match clean::clean(&workshop, &engine, request, Sizes::Removed).await {
            Ok(report) => told(&engine, &report).await,
            Err(refusal) => tracing::warn!(%refusal, "what is old stays"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn told(engine: &EngineHandle, report: &CleanReport) {
    for removed in &report.removed {
        tracing::info!(what = %removed.what, why = %removed.why, "removed");
    }
    if report.removed.is_empty() {
        return;
    }
    let bytes: u64 = report.removed.iter().map(|item| item.bytes).sum();
    let things = match report.removed.len() {
        1 => "1 old thing".to_owned(),
        many => format!("{many} old things"),
    };
    let what = format!("{things}, {}", Bytes(bytes));
    let event = Input::Squad(SquadEvent::Cleaned { what });
    if engine.report(event).await.is_err() {
        tracing::debug!("the engine has stopped");
    }
}
