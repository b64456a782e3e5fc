//! What the routes need from the server, as plain functions: the face imports neither git nor
//! agents, the composition root hands in what does.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::core::command::{Refusal, Reply, Request};
use crate::core::{AgentSlot, TaskId};
use crate::engine::EngineHandle;

use super::wire::{CleanReport, CleanRequest, LogKind, StopRequest, UpgradeReport, UpgradeRequest};

/// A future that is sent between threads.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A function of the server's.
pub type Call<A, T> = Arc<dyn Fn(A) -> Pending<T> + Send + Sync>;

/// Everything the routes may do.
#[derive(Clone)]
pub struct Services {
    /// Views and stored tasks.
    pub engine: EngineHandle,
    /// Asks for something.
    pub command: Call<Request, Result<Reply, Refusal>>,
    /// The diff of a task.
    pub diff: Call<TaskId, Result<String, Refusal>>,
    /// A log of a task.
    pub log: Call<(TaskId, LogKind), Result<String, Refusal>>,
    /// The text of an agent's terminal.
    pub screen: Call<AgentSlot, Option<String>>,
    /// Removes what is not needed any more.
    pub clean: Call<CleanRequest, Result<CleanReport, Refusal>>,
    /// Ends the squad.
    pub stop: Call<StopRequest, ()>,
    /// Lets another program be the server.
    pub upgrade: Call<UpgradeRequest, Result<(), Refusal>>,
    /// How the last upgrade went.
    pub upgraded: Call<(), Result<UpgradeReport, Refusal>>,
    /// Looks at the endpoints, two seconds at most.
    pub look: Call<(), ()>,
    /// Draws a dashboard on an upgraded connection until either side ends it.
    pub attach: Call<Attached, ()>,
    /// Dashboards and watchers connected now.
    pub clients: watch::Sender<usize>,
}

/// An upgraded connection.
pub type Attached = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

/// Wraps an async function.
pub fn call<A, T, F>(function: impl Fn(A) -> F + Send + Sync + 'static) -> Call<A, T>
where
    F: Future<Output = T> + Send + 'static,
{
    Arc::new(move |argument| Box::pin(function(argument)))
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
