//! How soon the dashboard stands, and what a squad costs that has nothing to do.
//!
//! The real binary of the same build in folders of its own, with a simulated endpoint. Three parts:
//! from the start of the client in a terminal to its first painted dashboard (beside the start of
//! the program alone and `tmux attach`, in turns); processor time and wake-ups of server, keeper
//! and client while nothing happens; their memory. Linux only, because all of it is read from
//! `/proc`. `BENCH_SECONDS` is the length of an idle stretch; docs/performance.md has the figures.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark measures real time, prints, and has nothing to do when it fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use warpsquad::pty::{Screen, Size};
use warpsquad::simulator::{Scenario, serve};

const PROGRAM: &str = env!("CARGO_BIN_EXE_warpsquad");
const ROUNDS: usize = 15;
/// Until start-up work is over, and its threads, which tokio keeps for ten seconds.
const SETTLE: Duration = Duration::from_secs(12);
/// Nothing that is waited for takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first words of the dashboard.
const PAINTED: &str = "squad ·";
/// The name of tmux's session, with which its status line begins.
const SESSION: &str = "bench";

fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok();
    let stretch = seconds.map_or(30, |text| text.parse().unwrap());
    let squad = Squad::start();
    attach(&squad);
    let processes = [("server", squad.server), ("keeper", squad.keeper)];
    println!("\nidle, no client, {stretch} s");
    idle(&processes, Duration::from_secs(stretch));
    memory(&processes);
    let client = Terminal::start(&squad.words(&[]), PAINTED);
    let processes = [processes[0], processes[1], ("client", client.pid())];
    println!("\nidle, one client attached, {stretch} s");
    idle(&processes, Duration::from_secs(stretch));
    memory(&processes);
}

fn attach(squad: &Squad) {
    let tmux = Tmux::start(&squad.folder);
    let (mut painted, mut spent, mut alone, mut other) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        alone.push(Terminal::start(&squad.words(&["--version"]), "warpsquad").after);
        let client = Terminal::start(&squad.words(&[]), PAINTED);
        painted.push(client.after);
        spent.push(since(&usage(client.pid()), &Threads::new()).busy);
        drop(client);
        other.extend(tmux.as_ref().map(|tmux| tmux.attach().after));
    }
    let base = median(alone);
    let line = |what, time: Duration| {
        let ratio = time.as_secs_f64() / base.as_secs_f64();
        println!("{what:<34}{time:>10.1?}  {ratio:.2} x");
    };
    println!("{ROUNDS} rounds, medians");
    line("start of the program (--version)", base);
    line("client: start -> first dashboard", median(painted));
    if !other.is_empty() {
        line("tmux attach: start -> first screen", median(other));
    }
    println!("{:<34}{:>10.1?}", "client: processor time", median(spent));
}

fn idle(processes: &[(&str, u32)], stretch: Duration) {
    thread::sleep(SETTLE);
    let before: Vec<_> = processes.iter().map(|(_, pid)| usage(*pid)).collect();
    let start = Instant::now();
    thread::sleep(stretch);
    let passed = start.elapsed();
    for ((name, pid), before) in processes.iter().zip(before) {
        let Usage { busy, wakes } = since(&usage(*pid), &before);
        let share = 100.0 * busy.as_secs_f64() / passed.as_secs_f64();
        println!("{name:<10}{busy:>10.1?}  {share:.4} % of one core  {wakes} wake-ups");
    }
}

/// A page that n processes share counts 1/n in each of them, so the sum is what is really used.
fn memory(processes: &[(&str, u32)]) {
    let mut sum = 0.0;
    for (name, pid) in processes {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let mebibytes = |key: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key));
            let text = line.and_then(|rest| rest.split_whitespace().next());
            text.unwrap().parse::<f64>().unwrap() / 1024.0
        };
        let (pss, own) = (mebibytes("Pss:"), mebibytes("Pss_Anon:"));
        sum += pss;
        println!("{name:<10}{pss:>6.1} MiB PSS, of it {own:.1} MiB heap and stacks");
    }
    println!("{:<10}{sum:>6.1} MiB PSS", "together");
}

/// What one thread has used since it started.
#[derive(Default, Clone, Copy)]
struct Usage {
    busy: Duration,
    /// How often it went to sleep by itself, which is as often as something woke it.
    wakes: u64,
}

type Threads = BTreeMap<PathBuf, Usage>;

fn usage(pid: u32) -> Threads {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = threads.map(|thread| thread.unwrap().path());
    threads
        .filter_map(|thread| Some((thread.clone(), of_thread(&thread)?)))
        .collect()
}

/// Nothing when the thread has just ended.
fn of_thread(thread: &Path) -> Option<Usage> {
    let schedule = fs::read_to_string(thread.join("schedstat")).ok()?;
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let busy = schedule.split_whitespace().next()?.parse().ok()?;
    let mut lines = status.lines();
    let wakes = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    Some(Usage {
        busy: Duration::from_nanos(busy),
        wakes: wakes.trim().parse().ok()?,
    })
}

/// The sum over all threads since `before`.
fn since(now: &Threads, before: &Threads) -> Usage {
    let mut sum = Usage::default();
    for (thread, now) in now {
        let before = before.get(thread).copied().unwrap_or_default();
        sum.busy += now.busy.saturating_sub(before.busy);
        sum.wakes += now.wakes - before.wakes;
    }
    sum
}

/// A running squad; it ends with this value.
struct Squad {
    folder: TempDir,
    server: u32,
    keeper: u32,
}

impl Squad {
    fn start() -> Self {
        let mut squad = Self {
            folder: tempfile::tempdir().unwrap(),
            server: 0,
            keeper: 0,
        };
        squad.configure();
        squad.call(&["server"]);
        let view: serde_json::Value =
            serde_json::from_str(&squad.call(&["status", "--json"])).unwrap();
        squad.server = u32::try_from(view["pid"].as_u64().unwrap()).unwrap();
        squad.keeper = parent(squad.server);
        squad
    }

    /// As on a machine where Aider stands: it has been checked, which a squad does once. No agent is
    /// made ahead: benches/agents.rs says what those cost.
    fn configure(&self) {
        let folder = self.folder.path();
        let config = [
            "[agents]\nfork = false\nspare = 0\npython = \"/usr/bin/python3\"\n",
            "[[endpoints]]\nname = \"bench\"\n",
            &format!("url = \"{}\"\n", endpoint()),
        ];
        fs::write(folder.join("config.toml"), config.concat()).unwrap();
        fs::create_dir(folder.join("data")).unwrap();
        let checked = r#"{"python":"/usr/bin/python3","aider":"0.86.2"}"#;
        fs::write(folder.join("data/python-checked.json"), checked).unwrap();
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let path = |name| self.folder.path().join(name).display().to_string();
        let mut line = vec![PROGRAM.to_owned()];
        line.extend(["--data-dir".into(), path("data")]);
        line.extend(["--config".into(), path("config.toml")]);
        line.extend(words.iter().map(ToString::to_string));
        line
    }

    fn call(&self, words: &[&str]) -> String {
        let words = self.words(words);
        let output = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        let words = self.words(&["stop", "--now"]);
        // A second panic would hide the first.
        drop(Command::new(PROGRAM).args(&words[1..]).output());
    }
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    after_name
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// A simulated Ollama inside this process: one that ran the same binary would share its pages.
fn endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let scenario = Scenario::builtin("default").unwrap();
        runtime
            .block_on(serve(listener, scenario, CancellationToken::new()))
            .unwrap();
    });
    url
}

/// A program in a terminal of its own, which has painted what was waited for.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    after: Duration,
    _master: Box<dyn MasterPty + Send>,
    /// When it is dropped, the program gets an end of file.
    _input: Box<dyn Write + Send>,
}

impl Terminal {
    fn start(words: &[String], painted: &str) -> Self {
        let (rows, cols) = (40, 120);
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let output = read(pair.master.try_clone_reader().unwrap());
        let mut input = pair.master.take_writer().unwrap();
        let mut command = CommandBuilder::from_argv(words.iter().map(Into::into).collect());
        command.cwd(std::env::temp_dir());
        command.env("TERM", "xterm-256color");
        command.env_remove("TMUX");
        let start = Instant::now();
        let child = pair.slave.spawn_command(command).unwrap();
        let mut screen = Screen::new(Size::new(cols, rows), 0);
        let after = loop {
            let Ok((at, bytes)) = output.recv_timeout(PATIENCE) else {
                panic!("{words:?} shows no {painted:?}:\n{}", screen.text());
            };
            screen.feed(&bytes);
            input.write_all(&screen.take_replies()).unwrap();
            if screen.text().contains(painted) {
                break at - start;
            }
        };
        // What follows is read and thrown away, or the program would stand still.
        thread::spawn(move || while output.recv().is_ok() {});
        Self {
            child,
            after,
            _master: pair.master,
            _input: input,
        }
    }

    fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

/// Chunks with the moment at which they came; the program waits when nobody takes them.
fn read(mut from: Box<dyn Read + Send>) -> Receiver<(Instant, Vec<u8>)> {
    let (sender, receiver) = sync_channel(64);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let chunk = (Instant::now(), buffer[..count].to_vec());
            if sender.send(chunk).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A server of tmux with one session, where tmux is installed.
struct Tmux {
    words: Vec<String>,
}

impl Tmux {
    fn start(folder: &TempDir) -> Option<Self> {
        let socket = folder.path().join("tmux").display().to_string();
        let words = ["tmux", "-f", "/dev/null", "-S", &socket].map(String::from);
        let status = Command::new("tmux")
            .args(&words[1..])
            .args(["new-session", "-d", "-s", SESSION, "cat"])
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self {
            words: words.into(),
        })
    }

    fn attach(&self) -> Terminal {
        let words = [self.words.as_slice(), &["attach".into()]].concat();
        Terminal::start(&words, SESSION)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut ending = Command::new("tmux");
        drop(ending.args(&self.words[1..]).arg("kill-server").status());
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
