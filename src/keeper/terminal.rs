//! A job's terminal on the keeper's side: who reads it, and what waits to be typed.
//!
//! One reader: the task that copies output into the ring runs only while no server is attached.
//! Input is typed by one task in the order it was asked for, so nothing interleaves and a job that
//! does not read holds up nobody but itself. Neither task wakes up while nothing happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::attach::read_some;
use super::platform;
use super::protocol::{MAX_PENDING_INPUT, Refusal, RefusalKind};
use super::ring::Ring;
use crate::pty::Size;
use crate::pty::spawn::resize;

/// Pieces of input that may wait; one more is refused, as when `MAX_PENDING_INPUT` is reached.
const PENDING_PIECES: usize = 1024;
const READ_SIZE: usize = 16 << 10;

/// The keeper's side of a pty.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    ring: Arc<Ring>,
    size: Size,
    reader: JoinSet<()>,
    input: mpsc::Sender<Vec<u8>>,
    /// Bytes that were accepted and not yet typed.
    pending: Arc<AtomicUsize>,
    /// Owns the typing task.
    _typist: JoinSet<()>,
}

impl Terminal {
    /// Takes over a pty and begins to read it.
    pub(super) fn new(master: OwnedFd, size: Size) -> io::Result<Self> {
        let (input, pieces) = mpsc::channel(PENDING_PIECES);
        let pending = Arc::new(AtomicUsize::new(0));
        let mut typist = JoinSet::new();
        typist.spawn(type_all(master.try_clone()?, pieces, Arc::clone(&pending)));
        let ring = Arc::new(Ring::create()?);
        let reader = JoinSet::new();
        let mut terminal = Self {
            master,
            ring,
            size,
            reader,
            input,
            pending,
            _typist: typist,
        };
        terminal.resume()?;
        Ok(terminal)
    }

    /// The size as it was last set.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// The ring's cursor.
    pub(super) fn cursor(&self) -> io::Result<u64> {
        self.ring.cursor()
    }

    /// Reads into the ring from now on, until the job has ended or reading is handed over.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.reader.abort_all();
        let master = platform::watch(self.master.try_clone()?, Interest::READABLE)?;
        let ring = Arc::clone(&self.ring);
        self.reader.spawn(async move {
            if let Err(error) = copy(master, &ring).await {
                tracing::warn!(%error, "reading a terminal ends");
            }
        });
        Ok(())
    }

    /// Stops reading and returns the master and the ring for whoever reads next.
    pub(super) async fn hand_over(&mut self) -> io::Result<Vec<OwnedFd>> {
        self.reader.shutdown().await;
        Ok(vec![
            self.master.try_clone()?,
            self.ring.as_fd().try_clone_to_owned()?,
        ])
    }

    /// Changes the size.
    pub(super) fn resize(&mut self, size: Size) -> io::Result<()> {
        resize(self.master.as_fd(), size)?;
        self.size = size.clamped();
        Ok(())
    }

    /// Puts `bytes` into the queue of what is to be typed.
    pub(super) fn write(&self, bytes: Vec<u8>) -> Result<(), Refusal> {
        let full = || {
            let message = format!("{MAX_PENDING_INPUT} bytes wait to be typed already");
            Refusal::new(RefusalKind::QueueFull, message)
        };
        let count = bytes.len();
        if self.pending.load(Ordering::Relaxed).saturating_add(count) > MAX_PENDING_INPUT {
            return Err(full());
        }
        // Counted first: the typing task may be faster than this one.
        self.pending.fetch_add(count, Ordering::Relaxed);
        self.input.try_send(bytes).map_err(|error| {
            self.pending.fetch_sub(count, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => full(),
                mpsc::error::TrySendError::Closed(_) => {
                    Refusal::new(RefusalKind::JobEnded, "the job's terminal is closed")
                }
            }
        })
    }
}

/// Copies output into the ring until the other side is closed.
async fn copy(mut master: AsyncFd<OwnedFd>, ring: &Ring) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    while let Some(count) = read_some(&mut master, &mut buffer).await? {
        ring.append(buffer.get(..count).unwrap_or_default())?;
    }
    Ok(())
}

/// Types one piece after the other; ends when the terminal is closed.
async fn type_all(master: OwnedFd, mut pieces: mpsc::Receiver<Vec<u8>>, pending: Arc<AtomicUsize>) {
    while let Some(piece) = pieces.recv().await {
        if let Err(error) = type_one(&master, &piece).await {
            tracing::debug!(%error, "typing into a terminal ends");
            return;
        }
        pending.fetch_sub(piece.len(), Ordering::Relaxed);
    }
}

/// Watches the descriptor only while the terminal takes no more, so that an idle one costs nothing.
async fn type_one(master: &OwnedFd, piece: &[u8]) -> io::Result<()> {
    let mut rest = write_some(master, piece)?;
    if rest.is_empty() {
        return Ok(());
    }
    let watched = platform::watch(master.try_clone()?, Interest::WRITABLE)?;
    while !rest.is_empty() {
        // A job that reads without end would otherwise never let go of the thread.
        tokio::task::coop::consume_budget().await;
        let mut ready = watched.writable().await?;
        let before = rest.len();
        rest = write_some(master, rest)?;
        if rest.len() < before {
            continue;
        }
        // Nobody reads this any more. A full terminal without a reader says "try again" for ever.
        if ready.ready().is_write_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        ready.clear_ready();
    }
    Ok(())
}

/// Writes once; returns what the terminal did not take.
fn write_some<'a>(master: &OwnedFd, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    match rustix::io::write(master, bytes) {
        Ok(count) => Ok(bytes.get(count..).unwrap_or_default()),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(bytes),
        Err(error) => Err(error.into()),
    }
}
