//! The keeper process: from its lock to its last reaped child.
//!
//! Everything runs on one thread, which also starts every job: a job's death signal is bound to
//! the thread that started it. The loop wakes up only when something happens: a request, an ended
//! child, output of a job that no server reads, or a deadline that somebody set.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cgroup::Cgroups;
use super::connection::serve;
use super::leftovers::{kill_children, sweep_orphans};
use super::options::{ALREADY_RUNNING_CODE, KeeperOptions, Session};
use super::place::{self, Place};
use super::platform;
use super::server_child::ServerChild;
use super::state::{Connection, Finished, Keeper, WAITING_EVENTS};
use super::zygote::{Said, Zygote};

/// Requests on their way to the loop; a connection waits when it is full.
const WAITING_REQUESTS: usize = 64;

/// Why a keeper ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// SIGTERM, SIGINT or SIGHUP.
    Signalled,
    /// A `shutdown` request.
    Requested,
    /// The server ended with [`super::SERVER_STOP_CODE`].
    ServerStopped,
}

/// Why a keeper does not run.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// There is one keeper for each squad.
    #[error("a keeper already runs for {} (process {})", data.display(), pid.as_deref().unwrap_or("unknown"))]
    AlreadyRunning {
        /// The squad's data directory.
        data: PathBuf,
        /// Its process id, if it could be read.
        pid: Option<String>,
    },
    /// Others could reach the sockets.
    #[error("{} must belong to you and be closed to others (mode 0700)", directory.display())]
    OpenDirectory {
        /// The runtime directory.
        directory: PathBuf,
    },
    /// A file or directory cannot be used.
    #[error("cannot use {}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory's name has to fit into an environment variable as text.
    #[error("{} is not valid Unicode", path.display())]
    NotUnicode {
        /// Which.
        path: PathBuf,
    },
    /// The operating system refused something that is needed.
    #[error("cannot {action}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// `warpsquad keeper …`, with the arguments after the subcommand's name. Must be called before the
/// program opens any descriptor: all but 0–2 are closed.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    crate::pty::spawn::close_inherited_descriptors();
    foreground(args)
}

/// As [`main`], inside a program that has done other things before; the server it starts inherits
/// what that program inherited. Logs to standard error.
pub fn foreground(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match KeeperOptions::parse(args) {
        Ok(options) => options,
        Err(error) => return complain(&error, ExitCode::from(2)),
    };
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr);
    if log.try_init().is_err() {
        tracing::debug!("logs go where the program sends them");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(options)),
        Err(source) => Err(KeeperError::System {
            action: "start the event loop",
            source,
        }),
    };
    match ended {
        Ok(_reason) => ExitCode::SUCCESS,
        Err(error @ KeeperError::AlreadyRunning { .. }) => {
            complain(&error, ExitCode::from(ALREADY_RUNNING_CODE))
        }
        Err(error) => complain(&error, ExitCode::from(4)),
    }
}

fn complain(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    let source = error
        .source()
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    // Without standard error there is nobody to tell.
    drop(writeln!(std::io::stderr(), "error: {error}{source}"));
    code
}

/// Runs a keeper until it is told to end. Needs a runtime of one thread.
pub async fn run(options: KeeperOptions) -> Result<ExitReason, KeeperError> {
    if options.session == Session::Detached && rustix::process::setsid().is_err() {
        tracing::debug!("the keeper leads its session already");
    }
    let system = |action| move |source| KeeperError::System { action, source };
    // First of all: whoever finds the socket may send one.
    let mut signals = Signals::new().map_err(system("receive signals"))?;
    let place = Place::take(&options.paths)?;
    platform::become_subreaper().map_err(system("adopt orphans"))?;
    let owner = place::owner(&options.paths)?;
    let data = options.paths.data.clone();
    let nonce = owner.nonce.clone();
    let swept = tokio::task::spawn_blocking(move || sweep_orphans(&data, Some(&nonce))).await;
    tracing::info!(
        pid = std::process::id(),
        swept = swept.unwrap_or(0),
        "the keeper runs"
    );

    let (gateway, address) = place::bind_gateway().map_err(system("open the gateway's socket"))?;
    let (zygote, mut heard) = Zygote::new();
    let server = ServerChild::new(options.server);
    let mut keeper = Keeper::new(owner, gateway, address, server, zygote);
    keeper.cgroups = Cgroups::claim(&keeper.owner.nonce);
    keeper.start_server();
    let reason = turn(&mut keeper, &place.listener, &mut signals, &mut heard).await;

    // Nothing that was adopted survives either; the sweep of the next keeper finds no more.
    let killed = tokio::task::spawn_blocking(kill_children)
        .await
        .unwrap_or(0);
    keeper.reap();
    tracing::info!(?reason, killed, "the keeper ends");
    // Connections close after this: whoever waits for that finds the place free.
    drop(place);
    drop(keeper);
    Ok(reason)
}

/// The loop.
async fn turn(
    keeper: &mut Keeper,
    listener: &UnixListener,
    signals: &mut Signals,
    heard: &mut mpsc::Receiver<Said>,
) -> ExitReason {
    let (requests, mut asked) = mpsc::channel(WAITING_REQUESTS);
    let mut accepted = 0;
    let Signals { child, end } = signals;
    loop {
        let deadline = keeper.next_deadline();
        if let Some(reason) = keeper.is_finished() {
            return reason;
        }
        tokio::select! {
            Some(asked) = asked.recv() => keeper.asked(asked).await,
            stream = listener.accept() => {
                accepted += 1;
                match stream {
                    Ok((stream, _)) => accept(keeper, stream, accepted, requests.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            Some(finished) = keeper.tasks.join_next() => keeper.joined(finished),
            Some(said) = heard.recv() => keeper.zygote_said(said),
            Some(()) = child.recv() => keeper.reap(),
            () = end.any() => keeper.shut_down(ExitReason::Signalled),
            () = until(deadline) => keeper.do_due(),
        }
    }
}

/// After a failed `accept` (out of descriptors) the same would happen again at once.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

fn accept(
    keeper: &mut Keeper,
    stream: UnixStream,
    number: u64,
    requests: mpsc::Sender<super::connection::Asked>,
) {
    let own = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
        tracing::warn!("a connection of another user is refused");
        return;
    }
    let (events, receiver) = mpsc::channel(WAITING_EVENTS);
    let task = keeper.tasks.spawn(async move {
        serve(stream, number, requests, receiver).await;
        Finished::Connection(number)
    });
    keeper.connections.insert(
        number,
        Connection {
            events,
            task,
            epoch: None,
        },
    );
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The signals that a keeper acts on.
struct Signals {
    child: Signal,
    end: EndSignals,
}

/// Those that mean the end.
struct EndSignals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let end = EndSignals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        };
        Ok(Self {
            child: signal(SignalKind::child())?,
            end,
        })
    }
}

impl EndSignals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}
