//! A whole session over a pipe; what it draws is read by the emulator.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::super::wire::{read_frame, write_line};
use super::*;
use crate::config::Sources;
use crate::config::templates::best_offers;
use crate::core::agent::{AgentReport, AgentState};
use crate::core::command::NewTask;
use crate::engine::view::AgentView;
use crate::pty::Screen;

/// A client with a terminal of its own, and the server's side of everything.
struct Client {
    near: DuplexStream,
    screen: Screen,
    view: watch::Sender<Arc<View>>,
    agent: watch::Sender<Option<Snapshot>>,
    asks: mpsc::Receiver<Ask>,
    session: tokio::task::JoinHandle<Result<ExitReason, AttachError>>,
}

fn agent(slot: u16) -> AgentView {
    AgentView {
        slot: AgentSlot(slot),
        task: None,
        title: String::new(),
        model: "llama3.1:8b".into(),
        endpoint: "local".into(),
        since: None,
        report: AgentReport {
            state: AgentState::Ready,
            ..AgentReport::default()
        },
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the session ends with the test's runtime"
)]
fn attach(size: Size) -> Client {
    let (near, far) = tokio::io::duplex(4096);
    let view = View {
        agents: vec![agent(1), agent(2)],
        ..View::default()
    };
    let (view, views) = watch::channel(Arc::new(view));
    let (agent, agents) = watch::channel(None);
    let (asks_in, asks) = mpsc::channel(8);
    let desk = Desk {
        view: views,
        screens: Arc::new(move |slot| (slot == AgentSlot(1)).then(|| agents.clone())),
        asks: asks_in,
        stopping: CancellationToken::new(),
        settings: UiSettings::default(),
    };
    let hello = ClientHello {
        size,
        ..ClientHello::default()
    };
    Client {
        near,
        screen: Screen::new(size, 0),
        view,
        agent,
        asks,
        session: tokio::spawn(run_client(far, hello, desk)),
    }
}

impl Client {
    async fn send(&mut self, message: ClientMessage) {
        write_line(&mut self.near, &message).await.unwrap();
    }

    async fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        let key = Event::Key(KeyEvent::new(code, modifiers));
        self.send(ClientMessage::Event(key)).await;
    }

    async fn keys(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyCode::Char(c), KeyModifiers::NONE).await;
        }
    }

    /// Reads frames until the screen shows `text`; the runtime's deadline is the test's.
    async fn until(&mut self, text: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            while !self.screen.text().contains(text) {
                match read_frame(&mut self.near).await.unwrap() {
                    Some(ServerFrame::Bytes(bytes)) => self.screen.feed(&bytes),
                    other => panic!("{other:?} instead of {text:?}"),
                }
            }
        });
        let came = waited.await.is_ok();
        assert!(came, "{text:?} never came:\n{}", self.screen.text());
    }

    /// What ends the session.
    async fn end(mut self) -> ExitReason {
        loop {
            if let Some(ServerFrame::Exit(reason)) = read_frame(&mut self.near).await.unwrap() {
                assert_eq!(self.session.await.unwrap().unwrap(), reason);
                return reason;
            }
        }
    }
}

#[tokio::test]
async fn a_client_sees_the_squad_and_leaves_with_q() {
    let mut client = attach(Size::new(100, 30));
    client.until("No task yet").await;
    client.keys("q").await;
    assert_eq!(client.end().await, ExitReason::Detached);
}

#[tokio::test]
async fn a_changed_view_and_a_changed_terminal_are_drawn() {
    let mut client = attach(Size::new(100, 30));
    client.until("nothing waits for you").await;
    let view = View {
        paused: true,
        agents: vec![agent(1)],
        ..View::default()
    };
    client.view.send_replace(Arc::new(view));
    client.until("queue paused").await;
    let mut emulator = Screen::new(Size::new(40, 10), 0);
    emulator.feed(b"hello from aider");
    client.agent.send_replace(Some(emulator.snapshot(0)));
    client.until("hello from aider").await;
}

#[tokio::test]
async fn a_task_is_written_submitted_and_acknowledged() {
    let mut client = attach(Size::new(100, 30));
    client.keys("n").await;
    client.until("new task").await;
    let Some(Ask::Templates { reply }) = client.asks.recv().await else {
        panic!("no templates were asked for");
    };
    reply.send(best_offers(&Sources::default(), "")).unwrap();
    client.keys("fix it").await;
    client.key(KeyCode::Char('o'), KeyModifiers::CONTROL).await;
    client.until("8 ").await;
    client.until("reviewer").await;
    client.key(KeyCode::Enter, KeyModifiers::NONE).await;
    client.until("fix it").await;
    client.key(KeyCode::Enter, KeyModifiers::NONE).await;
    let Some(Ask::Command {
        command: Command::Submit { tasks },
        reply,
    }) = client.asks.recv().await
    else {
        panic!("no task was submitted");
    };
    let prompts: Vec<&str> = tasks
        .iter()
        .map(|task: &NewTask| task.spec.prompt.as_str())
        .collect();
    assert_eq!(prompts, ["fix it"]);
    reply
        .send(Ok(Reply::Submitted {
            tasks: vec![TaskId(7)],
        }))
        .unwrap();
    client.until("task 7 submitted").await;
}

#[tokio::test]
async fn keys_typed_into_an_agent_arrive_as_bytes_and_ctrl_q_leaves_it() {
    let mut client = attach(Size::new(100, 30));
    client
        .agent
        .send_replace(Some(Snapshot::blank(Size::new(120, 40))));
    client.until("nothing waits").await;
    client.key(KeyCode::Enter, KeyModifiers::NONE).await;
    client.until("typing into").await;
    assert!(matches!(client.asks.recv().await, Some(Ask::Resize { .. })));
    client.keys("q").await;
    client.key(KeyCode::Up, KeyModifiers::NONE).await;
    let mut typed = Vec::new();
    while typed.len() < 4 {
        match client.asks.recv().await {
            Some(Ask::Input { bytes, .. }) => typed.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(typed, b"q\x1b[A");
    client.key(KeyCode::Char('q'), KeyModifiers::CONTROL).await;
    client.until("agents and tasks").await;
    client.keys("q").await;
    assert_eq!(client.end().await, ExitReason::Detached);
}

#[tokio::test]
async fn another_size_is_drawn_in_full_and_a_tiny_one_is_survived() {
    let mut client = attach(Size::new(100, 30));
    client.until("No task yet").await;
    for size in [Size::new(20, 5), Size::new(2, 1), Size::new(60, 12)] {
        client.screen.resize(size);
        client
            .send(ClientMessage::Event(Event::Resize(size.columns, size.rows)))
            .await;
    }
    client.until("agents and tasks").await;
    client
        .send(ClientMessage::Redraw {
            size: Size::new(100, 30),
        })
        .await;
    client.screen = Screen::new(Size::new(100, 30), 0);
    client.until("No task yet").await;
}

#[tokio::test]
async fn a_stopping_server_says_so_and_a_vanished_client_is_noticed() {
    let mut client = attach(Size::new(100, 30));
    client.until("No task yet").await;
    let (other, _) = watch::channel(Arc::new(View::default()));
    drop(std::mem::replace(&mut client.view, other));
    assert_eq!(client.end().await, ExitReason::ServerStopping);

    let Client { near, session, .. } = attach(Size::new(100, 30));
    drop(near);
    // Either the end of its messages or the failed write is seen first.
    match session.await.unwrap() {
        Ok(reason) => assert_eq!(reason, ExitReason::ConnectionLost),
        Err(error) => assert!(
            matches!(error, AttachError::Wire(WireError::Io(_))),
            "{error:?}"
        ),
    }
}

#[tokio::test]
async fn nonsense_from_a_client_ends_only_its_session() {
    let mut client = attach(Size::new(100, 30));
    client.near.write_all(b"{\"nonsense\":1}\n").await.unwrap();
    assert!(client.session.await.unwrap().is_err());
}
