//! Jobs that come from the zygote: the real fork server with a shell in Aider's place.

use std::collections::BTreeMap;
use std::fs;

use tokio::sync::mpsc;
use warpsquad::keeper::{
    JobExit, JobSignal, JobSpec, KeeperClient, KeeperEvent, Origin, RefusalKind, ZygoteSpec,
    ZygoteState,
};

use super::squad::{
    PATIENCE, Squad, dies, exit_of, history_with, is_dead, kill, read_until, refusal,
};

const ZYGOTE: &str = include_str!("../../../assets/aider/zygote.py");
const LAUNCHER: &str = include_str!("../../fixtures/zygote/launch.py");
const AHEAD: &str = include_str!("../../fixtures/zygote/ahead.py");
const SHARE: &str = include_str!("../../../assets/aider/share.py");

/// The kind of zygote that these tests keep.
fn kind(squad: &Squad) -> ZygoteSpec {
    let dir = squad.file("zygote");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("zygote.py"), ZYGOTE).unwrap();
    fs::write(dir.join("launch.py"), LAUNCHER).unwrap();
    fs::write(dir.join("ahead.py"), AHEAD).unwrap();
    fs::write(dir.join("share.py"), SHARE).unwrap();
    let script = dir.join("zygote.py").display().to_string();
    let home = dir.join("home").display().to_string();
    let path = std::env::var("PATH").unwrap();
    ZygoteSpec {
        argv: ["python3", "-I", "-X", "utf8", &script, "-"]
            .map(String::from)
            .to_vec(),
        env: BTreeMap::from([("PATH".into(), path), ("SQUAD_AGENT_HOME".into(), home)]),
        cwd: dir,
        log: squad.file("zygote.log"),
    }
}

/// A forked job that runs `script`.
fn fork(squad: &Squad, id: &str, script: &str) -> JobSpec {
    JobSpec {
        argv: ["python3", "launch.py", "--", script]
            .map(String::from)
            .to_vec(),
        origin: Origin::Zygote,
        ..squad.terminal(id, "")
    }
}

type Events = mpsc::Receiver<KeeperEvent>;

/// Waits for an event that `wanted` makes something of.
async fn event<T>(
    events: &mut Events,
    what: &str,
    mut wanted: impl FnMut(KeeperEvent) -> Option<T>,
) -> T {
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = wanted(events.recv().await.unwrap()) {
                return found;
            }
        }
    });
    seen.await
        .unwrap_or_else(|_| panic!("it never happened that {what}"))
}

async fn ready(events: &mut Events) -> i32 {
    event(events, "the zygote is ready", |event| match event {
        KeeperEvent::Zygote(ZygoteState::Ready { pid, .. }) => Some(pid),
        _ => None,
    })
    .await
}

async fn started(events: &mut Events, id: &str) -> i32 {
    event(events, "the fork has a process", |event| match event {
        KeeperEvent::JobStarted { job, pid } if job == id => Some(pid),
        _ => None,
    })
    .await
}

async fn ended(events: &mut Events, id: &str) -> JobExit {
    event(events, "the fork ends", |event| match event {
        KeeperEvent::JobExited { job, exit } if job == id => Some(exit),
        _ => None,
    })
    .await
}

/// A keeper with a zygote that is ready; its process.
async fn with_zygote() -> (Squad, KeeperClient, Events, i32) {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let kind = kind(&squad);
    assert_eq!(client.zygote(kind).await.unwrap(), ZygoteState::Starting);
    let pid = ready(&mut events).await;
    (squad, client, events, pid)
}

#[tokio::test]
async fn without_a_zygote_a_fork_is_refused_and_leaves_no_job() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let refused = client.spawn(fork(&squad, "agent-1-1", "true")).await;
    assert_eq!(refusal(refused), RefusalKind::NoZygote);
    assert_eq!(client.jobs().await.unwrap(), []);
}

#[tokio::test]
async fn a_fork_has_a_terminal_a_session_and_an_environment_of_its_own() {
    let (squad, client, mut events, zygote) = with_zygote().await;
    let script = "tty; ps -o pid=,sid=,ppid= -p $$ | tr -s ' '; env | sort > env.fork; \
                  ls -l /proc/$$/fd > fds.fork; pwd; echo ready; read line; exit 3";
    let mut spec = fork(&squad, "agent-1-1", script);
    spec.env.insert("ONLY".into(), "this".into());
    let spawned = client.spawn(spec).await.unwrap();
    assert_eq!((spawned.fresh, spawned.job.pid), (true, 0));
    let pid = started(&mut events, "agent-1-1").await;
    let said = history_with(&client, "agent-1-1", "ready").await;
    let keeper = squad.keeper.id();
    assert!(said.contains("/dev/pts/"), "{said}");
    assert!(said.contains(&format!("{pid} {pid} {keeper}")), "{said}");
    assert!(said.contains(squad.directory.path().to_str().unwrap()));
    assert_ne!(pid, zygote);
    let env = fs::read_to_string(squad.file("env.fork")).unwrap();
    assert!(
        env.contains("ONLY=this\n") && env.contains("SQUAD_JOB=agent-1-1\n"),
        "{env}"
    );
    assert!(!env.contains("SQUAD_AGENT_HOME"), "{env}");
    let fds = fs::read_to_string(squad.file("fds.fork")).unwrap();
    // The shell itself holds its terminal and the file that it writes to.
    let own = |line: &&str| line.contains("/dev/pts/") || line.ends_with("fds.fork");
    let foreign = fds.lines().filter(|line| line.contains("->") && !own(line));
    assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&str>::new());
    client.write("agent-1-1", b"go\n").await.unwrap();
    let exit = ended(&mut events, "agent-1-1").await;
    assert_eq!(
        (exit.code, exit.signal, exit.refused),
        (Some(3), None, None)
    );
    assert!(exit.peak_kib > 500, "{}", exit.peak_kib);
}

#[tokio::test]
async fn the_processor_time_of_a_child_is_reported_with_its_end() {
    let (squad, client, mut events, _) = with_zygote().await;
    let script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
    client.spawn(fork(&squad, "busy", script)).await.unwrap();
    client.spawn(squad.file_job("idle", "true")).await.unwrap();
    let busy = ended(&mut events, "busy").await;
    let idle = exit_of(&client, "idle").await;
    assert!(busy.cpu_ms > idle.cpu_ms, "{busy:?} {idle:?}");
}

#[tokio::test]
async fn forks_outlive_their_zygote_and_another_one_takes_its_place() {
    let (squad, client, mut events, first) = with_zygote().await;
    let script = "echo up; read line; echo got $line; read line; exit 5";
    client
        .spawn(fork(&squad, "agent-1-1", script))
        .await
        .unwrap();
    let pid = started(&mut events, "agent-1-1").await;
    history_with(&client, "agent-1-1", "up").await;

    kill(first, "-KILL");
    let second = ready(&mut events).await;
    assert_ne!(first, second);
    assert!(!is_dead(pid));
    let mut pty = client.attach("agent-1-1").await.unwrap();
    client.write("agent-1-1", b"this\n").await.unwrap();
    read_until(&mut pty, "got this").await;
    client.write("agent-1-1", b"\n").await.unwrap();
    assert_eq!(ended(&mut events, "agent-1-1").await.code, Some(5));

    client
        .spawn(fork(&squad, "agent-2-1", "exit 6"))
        .await
        .unwrap();
    assert_eq!(ended(&mut events, "agent-2-1").await.code, Some(6));
}

#[tokio::test]
async fn a_zygote_that_does_not_answer_is_replaced_and_what_it_owed_is_refused() {
    let (squad, client, mut events, first) = with_zygote().await;
    kill(first, "-STOP");
    client
        .spawn(fork(&squad, "agent-1-1", "true"))
        .await
        .unwrap();
    let exit = ended(&mut events, "agent-1-1").await;
    assert_eq!((exit.code, exit.signal), (None, None));
    let why = exit.refused.unwrap();
    assert!(why.contains("did not answer in time"), "{why}");
    dies(first).await;
    ready(&mut events).await;
    client.forget("agent-1-1").await.unwrap();
    client
        .spawn(fork(&squad, "agent-1-1", "exit 4"))
        .await
        .unwrap();
    assert_eq!(ended(&mut events, "agent-1-1").await.code, Some(4));
}

#[tokio::test]
async fn a_job_that_is_stopped_before_it_is_forked_never_works() {
    let (squad, client, mut events, zygote) = with_zygote().await;
    kill(zygote, "-STOP");
    let script = "touch worked; exec sleep 1000";
    client
        .spawn(fork(&squad, "agent-1-1", script))
        .await
        .unwrap();
    client.signal("agent-1-1", JobSignal::Term).await.unwrap();
    kill(zygote, "-CONT");
    let exit = ended(&mut events, "agent-1-1").await;
    assert_eq!(exit.signal, Some(9));
    client
        .spawn(fork(&squad, "agent-2-1", "exit 0"))
        .await
        .unwrap();
    assert_eq!(ended(&mut events, "agent-2-1").await.code, Some(0));
}

#[tokio::test]
async fn forks_and_their_zygote_die_with_the_keeper() {
    let (mut squad, client, mut events, zygote) = with_zygote().await;
    let script = "trap '' HUP; echo up; sleep 1000";
    client
        .spawn(fork(&squad, "agent-1-1", script))
        .await
        .unwrap();
    let pid = started(&mut events, "agent-1-1").await;
    history_with(&client, "agent-1-1", "up").await;
    squad.keeper.kill().unwrap();
    squad.wait();
    dies(pid).await;
    dies(zygote).await;
}

#[tokio::test]
async fn asking_for_another_kind_replaces_the_zygote_and_the_same_kind_does_not() {
    let (squad, client, mut events, first) = with_zygote().await;
    let same = client.zygote(kind(&squad)).await.unwrap();
    assert!(matches!(same, ZygoteState::Ready { pid, .. } if pid == first));
    let mut other = kind(&squad);
    other.env.insert("SQUAD_GENERATION".into(), "2".into());
    client.zygote(other).await.unwrap();
    assert_ne!(ready(&mut events).await, first);
    dies(first).await;
}

#[tokio::test]
async fn a_zygote_that_cannot_work_is_reported_as_failed() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let mut broken = kind(&squad);
    broken.argv = ["sh", "-c", "exit 1"].map(String::from).to_vec();
    client.zygote(broken).await.unwrap();
    let why = event(&mut events, "the zygote has failed", |event| match event {
        KeeperEvent::Zygote(ZygoteState::Failed { why }) => Some(why),
        _ => None,
    })
    .await;
    assert_eq!(why, "it ended (exit status: 1)");
}
