//! The listening part: connections that end with the server, as Ollama's do on SIGTERM.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hosts::local_only;
use super::routes::router;
use super::simulated::{Aborts, Simulator};
use super::{Scenario, ScenarioError};

/// `warpsquad ollama-sim`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    pub listen: String,
    /// Scenario file or name of a built-in one; the built-in default when missing.
    pub scenario: Option<PathBuf>,
}

/// Why the simulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Reason.
        #[source]
        source: io::Error,
    },
    /// Serving failed.
    #[error("the simulator failed")]
    Serve(#[source] io::Error),
}

/// Serves a scenario until SIGINT or SIGTERM. The first line on stdout is the base URL.
pub async fn run(args: Args) -> Result<(), RunError> {
    let scenario = match &args.scenario {
        Some(path) => Scenario::find(path)?,
        None => Scenario::builtin("default")?,
    };
    let refused = |source| RunError::Listen {
        address: args.listen.clone(),
        source,
    };
    let listener = std::net::TcpListener::bind(&args.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    writeln!(io::stdout(), "http://{address}").map_err(RunError::Serve)?;
    let shutdown = CancellationToken::new();
    let serving = serve(listener, scenario, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result.map_err(RunError::Serve),
        result = told_to_stop() => result.map_err(RunError::Serve)?,
    }
    shutdown.cancel();
    serving.await.map_err(RunError::Serve)
}

async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _received = terminate.recv() => Ok(()),
        received = tokio::signal::ctrl_c() => received,
    }
}

/// Serves a scenario on `listener` until `shutdown`; then connections are cut as they are.
pub async fn serve(
    listener: std::net::TcpListener,
    scenario: Scenario,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut listener = TcpListener::from_std(listener)?;
    let workers = TaskTracker::new();
    let simulator = Arc::new(Simulator::start(&scenario, &workers, &shutdown));
    let mut connections = JoinSet::new();
    loop {
        let mut routes = router(Arc::clone(&simulator));
        if address.ip().is_loopback() {
            routes = routes.layer(axum::middleware::from_fn(local_only));
        }
        let back = tokio::select! {
            never = accept(&listener, routes, &mut connections) => match never {},
            () = shutdown.cancelled() => break,
            back = gone(&simulator) => back,
        };
        drop(listener);
        connections.shutdown().await;
        // The port stays ours, and refuses: it is bound, but nobody listens.
        let socket = bind(address)?;
        simulator.scheduler.reset();
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep_until(back) => {}
        }
        simulator.outage.end();
        listener = socket.listen(BACKLOG)?;
    }
    connections.shutdown().await;
    workers.close();
    workers.wait().await;
    Ok(())
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Waits until the scenario takes the server away; when it is back.
async fn gone(simulator: &Simulator) -> Instant {
    let planned = simulator.faults.outage();
    let at = |time: Duration| simulator.clock.instant(time).unwrap_or_else(Instant::now);
    let begins = async {
        match planned {
            Some((from, _)) => tokio::time::sleep_until(at(from)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = begins => planned.map_or_else(Instant::now, |(_, until)| at(until)),
        duration = simulator.outage.begun() => Instant::now() + simulator.clock.real(duration),
    }
}

/// Serves connections as tasks of `connections`.
async fn accept(
    listener: &TcpListener,
    routes: axum::Router,
    connections: &mut JoinSet<()>,
) -> Infallible {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, routes.clone()));
                }
                // Out of descriptors or a client that left in between: the next one may do.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, routes: axum::Router) {
    // Every token is a write of its own: it must not wait for the next one.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let aborts = Aborts::new();
    let inner = TowerToHyperService::new(routes);
    let marked = aborts.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(marked.clone());
        inner.call(request)
    });
    let http = hyper::server::conn::http1::Builder::new();
    let serving = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that leaves in the middle, or an answer that is cut on purpose.
        _ended = serving => {}
        () = aborts.aborted() => {}
    }
}
