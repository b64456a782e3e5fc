//! The engine's loop over a journal that can fail: what is durable, what is refused, what is asked
//! for again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use warpsquad::core::command::{Command, NewTask, Refusal, RefusalKind, Reply, Request};
use warpsquad::core::event::{Actor, Event};
use warpsquad::core::settings::MaxAgents;
use warpsquad::core::task::{Blocked, Task, TaskSpec, TaskState, Workplace};
use warpsquad::core::{Epoch, TaskId, Timestamp};
use warpsquad::engine::journal::{EventFilter, JournalError, Loaded, TaskFilter, Transaction};
use warpsquad::engine::{
    Effect, EngineHandle, EngineLoop, EngineSettings, Fact, Input, Installation, Journal, Query,
    QueryReply, TaskFact, View,
};
use warpsquad::store::MemoryStore;

use crate::squad::catalogue;

/// A memory store on a disk that can be filled.
#[derive(Clone, Default)]
struct Disk {
    store: MemoryStore,
    full: Arc<AtomicBool>,
    commits: Arc<AtomicUsize>,
}

impl Disk {
    fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// What a new server would find.
    fn recorded(&self) -> Loaded {
        self.store.clone().load(1_000).unwrap()
    }

    fn states(&self) -> Vec<TaskState> {
        let mut tasks = self.recorded().tasks;
        tasks.sort_by_key(|task| task.id);
        tasks.iter().map(|task| task.state).collect()
    }
}

impl Journal for Disk {
    fn begin_epoch(&mut self) -> Result<Epoch, JournalError> {
        self.store.begin_epoch()
    }
    fn load(&mut self, finished: usize) -> Result<Loaded, JournalError> {
        self.store.load(finished)
    }
    fn commit(&mut self, transaction: &Transaction) -> Result<(), JournalError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(JournalError::Full);
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.store.commit(transaction)
    }
    fn task(&mut self, id: TaskId) -> Result<Option<Task>, JournalError> {
        self.store.task(id)
    }
    fn tasks(&mut self, filter: &TaskFilter) -> Result<Vec<Task>, JournalError> {
        self.store.tasks(filter)
    }
    fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>, JournalError> {
        self.store.events(filter)
    }
}

/// Tokio's clock, which the tests pause, as wall-clock time.
fn clock() -> Timestamp {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    Timestamp(1_000_000).plus(Instant::now() - *FIRST.get_or_init(Instant::now))
}

struct Running {
    handle: EngineHandle,
    effects: mpsc::Receiver<Effect>,
    engine: JoinSet<Result<(), JournalError>>,
}

/// An engine that has been told that agents can start.
async fn running(disk: &Disk) -> Running {
    let squad = start(disk);
    squad
        .report(Input::Catalogue {
            catalogue: catalogue(),
            changes: vec![],
        })
        .await;
    squad.report(ready()).await;
    squad
}

fn start(disk: &Disk) -> Running {
    let settings = EngineSettings {
        max: MaxAgents::Fixed(2),
        ..EngineSettings::default()
    };
    let (engine, handle, effects) =
        EngineLoop::start(disk.clone(), settings, || clock().into()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(engine.run());
    Running {
        handle,
        effects,
        engine: tasks,
    }
}

impl Running {
    async fn report(&self, input: Input) {
        self.handle.report(input).await.unwrap();
    }

    async fn about(&self, fact: Fact) {
        self.report(Input::Attempt {
            task: TaskId(1),
            number: 1,
            fact,
        })
        .await;
    }

    async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        self.handle
            .command(Request {
                by: Actor::squad(),
                command,
            })
            .await
    }

    async fn submit(&self, prompt: &str) -> Result<Reply, Refusal> {
        self.ask(submission(prompt, None)).await
    }

    async fn effect(&mut self) -> Effect {
        self.effects.recv().await.unwrap()
    }

    /// The view as soon as it is as `wanted`.
    async fn view(&self, wanted: impl Fn(&View) -> bool) -> Arc<View> {
        let mut views = self.handle.view();
        let view = views.wait_for(|view| wanted(view)).await.unwrap();
        Arc::clone(&view)
    }

    /// Task 1 in review with a commit, by the good way.
    async fn one_in_review(&mut self) {
        self.submit("do it").await.unwrap();
        assert!(matches!(self.effect().await, Effect::Prepare(_)));
        self.about(prepared()).await;
        assert!(matches!(self.effect().await, Effect::RunAgent(_)));
        self.about(Fact::Settled {
            head: "h".into(),
            commits: 1,
            answer: None,
        })
        .await;
        assert!(matches!(self.effect().await, Effect::StopAgent { .. }));
        let Effect::Verify(_) = self.effect().await else {
            panic!("not verified")
        };
        self.about(Fact::Verified(not_verified())).await;
        self.view(|view| view.count(TaskState::Review) == 1).await;
    }
}

fn ready() -> Input {
    Input::Installation(Installation::Ready {
        version: "0.86.2".into(),
    })
}

fn prepared() -> Fact {
    Fact::Prepared {
        workplace: workplace(),
        job: None,
    }
}

fn workplace() -> Workplace {
    Workplace {
        dir: "/w".into(),
        branch: "squad/1".into(),
        base_commit: "base".into(),
    }
}

fn not_verified() -> warpsquad::core::verify::VerifyReport {
    warpsquad::core::verify::VerifyReport {
        command: String::new(),
        outcome: warpsquad::core::verify::VerifyOutcome::NotVerified,
        baseline: None,
        run: None,
        log: None,
    }
}

fn submission(prompt: &str, key: Option<&str>) -> Command {
    let key = key.map(str::to_owned);
    let spec = TaskSpec {
        prompt: prompt.into(),
        key,
        ..TaskSpec::default()
    };
    Command::Submit {
        tasks: vec![NewTask {
            spec,
            after_index: vec![],
        }],
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with an answer")]
fn submitted(number: u64) -> Result<Reply, Refusal> {
    Ok(Reply::Submitted {
        tasks: vec![TaskId(number)],
    })
}

#[track_caller]
fn refused_for_the_disk(answer: Result<Reply, Refusal>) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.message.contains("disk is full"), "{refusal:?}");
    assert!(
        refusal.hints[0].contains("free some disk space"),
        "{refusal:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_after_the_record() {
    let disk = Disk::default();
    let squad = start(&disk);
    assert_eq!(squad.submit("do it").await, submitted(1));
    assert_eq!(disk.states(), [TaskState::Queued]);
}

#[tokio::test(start_paused = true)]
async fn an_effect_comes_after_the_record() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.submit("do it").await.unwrap();
    assert!(matches!(squad.effect().await, Effect::Prepare(_)));
    assert_eq!(disk.states(), [TaskState::Assigned]);
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_disk_was_busy_is_one_commit() {
    let disk = Disk::default();
    let settings = EngineSettings::default();
    let (engine, handle, _effects) =
        EngineLoop::start(disk.clone(), settings, || clock().into()).unwrap();
    let mut asking = JoinSet::new();
    for number in 0..100 {
        let handle = handle.clone();
        let command = submission(&format!("do {number}"), None);
        let request = Request {
            by: Actor::squad(),
            command,
        };
        asking.spawn(async move { handle.command(request).await.unwrap() });
    }
    // Every one of them has asked before the engine takes its first turn.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let mut running = JoinSet::new();
    running.spawn(engine.run());
    assert_eq!(asking.join_all().await.len(), 100);
    assert_eq!(disk.recorded().next_task, 101);
    assert_eq!(disk.commits.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_nothing_is_accepted_and_the_view_says_so() {
    let disk = Disk::default();
    let squad = running(&disk).await;
    squad.submit("kept").await.unwrap();
    disk.fill(true);
    refused_for_the_disk(squad.submit("refused").await);
    let view = squad.view(|view| view.store_fault.is_some()).await;
    assert_eq!(view.tasks.len(), 1, "the view is ahead of the disk");
    let query = squad.handle.query(Query::Task(TaskId(2))).await.unwrap();
    assert!(matches!(query, QueryReply::Tasks(tasks) if tasks.is_empty()));
    refused_for_the_disk(squad.ask(Command::Pause).await);
    disk.fill(false);
    squad.view(|view| view.store_fault.is_none()).await;
    assert_eq!(squad.submit("accepted").await, submitted(2));
}

#[tokio::test(start_paused = true)]
async fn after_a_full_disk_everything_outstanding_is_asked_for_again() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.submit("do it").await.unwrap();
    assert!(matches!(squad.effect().await, Effect::Prepare(_)));
    disk.fill(true);
    squad.about(prepared()).await;
    squad.view(|view| view.store_fault.is_some()).await;
    assert_eq!(disk.states(), [TaskState::Assigned]);
    disk.fill(false);
    let Effect::Prepare(again) = squad.effect().await else {
        panic!("not asked again")
    };
    assert_eq!(
        (again.state, again.attempt_number()),
        (TaskState::Assigned, 1)
    );
    squad.about(prepared()).await;
    assert!(matches!(squad.effect().await, Effect::RunAgent(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_never_recorded_is_not_lost_with_the_disk() {
    let disk = Disk::default();
    let mut squad = start(&disk);
    squad.submit("do it").await.unwrap();
    disk.fill(true);
    refused_for_the_disk(squad.ask(Command::Pause).await);
    squad
        .report(Input::Catalogue {
            catalogue: catalogue(),
            changes: vec![],
        })
        .await;
    squad.report(ready()).await;
    disk.fill(false);
    // Somebody else's word makes the engine look at its queue.
    squad.view(|view| view.store_fault.is_none()).await;
    assert!(matches!(squad.effect().await, Effect::Prepare(_)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_merge_is_answered_when_it_has_ended() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.one_in_review().await;
    let handle = squad.handle.clone();
    let merge = Command::Merge {
        task: TaskId(1),
        strategy: None,
    };
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        handle
            .command(Request {
                by: Actor::squad(),
                command: merge,
            })
            .await
    });
    assert!(matches!(squad.effect().await, Effect::Merge(..)));
    assert!(
        asking.try_join_next().is_none(),
        "answered before the merge"
    );
    let merged = TaskFact::Merged(Some("c".into()));
    squad
        .report(Input::Task {
            task: TaskId(1),
            fact: merged,
        })
        .await;
    assert_eq!(asking.join_next().await.unwrap().unwrap(), Ok(Reply::Done));
    assert_eq!(disk.states(), [TaskState::Merged]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_merge_on_a_full_disk_is_refused_not_forgotten() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.one_in_review().await;
    disk.fill(true);
    refused_for_the_disk(
        squad
            .ask(Command::Merge {
                task: TaskId(1),
                strategy: None,
            })
            .await,
    );
    assert_eq!(disk.states(), [TaskState::Review]);
}

#[tokio::test(start_paused = true)]
async fn a_new_engine_asks_again_for_everything_outstanding() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.submit("do it").await.unwrap();
    squad.effect().await;
    drop(squad);
    let mut squad = start(&disk);
    let Effect::Prepare(task) = squad.effect().await else {
        panic!("not asked again")
    };
    assert_eq!((task.id, task.attempt_number()), (TaskId(1), 1));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_replaced_stops_and_writes_nothing() {
    let disk = Disk::default();
    let mut old = start(&disk);
    let new = start(&disk);
    assert!(old.submit("too late").await.is_err());
    let end = old.engine.join_next().await.unwrap().unwrap();
    assert!(matches!(end, Err(JournalError::Fenced { .. })), "{end:?}");
    assert_eq!(new.submit("in time").await, submitted(1));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_replaced_while_its_disk_was_full_stops() {
    let disk = Disk::default();
    let mut old = start(&disk);
    disk.fill(true);
    refused_for_the_disk(old.submit("no").await);
    let _new = start(&disk);
    disk.fill(false);
    let end = old.engine.join_next().await.unwrap().unwrap();
    assert!(matches!(end, Err(JournalError::Fenced { .. })), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn time_alone_starts_the_next_attempt() {
    let disk = Disk::default();
    let mut squad = running(&disk).await;
    squad.submit("do it").await.unwrap();
    squad.effect().await;
    squad
        .about(Fact::Held {
            why: "no space".into(),
        })
        .await;
    assert!(matches!(squad.effect().await, Effect::StopAgent { .. }));
    let held = clock();
    let Effect::Prepare(task) = squad.effect().await else {
        panic!("not prepared")
    };
    assert_eq!(task.attempt_number(), 2);
    assert!(clock().since(held).as_secs() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_memory_has_forgotten_can_still_be_named() {
    let mut disk = Disk::default();
    let epoch = disk.begin_epoch().unwrap();
    let old = |number: u64| {
        let key = Some(format!("key {number}"));
        let spec = TaskSpec {
            prompt: "do it".into(),
            key,
            ..TaskSpec::default()
        };
        let mut task = Task::new(TaskId(number), spec, Blocked::No, Timestamp(1));
        task.state = TaskState::Cancelled;
        Arc::new(task)
    };
    let tasks = (1..=600).map(old).collect();
    let history = Transaction {
        epoch,
        tasks,
        next_task: 601,
        ..Transaction::default()
    };
    disk.commit(&history).unwrap();
    let squad = start(&disk);
    assert!(squad.view(|_| true).await.task(TaskId(1)).is_none());
    assert_eq!(
        squad.ask(submission("do it again", Some("key 1"))).await,
        submitted(1)
    );
    assert_eq!(
        squad.ask(Command::Retry { task: TaskId(2) }).await,
        Ok(Reply::Done)
    );
    let revived = squad.view(|view| view.task(TaskId(2)).is_some()).await;
    assert_eq!(revived.count(TaskState::Queued), 1);
    let unknown = squad
        .ask(Command::Retry { task: TaskId(601) })
        .await
        .unwrap_err();
    assert_eq!(unknown.kind, RefusalKind::User);
}
