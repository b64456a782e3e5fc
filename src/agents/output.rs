//! Commands of the user as jobs: how the shell runs them, and the end of what they print.

use std::path::PathBuf;

/// Lines of output kept with the report.
const TAIL_LINES: usize = 60;
/// Bytes of output read at most, from the end.
const READ_MAX: u64 = 4 << 20;

/// `sh -c COMMAND`
pub(super) fn shell(command: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), command.into()]
}

/// The last bytes of a log, as text.
pub(super) async fn read_end(path: PathBuf) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(READ_MAX)))
        .await?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of an output, without anything that could act on a terminal.
pub(super) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let text = lines.get(from..).unwrap_or_default().join("\n");
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}
