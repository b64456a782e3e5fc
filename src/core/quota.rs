//! Quotas: what an agent and the squad may use, and what follows from what they do use.
//!
//! At four fifths of a limit there is one warning, above it the task is stopped: it would meet the
//! same limit again, so no further attempt follows by itself. Its work stays where it is.
//!
//! Invariant: pure. Measurements come in; 0 means that there is no limit. Where the kernel enforces
//! limits it does so above them, so that what is measured is what is said first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::QuotaSettings;
use super::size::Bytes;

/// What an agent's process and everything it started use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Bytes of memory; what is shared is shared out (PSS), where the system tells.
    pub memory: u64,
    /// Processor time since the agent started, milliseconds.
    pub cpu_ms: u64,
    /// Processes.
    pub processes: u32,
    /// Bytes of its worktree on disk, once measured.
    pub disk: Option<u64>,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `quota.agent_memory`
    Memory,
    /// `quota.agent_cpu`
    Cpu,
    /// `quota.agent_processes`
    Processes,
    /// `quota.worktree_disk`
    Disk,
    /// `quota.task_tokens`
    Tokens,
    /// `quota.squad_memory`
    SquadMemory,
    /// `quota.squad_cpu`
    SquadCpu,
}

/// One resource, what is used of it and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    resource: Resource,
    used: u64,
    limit: u64,
}

/// What follows from a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It comes near its limit; said once.
    Warn(String),
    /// It is over its limit.
    Stop(String),
}

impl Reading {
    /// A reading of `resource`; a limit of 0 is none.
    pub fn new(resource: Resource, used: u64, limit: u64) -> Self {
        Self {
            resource,
            used,
            limit,
        }
    }

    fn is_over(self) -> bool {
        self.limit > 0 && self.used > self.limit
    }

    fn is_near(self) -> bool {
        self.limit > 0 && u128::from(self.used) * 5 >= u128::from(self.limit) * 4
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (self.used, self.limit);
        let seconds = |millis| millis / 1000;
        match self.resource {
            Resource::Memory => write!(f, "memory: {} of {}", Bytes(used), Bytes(limit)),
            Resource::Disk => write!(f, "worktree: {} of {}", Bytes(used), Bytes(limit)),
            Resource::SquadMemory => {
                write!(
                    f,
                    "memory of all agents: {} of {}",
                    Bytes(used),
                    Bytes(limit)
                )
            }
            Resource::Cpu => write!(
                f,
                "processor time: {} s of {} s",
                seconds(used),
                seconds(limit)
            ),
            Resource::SquadCpu => write!(
                f,
                "processor time of all agents over the last minute: {used} % of {limit} %"
            ),
            Resource::Processes => write!(f, "processes: {used} of {limit}"),
            Resource::Tokens => write!(f, "tokens: {used} of {limit}"),
        }
    }
}

/// What `usage` is of the limits for one agent.
pub fn of_agent(usage: &Usage, limits: &QuotaSettings) -> Vec<Reading> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    vec![
        Reading::new(Resource::Memory, usage.memory, limits.agent_memory as u64),
        Reading::new(Resource::Cpu, usage.cpu_ms, millis(limits.agent_cpu)),
        Reading::new(
            Resource::Processes,
            u64::from(usage.processes),
            u64::from(limits.agent_processes),
        ),
        Reading::new(
            Resource::Disk,
            usage.disk.unwrap_or_default(),
            limits.worktree_disk as u64,
        ),
    ]
}

/// The first reading that is near or over its limit, in words.
pub fn nearest(readings: &[Reading]) -> Option<String> {
    let near = readings.iter().find(|reading| reading.is_near())?;
    Some(format!("near its quota, {near}"))
}

/// What the kernel is told to enforce for `limit`: a quarter more.
pub fn hard(limit: u64) -> u64 {
    limit.saturating_add(limit / 4)
}

/// What the agents took of the processors over the last minute.
#[derive(Debug, Default)]
pub struct CpuRate {
    /// Time of a look, and the processor time of each process tree until then, milliseconds.
    seen: VecDeque<(Duration, BTreeMap<u32, u64>)>,
}

impl CpuRate {
    const WINDOW: Duration = Duration::from_secs(60);
    /// A build that starts takes all there is for a moment: that is no reason to stop it.
    const LEAST: Duration = Duration::from_secs(30);

    /// Takes the processor time of each process tree; what each of them took over the last minute,
    /// per cent of one processor, once enough was seen.
    pub fn look(&mut self, now: Duration, taken: BTreeMap<u32, u64>) -> Option<BTreeMap<u32, u64>> {
        self.seen.push_back((now, taken));
        let is_old = |(at, _): &(Duration, _)| now.saturating_sub(*at) > Self::WINDOW;
        while self.seen.front().is_some_and(is_old) {
            self.seen.pop_front();
        }
        let (begin, _) = self.seen.front()?;
        let span = now.saturating_sub(*begin);
        if span < Self::LEAST {
            return None;
        }
        let (_, taken) = self.seen.back()?;
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let share = |(pid, until): (&u32, &u64)| {
            // What it took before it was first seen is not of this time.
            let mut known = self.seen.iter().filter_map(|(_, taken)| taken.get(pid));
            let before = known.next().copied().unwrap_or(*until);
            (*pid, until.saturating_sub(before) * 100 / millis)
        };
        Some(taken.iter().map(share).collect())
    }
}

/// Turns readings into warnings, each once, and stops.
#[derive(Debug, Default)]
pub struct Meter {
    warned: BTreeSet<Resource>,
}

impl Meter {
    /// What follows from `readings`.
    pub fn judge(&mut self, readings: &[Reading]) -> Vec<Ruling> {
        readings
            .iter()
            .filter_map(|reading| self.one(*reading))
            .collect()
    }

    fn one(&mut self, reading: Reading) -> Option<Ruling> {
        if reading.is_over() {
            return Some(Ruling::Stop(format!("over its quota, {reading}")));
        }
        if reading.is_near() && self.warned.insert(reading.resource) {
            return Some(Ruling::Warn(format!("near its quota, {reading}")));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(used: u64) -> Reading {
        Reading::new(Resource::Memory, used << 20, 1000 << 20)
    }

    #[test]
    fn there_is_one_warning_at_four_fifths_and_a_stop_above() {
        let mut meter = Meter::default();
        assert_eq!(meter.judge(&[memory(799)]), []);
        let warned = meter.judge(&[memory(800)]);
        assert_eq!(
            warned,
            [Ruling::Warn(
                "near its quota, memory: 800.0 MiB of 1000.0 MiB".into()
            )]
        );
        assert_eq!(meter.judge(&[memory(900), memory(1000)]), []);
        assert!(matches!(
            meter.judge(&[memory(1001)]).as_slice(),
            [Ruling::Stop(_)]
        ));
    }

    #[test]
    fn the_settings_name_every_limit_of_an_agent() {
        let limits = QuotaSettings {
            agent_memory: 100,
            agent_cpu: Duration::from_secs(10),
            agent_processes: 5,
            worktree_disk: 50,
            ..QuotaSettings::default()
        };
        let usage = Usage {
            memory: 101,
            cpu_ms: 10_001,
            processes: 6,
            disk: Some(51),
        };
        let rulings = Meter::default().judge(&of_agent(&usage, &limits));
        assert_eq!(rulings.len(), 4, "{rulings:?}");
        assert!(rulings.iter().all(|it| matches!(it, Ruling::Stop(_))));
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute_and_of_those_who_are_there() {
        let mut rate = CpuRate::default();
        let mut at = |seconds, taken: &[(u32, u64)]| {
            let taken = taken.iter().copied().collect();
            let shares = rate.look(Duration::from_secs(seconds), taken)?;
            Some(shares.into_iter().collect::<Vec<_>>())
        };
        // An agent that took two hours before is no heavier than a fresh one.
        assert_eq!(at(0, &[(1, 7_200_000)]), None);
        assert_eq!(at(20, &[(1, 7_220_000), (2, 5_000)]), None);
        assert_eq!(
            at(40, &[(1, 7_220_000), (2, 15_000)]),
            Some(vec![(1, 50), (2, 25)])
        );
        assert_eq!(at(60, &[(2, 45_000)]), Some(vec![(2, 66)]));
        assert_eq!(at(120, &[(2, 45_000)]), Some(vec![(2, 0)]));
    }

    #[test]
    fn the_kernel_enforces_a_quarter_more() {
        assert_eq!([hard(0), hard(400), hard(u64::MAX)], [0, 500, u64::MAX]);
    }

    proptest! {
        #[test]
        fn without_a_limit_nothing_ever_follows(used: u64) {
            let reading = Reading::new(Resource::Tokens, used, 0);
            prop_assert!(Meter::default().judge(&[reading]).is_empty());
        }

        #[test]
        fn a_stop_comes_exactly_above_the_limit(used: u64, limit in 1_u64..) {
            let reading = Reading::new(Resource::Tokens, used, limit);
            let stops = matches!(Meter::default().judge(&[reading]).as_slice(), [Ruling::Stop(_)]);
            prop_assert_eq!(stops, used > limit);
        }
    }
}
