//! The server's side of the keeper's protocol: one method per request.
//!
//! Two tasks belong to a connection (one reads, one writes) and end with the last clone of the
//! client. Many requests may be under way; replies find their asker by number.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attach::AttachedPty;
use super::frame::{FrameReader, send_line};
use super::protocol::{
    Attached, Delivery, Event, FromKeeper, Gateway, JobExit, JobId, JobList, JobSignal, JobSpec,
    JobView, MAX_LINE, Refusal, RefusalKind, Request, Spawned, SquadLimits, UpgradeReport, Welcome,
    ZygoteSpec, ZygoteState, ZygoteView, decode_answer, decode_from_keeper, encode_request,
};
use crate::core::Epoch;

/// The keeper answers from memory; only a stopped machine takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Lines waiting to be written; askers wait when it is full. Each attached terminal reserves a
/// place, so that it can always be given back.
const OUTGOING: usize = 256;

/// Events waiting for the owner. When it is full the connection is given up, because a lost event
/// is worse: whoever connects again learns everything from `jobs`.
const EVENTS: usize = 1024;

/// What the keeper tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperEvent {
    /// A job ended and nothing is left of it.
    JobExited {
        /// Which job.
        job: JobId,
        /// How.
        exit: JobExit,
    },
    /// A job was forked and has a process now.
    JobStarted {
        /// Which job.
        job: JobId,
        /// Its process.
        pid: i32,
    },
    /// The zygote is in another state.
    Zygote(ZygoteState),
    /// The connection is lost; nothing follows. Either the keeper died, or a newer server is there.
    Disconnected,
}

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no keeper answers at {}", socket.display())]
    NoKeeper {
        /// Where it was looked for.
        socket: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The keeper refused.
    #[error("the keeper refused: {0}")]
    Refused(#[from] Refusal),
    /// The connection is lost.
    #[error("the connection to the keeper is lost")]
    Disconnected,
    /// No answer in time.
    #[error("the keeper did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// The answer, or the request, does not fit the protocol.
    #[error("a message does not fit the keeper's protocol: {0}")]
    Protocol(String),
    /// A received descriptor could not be used.
    #[error("a descriptor from the keeper cannot be used")]
    Descriptor(#[source] io::Error),
}

impl ClientError {
    /// The situation, if the keeper refused.
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            Self::NoKeeper { .. }
            | Self::Disconnected
            | Self::TimedOut
            | Self::Protocol(_)
            | Self::Descriptor(_) => None,
        }
    }
}

/// A connection to the keeper. Clones share it.
#[derive(Debug, Clone)]
pub struct KeeperClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<u8>>,
    next_id: AtomicU64,
    welcome: Welcome,
    events: Mutex<Option<mpsc::Receiver<KeeperEvent>>>,
    /// Owns the reading and the writing task; dropped, it ends them.
    _tasks: JoinSet<()>,
}

/// A request that can be sent at any moment without waiting; nobody waits for its answer.
#[derive(Debug)]
pub(super) struct Farewell {
    place: mpsc::OwnedPermit<Vec<u8>>,
    line: Vec<u8>,
}

impl Farewell {
    pub(super) fn send(self) {
        // What is returned is only another sender.
        drop(self.place.send(self.line));
    }
}

/// What the tasks share with the askers.
#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    lost: CancellationToken,
}

#[derive(Debug, Default)]
struct Pending {
    closed: bool,
    askers: HashMap<u64, oneshot::Sender<Answer>>,
}

type Answer = Result<(Value, Vec<OwnedFd>), Refusal>;

impl KeeperClient {
    /// Connects to the keeper at `socket` and says hello as the server of `epoch`.
    pub async fn connect(socket: &Path, epoch: Epoch) -> Result<Self, ClientError> {
        let no_keeper = |source| ClientError::NoKeeper {
            socket: socket.to_owned(),
            source,
        };
        let stream = Arc::new(UnixStream::connect(socket).await.map_err(no_keeper)?);
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            lost: CancellationToken::new(),
        });
        let (outgoing, lines) = mpsc::channel(OUTGOING);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let mut tasks = JoinSet::new();
        tasks.spawn(write_lines(Arc::clone(&stream), lines, Arc::clone(&shared)));
        tasks.spawn(read_lines(stream, Arc::clone(&shared), event_sender));

        let hello = Request::Hello { epoch };
        let answer = ask(&shared, &outgoing, 0, &hello).await?;
        let welcome = decode_answer(answer.0).map_err(protocol)?;
        let inner = Inner {
            shared,
            outgoing,
            next_id: AtomicU64::new(1),
            welcome,
            events: Mutex::new(Some(events)),
            _tasks: tasks,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the keeper said about itself.
    pub fn welcome(&self) -> &Welcome {
        &self.inner.welcome
    }

    /// The stream of events, once: the second call returns `None`.
    pub fn take_events(&self) -> Option<mpsc::Receiver<KeeperEvent>> {
        lock(&self.inner.events).take()
    }

    /// Returns when the connection is lost.
    pub async fn disconnected(&self) {
        self.inner.shared.lost.cancelled().await;
    }

    /// Starts a job, or returns the one that has this id (ended or not).
    pub async fn spawn(&self, spec: JobSpec) -> Result<Spawned, ClientError> {
        self.answer(&Request::Spawn(Box::new(spec))).await
    }

    /// Every job that was not forgotten, in the order they were started.
    pub async fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        Ok(self.answer::<JobList>(&Request::Jobs {}).await?.jobs)
    }

    /// Takes over reading a job's terminal; the keeper stops first. Also possible after the job
    /// has ended, to read what is left.
    pub async fn attach(&self, id: &str) -> Result<AttachedPty, ClientError> {
        let reserved = self.inner.outgoing.clone().reserve_owned();
        let farewell = tokio::time::timeout(ANSWER_TIMEOUT, reserved).await;
        let farewell = farewell
            .map_err(|_elapsed| ClientError::TimedOut)?
            .map_err(|_closed| ClientError::Disconnected)?;
        let request = Request::Attach { id: id.to_owned() };
        let (answer, fds) = self.ask(&request).await?;
        let attached: Attached = decode_answer(answer).map_err(protocol)?;
        let [master, ring] = exactly(fds)?;
        let detach = Request::Detach { id: id.to_owned() };
        let farewell = Farewell {
            place: farewell,
            line: self.encode(&detach)?,
        };
        AttachedPty::new(self.clone(), farewell, (master, ring), attached)
            .map_err(ClientError::Descriptor)
    }

    /// Types `bytes` into a job's terminal. Returns when they are in the keeper's queue.
    pub async fn write(&self, id: &str, bytes: &[u8]) -> Result<(), ClientError> {
        self.done(&Request::Write {
            id: id.to_owned(),
            bytes: bytes.to_vec(),
        })
        .await
    }

    /// Types `bytes` into a job's terminal unless `key` was delivered to this job before.
    pub async fn deliver(
        &self,
        id: &str,
        key: &str,
        bytes: &[u8],
    ) -> Result<Delivery, ClientError> {
        let (id, key, bytes) = (id.to_owned(), key.to_owned(), bytes.to_vec());
        self.answer(&Request::Deliver { id, key, bytes }).await
    }

    /// Changes the size of a job's terminal.
    pub async fn resize(&self, id: &str, cols: u16, rows: u16) -> Result<(), ClientError> {
        self.done(&Request::Resize {
            id: id.to_owned(),
            cols,
            rows,
        })
        .await
    }

    /// Sends a signal to a job's process group.
    pub async fn signal(&self, id: &str, signal: JobSignal) -> Result<(), ClientError> {
        self.done(&Request::Signal {
            id: id.to_owned(),
            signal,
        })
        .await
    }

    /// Begins to end a job: `signal` now, a kill after `grace`. Returns at once; the end comes as
    /// [`KeeperEvent::JobExited`]. A job that has ended already is fine.
    pub async fn stop(
        &self,
        id: &str,
        signal: JobSignal,
        grace: Duration,
    ) -> Result<(), ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.done(&Request::Stop {
            id: id.to_owned(),
            signal,
            grace_ms,
        })
        .await
    }

    /// Drops an ended job with its ring. Unknown ids are fine; a running job is refused.
    pub async fn forget(&self, id: &str) -> Result<(), ClientError> {
        self.done(&Request::Forget { id: id.to_owned() }).await
    }

    /// Replaces a job's metadata.
    pub async fn set_meta(&self, id: &str, meta: &str) -> Result<(), ClientError> {
        self.done(&Request::SetMeta {
            id: id.to_owned(),
            meta: meta.to_owned(),
        })
        .await
    }

    /// The gateway's listening socket, non-blocking, ready for tokio's `from_std`.
    pub async fn gateway(&self) -> Result<TcpListener, ClientError> {
        let (answer, fds) = self.ask(&Request::Gateway {}).await?;
        decode_answer::<Gateway>(answer).map_err(protocol)?;
        let [listener] = exactly(fds)?;
        let listener = TcpListener::from(listener);
        listener
            .set_nonblocking(true)
            .map_err(ClientError::Descriptor)?;
        Ok(listener)
    }

    /// Has a zygote of this kind kept; what is known of it now.
    pub async fn zygote(&self, spec: ZygoteSpec) -> Result<ZygoteState, ClientError> {
        let view: ZygoteView = self.answer(&Request::Zygote(Box::new(spec))).await?;
        Ok(view.state)
    }

    /// Asks the keeper to stop the server, all jobs and itself. Returns when it has begun.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.done(&Request::Shutdown {}).await
    }

    /// Lets another program be the server; this one is told to end afterwards.
    pub async fn upgrade(&self, program: &Path) -> Result<(), ClientError> {
        let program = program.to_owned();
        self.done(&Request::Upgrade { program }).await
    }

    /// What all jobs may use together from now on, where the kernel enforces it.
    pub async fn limit(&self, limits: SquadLimits) -> Result<(), ClientError> {
        self.done(&Request::Limit(limits)).await
    }

    /// Says that this server serves.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.done(&Request::Ready {}).await
    }

    /// How the last upgrade went.
    pub async fn upgraded(&self) -> Result<UpgradeReport, ClientError> {
        self.answer(&Request::Upgraded {}).await
    }

    fn encode(&self, request: &Request) -> Result<Vec<u8>, ClientError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        encode_request(id, request).map_err(protocol)
    }

    async fn done(&self, request: &Request) -> Result<(), ClientError> {
        self.ask(request).await.map(drop)
    }

    async fn answer<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        decode_answer(self.ask(request).await?.0).map_err(protocol)
    }

    async fn ask(&self, request: &Request) -> Result<(Value, Vec<OwnedFd>), ClientError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        ask(&self.inner.shared, &self.inner.outgoing, id, request).await
    }
}

async fn ask(
    shared: &Shared,
    outgoing: &mpsc::Sender<Vec<u8>>,
    id: u64,
    request: &Request,
) -> Result<(Value, Vec<OwnedFd>), ClientError> {
    let line = encode_request(id, request).map_err(protocol)?;
    if line.len() > MAX_LINE {
        return Err(protocol(format!(
            "a request of {} bytes is too long",
            line.len()
        )));
    }
    let answer = shared.expect(id)?;
    let exchange = async {
        outgoing
            .send(line)
            .await
            .map_err(|_closed| ClientError::Disconnected)?;
        answer.await.map_err(|_dropped| ClientError::Disconnected)
    };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    Ok(answered.map_err(|_elapsed| ClientError::TimedOut)???)
}

impl Shared {
    fn expect(&self, id: u64) -> Result<oneshot::Receiver<Answer>, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = lock(&self.pending);
        if pending.closed {
            return Err(ClientError::Disconnected);
        }
        pending.askers.insert(id, sender);
        Ok(receiver)
    }

    fn close(&self) {
        let mut pending = lock(&self.pending);
        pending.closed = true;
        pending.askers.clear();
        drop(pending);
        self.lost.cancel();
    }
}

async fn write_lines(
    stream: Arc<UnixStream>,
    mut lines: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    while let Some(line) = lines.recv().await {
        if send_line(&stream, &line, &[]).await.is_err() {
            break;
        }
    }
    shared.close();
}

async fn read_lines(
    stream: Arc<UnixStream>,
    shared: Arc<Shared>,
    events: mpsc::Sender<KeeperEvent>,
) {
    let mut reader = FrameReader::new(MAX_LINE);
    while let Ok(Some(line)) = reader.next_line(&stream).await {
        match decode_from_keeper(&line) {
            Ok(FromKeeper::Reply { id, result, fds }) => {
                let fds = reader.take_fds(fds);
                let asker = lock(&shared.pending).askers.remove(&id);
                // An asker that gave up is no longer interested, and its descriptors are closed.
                drop(asker.map(|asker| asker.send(result.map(|ok| (ok, fds)))));
            }
            Ok(FromKeeper::Event(event)) => {
                let event = match event {
                    Event::JobExited { job, exit } => KeeperEvent::JobExited { job, exit },
                    Event::JobStarted { job, pid } => KeeperEvent::JobStarted { job, pid },
                    Event::Zygote { zygote } => KeeperEvent::Zygote(zygote),
                };
                if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event) {
                    tracing::warn!(
                        "{EVENTS} events wait: the connection to the keeper is given up"
                    );
                    break;
                }
            }
            Ok(FromKeeper::UnknownEvent) => {}
            Err(error) => {
                tracing::warn!(%error, "the connection to the keeper is given up");
                break;
            }
        }
    }
    shared.close();
    // Waits for room, so that the owner is certain to hear of it unless it has stopped listening.
    drop(events.send(KeeperEvent::Disconnected).await);
}

fn exactly<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], ClientError> {
    let count = fds.len();
    let wrong = |_| protocol(format!("{N} descriptors were expected, {count} came"));
    fds.try_into().map_err(wrong)
}

fn protocol(error: impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
