//! The pool of agents: what one is bound to, which are forked ahead, how many work at a time.
//!
//! An agent is bound for its life to a repository, a model and a mode, because Aider keeps the
//! models it was started with. So a task takes an agent that fits exactly or gets a fresh one; none
//! is rebound.
//!
//! Invariant: pure. Time comes in as `now`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::router::Routing;
use super::task::{Mode, Task, TaskSpec};
use super::time::Timestamp;

/// What an agent and its worktree are made for. Tasks of equal bindings can take the same agents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Binding {
    /// The repository.
    pub repo: PathBuf,
    /// The endpoint.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// How Aider works.
    pub mode: Mode,
    /// How the model writes its edits, where the task has a word in it.
    #[serde(default)]
    pub edit_format: Option<String>,
    /// Command run once in the new worktree.
    pub setup: Option<String>,
    /// Untracked files copied into the worktree (globs).
    pub copy: Vec<String>,
    /// Untracked files and folders linked into the worktree (globs).
    pub link: Vec<String>,
    /// The submitter's environment.
    pub environment: BTreeMap<String, String>,
}

impl Binding {
    /// What the agent of such a task is bound to.
    pub fn of(spec: &TaskSpec, endpoint: &str, model: &str) -> Self {
        Self {
            repo: spec.repo.clone(),
            endpoint: endpoint.to_owned(),
            model: model.to_owned(),
            mode: spec.mode,
            edit_format: spec.edit_format.clone(),
            setup: spec.setup.clone(),
            copy: spec.copy.clone(),
            link: spec.link.clone(),
            environment: spec.environment.clone(),
        }
    }

    /// What the agent of a task's present attempt is bound to.
    pub fn of_attempt(task: &Task) -> Option<Self> {
        let attempt = task.attempt()?;
        let routing = attempt.routing.as_ref();
        let format = routing.and_then(|routing| routing.edit_format.as_deref());
        let binding = Self::of(&task.spec, &attempt.endpoint, &attempt.model);
        Some(binding.with_format(format))
    }

    /// The edit format that was chosen for it, where the task has no word in it.
    #[must_use]
    pub fn with_format(mut self, format: Option<&str>) -> Self {
        self.edit_format = self.edit_format.or_else(|| format.map(str::to_owned));
        self
    }
}

/// A spare that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareOrder {
    /// What for.
    pub binding: Binding,
    /// The commit its worktree is made at.
    pub base_commit: String,
}

impl SpareOrder {
    /// A spare that would fit this task.
    pub fn of(spec: &TaskSpec, endpoint: &str, model: &str) -> Self {
        Self {
            binding: Binding::of(spec, endpoint, model),
            base_commit: spec.base_commit.clone(),
        }
    }

    /// A spare that would fit this task as it was routed.
    pub fn routed(spec: &TaskSpec, routing: &Routing) -> Self {
        let Routing {
            chosen,
            edit_format,
            ..
        } = routing;
        let order = Self::of(spec, &chosen.endpoint, &chosen.model);
        Self {
            binding: order.binding.with_format(edit_format.as_deref()),
            ..order
        }
    }
}

/// Whether a spare could serve this task: one that has worked already has a worktree of its own.
pub fn takes_spares(task: &Task) -> bool {
    task.workplace.is_none()
}

/// The spares to have: what the queue needs next, and after that what was used last.
pub fn wanted(
    next: impl Iterator<Item = SpareOrder>,
    last: Option<&SpareOrder>,
    count: usize,
) -> Vec<SpareOrder> {
    let mut orders: Vec<SpareOrder> = next.take(count).collect();
    if let Some(last) = last {
        while orders.len() < count {
            orders.push(last.clone());
        }
    }
    orders
}

/// What the pool says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolReport {
    /// Whether agents are forked.
    pub forking: Forking,
    /// Agents made ahead.
    pub spares: Vec<SpareView>,
    /// Tasks that found a spare.
    pub hits: u64,
    /// Tasks that could have taken one and found none.
    pub misses: u64,
    /// Agents forked for a task at once.
    pub forked: u64,
    /// Agents started as a program.
    pub cold: u64,
    /// What the kernel enforces of quotas, by the names of its controllers (cgroup v2); nothing
    /// where all of them are measured, and enforced by signals.
    pub enforced: Vec<String>,
}

impl PoolReport {
    /// Share of tasks that found a spare, 0…1; none before the first.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}

/// Whether agents are forked from a process that has imported Aider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Forking {
    /// Switched off, or not begun.
    #[default]
    Off,
    /// The zygote imports.
    Starting,
    /// Agents are forked.
    On {
        /// The zygote.
        pid: i32,
        /// Its processor time for the imports, milliseconds.
        cpu_ms: u64,
    },
    /// Forking fails: agents start cold, which takes seconds.
    Failed {
        /// Why.
        why: String,
    },
}

/// An agent made ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareView {
    /// Its job.
    pub job: String,
    /// The repository.
    pub repo: PathBuf,
    /// The model.
    pub model: String,
    /// The endpoint.
    pub endpoint: String,
    /// How Aider works.
    pub mode: Mode,
    /// Whether it is at its prompt.
    pub is_ready: bool,
    /// Its process.
    pub pid: Option<u32>,
}

/// Most agents that `agents.max = "auto"` lets work.
pub const AUTO_MAX: u16 = 10;
/// More agents are tried only after more would have been of use for this long.
const GROW_AFTER: Duration = Duration::from_secs(3);
/// Fewer are let work only after fewer would have done for this long.
const SHRINK_AFTER: Duration = Duration::from_secs(30);
/// Load per processor above which another agent only slows the others down.
const BUSY_LOAD: f32 = 1.5;
/// Memory that another agent takes with what it starts, KiB: 40 MiB of its own after one task,
/// and room for git and a small verify command.
const AGENT_KIB: u64 = 256 << 10;

/// What decides how many agents are of use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Requests that the endpoints serve at a time.
    pub endpoint_slots: u16,
    /// Agents that have a task and no open model request: they edit, verify, wait for a human.
    pub elsewhere: u16,
    /// Load average of one minute per processor.
    pub load_per_core: f32,
    /// Memory that is available, KiB; `None` if unknown.
    pub free_kib: Option<u64>,
    /// Agents that have a task.
    pub working: u16,
}

/// How many agents may work at a time, following the load with hysteresis.
///
/// One more agent adds throughput only while an endpoint has a free slot for its requests. With S
/// slots and E agents that are busy elsewhere, S + E agents keep every slot used; one on top keeps a
/// request waiting, so that no slot is idle in between.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoLimit {
    limit: u16,
    /// Since when more would have been of use.
    more_since: Option<Timestamp>,
    /// Since when fewer would have done.
    fewer_since: Option<Timestamp>,
}

impl Default for AutoLimit {
    fn default() -> Self {
        Self {
            limit: 2,
            more_since: None,
            fewer_since: None,
        }
    }
}

impl AutoLimit {
    /// Agents that may work now.
    pub fn limit(&self) -> u16 {
        self.limit
    }

    /// Takes a look at the load; returns whether the limit is another one.
    pub fn observe(&mut self, load: &Load, now: Timestamp) -> bool {
        let useful = useful(load);
        let before = self.limit;
        self.more_since = (useful > self.limit).then(|| self.more_since.unwrap_or(now));
        self.fewer_since = (useful < self.limit).then(|| self.fewer_since.unwrap_or(now));
        if lasted(self.more_since, GROW_AFTER, now) {
            self.limit += 1;
            self.more_since = None;
        } else if lasted(self.fewer_since, SHRINK_AFTER, now) {
            self.limit -= 1;
            self.fewer_since = None;
        }
        before != self.limit
    }

    /// When the next look can change something without anything else happening.
    pub fn deadline(&self) -> Option<Timestamp> {
        let more = self.more_since.map(|since| since.plus(GROW_AFTER));
        let fewer = self.fewer_since.map(|since| since.plus(SHRINK_AFTER));
        more.or(fewer)
    }
}

fn lasted(since: Option<Timestamp>, time: Duration, now: Timestamp) -> bool {
    since.is_some_and(|since| since.plus(time) <= now)
}

/// Agents that would be of use, 1…[`AUTO_MAX`].
fn useful(load: &Load) -> u16 {
    let slots = load.endpoint_slots.max(1);
    let mut useful = slots.saturating_add(load.elsewhere).saturating_add(1);
    if load.load_per_core > BUSY_LOAD {
        useful = useful.min(load.working.max(1));
    }
    if let Some(free) = load.free_kib {
        let room = u16::try_from(free / AGENT_KIB).unwrap_or(u16::MAX);
        useful = useful.min(load.working.saturating_add(room));
    }
    useful.clamp(1, AUTO_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(model: &str) -> SpareOrder {
        let spec = TaskSpec {
            repo: "/repo".into(),
            base_commit: "c0".into(),
            ..TaskSpec::default()
        };
        SpareOrder::of(&spec, "local", model)
    }

    #[test]
    fn the_queue_comes_before_what_was_used_last() {
        let next = [order("a"), order("b"), order("c")];
        let last = order("z");
        assert_eq!(
            wanted(next.clone().into_iter(), Some(&last), 2),
            [order("a"), order("b")]
        );
        assert_eq!(
            wanted(next.into_iter().take(1), Some(&last), 3),
            [order("a"), order("z"), order("z")]
        );
        assert_eq!(wanted([].into_iter(), None, 3), []);
        assert_eq!(wanted([].into_iter(), Some(&last), 0), []);
    }

    #[test]
    fn another_model_mode_or_environment_is_another_binding() {
        let spec = TaskSpec::default();
        let plain = Binding::of(&spec, "local", "a");
        assert_ne!(plain, Binding::of(&spec, "local", "b"));
        assert_ne!(plain, Binding::of(&spec, "remote", "a"));
        let asking = TaskSpec {
            mode: Mode::Ask,
            ..spec.clone()
        };
        assert_ne!(plain, Binding::of(&asking, "local", "a"));
        let other = TaskSpec {
            environment: [("LANG".to_owned(), "C".to_owned())].into(),
            ..spec
        };
        assert_ne!(plain, Binding::of(&other, "local", "a"));
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    /// The limit after each second of a load.
    fn follow(limit: &mut AutoLimit, load: Load, seconds: std::ops::Range<u64>) -> u16 {
        for second in seconds {
            limit.observe(&load, at(second));
        }
        limit.limit()
    }

    #[test]
    fn it_grows_step_by_step_to_one_more_than_the_slots() {
        let mut limit = AutoLimit::default();
        let load = Load {
            endpoint_slots: 4,
            ..Load::default()
        };
        assert_eq!(follow(&mut limit, load, 0..3), 2);
        assert_eq!(follow(&mut limit, load, 3..4), 3);
        assert_eq!(follow(&mut limit, load, 4..60), 5);
    }

    #[test]
    fn agents_that_are_busy_elsewhere_make_room_for_others_but_never_for_more_than_ten() {
        let load = Load {
            endpoint_slots: 2,
            elsewhere: 3,
            ..Load::default()
        };
        assert_eq!(follow(&mut AutoLimit::default(), load, 0..100), 6);
        let load = Load {
            endpoint_slots: 64,
            ..Load::default()
        };
        assert_eq!(follow(&mut AutoLimit::default(), load, 0..100), AUTO_MAX);
    }

    #[test]
    fn a_short_change_changes_nothing() {
        let mut limit = AutoLimit::default();
        let four = Load {
            endpoint_slots: 4,
            ..Load::default()
        };
        follow(&mut limit, four, 0..60);
        let one = Load {
            endpoint_slots: 1,
            ..Load::default()
        };
        assert_eq!(follow(&mut limit, one, 60..89), 5);
        assert_eq!(follow(&mut limit, four, 89..100), 5);
        assert_eq!(follow(&mut limit, one, 100..131), 4);
    }

    #[test]
    fn a_busy_or_full_machine_lets_no_more_work() {
        let busy = Load {
            endpoint_slots: 8,
            load_per_core: 3.0,
            working: 3,
            ..Load::default()
        };
        assert_eq!(useful(&busy), 3);
        let full = Load {
            endpoint_slots: 8,
            free_kib: Some(300 << 10),
            working: 3,
            ..Load::default()
        };
        assert_eq!(useful(&full), 4);
    }
}
