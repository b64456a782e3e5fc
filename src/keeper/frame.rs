//! Lines over a Unix socket, with descriptors beside them.
//!
//! The kernel hands descriptors over with the first byte of the line they were sent with, and
//! never lets one `recvmsg` reach past them. Both ends therefore keep them in one queue: a line
//! that says `fds: 2` takes the two oldest.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Bytes, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage, recvmsg,
    sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::platform;

/// Descriptors that one line may carry.
const MAX_FDS: usize = 4;
const READ_SIZE: usize = 64 << 10;

/// Why no line came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// No newline within the limit: whoever is there does not speak the protocol.
    #[error("a line is longer than {limit} bytes")]
    LineTooLong { limit: usize },
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// Takes lines and descriptors off one socket.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no newline.
    searched: usize,
    fds: VecDeque<OwnedFd>,
    limit: usize,
}

impl FrameReader {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            fds: VecDeque::new(),
            limit,
        }
    }

    /// The next line without its newline; `None` when the other side is gone. Cancel-safe.
    pub(super) async fn next_line(
        &mut self,
        stream: &UnixStream,
    ) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, || self.receive(stream.as_fd())) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The oldest `count` descriptors that arrived; fewer if the sender promised too much.
    pub(super) fn take_fds(&mut self, count: usize) -> Vec<OwnedFd> {
        self.fds.drain(..count.min(self.fds.len())).collect()
    }

    fn take_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
            let mut line = self.buffer.split_to(self.searched + at + 1);
            line.truncate(line.len() - 1);
            self.searched = 0;
            return Ok(Some(line.freeze()));
        }
        self.searched = self.buffer.len();
        if self.searched > self.limit {
            return Err(FrameError::LineTooLong { limit: self.limit });
        }
        Ok(None)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let old = self.buffer.len();
        self.buffer.resize(old + READ_SIZE, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let target = self.buffer.get_mut(old..).unwrap_or_default();
        let received = recvmsg(
            socket,
            &mut [IoSliceMut::new(target)],
            &mut control,
            platform::RECV_FLAGS,
        );
        self.buffer
            .truncate(old + received.as_ref().map_or(0, |message| message.bytes));
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(received?.bytes)
    }
}

/// Sends a whole line, `fds` with its first byte.
pub(super) async fn send_line(
    stream: &UnixStream,
    line: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut rest = line;
    let mut fds = fds;
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_io(Interest::WRITABLE, || send(stream.as_fd(), rest, fds)) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                fds = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        platform::SEND_FLAGS,
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;

    #[tokio::test]
    async fn lines_and_their_descriptors_stay_together() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"through the socket").unwrap();
        send_line(&ours, b"first\n", &[]).await.unwrap();
        send_line(&ours, b"second\n", &[file.as_fd()])
            .await
            .unwrap();
        send_line(&ours, b"third\n", &[]).await.unwrap();

        let mut reader = FrameReader::new(100);
        assert_eq!(reader.next_line(&theirs).await.unwrap().unwrap(), "first");
        assert_eq!(reader.next_line(&theirs).await.unwrap().unwrap(), "second");
        let mut received: Vec<File> = reader.take_fds(1).into_iter().map(File::from).collect();
        assert_eq!(reader.next_line(&theirs).await.unwrap().unwrap(), "third");
        let mut text = String::new();
        received[0].seek(SeekFrom::Start(0)).unwrap();
        received[0].read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the socket");
        drop(ours);
        assert!(reader.next_line(&theirs).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_at_the_limit() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_line(&ours, &[b'x'; 101], &[]).await.unwrap();
        let mut reader = FrameReader::new(100);
        let error = reader.next_line(&theirs).await.unwrap_err();
        assert!(matches!(error, FrameError::LineTooLong { limit: 100 }));
    }

    #[tokio::test]
    async fn a_line_far_larger_than_the_socket_buffer_arrives_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut line = vec![b'y'; 3 << 20];
        line.push(b'\n');
        let mut reader = FrameReader::new(4 << 20);
        let (sent, received) =
            tokio::join!(send_line(&ours, &line, &[]), reader.next_line(&theirs));
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap().len(), 3 << 20);
    }
}
