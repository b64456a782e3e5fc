//! What process trees use: memory, processor time, number of processes.
//!
//! One pass over all processes answers for every tree. On Linux it reads `/proc` and memory is the
//! proportional set size, so that what forked agents share is counted once over all of them;
//! elsewhere memory is the resident size. A tree is a process, everything in its session and
//! everything below any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

use crate::core::medic::{Life, Vitals};
use crate::core::quota::Usage;

/// Clock ticks a second in `/proc`; Linux shows 100 on every machine that runs this.
const TICKS: u64 = 100;

/// One process of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    parent: u32,
    session: u32,
    life: Life,
    cpu_ms: u64,
}

/// The vitals of the trees that begin at `roots`; blocks for some milliseconds.
pub fn vitals(roots: &[u32]) -> BTreeMap<u32, Vitals> {
    let proc = Path::new("/proc");
    if proc.join("self/stat").exists() {
        return vitals_below(proc, roots);
    }
    let system = all_processes();
    let table = portable_table(&system);
    let memory = |pid: u32| {
        let process = system.process(sysinfo::Pid::from_u32(pid));
        process.map_or(0, sysinfo::Process::memory)
    };
    summed(&table, roots, memory)
}

/// The same from a `/proc` that lies elsewhere.
fn vitals_below(proc: &Path, roots: &[u32]) -> BTreeMap<u32, Vitals> {
    summed(&table(proc), roots, |pid| memory(proc, pid))
}

fn summed(
    table: &BTreeMap<u32, Process>,
    roots: &[u32],
    memory: impl Fn(u32) -> u64,
) -> BTreeMap<u32, Vitals> {
    let one = |root: u32| {
        let mut usage = Usage::default();
        for pid in tree(table, root) {
            let cpu = table.get(&pid).map_or(0, |process| process.cpu_ms);
            usage.memory += memory(pid);
            usage.cpu_ms += cpu;
            usage.processes += 1;
        }
        let life = table.get(&root).map_or(Life::Gone, |process| process.life);
        (root, Vitals { life, usage })
    };
    roots.iter().copied().map(one).collect()
}

/// Members of the tree of `root`.
fn tree(table: &BTreeMap<u32, Process>, root: u32) -> BTreeSet<u32> {
    let mut members: BTreeSet<u32> = table
        .iter()
        .filter(|(pid, process)| **pid == root || process.session == root)
        .map(|(pid, _)| *pid)
        .collect();
    // Parents may have higher numbers than their children: until nothing is added.
    loop {
        let before = members.len();
        let more = table
            .iter()
            .filter(|(_, process)| members.contains(&process.parent))
            .map(|(pid, _)| *pid);
        let more: Vec<u32> = more.collect();
        members.extend(more);
        if members.len() == before {
            return members;
        }
    }
}

fn table(proc: &Path) -> BTreeMap<u32, Process> {
    let Ok(entries) = std::fs::read_dir(proc) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(entry.path().join("stat")).ok()?;
            Some((pid, parse(&stat)?))
        })
        .collect()
}

/// `pid (name) state ppid pgrp session …`; a name may hold anything, even `) Z 1`.
fn parse(stat: &[u8]) -> Option<Process> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let id = |index: usize| u32::try_from(number(index)?).ok();
    let ticks: u64 = (11..=14).filter_map(number).sum();
    Some(Process {
        life: match *fields.first()? {
            "T" | "t" => Life::Stopped,
            "Z" | "X" => Life::Zombie,
            _ => Life::Running,
        },
        parent: id(1)?,
        session: id(3)?,
        cpu_ms: ticks * 1000 / TICKS,
    })
}

/// Bytes of a process: proportional, else resident.
fn memory(proc: &Path, pid: u32) -> u64 {
    let dir = proc.join(pid.to_string());
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(dir.join(file)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    field("smaps_rollup", "Pss:")
        .or_else(|| field("status", "VmRSS:"))
        .unwrap_or(0)
}

fn all_processes() -> System {
    let mut system = System::new();
    let kinds = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kinds);
    system
}

fn portable_table(system: &System) -> BTreeMap<u32, Process> {
    let entry = |(pid, process): (&sysinfo::Pid, &sysinfo::Process)| {
        let life = match process.status() {
            ProcessStatus::Stop | ProcessStatus::Tracing => Life::Stopped,
            ProcessStatus::Zombie | ProcessStatus::Dead => Life::Zombie,
            _ => Life::Running,
        };
        let process = Process {
            parent: process.parent().map_or(0, sysinfo::Pid::as_u32),
            session: process.session_id().map_or(0, sysinfo::Pid::as_u32),
            life,
            cpu_ms: process.accumulated_cpu_time(),
        };
        (pid.as_u32(), process)
    };
    system
        .processes()
        .iter()
        .filter(|(_, process)| process.thread_kind().is_none())
        .map(entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` with these processes: pid, parent, session, state, KiB.
    fn proc(processes: &[(u32, u32, u32, &str, u64)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, parent, session, state, kib) in processes {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            let stat = format!(
                "{pid} (a) Z) {state} {parent} 1 {session} 0 0 0 0 0 0 0 150 50 0 0 20 0 1 0 7\n"
            );
            std::fs::write(dir.join("stat"), stat).unwrap();
            let rollup =
                format!("5-7 ---p 00000000 00:00 0 [rollup]\nRss: 999999 kB\nPss:  {kib} kB\n");
            std::fs::write(dir.join("smaps_rollup"), rollup).unwrap();
        }
        std::fs::create_dir(proc.path().join("sys")).unwrap();
        proc
    }

    #[test]
    fn a_tree_is_a_session_and_everything_below_it() {
        let proc = proc(&[
            (1, 0, 1, "S", 1),
            (10, 1, 10, "S", 100),
            (11, 10, 10, "R", 20),
            // A session of its own, with a lower number than its parent.
            (5, 11, 5, "S", 3),
            // Its parent has ended, but it is still in the session.
            (12, 1, 10, "S", 4),
            (20, 1, 20, "T", 50),
        ]);
        let found = vitals_below(proc.path(), &[10, 20, 30]);
        let usage = |memory: u64, cpu_ms, processes| Usage {
            memory: memory * 1024,
            cpu_ms,
            processes,
            disk: None,
        };
        let vitals = |life, usage| Vitals { life, usage };
        assert_eq!(found[&10], vitals(Life::Running, usage(127, 8_000, 4)));
        assert_eq!(found[&20], vitals(Life::Stopped, usage(50, 2_000, 1)));
        assert_eq!(found[&30], vitals(Life::Gone, Usage::default()));
    }

    #[test]
    fn without_a_rollup_memory_is_what_is_resident() {
        let proc = proc(&[(10, 1, 10, "Z", 100)]);
        let dir = proc.path().join("10");
        std::fs::remove_file(dir.join("smaps_rollup")).unwrap();
        std::fs::write(dir.join("status"), "Name: a\nVmRSS:\t     8 kB\n").unwrap();
        let found = vitals_below(proc.path(), &[10]);
        assert_eq!(found[&10].usage.memory, 8 * 1024);
        assert_eq!(found[&10].life, Life::Zombie);
    }

    #[test]
    fn this_very_process_lives_and_has_memory() {
        let own = std::process::id();
        let found = vitals(&[own]);
        assert_eq!(found[&own].life, Life::Running);
        assert!(found[&own].usage.memory > 0);
        let system = all_processes();
        let elsewhere = portable_table(&system);
        assert_eq!(elsewhere[&own].life, Life::Running);
    }
}
