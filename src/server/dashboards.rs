//! Attached clients: each gets a desk, whose asks are carried out here in the order of its keys.

use std::sync::Arc;

use tokio::io::BufReader;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agents::{AgentCommand, Agents};
use crate::api::{Attached, Call, call};
use crate::config::Sources;
use crate::config::templates::{Offer, best_offers};
use crate::core::command::Request;
use crate::core::event::{Actor, ActorKind};
use crate::core::settings::UiSettings;
use crate::engine::EngineHandle;
use crate::gateway::Gateway;
use crate::git::Repository;
use crate::tui::attach::{Ask, Desk, run_client};
use crate::tui::wire::{ClientHello, read_hello};

use super::reads;
use super::run::Commands;

/// Asks waiting for one client; its session waits when it is full.
const ASKS: usize = 64;

/// What an attached client needs.
#[derive(Clone)]
pub(super) struct Dashboards {
    pub(super) engine: EngineHandle,
    pub(super) agents: Agents,
    /// Serves first whom somebody looks at.
    pub(super) gateway: Arc<Gateway>,
    pub(super) commands: Commands,
    /// Cancelled when the squad is told to stop.
    pub(super) stopping: CancellationToken,
    pub(super) settings: UiSettings,
    /// Where templates and the settings of repositories are read from.
    pub(super) sources: Sources,
    pub(super) demo: bool,
}

impl Dashboards {
    /// The function that the local protocol calls for an upgraded connection.
    pub(super) fn attach(self) -> Call<Attached, ()> {
        call(move |io| {
            let this = self.clone();
            async move { this.client(io).await }
        })
    }

    async fn client(self, io: Attached) {
        let mut io = BufReader::new(io);
        let hello = match read_hello(&mut io).await {
            Ok(hello) => hello,
            Err(error) => {
                tracing::info!(%error, "a client was not understood");
                return;
            }
        };
        let (asks, asked) = mpsc::channel(ASKS);
        let agents = self.agents.clone();
        let desk = Desk {
            view: self.engine.view(),
            screens: Arc::new(move |slot| Some(agents.screen(slot))),
            asks,
            stopping: self.stopping.clone(),
            settings: self.settings.clone(),
        };
        let answering = self.answer(hello.clone(), asked);
        let (ended, ()) = tokio::join!(run_client(io, hello, desk), answering);
        match ended {
            Ok(reason) => tracing::info!(?reason, "a client has left"),
            Err(error) => tracing::info!(%error, "a client was lost"),
        }
    }

    /// Takes asks until the session has ended; slow ones are answered beside the others.
    async fn answer(self, hello: ClientHello, mut asked: mpsc::Receiver<Ask>) {
        let slow = TaskTracker::new();
        while let Some(ask) = asked.recv().await {
            match ask {
                Ask::Command { command, reply } => {
                    let by = Actor {
                        kind: ActorKind::Human,
                        name: hello.user.clone(),
                    };
                    let answer = (self.commands)(Request { by, command });
                    slow.spawn(async move { drop(reply.send(answer.await)) });
                }
                Ask::Diff { task, reply } => {
                    let answer = reads::diff(self.engine.clone(), task);
                    slow.spawn(async move { drop(reply.send(answer.await)) });
                }
                Ask::Templates { reply } => {
                    let offers = templates(self.sources.clone(), hello.clone());
                    slow.spawn(async move { drop(reply.send(offers.await)) });
                }
                Ask::Scrollback {
                    slot,
                    offset,
                    reply,
                } => {
                    let agents = self.agents.clone();
                    slow.spawn(
                        async move { drop(reply.send(agents.snapshot(slot, offset).await)) },
                    );
                }
                Ask::Input { slot, bytes } => {
                    self.agents
                        .tell(slot, AgentCommand::Type(bytes.into()))
                        .await;
                }
                // Of several clients the one that moved last has the say.
                Ask::Watch { slot } => self.gateway.focus(slot),
                Ask::Resize { slot, size } => {
                    self.agents.tell(slot, AgentCommand::Resize(size)).await;
                }
                Ask::KillServer => self.kill(),
            }
        }
        self.gateway.focus(None);
        slow.close();
        slow.wait().await;
    }

    /// Shows that nothing is lost: only the demo offers it.
    fn kill(&self) {
        if self.demo {
            tracing::warn!("the server kills itself before the user's eyes");
            let own = rustix::process::getpid();
            if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
                tracing::error!(%error, "it could not");
            }
        }
    }
}

/// The best templates for the repository in which a client was started.
async fn templates(sources: Sources, hello: ClientHello) -> Vec<Offer> {
    let opened = Repository::open(&hello.cwd).await.ok();
    let sources = sources.with_repository(opened.map(|it| it.top().to_owned()));
    let path = hello.env.get("PATH").cloned().unwrap_or_default();
    let looked = tokio::task::spawn_blocking(move || best_offers(&sources, &path)).await;
    looked.unwrap_or_else(|error| {
        tracing::error!(%error, "templates could not be looked for");
        Vec::new()
    })
}
