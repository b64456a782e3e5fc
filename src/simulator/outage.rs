//! The server's absence: asked for by a fault, carried out by whoever listens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long a server is gone that the scenario says nothing else about.
const GONE: Duration = Duration::from_secs(5);

/// Begins absences and waits for them.
#[derive(Debug, Clone)]
pub(super) struct Outage(Arc<watch::Sender<Option<Duration>>>);

impl Outage {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }

    /// The server goes now, for so long in the scenario's time.
    pub(super) fn begin(&self, duration: Option<Duration>) {
        self.0.send_replace(Some(duration.unwrap_or(GONE)));
    }

    /// Waits until the server has to go.
    pub(super) async fn begun(&self) -> Duration {
        let mut asked = self.0.subscribe();
        // The sender is this value's own: the wait does not fail.
        let begun = asked.wait_for(Option::is_some).await;
        begun.ok().and_then(|duration| *duration).unwrap_or(GONE)
    }

    /// The server is back.
    pub(super) fn end(&self) {
        self.0.send_replace(None);
    }
}
