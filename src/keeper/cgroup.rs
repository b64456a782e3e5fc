//! Limits that the kernel enforces, in a control group of each job.
//!
//! Only where a group of cgroup v2 was delegated to the squad: it says so itself (systemd's
//! `Delegate=yes` leaves the attribute `user.delegate`), or the keeper is alone in it, may write, and
//! no systemd runs whose group it would be, as in a container.
//! Groups of others are never touched. The keeper and whoever shares its group move into a leaf,
//! because a group with processes of its own hands no controllers down; a keeper that is started in
//! such a leaf later takes the group above it.
//!
//! ```text
//! delegated group ─┬─ warpsquad-keeper             keeper, server, zygote, their terminal
//!                  └─ warpsquad-jobs-PID-NONCE     what all jobs of a keeper may use
//!                       ├─ job-1                   one job with everything that it started
//!                       └─ job-2
//! ```
//!
//! Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, and "Control Group APIs and
//! Delegation" of systemd.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Attribute of a group that systemd has delegated.
const DELEGATED: &str = "user.delegate";
/// Where the keeper is.
const LEAF: &str = "warpsquad-keeper";
/// What the jobs of a keeper are in begins with this, its process id and its nonce.
const JOBS: &str = "warpsquad-jobs";
/// It is there where systemd runs (`sd_booted`).
const SYSTEMD: &str = "/run/systemd/system";
/// Processes are moved out of the delegated group this often, because they may start others.
const MOVES: usize = 8;
/// Microseconds in which `cpu.max` is counted.
const PERIOD: u64 = 100_000;
/// The kernel counts threads, a quota counts processes: this many of the one are one of the other.
const THREADS: u64 = 8;

/// What a job may use; 0 is no limit. Only enforced where the kernel does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory; above it all of its processes are killed.
    pub memory: u64,
    /// Processes; with more than eight times as many threads none can be started.
    pub processes: u64,
}

/// What all jobs may use together; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SquadLimits {
    /// Processor time, per cent of one processor; more is held back.
    pub cpu: u64,
}

/// A controller of the kernel that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// `memory`
    Memory,
    /// `pids`
    Pids,
    /// `cpu`
    Cpu,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// Its name as the kernel has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Other => "other",
        }
    }
}

/// Who manages the groups of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Systemd,
    Nobody,
}

/// The groups of the squad.
#[derive(Debug)]
pub(super) struct Cgroups {
    jobs: PathBuf,
    controllers: Vec<Controller>,
    /// Groups of jobs that are over in which something was still ending.
    leaving: Vec<PathBuf>,
}

impl Cgroups {
    /// Takes the group in which this process is, if it was delegated, for the keeper of this nonce.
    pub(super) fn claim(nonce: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let group = own_group(&mounts, &groups)?;
        let manager = if Path::new(SYSTEMD).exists() {
            Manager::Systemd
        } else {
            Manager::Nobody
        };
        let claimed = Self::claim_at(&group, manager, std::process::id(), nonce);
        match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::info!(group = %group.display(), %error, "no control groups");
                None
            }
        }
    }

    fn claim_at(
        inside: &Path,
        manager: Manager,
        own: u32,
        nonce: &str,
    ) -> io::Result<Option<Self>> {
        let is_leaf = inside.file_name().is_some_and(|name| name == LEAF);
        let group = inside.parent().filter(|_| is_leaf).unwrap_or(inside);
        // The root of all groups has no type, and hands nothing down that is not its own.
        if !group.join("cgroup.type").exists() {
            return Ok(None);
        }
        let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
        let offered: Vec<&str> = offered.split_whitespace().collect();
        let wanted = Controller::ALL
            .into_iter()
            .filter(|controller| offered.contains(&controller.name()));
        let wanted: Vec<Controller> = wanted.collect();
        let is_alone = processes(group)?.iter().all(|pid| *pid == own);
        let is_free = is_alone && manager == Manager::Nobody;
        if wanted.is_empty() || !(is_free || is_delegated(group)) {
            return Ok(None);
        }
        let leaf = group.join(LEAF);
        make(&leaf)?;
        move_all(group, &leaf)?;
        sweep(group, own);
        let nonce: String = nonce.chars().take(8).collect();
        let jobs = group.join(format!("{JOBS}-{own}-{nonce}"));
        make(&jobs)?;
        let controllers: Vec<Controller> = wanted
            .into_iter()
            .filter(|controller| hand_down(group, *controller) && hand_down(&jobs, *controller))
            .collect();
        Ok((!controllers.is_empty()).then_some(Self {
            jobs,
            controllers,
            leaving: Vec::new(),
        }))
    }

    /// What is enforced.
    pub(super) fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// A group for one job, empty yet.
    pub(super) fn room(&mut self, number: u64, limits: &Limits) -> io::Result<Room> {
        self.leaving.retain(|left| !end(left));
        let path = self.jobs.join(format!("job-{number}"));
        make(&path)?;
        // It goes again if a limit cannot be set.
        let room = Room(path);
        for controller in &self.controllers {
            match controller {
                Controller::Memory => room.limit_memory(limits.memory)?,
                Controller::Pids => {
                    let most = most(limits.processes.saturating_mul(THREADS));
                    fs::write(room.0.join("pids.max"), most)?;
                }
                Controller::Cpu | Controller::Other => {}
            }
        }
        Ok(room)
    }

    /// From now on all jobs together may use this.
    pub(super) fn limit(&self, limits: SquadLimits) -> io::Result<()> {
        if !self.controllers.contains(&Controller::Cpu) {
            return Ok(());
        }
        let quota = most(limits.cpu.saturating_mul(PERIOD) / 100);
        fs::write(self.jobs.join("cpu.max"), format!("{quota} {PERIOD}"))
    }

    /// The job is over: whatever is left in its group is killed, and the group goes.
    pub(super) fn close(&mut self, mut room: Room) {
        let path = mem::take(&mut room.0);
        if !end(&path) {
            self.leaving.push(path);
        }
    }
}

/// The keeper ends: all jobs have.
impl Drop for Cgroups {
    fn drop(&mut self) {
        self.leaving.retain(|left| !end(left));
        end(&self.jobs);
    }
}

/// The group of one job; empty once it was closed.
#[derive(Debug)]
pub(super) struct Room(PathBuf);

impl Room {
    /// The file that takes the numbers of its processes.
    pub(super) fn door(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    fn limit_memory(&self, limit: u64) -> io::Result<()> {
        fs::write(self.0.join("memory.max"), most(limit))?;
        fs::write(self.0.join("memory.oom.group"), "1")?;
        let swap = self.0.join("memory.swap.max");
        // Swapped out it would only be slow; the file is missing where nothing can be.
        if limit > 0 && swap.exists() {
            fs::write(swap, "0")?;
        }
        Ok(())
    }

    /// Whether the kernel has killed it for its own limit, not for that of others or the machine.
    pub(super) fn was_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let happened = |name: &str| {
            let count = events.lines().find_map(|line| line.strip_prefix(name));
            count.is_some_and(|count| count.trim() != "0")
        };
        happened("oom ") && happened("oom_kill ")
    }
}

/// A job that never came to be leaves no group behind.
impl Drop for Room {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            end(&self.0);
        }
    }
}

/// Removes what keepers left behind that are gone.
fn sweep(group: &Path, own: u32) {
    for folder in folders(group) {
        let name = folder.file_name().and_then(|name| name.to_str());
        let words = name.and_then(|name| name.strip_prefix(JOBS)?.strip_prefix('-'));
        let pid = words.and_then(|words| words.split('-').next()?.parse::<u32>().ok());
        let is_there = |pid: u32| pid != own && Path::new("/proc").join(pid.to_string()).exists();
        if pid.is_some_and(|pid| !is_there(pid)) {
            for job in folders(&folder) {
                end(&job);
            }
            end(&folder);
        }
    }
}

/// A limit as the kernel takes it.
fn most(limit: u64) -> String {
    match limit {
        0 => "max".into(),
        limit => limit.to_string(),
    }
}

/// The directory of this process's group.
fn own_group(mounts: &str, groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let place = (fields.next()?, fields.next()?);
        (kind.split(' ').next() == Some("cgroup2")).then_some(place)
    })?;
    let inside = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(point).join(inside))
}

fn is_delegated(group: &Path) -> bool {
    let mut value = [0_u8; 8];
    let read = rustix::fs::getxattr(group, DELEGATED, &mut value);
    read.is_ok_and(|length| value.get(..length) == Some(b"1"))
}

fn processes(group: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect())
}

fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..MOVES {
        let inside = processes(from)?;
        if inside.is_empty() {
            return Ok(());
        }
        for pid in inside {
            // It may have ended.
            if let Err(error) = fs::write(to.join("cgroup.procs"), pid.to_string()) {
                tracing::debug!(%error, pid, "a process was not moved");
            }
        }
    }
    Ok(())
}

fn hand_down(group: &Path, controller: Controller) -> bool {
    let order = format!("+{}", controller.name());
    let handed = fs::write(group.join("cgroup.subtree_control"), order);
    if let Err(error) = &handed {
        tracing::info!(%error, controller = controller.name(), "a controller is not available");
    }
    handed.is_ok()
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries
        .filter(is_folder)
        .map(|entry| entry.path())
        .collect()
}

/// Kills all that is in a group and removes it; false when something is still ending.
fn end(group: &Path) -> bool {
    // Kernels before 5.14 lack this file: there the keeper's own sweep has to do.
    let kill = group.join("cgroup.kill");
    if kill.exists()
        && let Err(error) = fs::write(kill, "1")
    {
        tracing::debug!(%error, "a group cannot be killed");
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 4_242;

    /// A directory that looks like a group; it takes every order and does nothing about it.
    fn group(controllers: &str, inside: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", controllers),
            ("cgroup.procs", inside),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_group_of_this_process_is_found_below_its_mount() {
        let mounts = "25 1 0:22 / /proc rw - proc proc rw\n\
            30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = "1:name=systemd:/x\n0::/user.slice/squad.scope\n";
        let found = own_group(mounts, groups);
        let expected = "/sys/fs/cgroup/user.slice/squad.scope";
        assert_eq!(found.as_deref(), Some(Path::new(expected)));
        // A container sees its own group as the root of the mount.
        let mounts = mounts.replace(":26 / ", ":26 /docker/1 ");
        let found = own_group(&mounts, "0::/docker/1\n");
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(own_group(&mounts, "0::/elsewhere\n"), None);
        assert_eq!(own_group("", groups), None);
    }

    fn claim(group: &Path) -> Option<Cgroups> {
        Cgroups::claim_at(group, Manager::Nobody, OWN, "0123456789").unwrap()
    }

    #[test]
    fn a_group_is_taken_only_where_nobody_else_is_in_it() {
        let alone = group("cpuset cpu memory pids\n", &format!("{OWN}\n"));
        // The fake keeps its processes: moving stops after some rounds.
        let claimed = claim(alone.path()).unwrap();
        assert_eq!(claimed.controllers(), Controller::ALL);
        let moved = read(alone.path().join(LEAF).join("cgroup.procs"));
        assert_eq!(moved, OWN.to_string());
        let units = group("memory pids\n", &format!("{OWN}\n"));
        let claimed = Cgroups::claim_at(units.path(), Manager::Systemd, OWN, "0123");
        assert!(claimed.unwrap().is_none(), "it is systemd's");
        let shared = group("memory pids\n", &format!("{OWN}\n17\n"));
        assert!(claim(shared.path()).is_none());
        assert!(!shared.path().join(LEAF).exists());
        let bare = group("hugetlb\n", &format!("{OWN}\n"));
        assert!(claim(bare.path()).is_none());
        let root = group("memory\n", "");
        fs::remove_file(root.path().join("cgroup.type")).unwrap();
        assert!(claim(root.path()).is_none());
    }

    #[test]
    fn a_keeper_in_the_leaf_of_another_one_takes_the_group_above_and_leaves_its_jobs_alone() {
        let group = group("memory pids\n", "");
        let first = claim(group.path()).unwrap();
        let leaf = group.path().join(LEAF);
        fs::write(leaf.join("cgroup.procs"), "17\n18\n").unwrap();
        let alive = std::process::id();
        let others = format!("{JOBS}-{alive}-76543210");
        fs::create_dir(group.path().join(&others)).unwrap();
        fs::create_dir(group.path().join(format!("{JOBS}-4194305-gone"))).unwrap();
        let second = Cgroups::claim_at(&leaf, Manager::Nobody, OWN + 1, "abc");
        let second = second.unwrap().unwrap();
        assert_ne!(first.jobs, second.jobs);
        assert!(group.path().join(others).exists());
        let left = folders(group.path());
        assert!(
            !left
                .iter()
                .any(|it| it.ends_with(format!("{JOBS}-4194305-gone")))
        );
    }

    #[test]
    fn a_job_gets_its_limits_and_those_of_all_stand_above_it() {
        let group = group("cpu memory pids\n", "");
        let mut claimed = claim(group.path()).unwrap();
        let limits = Limits {
            memory: 1 << 30,
            processes: 256,
        };
        let room = claimed.room(3, &limits).unwrap();
        let jobs = claimed.jobs.clone();
        assert_eq!(read(jobs.join("job-3/memory.max")), "1073741824");
        assert_eq!(read(jobs.join("job-3/memory.oom.group")), "1");
        assert_eq!(read(jobs.join("job-3/pids.max")), "2048");
        claimed.limit(SquadLimits { cpu: 150 }).unwrap();
        assert_eq!(read(jobs.join("cpu.max")), "150000 100000");
        claimed.limit(SquadLimits::default()).unwrap();
        assert_eq!(read(jobs.join("cpu.max")), "max 100000");
        let free = claimed.room(4, &Limits::default()).unwrap();
        assert_eq!(read(free.0.join("memory.max")), "max");
        let events = jobs.join("job-3/memory.events");
        for (text, expected) in [
            ("oom 0\noom_kill 0\n", false),
            ("oom 1\noom_kill 3\n", true),
            ("oom 0\noom_kill 3\n", false),
            ("oom 2\noom_kill 0\n", false),
        ] {
            fs::write(&events, text).unwrap();
            assert_eq!(room.was_out_of_memory(), expected, "{text}");
        }
    }
}
