//! One started git: what it says, bounded, and how it is ended.

use std::io;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

/// Standard error kept of one command.
const STDERR_MAX: u64 = 64 << 10;

/// What a command left behind.
#[derive(Debug)]
pub(super) struct Output {
    /// Exit code; none when killed by a signal.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// More than the allowed output came; the rest was dropped.
    pub(super) is_cut: bool,
}

impl Output {
    pub(super) fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output as text, without the last line end.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout)
            .trim_end_matches(['\n', '\r'])
            .to_owned()
    }

    /// The NUL-terminated fields of standard output.
    pub(super) fn fields(&self) -> Vec<String> {
        self.stdout
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty())
            .map(|field| String::from_utf8_lossy(field).into_owned())
            .collect()
    }

    /// Everything said, for a person.
    pub(super) fn said(&self) -> String {
        format!("{}\n{}", self.text(), self.stderr.trim_end())
            .trim()
            .to_owned()
    }
}

/// Ends the command's process group when dropped before the command ended, by SIGTERM: a killed
/// git would leave its lock files behind.
pub(super) struct Group {
    leader: Option<Pid>,
    outlives: bool,
}

impl Group {
    pub(super) fn of(child: &Child, outlives: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            leader: id.and_then(Pid::from_raw),
            outlives,
        }
    }

    pub(super) fn forget(mut self) {
        self.leader = None;
    }

    pub(super) fn end(mut self) {
        self.outlives = false;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.leader
            && !self.outlives
        {
            // It may have ended in this moment, which is what is wanted.
            kill_process_group(pid, Signal::TERM).ok();
        }
    }
}

/// Feeds and reads a child until it ends.
pub(super) async fn exchange(
    child: &mut Child,
    stdin: Vec<u8>,
    output_max: u64,
) -> io::Result<Output> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut input) = input {
            // A command that does not read its input closes the pipe: its exit code tells.
            input.write_all(&stdin).await.ok();
        }
    };
    let ((), stdout, stderr) = tokio::join!(
        feed,
        bounded(stdout, output_max),
        bounded(stderr, STDERR_MAX)
    );
    let ((stdout, is_cut), (stderr, _)) = (stdout?, stderr?);
    let status = child.wait().await?;
    Ok(Output {
        code: status.code(),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        is_cut,
    })
}

/// Reads up to `max` bytes and drops the rest; true when there was a rest.
async fn bounded(stream: Option<impl AsyncRead + Unpin>, max: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return Ok((kept, false));
    };
    (&mut stream).take(max).read_to_end(&mut kept).await?;
    let dropped = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, dropped > 0))
}
