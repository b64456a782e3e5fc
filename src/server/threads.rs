//! Work on a thread of its own: what must not wait for the rest of the server, nor the rest for it.

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::run::ServerError;

/// Runs `work` on a thread and a runtime of its own. The token is cancelled when it has ended,
/// however it did.
pub(super) fn spawn(
    name: &'static str,
    work: impl FnOnce(&Runtime) + Send + 'static,
) -> Result<CancellationToken, ServerError> {
    let failed = |source| ServerError::System {
        what: "a thread of the server cannot be started",
        source,
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _guard = guard;
            work(&runtime);
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    Ok(ended)
}
