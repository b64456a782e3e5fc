//! The keeper as a real process: jobs, terminals, deaths of every kind.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so by failing"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::Instant;
use warpsquad::core::Epoch;
use warpsquad::keeper::launch::ensure_running_from;
use warpsquad::keeper::{
    AttachedPty, JobExit, JobSignal, JobSpec, KeeperClient, KeeperEvent, KeeperOptions, Output,
    RefusalKind, stop_running, sweep_orphans,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_warpsquad");
const PATIENCE: Duration = Duration::from_secs(30);
const SERVER: Epoch = Epoch(1);

/// A keeper in a directory of its own. Whatever a test does, nothing of it survives.
struct Squad {
    directory: TempDir,
    keeper: Child,
}

impl Squad {
    async fn start() -> Self {
        Self::with_server(&[]).await
    }

    async fn with_server(server: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let keeper = start_keeper(directory.path(), server);
        let squad = Self { directory, keeper };
        let socket = squad.options().paths.socket();
        eventually("the keeper listens", async || {
            UnixStream::connect(&socket).await.ok()
        })
        .await;
        squad
    }

    fn options(&self) -> KeeperOptions {
        options(self.directory.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("keeper.log")).unwrap()
    }

    async fn connect(&self) -> KeeperClient {
        KeeperClient::connect(&self.options().paths.socket(), SERVER)
            .await
            .unwrap()
    }

    /// A job in a terminal that runs `script`.
    fn terminal(&self, id: &str, script: &str) -> JobSpec {
        JobSpec {
            id: id.into(),
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            env: BTreeMap::from([("PATH".into(), std::env::var("PATH").unwrap())]),
            cwd: self.directory.path().to_owned(),
            output: Output::Pty { cols: 80, rows: 24 },
            nice: 0,
            time_limit: None,
            meta: String::new(),
        }
    }

    /// A job that writes to the file `<id>.out`.
    fn file_job(&self, id: &str, script: &str) -> JobSpec {
        let output = Output::File(self.file(&format!("{id}.out")));
        JobSpec {
            output,
            ..self.terminal(id, script)
        }
    }

    fn output(&self, id: &str) -> String {
        fs::read_to_string(self.file(&format!("{id}.out"))).unwrap_or_default()
    }

    fn wait(&mut self) -> ExitStatus {
        self.keeper.wait().unwrap()
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        drop(self.keeper.kill());
        drop(self.keeper.wait());
        sweep_orphans(&self.options().paths.data, None);
    }
}

fn options(directory: &Path) -> KeeperOptions {
    KeeperOptions::new(&directory.join("run"), &directory.join("data"))
}

/// Started with a descriptor too many, as a careless shell would.
fn start_keeper(directory: &Path, server: &[&str]) -> Child {
    let mut options = options(directory);
    options.server = server.iter().map(Into::into).collect();
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("keeper.log"))
        .unwrap();
    Command::new("sh")
        .args(["-c", r#"exec 7</dev/null; exec "$0" "$@""#, PROGRAM])
        .args(options.to_args())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Asks again and again until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads until `text` was seen; returns everything that was read.
async fn read_until(pty: &mut AttachedPty, text: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(text) {
            let bytes = pty
                .read()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("ended after {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    assert!(read.is_ok(), "{text:?} was never seen in {seen:?}");
    seen
}

/// What the keeper itself has read so far, once it contains `text`.
async fn history_with(client: &KeeperClient, id: &str, text: &str) -> String {
    eventually(&format!("{text:?} is in the ring of {id}"), async || {
        let pty = client.attach(id).await.unwrap();
        let history = String::from_utf8(pty.history().unwrap().1).unwrap();
        history.contains(text).then_some(history)
    })
    .await
}

async fn exit_of(client: &KeeperClient, id: &str) -> JobExit {
    eventually(&format!("job {id} ends"), async || {
        client
            .jobs()
            .await
            .unwrap()
            .into_iter()
            .find(|job| job.id == id)
            .and_then(|job| job.exit)
    })
    .await
}

/// A process that is gone, or waits for a parent that never asks.
fn is_dead(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

async fn dies(pid: i32) {
    eventually(&format!("process {pid} dies"), async || {
        is_dead(pid).then_some(())
    })
    .await;
}

async fn pid_in(path: &Path) -> i32 {
    eventually(
        &format!("{} holds a process id", path.display()),
        async || {
            let text = fs::read_to_string(path).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        },
    )
    .await
}

fn kill(pid: i32, signal: &str) {
    let killed = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

fn refusal<T: std::fmt::Debug>(result: Result<T, warpsquad::keeper::ClientError>) -> RefusalKind {
    result.unwrap_err().refusal().unwrap()
}

#[tokio::test]
async fn asking_again_for_a_job_returns_the_same_one_also_after_its_end() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let spec = squad.terminal("agent-1-1", "read line; exit 7");

    let first = client
        .spawn(JobSpec {
            meta: "token".into(),
            ..spec.clone()
        })
        .await
        .unwrap();
    let again = client.spawn(spec.clone()).await.unwrap();
    assert!(first.fresh && !again.fresh);
    assert_eq!(again.job, first.job);
    client
        .spawn(squad.file_job("a-later-one", "true"))
        .await
        .unwrap();
    let ids: Vec<String> = client
        .jobs()
        .await
        .unwrap()
        .into_iter()
        .map(|job| job.id)
        .collect();
    assert_eq!(ids, ["agent-1-1", "a-later-one"]);

    client.write("agent-1-1", b"go\n").await.unwrap();
    let exit = loop {
        let event = events.recv().await.unwrap();
        if let KeeperEvent::JobExited { job, exit } = event
            && job == "agent-1-1"
        {
            break exit;
        }
    };
    assert_eq!(
        (exit.code, exit.signal, exit.timed_out),
        (Some(7), None, false)
    );
    let ended = client.spawn(spec.clone()).await.unwrap();
    assert!(!ended.fresh);
    assert_eq!(ended.job.exit, Some(exit));
    assert_eq!(ended.job.meta, "token");

    client.forget("agent-1-1").await.unwrap();
    assert!(client.spawn(spec).await.unwrap().fresh);
    assert_eq!(
        refusal(client.forget("agent-1-1").await),
        RefusalKind::JobRunning
    );
}

#[tokio::test]
async fn output_is_kept_while_nobody_reads_and_after_the_end() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let job = squad.terminal("a", "printf one; read line; printf two; exit 0");
    client.spawn(job).await.unwrap();
    history_with(&client, "a", "one").await;

    client.write("a", b"\n").await.unwrap();
    exit_of(&client, "a").await;
    let mut pty = client.attach("a").await.unwrap();
    let mut all = String::from_utf8(pty.history().unwrap().1).unwrap();
    while let Some(bytes) = pty.read().await.unwrap() {
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(all.starts_with("one") && all.ends_with("two"), "{all:?}");
}

#[tokio::test]
async fn reading_goes_to_the_server_and_back_to_the_keeper_without_a_gap() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "stty -echo; n=0; while echo line-$n; read x; do n=$((n+1)); done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "line-0").await;

    let mut pty = client.attach("a").await.unwrap();
    assert_eq!((pty.attached().cols, pty.attached().rows), (80, 24));
    assert_eq!(
        refusal(client.attach("a").await),
        RefusalKind::AttachedElsewhere
    );
    client.write("a", b"\n").await.unwrap();
    read_until(&mut pty, "line-1").await;
    // Whoever reads puts it into the ring first.
    assert!(
        String::from_utf8(pty.history().unwrap().1)
            .unwrap()
            .contains("line-1")
    );

    drop(pty);
    client.write("a", b"\n").await.unwrap();
    history_with(&client, "a", "line-2").await;

    // A server that is killed gives nothing back by itself.
    let mut pty = client.attach("a").await.unwrap();
    client.write("a", b"\n").await.unwrap();
    read_until(&mut pty, "line-3").await;
    std::mem::forget(pty);
    let next = KeeperClient::connect(&squad.options().paths.socket(), Epoch(2))
        .await
        .unwrap();
    next.write("a", b"\n").await.unwrap();
    let history = history_with(&next, "a", "line-4").await;
    let lines: Vec<&str> = history.split_whitespace().collect();
    assert_eq!(lines, ["line-0", "line-1", "line-2", "line-3", "line-4"]);
}

#[tokio::test]
async fn a_key_is_delivered_exactly_once() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    client
        .spawn(squad.terminal("a", "stty raw -echo; printf ready:; cat"))
        .await
        .unwrap();
    history_with(&client, "a", "ready:").await;

    let first = client.deliver("a", "prompt-1", b"once ").await.unwrap();
    let again = client.deliver("a", "prompt-1", b"once ").await.unwrap();
    assert!(first.fresh && !again.fresh);
    assert_eq!(first.cursor, 6);
    assert_eq!(again.cursor, first.cursor);
    let other = KeeperClient::connect(&squad.options().paths.socket(), Epoch(2))
        .await
        .unwrap();
    assert!(
        !other
            .deliver("a", "prompt-1", b"once ")
            .await
            .unwrap()
            .fresh
    );
    assert!(other.deliver("a", "prompt-2", b"end").await.unwrap().fresh);
    assert_eq!(history_with(&other, "a", "end").await, "ready:once end");
    assert_eq!(
        other.jobs().await.unwrap()[0].delivered,
        ["prompt-1", "prompt-2"]
    );
}

#[tokio::test]
async fn a_mebibyte_reaches_a_job_that_does_not_read_yet_and_holds_up_nobody() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let prompt: Vec<u8> = (0..1u32 << 20)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect();
    let script = "stty raw -echo; printf ready; head -c 1048576 | sha256sum; printf over";
    client.spawn(squad.terminal("slow", script)).await.unwrap();
    client.spawn(squad.terminal("other", "cat")).await.unwrap();
    history_with(&client, "slow", "ready").await;

    client.signal("slow", JobSignal::Stop).await.unwrap();
    client.deliver("slow", "big", &prompt).await.unwrap();
    client.write("other", b"still served\n").await.unwrap();
    history_with(&client, "other", "still served").await;
    client.signal("slow", JobSignal::Cont).await.unwrap();
    let history = history_with(&client, "slow", "over").await;
    let digest = Sha256::digest(&prompt);
    let expected = digest
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(history.contains(&expected), "{history}");
}

#[tokio::test]
async fn input_that_nobody_reads_is_bounded() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    client
        .spawn(squad.terminal("a", "stty raw -echo; printf ready; sleep 1000"))
        .await
        .unwrap();
    history_with(&client, "a", "ready").await;
    let piece = vec![b'x'; 12 << 20];
    client.write("a", &piece).await.unwrap();
    client.write("a", &piece).await.unwrap();
    assert_eq!(
        refusal(client.write("a", &piece).await),
        RefusalKind::QueueFull
    );
}

#[tokio::test]
async fn a_resize_reaches_the_terminal() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "trap 'stty size' WINCH; printf ready; while :; do read x; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    client.resize("a", 132, 50).await.unwrap();
    client.write("a", b"\n").await.unwrap();
    history_with(&client, "a", "50 132").await;
    let Output::Pty { cols, rows } = client.jobs().await.unwrap()[0].output else {
        panic!("no terminal")
    };
    assert_eq!((cols, rows), (132, 50));
}

#[tokio::test]
async fn a_job_has_exactly_its_own_environment_and_descriptors() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let nonce = client.welcome().nonce.clone();
    let data = squad.options().paths.data;
    for (id, is_terminal) in [("pty", true), ("file", false)] {
        let script = "env > env.$0; ls -l /proc/$$/fd > fds.$0; exec sleep 1000";
        let mut spec = if is_terminal {
            squad.terminal(id, "")
        } else {
            squad.file_job(id, "")
        };
        let path = std::env::var("PATH").unwrap();
        spec.argv = ["bash", "-c", script, id].map(String::from).to_vec();
        spec.env = BTreeMap::from([("PATH".into(), path.clone()), ("A".into(), "b c".into())]);
        let pid = client.spawn(spec).await.unwrap().job.pid;
        eventually("the job is there", async || {
            (fs::read(format!("/proc/{pid}/cmdline")).ok()? == b"sleep\x001000\x00").then_some(())
        })
        .await;

        let mut descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"], "{id}");

        let env = fs::read_to_string(squad.file(&format!("env.{id}"))).unwrap();
        // The shell's own additions.
        let own = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
        let mut env: Vec<&str> = env
            .lines()
            .filter(|line| !own.iter().any(|own| line.starts_with(own)))
            .collect();
        env.sort_unstable();
        let expected = [
            "A=b c".to_owned(),
            format!("PATH={path}"),
            format!("SQUAD_DATA={}", data.display()),
            format!("SQUAD_JOB={id}"),
            format!("SQUAD_KEEPER={nonce}"),
        ];
        assert_eq!(env, expected);
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_so_in_its_output() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let argv = vec!["no-such-program-here".to_owned()];
    client
        .spawn(JobSpec {
            argv,
            ..squad.file_job("a", "")
        })
        .await
        .unwrap();
    assert_eq!(exit_of(&client, "a").await.code, Some(127));
    assert!(
        squad
            .output("a")
            .contains("cannot start no-such-program-here"),
        "{}",
        squad.output("a")
    );

    let nowhere = JobSpec {
        cwd: squad.file("missing"),
        ..squad.terminal("b", "true")
    };
    assert_eq!(
        refusal(client.spawn(nowhere).await),
        RefusalKind::BadRequest
    );
    let empty = JobSpec {
        argv: Vec::new(),
        ..squad.terminal("c", "")
    };
    assert_eq!(refusal(client.spawn(empty).await), RefusalKind::BadRequest);
    assert_eq!(
        refusal(client.write("a", b"x").await),
        RefusalKind::NoTerminal
    );
    assert_eq!(refusal(client.attach("d").await), RefusalKind::UnknownJob);
}

#[tokio::test]
async fn a_job_over_its_time_limit_is_ended() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let time_limit = Some(Duration::from_millis(50));
    client
        .spawn(JobSpec {
            time_limit,
            ..squad.file_job("a", "sleep 1000")
        })
        .await
        .unwrap();
    let exit = exit_of(&client, "a").await;
    assert!(exit.timed_out && !exit.is_success());
    assert_eq!(exit.signal, Some(15));
}

#[tokio::test]
async fn a_job_that_ignores_the_polite_signal_is_killed() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "trap '' TERM; printf ready; while :; do sleep 1000; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    client
        .stop("a", JobSignal::Term, Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(exit_of(&client, "a").await.signal, Some(9));
    client
        .stop("a", JobSignal::Term, Duration::ZERO)
        .await
        .unwrap();
}

#[tokio::test]
async fn when_a_job_ends_all_of_it_ends() {
    let squad = Squad::start().await;
    let client = squad.connect().await;
    // One stays in the session, one leaves it and keeps its environment.
    let script = "sleep 1000 & echo $! > inside; \
        setsid sh -c 'echo $$ > outside; exec sleep 1000' & read x";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    let inside = pid_in(&squad.file("inside")).await;
    let outside = pid_in(&squad.file("outside")).await;
    client.write("a", b"\n").await.unwrap();
    exit_of(&client, "a").await;
    assert!(is_dead(inside) && is_dead(outside));
}

#[tokio::test]
async fn a_killed_server_is_started_again_and_its_jobs_do_not_notice() {
    let squad = Squad::with_server(&["sh", "-c", "echo $$ > server.pid; exec sleep 1000"]).await;
    let client = squad.connect().await;
    let job = client
        .spawn(squad.terminal("a", "exec cat"))
        .await
        .unwrap()
        .job;
    drop(client);
    let server = squad.file("server.pid");
    let first = pid_in(&server).await;
    fs::remove_file(&server).unwrap();
    kill(first, "-KILL");
    let second = pid_in(&server).await;
    fs::remove_file(&server).unwrap();
    assert_ne!(first, second);

    let client = squad.connect().await;
    assert_eq!(client.jobs().await.unwrap(), [job]);
    client.write("a", b"alive\n").await.unwrap();
    history_with(&client, "a", "alive").await;
}

#[tokio::test]
async fn a_server_that_keeps_ending_is_left_alone_for_a_minute() {
    let squad = Squad::with_server(&["sh", "-c", "echo start >> starts; exit 1"]).await;
    eventually("the keeper gives up for now", async || {
        squad
            .log()
            .contains("the next try is in a minute")
            .then_some(())
    })
    .await;
    assert_eq!(
        fs::read_to_string(squad.file("starts"))
            .unwrap()
            .lines()
            .count(),
        6
    );
    // The keeper itself goes on.
    assert!(squad.connect().await.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_says_stop_ends_the_keeper() {
    let directory = TempDir::new().unwrap();
    let mut keeper = start_keeper(directory.path(), &["sh", "-c", "exit 86"]);
    assert!(keeper.wait().unwrap().success());
    assert!(!options(directory.path()).paths.socket().exists());
}

#[tokio::test]
async fn a_killed_keeper_leaves_no_job_and_the_sweep_finds_the_rest() {
    let mut squad = Squad::start().await;
    let client = squad.connect().await;
    let mut events = client.take_events().unwrap();
    let script = "setsid sh -c 'echo $$ > grandchild; exec sleep 1000' & read x";
    let job = client.spawn(squad.terminal("a", script)).await.unwrap().job;
    let file_job = client
        .spawn(squad.file_job("b", "exec sleep 1000"))
        .await
        .unwrap()
        .job;
    let grandchild = pid_in(&squad.file("grandchild")).await;

    squad.keeper.kill().unwrap();
    squad.wait();
    assert_eq!(events.recv().await, Some(KeeperEvent::Disconnected));
    dies(job.pid).await;
    dies(file_job.pid).await;
    assert!(!is_dead(grandchild));
    // Somebody else's living keeper is spared, and so is another squad.
    let data = squad.options().paths.data;
    assert_eq!(sweep_orphans(&data, Some(&client.welcome().nonce)), 0);
    assert_eq!(sweep_orphans(&squad.file("other"), None), 0);
    assert_eq!(sweep_orphans(&data, None), 1);
    assert!(is_dead(grandchild));
}

#[tokio::test]
async fn a_new_keeper_sweeps_what_a_killed_one_left_and_takes_its_place() {
    let mut squad = Squad::start().await;
    let client = squad.connect().await;
    let script = "setsid sh -c 'echo $$ > grandchild; exec sleep 1000' & read x";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    let grandchild = pid_in(&squad.file("grandchild")).await;
    squad.keeper.kill().unwrap();
    squad.wait();
    squad.keeper = start_keeper(squad.directory.path(), &[]);
    let socket = squad.options().paths.socket();
    let next = eventually("the new keeper answers", async || {
        KeeperClient::connect(&socket, SERVER).await.ok()
    })
    .await;
    assert!(is_dead(grandchild));
    assert!(next.jobs().await.unwrap().is_empty());
    assert_ne!(next.welcome().nonce, client.welcome().nonce);
}

#[tokio::test]
async fn a_terminated_keeper_ends_everything_in_order() {
    let server = "trap 'echo server >> order; exit 0' TERM; \
        echo $$ > server.pid; while :; do sleep 0.01; done";
    let mut squad = Squad::with_server(&["sh", "-c", server]).await;
    pid_in(&squad.file("server.pid")).await;
    let client = squad.connect().await;
    let script = "trap 'echo job >> order; exit 0' TERM; \
         setsid env -i sh -c 'echo $$ > escaped; exec sleep 1000' & \
         printf ready; while :; do sleep 0.01; done";
    client.spawn(squad.terminal("a", script)).await.unwrap();
    history_with(&client, "a", "ready").await;
    let escaped = pid_in(&squad.file("escaped")).await;
    kill(squad.keeper.id().try_into().unwrap(), "-TERM");
    assert!(squad.wait().success());
    assert_eq!(
        fs::read_to_string(squad.file("order")).unwrap(),
        "server\njob\n"
    );
    assert!(is_dead(escaped));
    assert!(!squad.options().paths.socket().exists());
}

#[tokio::test]
async fn the_gateway_keeps_callers_while_no_server_is_there() {
    let squad = Squad::start().await;
    let address = squad.connect().await.welcome().gateway;
    let mut callers: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for caller in &mut callers {
        caller.write_all(b"hello").unwrap();
    }

    let client = squad.connect().await;
    let listener = TcpListener::from_std(client.gateway().await.unwrap()).unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
    for mut caller in callers {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept())
            .await
            .unwrap()
            .unwrap()
            .0;
        let mut accepted = accepted.into_std().unwrap();
        accepted.set_nonblocking(false).unwrap();
        let mut text = [0; 5];
        accepted.read_exact(&mut text).unwrap();
        accepted.write_all(&text).unwrap();
        caller.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }
}

#[tokio::test]
async fn a_second_keeper_is_refused() {
    let squad = Squad::start().await;
    let second = Command::new(PROGRAM)
        .args(squad.options().to_args())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(87));
    let said = String::from_utf8(second.stderr).unwrap();
    let expected = format!("(process {})", squad.keeper.id());
    assert!(
        said.contains("a keeper already runs") && said.contains(&expected),
        "{said}"
    );
    assert!(squad.connect().await.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_directory_open_to_others_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let runtime = directory.path().join("run");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let args = options(directory.path()).to_args();
    let refused = Command::new(PROGRAM).args(args).output().unwrap();
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("mode 0700")
    );
    assert_eq!(
        fs::metadata(&runtime).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    let squad = Squad::start().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let paths = squad.options().paths;
    assert_eq!(
        (mode(&paths.runtime), mode(&paths.socket())),
        (0o700, 0o600)
    );
}

#[tokio::test]
async fn an_older_server_is_shut_out() {
    let squad = Squad::start().await;
    let socket = squad.options().paths.socket();
    let old = KeeperClient::connect(&socket, Epoch(1)).await.unwrap();
    old.spawn(squad.terminal("a", "exec cat")).await.unwrap();
    let mut pty = old.attach("a").await.unwrap();
    let new = KeeperClient::connect(&socket, Epoch(2)).await.unwrap();
    old.disconnected().await;
    assert_eq!(
        pty.read().await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert!(old.jobs().await.is_err());
    assert_eq!(
        refusal(KeeperClient::connect(&socket, Epoch(1)).await),
        RefusalKind::StaleEpoch
    );
    new.attach("a").await.unwrap();
}

#[tokio::test]
async fn nonsense_on_the_socket_is_answered_with_an_error() {
    let squad = Squad::start().await;
    let stream = UnixStream::connect(squad.options().paths.socket())
        .await
        .unwrap();
    let mut stream = BufReader::new(stream);
    let mut ask = async |line: &[u8]| {
        stream.write_all(line).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    };
    for (line, kind) in [
        (&b"\xff\x00nonsense\n"[..], "bad_request"),
        (b"\n", "bad_request"),
        (b"{\"id\":5,\"method\":\"jobs\"}\n", "no_hello"),
        (
            b"{\"id\":6,\"v\":9,\"method\":\"dance\"}\n",
            "unknown_method",
        ),
        (
            b"{\"id\":7,\"method\":\"hello\",\"params\":{}}\n",
            "bad_request",
        ),
        (
            b"{\"id\":8,\"method\":\"hello\",\"params\":{\"epoch\":1,\"later\":2}}\n",
            "\"ok\"",
        ),
    ] {
        let answer = ask(line).await;
        assert!(answer.contains(kind), "{answer}");
    }
}

#[tokio::test]
async fn several_callers_start_one_detached_keeper_and_it_can_be_stopped() {
    let directory = TempDir::new().unwrap();
    let options = options(directory.path());
    let program = Path::new(PROGRAM);
    let (one, two) = tokio::join!(
        ensure_running_from(program, &options),
        ensure_running_from(program, &options),
    );
    one.unwrap();
    two.unwrap();
    let client = KeeperClient::connect(&options.paths.socket(), SERVER)
        .await
        .unwrap();
    let pid = client.welcome().pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(3)
        .unwrap()
        .to_owned();
    assert_eq!(session, pid.to_string());

    assert!(stop_running(&options.paths, PATIENCE).await.unwrap());
    client.disconnected().await;
    assert!(!stop_running(&options.paths, PATIENCE).await.unwrap());
    // The place is free at once.
    ensure_running_from(program, &options).await.unwrap();
    assert!(stop_running(&options.paths, PATIENCE).await.unwrap());
    dies(pid).await;
}
