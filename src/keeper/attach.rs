//! Reading a job's terminal while the keeper does not.
//!
//! Invariant: bytes are in the ring before the caller sees them, so whatever happens next, the
//! next reader finds them there.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::client::{Farewell, KeeperClient};
use super::platform;
use super::protocol::Attached;
use super::ring::Ring;

/// Pty reads return about 4 KiB whatever is offered; a few of them fit.
const READ_SIZE: usize = 16 << 10;

/// The reading end of a job's terminal. Dropping it gives reading back to the keeper; a later
/// request of the same client finds that done.
#[derive(Debug)]
pub struct AttachedPty {
    client: KeeperClient,
    farewell: Option<Farewell>,
    master: AsyncFd<OwnedFd>,
    ring: Ring,
    attached: Attached,
    buffer: Vec<u8>,
}

impl AttachedPty {
    pub(super) fn new(
        client: KeeperClient,
        farewell: Farewell,
        (master, ring): (OwnedFd, OwnedFd),
        attached: Attached,
    ) -> io::Result<Self> {
        Ok(Self {
            client,
            farewell: Some(farewell),
            master: platform::watch(master, Interest::READABLE)?,
            ring: Ring::from_fd(ring)?,
            attached,
            buffer: vec![0; READ_SIZE],
        })
    }

    /// Cursor and size at the moment of attaching.
    pub fn attached(&self) -> Attached {
        self.attached
    }

    /// What the terminal said before, as far as it is kept: the cursor of the first byte, and the
    /// bytes. After reading has begun it contains what was read, too.
    pub fn history(&self) -> io::Result<(u64, Vec<u8>)> {
        self.ring.read_all()
    }

    /// The ring's cursor now: every byte before it was returned by [`Self::read`] or is part of
    /// [`Self::history`].
    pub fn cursor(&self) -> io::Result<u64> {
        self.ring.cursor()
    }

    /// The next bytes; `None` when the job has ended and everything was read. Cancel-safe.
    ///
    /// Fails with `ConnectionAborted` when the connection to the keeper is lost: reading is the
    /// keeper's, or another server's, from then on.
    pub async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let count = tokio::select! {
            biased;
            () = self.client.disconnected() => {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "the connection to the keeper is lost",
                ));
            }
            count = read_some(&mut self.master, &mut self.buffer) => count?,
        };
        let Some(count) = count else { return Ok(None) };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        self.ring.append(bytes)?;
        Ok(Some(Bytes::copy_from_slice(bytes)))
    }
}

impl Drop for AttachedPty {
    fn drop(&mut self) {
        if let Some(farewell) = self.farewell.take() {
            farewell.send();
        }
    }
}

/// Reads from a pty's master once there is something; `None` when the other side is closed and
/// everything was read (`EIO` on Linux, nothing on macOS). Cancel-safe: nothing is awaited between
/// the read and the return.
pub(super) async fn read_some(
    master: &mut AsyncFd<OwnedFd>,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    loop {
        // A job that never stops talking would otherwise never let go of the thread.
        tokio::task::coop::consume_budget().await;
        let mut ready = master.readable().await?;
        let is_closed = ready.ready().is_read_closed();
        match ready.try_io(|master| Ok(rustix::io::read(master, &mut *buffer)?)) {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(count)) => return Ok(Some(count)),
            Ok(Err(error)) if is_end(&error) => return Ok(None),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            // Tokio remembers a hang-up for ever, although a terminal can be opened again.
            Err(_would_block) if is_closed => {
                *master = platform::watch(master.get_ref().try_clone()?, Interest::READABLE)?;
            }
            Err(_would_block) => {}
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
