//! The squad as everybody outside the engine sees it: one immutable snapshot, the latest wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::agent::AgentReport;
use crate::core::catalogue::Catalogue;
use crate::core::event::Event;
use crate::core::health::Health;
use crate::core::measurement::MeasurementReport;
use crate::core::model::ModelName;
use crate::core::pool::PoolReport;
use crate::core::runners::GatewayReport;
use crate::core::task::{Category, Task, TaskState};
use crate::core::{AgentSlot, Epoch, TaskId, Timestamp};

/// The whole squad at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// The server's epoch.
    pub epoch: Epoch,
    /// When it was taken.
    pub at: Timestamp,
    /// Version of the server.
    pub version: String,
    /// Process of the server.
    pub pid: u32,
    /// Nothing is assigned.
    pub paused: bool,
    /// The squad of `warpsquad demo`: the simulator answers, `K` kills the server.
    pub demo: bool,
    /// Whether agents can be started.
    pub installation: Installation,
    /// Why nothing is recorded at the moment, if so; no command is taken then.
    pub store_fault: Option<String>,
    /// Why nothing new is begun, if the disk has too little room.
    pub no_room: Option<String>,
    /// How the squad is.
    pub health: Health,
    /// One entry a slot, in order.
    pub agents: Vec<AgentView>,
    /// All unfinished tasks and the latest finished ones, by number.
    pub tasks: Vec<Arc<Task>>,
    /// Why a queued task is not assigned, where it is not the queue alone.
    pub waiting: BTreeMap<TaskId, String>,
    /// What was measured of the requests that passed the gateway.
    #[serde(default)]
    pub measured: Arc<MeasurementReport>,
    /// What the pool of agents says of itself.
    pub pool: PoolReport,
    /// Endpoints, models, residency.
    pub catalogue: Arc<Catalogue>,
    /// Queues, loads and health of endpoints and models.
    #[serde(default)]
    pub gateway: Arc<GatewayReport>,
    /// The model that a task of each category would get now.
    #[serde(default)]
    pub preferred: Vec<(Category, ModelName)>,
    /// The last events, oldest first.
    pub events: Vec<Arc<Event>>,
}

impl View {
    /// The task with this number, if it is in the view.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        let index = self.tasks.binary_search_by_key(&id, |task| task.id).ok()?;
        self.tasks.get(index)
    }

    /// How many tasks are in `state`.
    pub fn count(&self, state: TaskState) -> usize {
        self.tasks.iter().filter(|task| task.state == state).count()
    }
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its number.
    pub slot: AgentSlot,
    /// The task it holds.
    pub task: Option<TaskId>,
    /// That task's title.
    pub title: String,
    /// The model it is bound to.
    pub model: String,
    /// The endpoint it is bound to.
    pub endpoint: String,
    /// Since when it has been on this task.
    pub since: Option<Timestamp>,
    /// What it says of itself.
    pub report: AgentReport,
}

/// Whether Aider is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Installation {
    /// Not looked yet.
    #[default]
    Unknown,
    /// Being installed.
    Installing {
        /// What is going on.
        message: String,
    },
    /// Usable.
    Ready {
        /// Its version.
        version: String,
    },
    /// Not usable.
    Failed {
        /// Why, with the remedy.
        why: String,
    },
}
