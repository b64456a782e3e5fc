//! Starting a keeper that outlives whoever needs it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::leftovers::{DATA_VARIABLE, JOB_VARIABLE, KEEPER_VARIABLE};
use super::options::{ALREADY_RUNNING_CODE, KeeperOptions, KeeperPaths, Session};
use super::platform;
use super::protocol::{Request, encode_request};

/// A keeper listens within milliseconds; only an overloaded machine needs more.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// One that listens answers from memory; only a stopped one takes longer.
const ANSWER: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why no keeper runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The log file or its directory cannot be made.
    #[error("cannot write {}", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be started.
    #[error("cannot start the keeper")]
    Start(#[source] io::Error),
    /// It ended at once; its log says why.
    #[error("the keeper ended at once ({status}); see {}", log.display())]
    Ended {
        /// How.
        status: ExitStatus,
        /// Where it says why.
        log: PathBuf,
    },
    /// It was told to end and did not.
    #[error("the keeper (process {pid}) has not ended; its jobs may need a kill")]
    StillRunning {
        /// Its process id.
        pid: i32,
    },
    /// It does not answer.
    #[error("the keeper does not answer at {}; see {}", socket.display(), log.display())]
    Silent {
        /// Where it should listen.
        socket: PathBuf,
        /// Where it may say why.
        log: PathBuf,
    },
}

/// Makes sure that a keeper answers at the socket, starting one (detached) if none does. Several
/// callers at once end up with one keeper.
pub async fn ensure_running(options: &KeeperOptions) -> Result<(), LaunchError> {
    // Its file has the name that a user looks for in a list of processes; but an update may have
    // removed it.
    let program = std::env::current_exe().ok().filter(|file| file.exists());
    let program = program
        .map_or_else(platform::own_program, Ok)
        .map_err(LaunchError::Start)?;
    ensure_running_from(&program, options).await
}

/// As [`ensure_running`], with another `warpsquad` than this very program.
pub async fn ensure_running_from(
    program: &Path,
    options: &KeeperOptions,
) -> Result<(), LaunchError> {
    let socket = options.paths.socket();
    let answers = || timeout(ANSWER, answers(&socket)).map(|said| said == Ok(true));
    if answers().await {
        return Ok(());
    }
    let mut keeper = start(program, options)?;
    let log = options.paths.log();
    let deadline = Instant::now() + START_TIMEOUT;
    let mut pause = FIRST_PAUSE;
    while Instant::now() < deadline {
        if answers().await {
            return Ok(());
        }
        if let Some(status) = keeper.try_wait().map_err(LaunchError::Start)? {
            if status.code() != Some(i32::from(ALREADY_RUNNING_CODE)) {
                return Err(LaunchError::Ended { status, log });
            }
            // Another caller's keeper was faster and is about to listen, or an ending one still
            // has the place.
            keeper = start(program, options)?;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(LaunchError::Silent { socket, log })
}

/// Ends the keeper with all its jobs, whichever server is there or not, and waits until it is gone.
/// Returns whether there was one.
pub async fn stop_running(paths: &KeeperPaths, patience: Duration) -> Result<bool, LaunchError> {
    let Ok(stream) = UnixStream::connect(paths.socket()).await else {
        return Ok(false);
    };
    let pid = stream
        .peer_cred()
        .ok()
        .and_then(|peer| peer.pid())
        .and_then(Pid::from_raw);
    // Without a process id (or a process) the keeper has ended meanwhile.
    let Some(pid) = pid else { return Ok(false) };
    if kill_process(pid, Signal::TERM).is_err() {
        return Ok(false);
    }
    let ended = timeout(patience, end_of(stream)).await;
    ended.map_err(|_elapsed| LaunchError::StillRunning {
        pid: pid.as_raw_nonzero().get(),
    })?;
    Ok(true)
}

/// Waits until the keeper is gone with all its jobs, however it came to end; false if it is still
/// there after `patience`.
pub async fn await_end(paths: &KeeperPaths, patience: Duration) -> bool {
    match UnixStream::connect(paths.socket()).await {
        Ok(stream) => timeout(patience, end_of(stream)).await.is_ok(),
        Err(_) => true,
    }
}

/// The keeper never closes a connection by itself, so its end is the keeper's end.
async fn end_of(stream: UnixStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0; 64]) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Whether a keeper says anything. One that is being killed takes connections to its last moment,
/// and says nothing more. Whoever said no hello is refused, which is an answer as well.
async fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return false;
    };
    let Ok(line) = encode_request(0, &Request::Jobs {}) else {
        return false;
    };
    let mut said = [0; 64];
    stream.write_all(&line).await.is_ok() && matches!(stream.read(&mut said).await, Ok(1..))
}

fn start(program: &Path, options: &KeeperOptions) -> Result<Child, LaunchError> {
    let mut options = options.clone();
    options.session = Session::Detached;
    for path in [&mut options.paths.runtime, &mut options.paths.data] {
        *path = std::path::absolute(&*path).map_err(LaunchError::Start)?;
    }
    let log = open_log(&options.paths.log())?;
    Command::new(program)
        .args(options.to_args())
        .current_dir("/")
        // Whoever starts a keeper from inside a job must not pass for that job's keeper.
        .env_remove(JOB_VARIABLE)
        .env_remove(KEEPER_VARIABLE)
        .env_remove(DATA_VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(LaunchError::Start)
}

fn open_log(path: &Path) -> Result<File, LaunchError> {
    let failed = |source| LaunchError::Log {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)
}
