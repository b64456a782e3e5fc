//! Limits that the kernel enforces: real control groups where this machine lets a test make one
//! (root with cgroup v2), and the same jobs without limits everywhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use tempfile::TempDir;
use tokio::net::UnixStream;
use warpsquad::keeper::{Controller, JobSpec, KeeperClient, Limits};

use super::squad::{PROGRAM, Squad, eventually, exit_of, is_dead, options};

const CONTROLLERS: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

/// A group that was made for a keeper, and goes with it.
struct Group(PathBuf);

impl Group {
    /// None where the kernel hands out no controllers to us.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))?
            .split(' ')
            .nth(4)?;
        let mount = Path::new(mount);
        for controller in CONTROLLERS {
            let order = format!("+{}", controller.name());
            fs::write(mount.join("cgroup.subtree_control"), order).ok()?;
        }
        let group = mount.join(format!("warpsquad-test-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        // As systemd does with `Delegate=yes`.
        let mark = rustix::fs::setxattr(&group, "user.delegate", b"1", XattrFlags::empty());
        mark.ok()?;
        Some(Self(group))
    }

    /// Groups of jobs.
    fn jobs(&self) -> Vec<PathBuf> {
        let named = |path: &PathBuf, begin: &str| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| name.starts_with(begin))
        };
        let keepers = below(&self.0)
            .into_iter()
            .filter(|path| named(path, "warpsquad-jobs-"));
        let all = keepers.flat_map(|path| below(&path));
        all.filter(|path| named(path, "job-")).collect()
    }
}

fn below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

impl Drop for Group {
    fn drop(&mut self) {
        // The keeper and its jobs have ended: its own leaf is what it cannot remove itself.
        drop(fs::remove_dir(self.0.join("warpsquad-keeper")));
        drop(fs::remove_dir(&self.0));
    }
}

/// A keeper in its own group, if there is one.
async fn keeper(group: Option<&Group>) -> Squad {
    let directory = TempDir::new().unwrap();
    let log = fs::File::create(directory.path().join("keeper.log")).unwrap();
    let door = group.map_or("/dev/null".into(), |it| it.0.join("cgroup.procs"));
    let keeper = Command::new("sh")
        .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
        .arg(door)
        .arg(PROGRAM)
        .args(options(directory.path()).to_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let squad = Squad { directory, keeper };
    let socket = squad.options().paths.socket();
    eventually("the keeper listens", async || {
        UnixStream::connect(&socket).await.ok()
    })
    .await;
    squad
}

fn limited(squad: &Squad, id: &str, script: &str) -> JobSpec {
    JobSpec {
        limits: Limits {
            memory: 64 << 20,
            processes: 2,
        },
        ..squad.file_job(id, script)
    }
}

/// Starts a process in a session of its own, with nothing in its environment, and says its number.
const STRAY: &str = "env -i setsid sh -c 'echo $$; exec sleep 1000' & \
    while [ ! -s stray.out ]; do sleep 0.01; done";

async fn enforced(group: &Group, squad: &Squad, client: &KeeperClient) {
    // tail keeps all of a line that does not end.
    let hog = "head -c 300000000 /dev/zero | tail -n 1 > /dev/null; echo survived";
    client.spawn(limited(squad, "hog", hog)).await.unwrap();
    let exit = exit_of(client, "hog").await;
    assert!(exit.out_of_memory, "{exit:?}");
    assert_eq!((exit.signal, squad.output("hog").as_str()), (Some(9), ""));

    let many = "for n in $(seq 40); do sleep 1000 & done; echo all of them";
    client.spawn(limited(squad, "many", many)).await.unwrap();
    let exit = exit_of(client, "many").await;
    assert!(!exit.is_success() && !exit.out_of_memory, "{exit:?}");
    assert!(!squad.output("many").contains("all of them"));

    client.spawn(limited(squad, "stray", STRAY)).await.unwrap();
    exit_of(client, "stray").await;
    let stray = squad.output("stray").trim().parse().unwrap();
    eventually("what left its session is gone", async || {
        is_dead(stray).then_some(())
    })
    .await;
    // A group in which something was still ending goes with the next job.
    client.spawn(limited(squad, "last", ":")).await.unwrap();
    exit_of(client, "last").await;
    assert!(group.jobs().len() <= 1, "{:?}", group.jobs());
}

#[tokio::test]
async fn the_kernel_enforces_the_limits_of_a_job_where_a_group_was_delegated() {
    let group = Group::new();
    let squad = keeper(group.as_ref()).await;
    let client = squad.connect().await;
    let controllers = client.welcome().controllers.clone();
    if let Some(group) = &group {
        assert_eq!(controllers, CONTROLLERS);
        enforced(group, &squad, &client).await;
    } else {
        client
            .spawn(limited(&squad, "free", "echo done"))
            .await
            .unwrap();
        let exit = exit_of(&client, "free").await;
        assert!(exit.is_success() && !exit.out_of_memory, "{exit:?}");
        assert_eq!(squad.output("free"), "done\n");
    }
    drop(client);
    drop(squad);
    if let Some(group) = group {
        let left = below(&group.0).into_iter().filter(|path| path.is_dir());
        let leaf = group.0.join("warpsquad-keeper");
        assert_eq!(left.collect::<Vec<_>>(), [leaf], "the keeper's own stays");
    }
}
