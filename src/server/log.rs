//! The server's own log: one file a day in the data directory, the last seven kept.

use std::path::Path;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{Builder, InitError, Rotation};
use tracing_subscriber::EnvFilter;

/// Lines waiting for the disk; what comes when it is full is dropped. The appender's own limit, 32
/// times as many, takes 4 MiB as soon as it exists.
const LINES: usize = 4_000;

/// Starts logging to `dir`; ends when the guard is dropped.
pub(super) fn start(dir: &Path, level: &str) -> Result<WorkerGuard, InitError> {
    let file = Builder::new()
        .rotation(Rotation::DAILY)
        .filename_prefix("server")
        .filename_suffix("log")
        .max_log_files(7)
        .build(dir)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .finish(file);
    let filter = EnvFilter::builder()
        .parse(format!("warn,warpsquad={level}"))
        .unwrap_or_else(|_bad| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    // Fails only when a test of the same process has set one already.
    drop(tracing::subscriber::set_global_default(subscriber));
    Ok(guard)
}
