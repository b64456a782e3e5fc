//! A task submitted → acknowledged durable, beside what the disk itself costs.
//!
//! The engine's loop on its own thread over SQLite, as in the server, against a bare append and
//! `fdatasync` of the same bytes to a file in the same folder. Both are measured in turns in one
//! run, so that a slow moment of the disk meets both; medians are compared. Run it with
//! `cargo bench --bench durable_submit` on the disk that is of interest (`BENCH_DIR=…`).
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark measures real time, prints, and has nothing to do when it fails"
)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;

use warpsquad::core::command::{Command, NewTask, Request};
use warpsquad::core::event::{Actor, Event, TaskEvent, What};
use warpsquad::core::settings::MaxAgents;
use warpsquad::core::task::{Blocked, Task, TaskSpec};
use warpsquad::core::{TaskId, Timestamp};
use warpsquad::engine::{EngineHandle, EngineLoop, EngineSettings};
use warpsquad::store::SqliteStore;

const ROUNDS: u32 = 200;
const TOGETHER: u32 = 64;

fn main() {
    let top = std::env::var_os("BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(top).expect("a folder on the disk to measure");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let engine = start(folder.path());
    let bytes = written();
    let mut file = File::create(folder.path().join("bare")).expect("a file");
    let mut alone = Vec::new();
    let mut bare = Vec::new();
    for round in 0..ROUNDS {
        bare.push(timed(|| append(&mut file, &bytes)));
        alone.push(timed(|| runtime.block_on(submit(engine.clone(), round))));
    }
    let together = timed(|| runtime.block_on(submit_together(&engine)));
    report(
        bytes.len(),
        median(bare),
        median(alone),
        together / TOGETHER,
    );
}

fn start(folder: &Path) -> EngineHandle {
    let store = SqliteStore::open(&folder.join("tasks.db")).expect("a store");
    let settings = EngineSettings {
        max: MaxAgents::Fixed(10),
        ..EngineSettings::default()
    };
    let (engine, handle, effects) =
        EngineLoop::start(store, settings, || now().into()).expect("an engine");
    thread::spawn(move || {
        // No agent starts here, but somebody must be there to be asked.
        let _effects = effects;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(engine.run())
            .expect("the engine runs");
    });
    handle
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::default().plus(since.unwrap_or_default())
}

fn spec(number: u32) -> TaskSpec {
    let prompt = format!("{number}: {}", "make the parser accept comments ".repeat(8));
    TaskSpec {
        prompt,
        repo: "/home/user/project".into(),
        ..TaskSpec::default()
    }
}

/// What one submission leaves behind: the task and its first event.
fn written() -> Vec<u8> {
    let task = Task::new(TaskId(1), spec(1), Blocked::No, now());
    let what = What::Task {
        task: task.id,
        event: TaskEvent::Submitted,
    };
    let event = Event {
        sequence: 1,
        at: now(),
        by: Actor::squad(),
        what,
    };
    let mut bytes = serde_json::to_vec(&task).expect("JSON");
    bytes.extend(serde_json::to_vec(&event).expect("JSON"));
    bytes
}

fn append(file: &mut File, bytes: &[u8]) {
    file.write_all(bytes).expect("written");
    file.sync_data().expect("synced");
}

async fn submit(engine: EngineHandle, number: u32) {
    let tasks = vec![NewTask {
        spec: spec(number),
        after_index: vec![],
    }];
    let request = Request {
        by: Actor::squad(),
        command: Command::Submit { tasks },
    };
    engine.command(request).await.expect("accepted");
}

async fn submit_together(engine: &EngineHandle) {
    let mut asking = JoinSet::new();
    for number in 0..TOGETHER {
        asking.spawn(submit(engine.clone(), number));
    }
    asking.join_all().await;
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn report(bytes: usize, bare: Duration, alone: Duration, together: Duration) {
    let ratio = |time: Duration| time.as_secs_f64() / bare.as_secs_f64();
    println!("{ROUNDS} rounds, medians; {bytes} bytes a task");
    println!("append + fdatasync              {bare:>10.1?}");
    println!(
        "submitted -> durable            {alone:>10.1?}  {:.2} x",
        ratio(alone)
    );
    println!(
        "the same, {TOGETHER} at once, each     {together:>10.1?}  {:.2} x",
        ratio(together)
    );
}
