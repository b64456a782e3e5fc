//! Looks at agents' processes, their worktrees and the disk, for as long as there is work.
//!
//! Every five seconds one pass over all processes tells each agent's actor what it uses; a
//! worktree is measured once a minute at most, and a large one less often. When nothing works and
//! nothing is held back, nobody is woken.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::agents::{AgentCommand, Agents, Workshop};
use crate::core::AgentSlot;
use crate::core::event::SquadEvent;
use crate::core::medic::Vitals;
use crate::core::quota::{CpuRate, Meter, Reading, Resource, Ruling, Usage};
use crate::core::size::Bytes;
use crate::core::task::TaskState;
use crate::engine::{EngineHandle, Input, View};
use crate::telemetry::{disk, processes};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// A worktree is measured at most this often.
const DISK_INTERVAL: Duration = Duration::from_secs(60);
/// Measuring worktrees takes at most one part in this many of the time.
const DISK_SHARE: u32 = 20;

/// Looks until the server stops.
pub(super) struct Census {
    workshop: Arc<Workshop>,
    agents: Agents,
    engine: EngineHandle,
    worktrees: HashMap<PathBuf, Measured>,
    meter: Meter,
    rate: CpuRate,
    began: Instant,
}

/// A worktree as it was measured last.
#[derive(Debug, Clone, Copy)]
struct Measured {
    bytes: u64,
    again: Instant,
}

/// What came of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruled {
    Stopped,
    Spared,
}

/// An agent that has a process.
#[derive(Debug, Clone)]
struct Subject {
    slot: AgentSlot,
    pid: u32,
    worktree: Option<PathBuf>,
}

impl Census {
    pub(super) fn new(workshop: Arc<Workshop>, agents: Agents, engine: EngineHandle) -> Self {
        Self {
            workshop,
            agents,
            engine,
            worktrees: HashMap::new(),
            meter: Meter::default(),
            rate: CpuRate::default(),
            began: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut view = self.engine.view();
        loop {
            if view.wait_for(|view| is_busy(view)).await.is_err() {
                return;
            }
            let seen = Arc::clone(&view.borrow_and_update());
            self.look(&seen).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn look(&mut self, view: &View) {
        self.room(view.no_room.as_ref()).await;
        let subjects = subjects(view);
        self.worktrees
            .retain(|path, _| subjects.iter().any(|it| it.worktree.as_ref() == Some(path)));
        if subjects.is_empty() {
            self.meter = Meter::default();
            self.rate = CpuRate::default();
            return;
        }
        let roots: Vec<u32> = subjects.iter().map(|subject| subject.pid).collect();
        let counted = tokio::task::spawn_blocking(move || processes::vitals(&roots)).await;
        let mut found = counted.unwrap_or_default();
        for subject in &subjects {
            let disk = self.disk(subject).await;
            if let Some(vitals) = found.get_mut(&subject.pid) {
                vitals.usage.disk = disk;
                let measured = AgentCommand::Measured(*vitals);
                self.agents.tell(subject.slot, measured).await;
            }
        }
        self.squad(&subjects, &found).await;
    }

    /// Whether the disk has room; said when it is not as the engine has it.
    async fn room(&self, known: Option<&String>) {
        let why = lack_of_room(&self.workshop).await;
        if why.as_ref() != known {
            self.report(Input::Room(why)).await;
        }
    }

    async fn disk(&mut self, subject: &Subject) -> Option<u64> {
        let path = subject.worktree.clone()?;
        let now = Instant::now();
        if let Some(known) = self.worktrees.get(&path).filter(|it| it.again > now) {
            return Some(known.bytes);
        }
        let folder = path.clone();
        let bytes = tokio::task::spawn_blocking(move || disk::taken(&folder)).await;
        let bytes = bytes.ok()?;
        let pause = DISK_INTERVAL.max(now.elapsed().saturating_mul(DISK_SHARE));
        let again = Instant::now() + pause;
        self.worktrees.insert(path, Measured { bytes, again });
        Some(bytes)
    }

    /// The quotas of all agents together: above one of them the agent that takes most ends.
    async fn squad(&mut self, subjects: &[Subject], found: &BTreeMap<u32, Vitals>) {
        let limit = self.workshop.settings.quota.squad_memory as u64;
        let total: u64 = found.values().map(|vitals| vitals.usage.memory).sum();
        let memory = Reading::new(Resource::SquadMemory, total, limit);
        let held = |_: u32, usage: &Usage| (usage.memory, Bytes(usage.memory).to_string());
        self.rule(memory, subjects, found, held).await;
        if let Some((cpu, shares)) = self.cpu(found) {
            let spent = |pid: u32, _: &Usage| {
                let percent = shares.get(&pid).copied().unwrap_or_default();
                (percent, format!("{percent} %"))
            };
            if self.rule(cpu, subjects, found, spent).await == Ruled::Stopped {
                // The others are judged by what they take without it.
                self.rate = CpuRate::default();
            }
        }
    }

    /// What all take of the processors, and each of them; none where the kernel holds them back, or
    /// nobody asks.
    fn cpu(&mut self, found: &BTreeMap<u32, Vitals>) -> Option<(Reading, BTreeMap<u32, u64>)> {
        let limit = self.workshop.settings.quota.squad_cpu;
        let is_enforced = self.workshop.enforced().iter().any(|it| it == "cpu");
        if limit == 0 || is_enforced {
            return None;
        }
        let taken = found.iter().map(|(pid, it)| (*pid, it.usage.cpu_ms));
        let shares = self.rate.look(self.began.elapsed(), taken.collect())?;
        let reading = Reading::new(Resource::SquadCpu, shares.values().sum(), limit.into());
        Some((reading, shares))
    }

    /// Warns, or stops the agent of which `share` says most; it says the amount in words, too.
    async fn rule(
        &mut self,
        reading: Reading,
        subjects: &[Subject],
        found: &BTreeMap<u32, Vitals>,
        share: impl Fn(u32, &Usage) -> (u64, String),
    ) -> Ruled {
        let of = |it: &Subject| {
            found
                .get(&it.pid)
                .map(|vitals| share(it.pid, &vitals.usage))
        };
        for ruling in self.meter.judge(&[reading]) {
            match ruling {
                Ruling::Warn(why) => self.report(Input::Squad(SquadEvent::Warned { why })).await,
                Ruling::Stop(why) => {
                    let amount = |it: &&Subject| of(it).map(|(amount, _)| amount);
                    let Some(most) = subjects.iter().max_by_key(amount) else {
                        continue;
                    };
                    let (_, own) = of(most).unwrap_or_default();
                    let why = format!("the squad is {why}; this agent takes most with {own}");
                    let command = AgentCommand::OverQuota(why);
                    self.agents.tell(most.slot, command).await;
                    return Ruled::Stopped;
                }
            }
        }
        Ruled::Spared
    }

    async fn report(&self, input: Input) {
        if self.engine.report(input).await.is_err() {
            tracing::debug!("the engine has stopped");
        }
    }
}

/// Why nothing new is to be begun on the disk of the data directory.
pub(super) async fn lack_of_room(workshop: &Workshop) -> Option<String> {
    let floor = workshop.settings.quota.disk_free_floor as u64;
    if floor == 0 {
        return None;
    }
    let data = workshop.data.clone();
    let looked = tokio::task::spawn_blocking(move || disk::lack_of_room(&data, floor)).await;
    looked.unwrap_or_default()
}

fn is_busy(view: &View) -> bool {
    view.tasks.iter().any(|task| match task.state {
        TaskState::Assigned | TaskState::Running | TaskState::Verifying | TaskState::Merging => {
            true
        }
        TaskState::Queued => view.no_room.is_some(),
        TaskState::Blocked
        | TaskState::Review
        | TaskState::Merged
        | TaskState::Discarded
        | TaskState::Failed
        | TaskState::Dead
        | TaskState::Cancelled
        | TaskState::Expired => false,
    })
}

fn subjects(view: &View) -> Vec<Subject> {
    let subject = |agent: &crate::engine::view::AgentView| {
        let task = view.task(agent.task?)?;
        Some(Subject {
            slot: agent.slot,
            pid: agent.report.pid.filter(|pid| *pid > 0)?,
            worktree: task.workplace.as_ref().map(|place| place.dir.clone()),
        })
    };
    view.agents.iter().filter_map(subject).collect()
}
