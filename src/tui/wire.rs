//! What goes over an attached connection: typed events up, frames of terminal bytes down.
//!
//! Up: JSON lines, a [`ClientHello`] first, then [`ClientMessage`]s.
//! Down: frames `[kind u8][length u32 LE][payload]`, see [`ServerFrame`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossterm::event::Event;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
};

use crate::pty::Size;

/// Longest line a client may send: a paste of 10 MB, escaped.
pub const LINE_MAX: usize = 32 * 1024 * 1024;

/// Longest payload of a frame.
pub const FRAME_MAX: usize = 16 * 1024 * 1024;

/// What a client says of itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientHello {
    /// Size of its terminal.
    pub size: Size,
    /// `TERM`.
    pub term: String,
    /// `COLORTERM`.
    pub colorterm: Option<String>,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// The locale is UTF-8.
    pub utf8: bool,
    /// Where it was started; new tasks are for the repository around it.
    pub cwd: PathBuf,
    /// The user's name, for the record.
    pub user: String,
    /// `PATH` and the chosen environment, for verify commands of tasks submitted here.
    pub env: BTreeMap<String, String>,
}

impl Default for ClientHello {
    fn default() -> Self {
        Self {
            size: Size::new(80, 24),
            term: String::new(),
            colorterm: None,
            no_color: false,
            utf8: true,
            cwd: PathBuf::new(),
            user: String::new(),
            env: BTreeMap::new(),
        }
    }
}

/// What a client sends after its hello.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientMessage {
    /// A key, a paste, the mouse, focus or a new size.
    Event(Event),
    /// Its terminal shows something else now (it was suspended): draw everything again.
    Redraw {
        /// Size of its terminal.
        size: Size,
    },
}

/// Why an attached client ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum ExitReason {
    /// The user detached; work goes on.
    Detached,
    /// The server stops.
    ServerStopping,
    /// The connection broke without a word: the server is gone, another one is coming.
    ConnectionLost,
    /// The client got SIGTERM or SIGHUP.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The client's own terminal is gone.
    TerminalLost,
}

/// One frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame {
    /// Bytes for the terminal.
    Bytes(Vec<u8>),
    /// The end, and why.
    Exit(ExitReason),
    /// Stop as a job of the shell; send [`ClientMessage::Redraw`] when continued.
    Suspend,
    /// Text for the clipboard.
    Clipboard(String),
}

const BYTES: u8 = 1;
const EXIT: u8 = 2;
const SUSPEND: u8 = 3;
const CLIPBOARD: u8 = 4;

/// What can be wrong with what the other side sends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// It ended before a hello came.
    #[error("the client went away before it said hello")]
    NoHello,
    /// A line is not what it should be.
    #[error("a message cannot be read")]
    BadMessage(#[from] serde_json::Error),
    /// A frame of a kind that does not exist, or too long.
    #[error("a frame of kind {kind} with {length} bytes is not understood")]
    BadFrame {
        /// Its kind.
        kind: u8,
        /// Its length.
        length: usize,
    },
}

/// Reads a client's hello; what it sent after that stays in `io`'s buffer.
pub async fn read_hello(io: &mut (impl AsyncBufRead + Unpin)) -> Result<ClientHello, WireError> {
    let mut line = Vec::new();
    let mut limited = io.take(1024 * 1024);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Err(WireError::NoHello);
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Writes one JSON line.
pub async fn write_line<T: Serialize + Sync>(
    io: &mut (impl AsyncWrite + Unpin + Send),
    message: &T,
) -> Result<(), WireError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    io.write_all(&line).await?;
    io.flush().await?;
    Ok(())
}

/// Writes one frame, in one piece.
pub async fn write_frame(
    io: &mut (impl AsyncWrite + Unpin + Send),
    frame: &ServerFrame,
) -> Result<(), WireError> {
    let (kind, payload) = match frame {
        ServerFrame::Bytes(bytes) => (BYTES, bytes.clone()),
        ServerFrame::Exit(reason) => (EXIT, serde_json::to_vec(reason)?),
        ServerFrame::Suspend => (SUSPEND, Vec::new()),
        ServerFrame::Clipboard(text) => (CLIPBOARD, text.clone().into_bytes()),
    };
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= FRAME_MAX)
        .ok_or(WireError::BadFrame {
            kind,
            length: payload.len(),
        })?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload);
    io.write_all(&bytes).await?;
    io.flush().await?;
    Ok(())
}

/// Reads one frame; `None` when the connection ended between two.
pub async fn read_frame(
    io: &mut (impl AsyncRead + Unpin + Send),
) -> Result<Option<ServerFrame>, WireError> {
    let mut header = [0; 5];
    if io.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    io.read_exact(&mut header[1..]).await?;
    let [kind, length @ ..] = header;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        return Err(WireError::BadFrame { kind, length });
    }
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    let frame = match kind {
        BYTES => ServerFrame::Bytes(payload),
        EXIT => ServerFrame::Exit(serde_json::from_slice(&payload)?),
        SUSPEND => ServerFrame::Suspend,
        CLIPBOARD => ServerFrame::Clipboard(String::from_utf8_lossy(&payload).into_owned()),
        kind => return Err(WireError::BadFrame { kind, length }),
    };
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    #[tokio::test]
    async fn frames_and_messages_survive_the_wire() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let frames = vec![
            ServerFrame::Bytes(vec![0x1b; 1000]),
            ServerFrame::Suspend,
            ServerFrame::Clipboard("é\n".into()),
            ServerFrame::Exit(ExitReason::Signalled { signal: 15 }),
        ];
        let sent = frames.clone();
        let write = async move {
            for frame in &sent {
                write_frame(&mut near, frame).await.unwrap();
            }
        };
        let read = async {
            let mut got = Vec::new();
            while let Some(frame) = read_frame(&mut far).await.unwrap() {
                got.push(frame);
            }
            got
        };
        let ((), got) = tokio::join!(write, read);
        assert_eq!(got, frames);
    }

    #[tokio::test]
    async fn a_frame_that_claims_gigabytes_is_refused_before_any_memory_is_taken() {
        let mut bytes: &[u8] = &[BYTES, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            read_frame(&mut bytes).await,
            Err(WireError::BadFrame { .. })
        ));
    }

    #[tokio::test]
    async fn a_hello_leaves_what_follows_in_the_buffer() {
        let hello = ClientHello {
            no_color: true,
            ..ClientHello::default()
        };
        let event = ClientMessage::Event(Event::Key(KeyEvent::new(
            KeyCode::Char('é'),
            KeyModifiers::ALT,
        )));
        let mut sent = Vec::new();
        write_line(&mut sent, &hello).await.unwrap();
        write_line(&mut sent, &event).await.unwrap();
        let mut io: &[u8] = &sent;
        assert_eq!(read_hello(&mut io).await.unwrap(), hello);
        assert_eq!(serde_json::from_slice::<ClientMessage>(io).unwrap(), event);
        assert!(matches!(
            read_hello(&mut &b""[..]).await,
            Err(WireError::NoHello)
        ));
    }
}
