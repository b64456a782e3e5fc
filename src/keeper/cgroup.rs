//! Limits that the kernel enforces, in a control group of each job.
//!
//! Only where a group of cgroup v2 was delegated to the squad: it says so itself (systemd's
//! `Delegate=yes` leaves the attribute `user.delegate`), or the keeper is alone in it and may write.
//! Groups of others are never touched. The keeper and whoever shares its group move into a leaf,
//! because a group with processes of its own hands no controllers down:
//!
//! ```text
//! delegated group ─┬─ keeper            keeper, server, zygote
//!                  └─ jobs              what is limited for all of them together
//!                       ├─ job-1        one job with everything that it started
//!                       └─ job-2
//! ```
//!
//! Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, and "Control Group APIs and
//! Delegation" of systemd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Attribute of a group that systemd has delegated.
const DELEGATED: &str = "user.delegate";
/// Processes are moved out of the delegated group this often, because they may start others.
const MOVES: usize = 8;
/// Microseconds in which `cpu.max` is counted.
const PERIOD: u64 = 100_000;

/// What a job may use; 0 is no limit. Only enforced where the kernel does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory of the job; above it all of its processes are killed.
    pub memory: u64,
    /// Processes of the job; above it none can be started.
    pub processes: u64,
    /// What all jobs together may use from now on; none leaves it as it is.
    pub squad: Option<SquadLimits>,
}

/// What all jobs may use together; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SquadLimits {
    /// Bytes of memory; above it the kernel chooses a job whose processes are all killed.
    pub memory: u64,
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

/// The groups of the squad.
#[derive(Debug)]
pub(super) struct Cgroups {
    jobs: PathBuf,
    controllers: Vec<Controller>,
    /// Groups of jobs that are over in which something was still ending.
    leaving: Vec<PathBuf>,
}

impl Cgroups {
    /// Takes the group in which this process is, if it was delegated.
    pub(super) fn claim() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let group = own_group(&mounts, &groups)?;
        let claimed = Self::claim_at(&group, std::process::id());
        match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::info!(group = %group.display(), %error, "no control groups");
                None
            }
        }
    }

    fn claim_at(group: &Path, own: u32) -> io::Result<Option<Self>> {
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
        if wanted.is_empty() || !(is_alone || is_delegated(group)) {
            return Ok(None);
        }
        let (leaf, jobs) = (group.join("keeper"), group.join("jobs"));
        make(&leaf)?;
        move_all(group, &leaf)?;
        make(&jobs)?;
        for left in folders(&jobs) {
            end(&left);
        }
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
        for controller in &self.controllers {
            match controller {
                Controller::Memory => {
                    fs::write(path.join("memory.max"), most(limits.memory))?;
                    fs::write(path.join("memory.oom.group"), "1")?;
                }
                Controller::Pids => fs::write(path.join("pids.max"), most(limits.processes))?,
                Controller::Cpu | Controller::Other => {}
            }
        }
        if let Some(squad) = &limits.squad {
            self.limit_all(squad)?;
        }
        Ok(Room(path))
    }

    fn limit_all(&self, limits: &SquadLimits) -> io::Result<()> {
        for controller in &self.controllers {
            match controller {
                Controller::Memory => {
                    fs::write(self.jobs.join("memory.max"), most(limits.memory))?;
                }
                Controller::Cpu => {
                    let quota = most(limits.cpu.saturating_mul(PERIOD) / 100);
                    fs::write(self.jobs.join("cpu.max"), format!("{quota} {PERIOD}"))?;
                }
                Controller::Pids | Controller::Other => {}
            }
        }
        Ok(())
    }

    /// The job is over: whatever is left in its group is killed, and the group goes.
    pub(super) fn close(&mut self, room: Room) {
        if !end(&room.0) {
            self.leaving.push(room.0);
        }
    }
}

/// The group of one job.
#[derive(Debug)]
pub(super) struct Room(PathBuf);

impl Room {
    /// The file that takes the numbers of its processes.
    pub(super) fn door(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Moves a process in; what it starts from now on is in it as well.
    pub(super) fn admit(&self, pid: i32) -> io::Result<()> {
        fs::write(self.door(), pid.to_string())
    }

    /// Whether the kernel has killed it for its memory.
    pub(super) fn was_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|count| count.trim() != "0")
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
    if let Err(error) = fs::write(group.join("cgroup.kill"), "1") {
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

    #[test]
    fn a_group_is_taken_only_where_nobody_else_is_in_it() {
        let alone = group("cpuset cpu memory pids\n", &format!("{OWN}\n"));
        // The fake keeps its processes: moving stops after some rounds.
        let claimed = Cgroups::claim_at(alone.path(), OWN).unwrap().unwrap();
        assert_eq!(claimed.controllers(), Controller::ALL);
        assert_eq!(
            read(alone.path().join("keeper/cgroup.procs")),
            OWN.to_string()
        );
        let shared = group("memory pids\n", &format!("{OWN}\n17\n"));
        assert!(Cgroups::claim_at(shared.path(), OWN).unwrap().is_none());
        assert!(!shared.path().join("keeper").exists());
        let bare = group("hugetlb\n", &format!("{OWN}\n"));
        assert!(Cgroups::claim_at(bare.path(), OWN).unwrap().is_none());
        let root = group("memory\n", "");
        fs::remove_file(root.path().join("cgroup.type")).unwrap();
        assert!(Cgroups::claim_at(root.path(), OWN).unwrap().is_none());
    }

    #[test]
    fn a_job_gets_its_limits_and_those_of_all_stand_above_it() {
        let group = group("cpu memory pids\n", "");
        let mut claimed = Cgroups::claim_at(group.path(), OWN).unwrap().unwrap();
        let limits = Limits {
            memory: 1 << 30,
            processes: 256,
            squad: Some(SquadLimits {
                memory: 0,
                cpu: 150,
            }),
        };
        let room = claimed.room(3, &limits).unwrap();
        let jobs = group.path().join("jobs");
        assert_eq!(read(jobs.join("job-3/memory.max")), "1073741824");
        assert_eq!(read(jobs.join("job-3/memory.oom.group")), "1");
        assert_eq!(read(jobs.join("job-3/pids.max")), "256");
        assert_eq!(read(jobs.join("memory.max")), "max");
        assert_eq!(read(jobs.join("cpu.max")), "150000 100000");
        claimed.room(4, &Limits::default()).unwrap();
        assert_eq!(read(jobs.join("job-4/memory.max")), "max");
        assert_eq!(read(jobs.join("cpu.max")), "150000 100000", "as it was");
        room.admit(77).unwrap();
        assert_eq!(read(room.door()), "77");
        let events = jobs.join("job-3/memory.events");
        fs::write(&events, "oom 1\noom_kill 0\n").unwrap();
        assert!(!room.was_out_of_memory());
        fs::write(&events, "oom 1\noom_kill 3\n").unwrap();
        assert!(room.was_out_of_memory());
    }
}
