//! The Unix socket: private to the user, never taken from a server that answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::routes::routes;
use super::services::Services;

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another server answers there.
    #[error("another server answers at {}", .0.display())]
    Occupied(PathBuf),
    /// It cannot be made.
    #[error("the socket {} cannot be made", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A server that ends, or was killed a moment ago, may still have the socket; it gets this long.
const LEAVING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Binds the socket; a file left by a dead server is replaced.
///
/// # Errors
/// Another server stays there, or the file system refuses.
pub async fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    let deadline = Instant::now() + LEAVING;
    while UnixStream::connect(path).await.is_ok() {
        if Instant::now() > deadline {
            return Err(ListenError::Occupied(path.to_owned()));
        }
        sleep(PAUSE).await;
    }
    let failed = |source| ListenError::Socket {
        path: path.to_owned(),
        source,
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(failed)?;
    Ok(listener)
}

/// Serves until `stop`, then waits for no connection that is still open.
pub async fn serve(listener: UnixListener, services: Services, stop: CancellationToken) {
    let dashboards = TaskTracker::new();
    let router = routes(services, dashboards.clone());
    let served = axum::serve(OwnUser(listener), router);
    if let Some(Err(error)) = stop.run_until_cancelled(served.into_future()).await {
        tracing::error!(%error, "the local protocol ended");
    }
    dashboards.close();
    dashboards.wait().await;
}

/// Accepts connections of the same user only.
struct OwnUser(UnixListener);

impl Listener for OwnUser {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == own || peer.uid() == 0 => return (stream, address),
                Ok(peer) => {
                    tracing::warn!(uid = peer.uid(), "a connection of another user was refused");
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection without credentials was refused");
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
