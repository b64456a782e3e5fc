//! One connection of a server (or a test) to the keeper.
//!
//! Requests of one connection are answered one after the other, so an answer never waits in a
//! queue; a peer that does not read its answers holds up only itself.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::frame::{FrameError, FrameReader, send_line};
use super::protocol::{
    Event, MAX_LINE, Numbered, Refusal, RefusalKind, Request, decode_request, encode_event,
    encode_reply,
};

/// What is answered to a request: the `ok` part and the descriptors that go with it.
pub(super) type Answer = Result<(Value, Vec<OwnedFd>), Refusal>;

/// A request on its way to the keeper's loop.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) connection: u64,
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Serves the connection until either side ends it.
pub(super) async fn serve(
    stream: UnixStream,
    connection: u64,
    requests: mpsc::Sender<Asked>,
    mut events: mpsc::Receiver<Event>,
) {
    let mut reader = FrameReader::new(MAX_LINE);
    loop {
        let sent = tokio::select! {
            line = reader.next_line(&stream) => match line {
                Ok(Some(line)) => answer(&stream, connection, &requests, &line).await,
                Ok(None) => return,
                Err(FrameError::Io(error)) => Err(error),
                Err(error @ FrameError::LineTooLong { .. }) => {
                    let refusal = Refusal::new(RefusalKind::BadRequest, error.to_string());
                    // There is no way to find the next line: say why, and end.
                    drop(reply(&stream, 0, Err(refusal)).await);
                    return;
                }
            },
            event = events.recv() => match event {
                Some(event) => report(&stream, &event).await,
                None => return,
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, connection, "a connection ends");
            return;
        }
    }
}

async fn answer(
    stream: &UnixStream,
    connection: u64,
    requests: &mpsc::Sender<Asked>,
    line: &[u8],
) -> std::io::Result<()> {
    let Numbered { id, request } = match decode_request(line) {
        Ok(numbered) => numbered,
        Err((id, refusal)) => return reply(stream, id, Err(refusal)).await,
    };
    let gone = || Refusal::new(RefusalKind::ShuttingDown, "the keeper is about to end");
    let (sender, receiver) = oneshot::channel();
    let asked = Asked {
        connection,
        request,
        answer: sender,
    };
    let result = match requests.send(asked).await {
        Ok(()) => receiver.await.unwrap_or_else(|_dropped| Err(gone())),
        Err(_closed) => Err(gone()),
    };
    reply(stream, id, result).await
}

async fn reply(stream: &UnixStream, id: u64, answer: Answer) -> std::io::Result<()> {
    let (result, fds) = match answer {
        Ok((ok, fds)) => (Ok(ok), fds),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    send_line(stream, &encode_reply(id, &result, fds.len())?, &borrowed).await
}

async fn report(stream: &UnixStream, event: &Event) -> std::io::Result<()> {
    send_line(stream, &encode_event(event)?, &[]).await
}
