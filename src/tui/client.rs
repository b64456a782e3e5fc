//! The other end of a dashboard, in the user's terminal: typed events up, bytes down.
//!
//! The terminal is put back as it was on every way out: detaching, errors, a panic, SIGTERM,
//! SIGHUP, a server that goes away.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, MouseEventKind,
};
use crossterm::style::Print;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use futures_util::StreamExt;
use rustix::process::{Signal, getpid, kill_process};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::wire::{
    ClientHello, ClientMessage, ExitReason, ServerFrame, WireError, read_frame, write_line,
};
use crate::pty::Size;

/// Clicks and drags in SGR form. Not every movement: nothing here acts on it.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1000l";

/// Ends a synchronised update that was cut off, and all attributes.
const RESET: &str = "\x1b[?2026l\x1b[0m";

/// Variables of the user's environment that verify and setup commands may need.
const ENVIRONMENT: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SHELL",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "JAVA_HOME",
    "VIRTUAL_ENV",
];

/// Why attaching failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The terminal cannot be used.
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// The server sent what is not understood.
    #[error("the server speaks another protocol")]
    Wire(#[source] WireError),
}

impl ClientHello {
    /// What can be said of the terminal and environment of this process.
    pub fn detect() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(variable)
            .unwrap_or_default()
            .to_lowercase();
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        Self {
            size: Size::new(columns, rows),
            term: variable("TERM").unwrap_or_default(),
            colorterm: variable("COLORTERM"),
            no_color: variable("NO_COLOR").is_some(),
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            cwd: std::env::current_dir().unwrap_or_default(),
            user: variable("USER").unwrap_or_default(),
            env: ENVIRONMENT
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), variable(name)?)))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Detached => f.write_str("detached: the squad goes on"),
            Self::ServerStopping => f.write_str("the squad was stopped"),
            Self::ConnectionLost => f.write_str("detached: the server went away, reattaching …"),
            Self::Signalled { signal } => write!(f, "detached by signal {signal}"),
            Self::TerminalLost => f.write_str("detached: the terminal is gone"),
        }
    }
}

/// Shows the dashboard that comes over `stream` until it ends; says hello first.
///
/// [`ExitReason::ConnectionLost`] asks the caller to connect again: the server is replaced.
///
/// # Errors
/// The terminal cannot be used, or the server sends what is not understood.
pub async fn attach<S>(stream: S, hello: ClientHello) -> Result<ExitReason, ClientError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut signals = Signals::new().map_err(ClientError::Signals)?;
    let terminal = RawTerminal::enter().map_err(ClientError::Terminal)?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    // One message for each suspension; the sender waits when it is full.
    let (redraws, mut redraw) = mpsc::channel(1);
    let result = tokio::select! {
        result = send_events(&mut writer, &hello, &mut redraw) => result,
        result = show_frames(&mut reader, &redraws) => result,
        signal = signals.next() => Ok(ExitReason::Signalled { signal }),
    };
    drop(terminal);
    result
}

/// Sends the user's events; ends when the terminal or the server does.
async fn send_events<W>(
    writer: &mut W,
    hello: &ClientHello,
    redraw: &mut mpsc::Receiver<()>,
) -> Result<ExitReason, ClientError>
where
    W: AsyncWrite + Send + Unpin,
{
    if write_line(writer, hello).await.is_err() {
        return Ok(ExitReason::ConnectionLost);
    }
    let mut events = EventStream::new();
    loop {
        let message = tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Mouse(mouse))) if mouse.kind == MouseEventKind::Moved => continue,
                Some(Ok(event)) => ClientMessage::Event(event),
                Some(Err(_)) | None => return Ok(ExitReason::TerminalLost),
            },
            Some(()) = redraw.recv() => {
                let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
                ClientMessage::Redraw { size: Size::new(columns, rows) }
            }
        };
        if write_line(writer, &message).await.is_err() {
            // What the server said last is still to be read: it may be the reason.
            return std::future::pending().await;
        }
    }
}

/// Shows what the server draws; ends when the server says so or goes away.
async fn show_frames<R>(
    reader: &mut R,
    redraws: &mpsc::Sender<()>,
) -> Result<ExitReason, ClientError>
where
    R: AsyncRead + Send + Unpin,
{
    let Ok(mut stdout) = terminal_output() else {
        return Ok(ExitReason::TerminalLost);
    };
    loop {
        let shown = match read_frame(reader).await {
            Ok(Some(ServerFrame::Bytes(bytes))) => write_all(&mut stdout, &bytes).await,
            Ok(Some(ServerFrame::Clipboard(text))) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(text);
                write_all(&mut stdout, format!("\x1b]52;c;{encoded}\x07").as_bytes()).await
            }
            Ok(Some(ServerFrame::Suspend)) => {
                let shown = suspend().await;
                // Fails only when the other half has ended, and then this one ends, too.
                redraws.send(()).await.unwrap_or_default();
                shown
            }
            Ok(Some(ServerFrame::Exit(reason))) => return Ok(reason),
            Ok(None) | Err(WireError::Io(_)) => return Ok(ExitReason::ConnectionLost),
            Err(error) => return Err(ClientError::Wire(error)),
        };
        if shown.is_err() {
            return Ok(ExitReason::TerminalLost);
        }
    }
}

/// Standard output on a thread of its own: a terminal that is stopped (Ctrl-s) blocks writes, and
/// signals must still be heard.
fn terminal_output() -> io::Result<File> {
    let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(File::from_std(descriptor.into()))
}

async fn write_all(stdout: &mut File, bytes: &[u8]) -> io::Result<()> {
    stdout.write_all(bytes).await?;
    stdout.flush().await
}

/// Stops this process as a job of its shell; returns when it is continued.
async fn suspend() -> io::Result<()> {
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    leave();
    kill_process(getpid(), Signal::TSTP)?;
    // Where there is no shell to continue it, the kernel ignores the signal: go on then.
    let waited = tokio::time::timeout(Duration::from_millis(500), continued.recv()).await;
    if waited.is_err() {
        tracing::debug!("not stopped: no job control");
    }
    enter()
}

/// Signals that end the client.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
        };
        kind.as_raw_value()
    }
}

/// The terminal is in our hands.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; dropping it puts everything back.
struct RawTerminal;

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let earlier = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                earlier(panic);
            }));
        });
        let terminal = Self;
        enter()?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    IS_OURS.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        EnableBracketedPaste,
        Print(MOUSE_ON)
    )
}

/// Puts the terminal back, once. A terminal that is gone needs nothing.
fn leave() {
    if !IS_OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut stdout = io::stdout();
    let restored = execute!(
        stdout,
        Print(RESET),
        Print(MOUSE_OFF),
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    )
    .and_then(|()| stdout.flush());
    if let Err(error) = restored.and(disable_raw_mode()) {
        tracing::debug!(%error, "the terminal could not be put back");
    }
}
