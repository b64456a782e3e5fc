//! A keeper as a real process in a directory of its own, and ways to wait for what it does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so by failing"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::Instant;
use warpsquad::core::Epoch;
use warpsquad::keeper::{
    AttachedPty, JobExit, JobSpec, KeeperClient, KeeperOptions, Limits, Origin, Output,
    RefusalKind, sweep_orphans,
};

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_warpsquad");
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const SERVER: Epoch = Epoch(1);

/// A keeper in a directory of its own. Whatever a test does, nothing of it survives.
pub(super) struct Squad {
    pub(super) directory: TempDir,
    pub(super) keeper: Child,
}

impl Squad {
    pub(super) async fn start() -> Self {
        Self::with_server(&[]).await
    }

    pub(super) async fn with_server(server: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let keeper = start_keeper(directory.path(), server);
        let squad = Self { directory, keeper };
        let socket = squad.options().paths.socket();
        eventually("the keeper listens", async || {
            UnixStream::connect(&socket).await.ok()
        })
        .await;
        squad
    }

    pub(super) fn options(&self) -> KeeperOptions {
        options(self.directory.path())
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.file("keeper.log")).unwrap()
    }

    pub(super) async fn connect(&self) -> KeeperClient {
        KeeperClient::connect(&self.options().paths.socket(), SERVER)
            .await
            .unwrap()
    }

    /// A job in a terminal that runs `script`.
    pub(super) fn terminal(&self, id: &str, script: &str) -> JobSpec {
        JobSpec {
            id: id.into(),
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            env: BTreeMap::from([("PATH".into(), std::env::var("PATH").unwrap())]),
            cwd: self.directory.path().to_owned(),
            output: Output::Pty { cols: 80, rows: 24 },
            nice: 0,
            time_limit: None,
            meta: String::new(),
            origin: Origin::Program,
            limits: Limits::default(),
        }
    }

    /// A job that writes to the file `<id>.out`.
    pub(super) fn file_job(&self, id: &str, script: &str) -> JobSpec {
        let output = Output::File(self.file(&format!("{id}.out")));
        JobSpec {
            output,
            ..self.terminal(id, script)
        }
    }

    pub(super) fn output(&self, id: &str) -> String {
        fs::read_to_string(self.file(&format!("{id}.out"))).unwrap_or_default()
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.keeper.wait().unwrap()
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        // A keeper that was not killed by its test takes its server and its jobs along.
        if matches!(self.keeper.try_wait(), Ok(None)) {
            kill(self.keeper.id().try_into().unwrap(), "-TERM");
            self.wait();
        }
        sweep_orphans(&self.options().paths.data, None);
    }
}

pub(super) fn options(directory: &Path) -> KeeperOptions {
    KeeperOptions::new(&directory.join("run"), &directory.join("data"))
}

/// Started with a descriptor too many, as a careless shell would.
pub(super) fn start_keeper(directory: &Path, server: &[&str]) -> Child {
    let mut options = options(directory);
    options.server = server.iter().map(Into::into).collect();
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("keeper.log"))
        .unwrap();
    Command::new("sh")
        .args(["-c", r#"exec 7</dev/null; exec "$0" "$@""#, PROGRAM])
        .args(options.to_args())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Asks again and again until there is an answer.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads until `text` was seen; returns everything that was read.
pub(super) async fn read_until(pty: &mut AttachedPty, text: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(text) {
            let bytes = pty
                .read()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("ended after {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    assert!(read.is_ok(), "{text:?} was never seen in {seen:?}");
    seen
}

/// What the keeper itself has read so far, once it contains `text`.
pub(super) async fn history_with(client: &KeeperClient, id: &str, text: &str) -> String {
    eventually(&format!("{text:?} is in the ring of {id}"), async || {
        let pty = client.attach(id).await.unwrap();
        let history = String::from_utf8(pty.history().unwrap().1).unwrap();
        history.contains(text).then_some(history)
    })
    .await
}

pub(super) async fn exit_of(client: &KeeperClient, id: &str) -> JobExit {
    eventually(&format!("job {id} ends"), async || {
        client
            .jobs()
            .await
            .unwrap()
            .into_iter()
            .find(|job| job.id == id)
            .and_then(|job| job.exit)
    })
    .await
}

/// A process that is gone, or waits for a parent that never asks.
pub(super) fn is_dead(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

pub(super) async fn dies(pid: i32) {
    eventually(&format!("process {pid} dies"), async || {
        is_dead(pid).then_some(())
    })
    .await;
}

pub(super) async fn pid_in(path: &Path) -> i32 {
    eventually(
        &format!("{} holds a process id", path.display()),
        async || {
            let text = fs::read_to_string(path).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        },
    )
    .await
}

pub(super) fn kill(pid: i32, signal: &str) {
    let killed = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

pub(super) fn refusal<T: std::fmt::Debug>(
    result: Result<T, warpsquad::keeper::ClientError>,
) -> RefusalKind {
    result.unwrap_err().refusal().unwrap()
}
