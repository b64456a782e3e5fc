//! How soon an agent works, what ten of them hold, and how busy slots are kept.
//!
//! Real Aider on the built-in simulator, the same repository of 100 files for both sides, all in one
//! run: plain Aiders started by this program beside a squad of the same build. What arrives at the
//! endpoint is timed by a forwarder in between. Linux only. Needs `WARPSQUAD_TEST_PYTHON`, an
//! interpreter with Aider (`tests/run` makes one); docs/performance.md has the figures.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures real time, prints, and has nothing to do when it fails"
)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

#[path = "agents/endpoint.rs"]
mod endpoint;
#[path = "agents/plain.rs"]
mod plain;
#[path = "agents/squad.rs"]
mod squad;

use endpoint::Endpoint;
use plain::Plain;
use squad::Squad;

/// Rounds of everything that is done by one agent alone.
const ROUNDS: usize = 5;
/// Agents at once.
const TEN: usize = 10;
/// Tasks of the measurement of utilisation.
const TASKS: usize = 60;
/// Nothing that is waited for takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(180);

fn main() {
    let python = PathBuf::from(std::env::var_os("WARPSQUAD_TEST_PYTHON").unwrap());
    let endpoint = Endpoint::start();
    if std::env::var_os("BENCH_UTILISATION").is_some() {
        return utilisation(&endpoint, &python);
    }
    println!("{ROUNDS} rounds alone, {TEN} at once; medians");
    let cold = plain_side(&endpoint, &python);
    println!("plain: {cold:.3?}");
    let ours = squad_side(&endpoint, &python);
    println!("squad: {ours:.3?}");
    println!("\n{:<44}{:>10}{:>10}{:>10}", "", "plain", "squad", "less");
    compare("first request, one agent, s", cold.alone, ours.alone);
    compare("first request, ten at once, median, s", cold.ten, ours.ten);
    compare(
        "first request, ten at once, last, s",
        cold.ten_last,
        ours.ten_last,
    );
    compare("ten at their prompts, s", cold.prompts, ours.prompts);
    compare(
        "memory of ten after one task each, MB",
        cold.memory,
        ours.memory,
    );
    println!(
        "from the command line to the first request: {:.3} s",
        ours.submitted
    );
    println!(
        "zygote until it is ready: {:.2} s of processor",
        ours.zygote
    );
    utilisation(&endpoint, &python);
}

/// Seconds and megabytes.
#[derive(Debug, Default)]
struct Side {
    alone: f64,
    ten: f64,
    ten_last: f64,
    prompts: f64,
    memory: f64,
    submitted: f64,
    zygote: f64,
}

fn plain_side(endpoint: &Endpoint, python: &Path) -> Side {
    let folder = tempfile::tempdir().unwrap();
    let repository = repository(&folder.path().join("repo"));
    let mut alone = Vec::new();
    for _ in 0..ROUNDS {
        endpoint.forget();
        let start = Instant::now();
        let _aider = Plain::one_shot(endpoint, python, &repository, 0);
        alone.push(endpoint.next() - start);
    }
    let worktrees = worktrees(&repository, folder.path());
    endpoint.forget();
    let start = Instant::now();
    let shots: Vec<_> = (0..TEN)
        .map(|n| Plain::one_shot(endpoint, python, &worktrees[n], n))
        .collect();
    let mut ten: Vec<Duration> = (0..TEN).map(|_| endpoint.next() - start).collect();
    drop(shots);
    let start = Instant::now();
    let mut waiting: Vec<_> = (0..TEN)
        .map(|n| Plain::interactive(endpoint, python, &worktrees[n]))
        .collect();
    for aider in &mut waiting {
        aider.until_prompt(1);
    }
    let prompts = start.elapsed();
    for (n, aider) in waiting.iter_mut().enumerate() {
        aider.say(&format!("one more\r\n@sim append f{n}.py := # {n}"));
    }
    for aider in &mut waiting {
        aider.until_prompt(2);
    }
    let memory = waiting.iter().map(Plain::memory).sum();
    Side {
        alone: median(&mut alone),
        ten: median(&mut ten),
        ten_last: ten.last().unwrap().as_secs_f64(),
        prompts: prompts.as_secs_f64(),
        memory,
        ..Side::default()
    }
}

fn squad_side(endpoint: &Endpoint, python: &Path) -> Side {
    let squad = Squad::start(
        endpoint,
        python,
        &format!("spare = {TEN}\nmax = {TEN}"),
        "diff",
    );
    // The first task tells the pool what to make ahead.
    let (prompts, zygote) = squad.first_task_and_prompts(TEN);
    let (mut alone, mut submitted) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        squad.until_ready(TEN);
        endpoint.forget();
        let start = Instant::now();
        let task = squad.add(n, "");
        let (at, wall) = endpoint.next_with_wall();
        submitted.push(at - start);
        alone.push(wall.saturating_sub(squad.assigned(task)));
        squad.until_done(task);
    }
    squad.until_ready(TEN);
    endpoint.forget();
    let first = squad.add_ten();
    let mut arrivals: Vec<u64> = (0..TEN).map(|_| endpoint.next_with_wall().1).collect();
    let begin = (0..TEN as u64)
        .map(|n| squad.assigned(first + n))
        .min()
        .unwrap();
    let mut ten: Vec<Duration> = arrivals
        .drain(..)
        .map(|at| Duration::from_millis(at.saturating_sub(begin)))
        .collect();
    (0..TEN as u64).for_each(|n| squad.until_done(first + n));
    let memory = squad.memory_of_ten_that_have_edited();
    let mut alone: Vec<_> = alone.into_iter().map(Duration::from_millis).collect();
    Side {
        alone: median(&mut alone),
        ten: median(&mut ten),
        ten_last: ten.last().unwrap().as_secs_f64(),
        prompts,
        memory,
        submitted: median(&mut submitted),
        zygote,
    }
}

/// Work queued, tasks of about ten seconds, a trivial verify command.
fn utilisation(endpoint: &Endpoint, python: &Path) {
    let squad = Squad::start(
        endpoint,
        python,
        &format!("spare = {TEN}\nmax = {TEN}"),
        "whole",
    );
    squad.first_task_and_prompts(TEN);
    let first = squad.add_many(TASKS, "slow");
    let (mut busy, mut slots) = (0, std::collections::BTreeMap::new());
    let mut queued_until = 0;
    let mut spans = Vec::new();
    for task in first..first + TASKS as u64 {
        squad.until_done(task);
        let attempt = squad.attempt(task);
        queued_until = queued_until.max(attempt.started);
        spans.push(attempt);
    }
    // While work was queued: what came after belongs to slots that had nothing more to do.
    for attempt in spans {
        let (begin, end) = (attempt.delivered, attempt.settled.min(queued_until));
        busy += end.saturating_sub(begin);
        let slot = slots.entry(attempt.slot).or_insert((begin, end));
        *slot = (slot.0.min(begin), slot.1.max(end));
    }
    let length: u64 = slots
        .values()
        .map(|(begin, _)| queued_until.saturating_sub(*begin))
        .sum();
    let share = 100.0 * busy as f64 / length as f64;
    let rate = squad.hit_rate() * 100.0;
    println!("\nutilisation, {TASKS} tasks on {TEN} slots while work was queued: {share:.1} %");
    println!("tasks that found an agent made ahead: {rate:.0} %");
}

fn repository(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q", "-b", "main"]);
    git(path, &["config", "user.name", "bench"]);
    git(path, &["config", "user.email", "bench@localhost"]);
    for n in 0..100 {
        let text = format!(
            "from f{m} import f{m}\n\n\ndef f{n}(x):\n    return f{m}(x) + {n}\n",
            m = (n + 1) % 100
        );
        std::fs::write(path.join(format!("f{n}.py")), text).unwrap();
    }
    git(path, &["add", "-A"]);
    git(path, &["commit", "-qm", "begin"]);
    path.to_owned()
}

fn worktrees(repository: &Path, folder: &Path) -> Vec<PathBuf> {
    let make = |n| {
        let path = folder.join(format!("plain-{n}"));
        let words = ["worktree", "add", "-q", "--detach", path.to_str().unwrap()];
        git(repository, &words);
        path
    };
    (0..TEN).map(make).collect()
}

fn git(directory: &Path, words: &[&str]) {
    let status = std::process::Command::new("git")
        .args(words)
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success());
}

fn compare(what: &str, plain: f64, squad: f64) {
    let less = 100.0 * (1.0 - squad / plain);
    println!("{what:<44}{plain:>10.3}{squad:>10.3}{less:>9.1} %");
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).unwrap().as_secs_f64()
}

/// Proportional set size of a process, megabytes.
fn memory(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1000.0 * 1.024
}

fn take<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(PATIENCE).unwrap()
}
