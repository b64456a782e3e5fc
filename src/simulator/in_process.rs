//! A simulated server without a socket: for tests on paused time, where every moment is exact.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Scenario;
use super::routes::router;
use super::simulated::{Aborts, Simulator};

/// The server closed the connection without an answer, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was refused")]
pub struct Refused;

/// A simulated server; its workers end when it is dropped.
pub struct InProcess {
    simulator: Arc<Simulator>,
    routes: axum::Router,
    shutdown: CancellationToken,
}

impl InProcess {
    /// Starts a scenario on the runtime of the caller.
    pub fn start(scenario: &Scenario) -> Self {
        let shutdown = CancellationToken::new();
        let simulator = Arc::new(Simulator::start(scenario, &TaskTracker::new(), &shutdown));
        let routes = router(Arc::clone(&simulator));
        Self {
            simulator,
            routes,
            shutdown,
        }
    }

    /// One request. Dropping the future, or the answer's body, is a client that leaves.
    ///
    /// # Errors
    /// The scenario refuses the connection, or the server is gone at this time. An answer that is
    /// under way when the server goes is cut only over a socket.
    pub async fn call(&self, request: Request<Body>) -> Result<Response, Refused> {
        let now = self.simulator.clock.elapsed();
        if self
            .simulator
            .faults
            .outage()
            .is_some_and(|(from, _)| from <= now)
        {
            self.simulator.scheduler.reset();
            return Err(Refused);
        }
        let aborts = Aborts::new();
        let mut request = request;
        request.extensions_mut().insert(aborts.clone());
        let answered = TowerToHyperService::new(self.routes.clone()).call(request);
        tokio::select! {
            answer = answered => match answer {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            () = aborts.aborted() => Err(Refused),
            _gone = self.simulator.outage.begun() => {
                self.simulator.scheduler.reset();
                self.simulator.outage.end();
                Err(Refused)
            }
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
