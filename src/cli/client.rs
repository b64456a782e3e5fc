//! The local API's client: HTTP/1.1 with JSON over the server's Unix socket.
//!
//! One connection a question: it costs well under a millisecond and nothing has to be kept alive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::report::Report;
use crate::api::wire::{Actor, ActorKind, Command, Refusal, Reply, View};
use crate::core::command::Request as Asked;

/// A server that is alive accepts at once.
const CONNECT: Duration = Duration::from_secs(5);

/// Views and lists come from memory.
const ANSWER: Duration = Duration::from_secs(60);

/// A command is answered after its effect; a merge may run the user's hooks.
const EFFECT: Duration = Duration::from_secs(900);

/// Longest line of a stream: one view of the whole squad.
const LONGEST_LINE: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("no squad is running at {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket cannot be used.
    #[error("the squad's socket {} cannot be used: {}", .0.display(), .1)]
    Socket(PathBuf, std::io::Error),
    /// The connection ended before the answer was complete.
    #[error("the squad's server went away")]
    Lost,
    /// No answer in time.
    #[error("the squad's server did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The squad said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The answer makes no sense.
    #[error("the squad's answer is not understood: {0}")]
    Odd(String),
}

impl CallError {
    /// A server that restarts looks like this for a moment.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotRunning(_) | Self::Lost)
    }
}

impl From<CallError> for Report {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NotRunning(_) => {
                Self::unavailable(text).hint("'warpsquad server' starts one")
            }
            CallError::Socket(..) => {
                Self::unavailable(text).hint("name the right one with --socket or --data-dir")
            }
            CallError::Lost => Self::unavailable(text)
                .hint("it starts again by itself; 'warpsquad status' shows how it is"),
            CallError::Silent(_) => {
                Self::unavailable(text).hint("its log is in the data directory, below log/")
            }
            CallError::Refused(refusal) => refusal.into(),
            CallError::Odd(_) => Self::internal(text)
                .hint("client and server may differ in version: 'warpsquad stop', then again"),
        }
    }
}

/// A client of one squad.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the squad at `socket`; nothing is opened yet.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Whether a server answers. One that is being killed takes connections to its last moment, and
    /// answers none of them.
    pub async fn is_running(&self) -> bool {
        let asked = self.exchange(Method::GET, "/v1/alive", Vec::new(), CONNECT);
        // A server of a former version refuses this: also an answer.
        matches!(
            asked.await,
            Ok(_) | Err(CallError::Refused(_) | CallError::Odd(_))
        )
    }

    /// Whether nobody listens any more.
    pub async fn is_gone(&self) -> bool {
        self.connect().await.is_err()
    }

    /// Asks the squad to do something.
    pub async fn command(&self, command: Command) -> Result<Reply, CallError> {
        let name = std::env::var("USER").unwrap_or_else(|_| "command line".into());
        let by = Actor {
            kind: ActorKind::Cli,
            name,
        };
        self.post("/v1/command", &Asked { by, command }).await
    }

    /// Posts a document and reads the answering one.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Odd(error.to_string()))?;
        let bytes = self.call(Method::POST, path, body, EFFECT).await?;
        // An answer without content stands for `null`.
        let bytes = if bytes.is_empty() {
            Bytes::from_static(b"null")
        } else {
            bytes
        };
        serde_json::from_slice(&bytes).map_err(|error| CallError::Odd(error.to_string()))
    }

    /// Reads a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let bytes = self.call(Method::GET, path, Vec::new(), ANSWER).await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Odd(error.to_string()))
    }

    /// Reads plain text.
    pub async fn text(&self, path: &str) -> Result<String, CallError> {
        let bytes = self.call(Method::GET, path, Vec::new(), ANSWER).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The squad as it is.
    pub async fn view(&self) -> Result<View, CallError> {
        self.get("/v1/view").await
    }

    /// The same after a look at its endpoints, which otherwise rest while there is no work.
    pub async fn fresh_view(&self) -> Result<View, CallError> {
        self.get("/v1/view?look=true").await
    }

    /// The squad as it is and after every change.
    pub async fn watch(&self) -> Result<Watch, CallError> {
        let exchange = self
            .exchange(Method::GET, "/v1/watch", Vec::new(), ANSWER)
            .await?;
        Ok(Watch {
            exchange,
            buffer: Vec::new(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let exchange = self.exchange(method, path, body, limit).await?;
        exchange.read(limit).await
    }

    /// Sends a request; an error status becomes the refusal in its body.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Exchange, CallError> {
        let stream = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(lost)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A failing connection is seen by whoever waits for the answer.
            drop(connection.await);
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "squad")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CallError::Odd(error.to_string()))?;
        let response = timeout(limit, sender.send_request(request))
            .await
            .map_err(|_elapsed| CallError::Silent(limit))?
            .map_err(lost)?;
        let status = response.status();
        let exchange = Exchange {
            response,
            _driver: driver,
        };
        if status.is_success() {
            return Ok(exchange);
        }
        let bytes = exchange.read(limit).await?;
        Err(refusal(status, &bytes))
    }

    async fn connect(&self) -> Result<UnixStream, CallError> {
        use std::io::ErrorKind;
        let connected = timeout(CONNECT, UnixStream::connect(&self.socket)).await;
        match connected {
            Err(_) => Err(CallError::Silent(CONNECT)),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    Err(CallError::NotRunning(self.socket.clone()))
                }
                _ => Err(CallError::Socket(self.socket.clone(), error)),
            },
        }
    }
}

/// Whatever ends a connection early, the answer is not there.
fn lost(_: hyper::Error) -> CallError {
    CallError::Lost
}

fn refusal(status: StatusCode, body: &[u8]) -> CallError {
    match serde_json::from_slice(body) {
        Ok(refusal) => CallError::Refused(refusal),
        Err(_) => CallError::Odd(format!("{status} {}", String::from_utf8_lossy(body).trim())),
    }
}

/// A response and the task that keeps its connection going.
struct Exchange {
    response: Response<Incoming>,
    _driver: JoinSet<()>,
}

impl Exchange {
    async fn read(self, limit: Duration) -> Result<Bytes, CallError> {
        let collected = timeout(limit, self.response.into_body().collect());
        let body = collected
            .await
            .map_err(|_elapsed| CallError::Silent(limit))?;
        Ok(body.map_err(lost)?.to_bytes())
    }
}

/// A stream of views.
pub struct Watch {
    exchange: Exchange,
    buffer: Vec<u8>,
}

impl Watch {
    /// The latest view: older ones that arrived meanwhile are skipped.
    pub async fn next(&mut self) -> Result<View, CallError> {
        loop {
            if let Some(line) = last_line(&mut self.buffer) {
                return serde_json::from_slice(&line)
                    .map_err(|error| CallError::Odd(error.to_string()));
            }
            let frame = self.exchange.response.body_mut().frame().await;
            let frame = frame.ok_or(CallError::Lost)?.map_err(lost)?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(CallError::Odd("a line without end".into()));
            }
        }
    }
}

/// Takes all complete lines from the buffer and returns the last one that is not empty.
fn last_line(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.iter().rposition(|byte| *byte == b'\n')?;
    let rest = buffer.split_off(end + 1);
    let complete = std::mem::replace(buffer, rest);
    complete
        .split(|byte| *byte == b'\n')
        .rfind(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
}

/// Text as a part of a query: everything but letters and digits is escaped.
pub fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let written = write!(escaped, "%{byte:02X}");
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
    }
    escaped
}

/// Runs a conversation with the squad to its end.
pub fn block_on<T>(future: impl Future<Output = Result<T, Report>>) -> Result<T, Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::internal(format!("no runtime can be started: {error}")))?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn only_the_last_complete_line_counts() {
        let mut buffer = b"one\ntwo\n\nthr".to_vec();
        assert_eq!(last_line(&mut buffer).as_deref(), Some(&b"two"[..]));
        assert_eq!(buffer, b"thr");
        assert_eq!(last_line(&mut buffer), None);
    }

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(escaped("{\"a\": é}"), "%7B%22a%22%3A%20%C3%A9%7D");
    }

    /// A server that gives one answer and then says no more.
    fn answering(answer: String) -> (tempfile::TempDir, Client, JoinSet<()>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
        });
        (folder, Client::new(&socket), tasks)
    }

    #[tokio::test]
    async fn without_a_server_the_remedy_is_named() {
        let client = Client::new(Path::new("/nowhere/squad.sock"));
        let error = client.view().await.unwrap_err();
        assert!(error.is_passing());
        let report = Report::from(error);
        assert_eq!(report.kind.code(), 4);
        assert!(report.to_string().contains("hint: 'warpsquad server'"));
    }

    #[tokio::test]
    async fn a_refusal_comes_back_with_its_hints() {
        let body = r#"{"kind":"user","message":"task 3 is queued","hints":["wait x"]}"#;
        let length = body.len();
        let (_folder, client, _tasks) = answering(format!(
            "HTTP/1.1 409 Conflict\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let error = client.command(Command::Pause).await.unwrap_err();
        assert_eq!(
            Report::from(error).to_string(),
            "error: task 3 is queued\nhint: wait x\n"
        );
    }

    #[tokio::test]
    async fn a_server_that_dies_in_the_middle_is_noticed() {
        let (_folder, client, _tasks) =
            answering("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".into());
        assert!(matches!(client.view().await, Err(CallError::Lost)));
        let (_folder, client, _tasks) = answering("nonsense".into());
        assert!(client.view().await.is_err());
    }
}
