//! One suite for both stores: what the engine relies on, run against each of them.

use std::sync::Arc;

use tempfile::TempDir;

use crate::core::event::{Actor, Event, SquadEvent, TaskEvent, What};
use crate::core::router::Learned;
use crate::core::task::{Blocked, Task, TaskSpec, TaskState, Tokens, Workplace};
use crate::core::{AgentSlot, Epoch, TaskId, Timestamp};
use crate::engine::journal::{EventFilter, Journal, JournalError, Loaded, TaskFilter, Transaction};

use super::{MemoryStore, SqliteStore};

/// A place that can be opened again, as after a crash.
trait Place {
    type Store: Journal;
    fn open(&self) -> Self::Store;
    fn prune(store: &mut Self::Store, before: Timestamp) -> u64;
}

impl Place for MemoryStore {
    type Store = Self;
    fn open(&self) -> Self {
        self.clone()
    }
    fn prune(store: &mut Self, before: Timestamp) -> u64 {
        store.prune(before).unwrap()
    }
}

impl Place for TempDir {
    type Store = SqliteStore;
    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path().join("data/tasks.db")).unwrap()
    }
    fn prune(store: &mut SqliteStore, before: Timestamp) -> u64 {
        store.prune(before).unwrap()
    }
}

macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(&super::MemoryStore::new()); })*
        }
        mod sqlite {
            $(#[test] fn $test() { super::$test(&tempfile::tempdir().unwrap()); })*
        }
    };
}

contract!(
    an_empty_store_starts_counting_at_one,
    what_was_committed_is_there_after_a_reopen,
    every_kind_of_event_comes_back_as_it_was,
    epochs_grow_by_one_each_start,
    an_older_epoch_writes_nothing,
    a_batch_is_written_whole_or_not_at_all,
    a_task_replaces_its_older_self,
    open_tasks_are_loaded_however_old,
    the_last_two_hundred_events_come_oldest_first,
    tasks_are_filtered_and_come_newest_first,
    events_are_filtered_and_come_oldest_first,
    a_prompt_of_ten_megabytes_is_kept,
    any_text_is_kept,
    an_empty_commit_keeps_what_is_there,
    pruning_keeps_open_tasks_and_never_reuses_a_number,
);

pub(super) fn task(number: u64, state: TaskState) -> Arc<Task> {
    let spec = TaskSpec {
        prompt: format!("do {number}"),
        ..TaskSpec::default()
    };
    let mut task = Task::new(TaskId(number), spec, Blocked::No, Timestamp(number));
    task.state = state;
    Arc::new(task)
}

pub(super) fn event(sequence: u64, task: u64, event: TaskEvent) -> Arc<Event> {
    let what = What::Task {
        task: TaskId(task),
        event,
    };
    Arc::new(Event {
        sequence,
        at: Timestamp(sequence),
        by: Actor::squad(),
        what,
    })
}

fn noted(sequence: u64) -> Arc<Event> {
    let what = What::Squad {
        event: SquadEvent::CatalogueChanged {
            what: "a model".into(),
        },
    };
    Arc::new(Event {
        sequence,
        at: Timestamp(sequence),
        by: Actor::squad(),
        what,
    })
}

/// A batch with the numbers that follow from what is in it.
pub(super) fn batch(epoch: Epoch, tasks: &[Arc<Task>], events: &[Arc<Event>]) -> Transaction {
    Transaction {
        epoch,
        tasks: tasks.to_vec(),
        events: events.to_vec(),
        paused: false,
        learned: None,
        next_task: tasks.iter().map(|task| task.id.0).max().unwrap_or(0) + 1,
    }
}

fn numbers(tasks: &[Task]) -> Vec<u64> {
    tasks.iter().map(|task| task.id.0).collect()
}

fn sequences(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

fn an_empty_store_starts_counting_at_one(place: &impl Place) {
    let empty = Loaded {
        next_task: 1,
        next_event: 1,
        ..Loaded::default()
    };
    assert_eq!(place.open().load(10).unwrap(), empty);
}

fn what_was_committed_is_there_after_a_reopen(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let queued = task(1, TaskState::Queued);
    let submitted = event(1, 1, TaskEvent::Submitted);
    let written = Transaction {
        paused: true,
        ..batch(epoch, &[Arc::clone(&queued)], &[Arc::clone(&submitted)])
    };
    store.commit(&written).unwrap();
    drop(store);
    let expected = Loaded {
        tasks: vec![Task::clone(&queued)],
        next_task: 2,
        next_event: 2,
        recent: vec![Event::clone(&submitted)],
        paused: true,
        learned: Learned::default(),
    };
    let mut store = place.open();
    assert_eq!(store.load(10).unwrap(), expected);
    assert_eq!(store.task(TaskId(1)).unwrap(), Some(Task::clone(&queued)));
    assert_eq!(store.task(TaskId(2)).unwrap(), None);
}

fn every_kind_of_event_comes_back_as_it_was(place: &impl Place) {
    let workplace = Workplace {
        dir: "/w".into(),
        branch: "squad/1".into(),
        base_commit: "a".into(),
    };
    let why = || "because".to_owned();
    let events: Vec<Arc<Event>> = [
        TaskEvent::Assigned {
            routing: None,
            slot: AgentSlot(3),
            model: "m".into(),
            endpoint: "e".into(),
            reason: why(),
        },
        TaskEvent::Prepared {
            workplace,
            job: None,
        },
        TaskEvent::Held {
            why: why(),
            until: Timestamp(u64::from(u32::MAX) * 1_000),
        },
        TaskEvent::Settled {
            head: "h".into(),
            commits: 2,
            answer: Some("42".into()),
        },
        TaskEvent::AttemptFailed {
            why: why(),
            retry_at: Some(Timestamp(9)),
            follow_up: None,
        },
        TaskEvent::Merged { commit: None },
        TaskEvent::Used {
            tokens: Tokens {
                sent: 1,
                received: 2,
                requests: 3,
            },
        },
    ]
    .into_iter()
    .zip(1..)
    .map(|(what, sequence)| event(sequence, 1, what))
    .collect();
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    store
        .commit(&batch(epoch, &[task(1, TaskState::Queued)], &events))
        .unwrap();
    store.commit(&batch(epoch, &[], &[noted(8)])).unwrap();
    let kept = store.load(0).unwrap().recent;
    let written: Vec<Event> = events
        .iter()
        .chain([&noted(8)])
        .map(|event| Event::clone(event))
        .collect();
    assert_eq!(kept, written);
}

fn epochs_grow_by_one_each_start(place: &impl Place) {
    assert_eq!(place.open().begin_epoch().unwrap(), Epoch(1));
    assert_eq!(place.open().begin_epoch().unwrap(), Epoch(2));
}

fn an_older_epoch_writes_nothing(place: &impl Place) {
    let mut old = place.open();
    let before = old.begin_epoch().unwrap();
    let mut new = place.open();
    let now = new.begin_epoch().unwrap();
    let refused = old.commit(&batch(before, &[task(1, TaskState::Queued)], &[]));
    assert!(
        matches!(refused, Err(JournalError::Fenced { mine, current }) if (mine, current) == (before, now)),
        "{refused:?}"
    );
    assert_eq!(new.load(10).unwrap().tasks, []);
    new.commit(&batch(now, &[task(1, TaskState::Queued)], &[]))
        .unwrap();
}

fn a_batch_is_written_whole_or_not_at_all(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let known = task(1, TaskState::Queued);
    let stranger = event(2, 77, TaskEvent::Submitted);
    let broken = batch(
        epoch,
        &[known],
        &[event(1, 1, TaskEvent::Submitted), stranger],
    );
    let refused = store.commit(&broken);
    assert!(
        matches!(refused, Err(JournalError::Broken(_))),
        "{refused:?}"
    );
    let empty = Loaded {
        next_task: 1,
        next_event: 1,
        ..Loaded::default()
    };
    assert_eq!(store.load(10).unwrap(), empty);
}

fn a_task_replaces_its_older_self(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    store
        .commit(&batch(epoch, &[task(1, TaskState::Queued)], &[]))
        .unwrap();
    store
        .commit(&batch(epoch, &[task(1, TaskState::Dead)], &[]))
        .unwrap();
    assert_eq!(
        store.task(TaskId(1)).unwrap().unwrap().state,
        TaskState::Dead
    );
    let queued = TaskFilter {
        states: vec![TaskState::Queued],
        ..TaskFilter::default()
    };
    assert_eq!(store.tasks(&queued).unwrap(), []);
}

fn open_tasks_are_loaded_however_old(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let mut archiving = Task::clone(&task(1, TaskState::Cancelled));
    archiving.archiving = true;
    let mut tasks = vec![Arc::new(archiving), task(2, TaskState::Review)];
    tasks.extend((3..=9).map(|number| task(number, TaskState::Merged)));
    store.commit(&batch(epoch, &tasks, &[])).unwrap();
    let mut loaded = numbers(&store.load(3).unwrap().tasks);
    loaded.sort_unstable();
    assert_eq!(loaded, [1, 2, 7, 8, 9]);
}

fn the_last_two_hundred_events_come_oldest_first(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let events: Vec<_> = (1..=250).map(noted).collect();
    store.commit(&batch(epoch, &[], &events)).unwrap();
    let loaded = store.load(0).unwrap();
    assert_eq!(sequences(&loaded.recent), (51..=250).collect::<Vec<u64>>());
    assert_eq!(loaded.next_event, 251);
}

fn tasks_are_filtered_and_come_newest_first(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let named = |number, state, name: &str| {
        let mut task = Task::clone(&task(number, state));
        task.spec.name = Some(name.into());
        task.spec.key = Some(format!("key {number}"));
        Arc::new(task)
    };
    let tasks = [
        named(1, TaskState::Queued, "a"),
        named(2, TaskState::Dead, "b"),
        named(3, TaskState::Review, "a"),
        task(4, TaskState::Queued),
    ];
    store.commit(&batch(epoch, &tasks, &[])).unwrap();
    let mut found = |filter: TaskFilter| numbers(&store.tasks(&filter).unwrap());
    let any = TaskFilter::default;
    assert_eq!(found(any()), [4, 3, 2, 1]);
    assert_eq!(found(TaskFilter { limit: 2, ..any() }), [4, 3]);
    assert_eq!(
        found(TaskFilter {
            name: Some("a".into()),
            ..any()
        }),
        [3, 1]
    );
    assert_eq!(
        found(TaskFilter {
            key: Some("key 2".into()),
            ..any()
        }),
        [2]
    );
    assert_eq!(
        found(TaskFilter {
            key: Some("key".into()),
            ..any()
        }),
        Vec::<u64>::new()
    );
    let waiting = vec![TaskState::Queued, TaskState::Review];
    assert_eq!(
        found(TaskFilter {
            states: waiting.clone(),
            ..any()
        }),
        [4, 3, 1]
    );
    let both = TaskFilter {
        states: waiting,
        name: Some("a".into()),
        limit: 1,
        ..any()
    };
    assert_eq!(found(both), [3]);
}

fn events_are_filtered_and_come_oldest_first(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let tasks = [task(1, TaskState::Queued), task(2, TaskState::Queued)];
    let events = [
        event(1, 1, TaskEvent::Submitted),
        event(2, 2, TaskEvent::Submitted),
        noted(3),
        event(4, 1, TaskEvent::Seen),
    ];
    store.commit(&batch(epoch, &tasks, &events)).unwrap();
    let mut found = |filter: EventFilter| sequences(&store.events(&filter).unwrap());
    let any = EventFilter::default;
    assert_eq!(found(any()), [1, 2, 3, 4]);
    assert_eq!(found(EventFilter { after: 2, ..any() }), [3, 4]);
    assert_eq!(found(EventFilter { limit: 2, ..any() }), [1, 2]);
    assert_eq!(
        found(EventFilter {
            task: Some(TaskId(1)),
            ..any()
        }),
        [1, 4]
    );
    assert_eq!(
        found(EventFilter {
            task: Some(TaskId(1)),
            after: 1,
            limit: 5
        }),
        [4]
    );
}

fn kept_prompt(place: &impl Place, prompt: &str) -> String {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let mut long = Task::clone(&task(1, TaskState::Queued));
    long.spec.prompt = prompt.to_owned();
    store.commit(&batch(epoch, &[Arc::new(long)], &[])).unwrap();
    drop(store);
    place.open().task(TaskId(1)).unwrap().unwrap().spec.prompt
}

fn a_prompt_of_ten_megabytes_is_kept(place: &impl Place) {
    let prompt = "é/!\n'\"".repeat(10 * 1024 * 1024 / 7);
    // Not `assert_eq`: nobody wants to read this one.
    assert!(
        kept_prompt(place, &prompt) == prompt,
        "the prompt has changed"
    );
}

fn any_text_is_kept(place: &impl Place) {
    let prompt = "\0 \u{1b}[31m \u{202e} 😀 '; DROP TABLE tasks; -- \\ \r\n";
    assert_eq!(kept_prompt(place, prompt), prompt);
}

fn an_empty_commit_keeps_what_is_there(place: &impl Place) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let event = event(1, 1, TaskEvent::Submitted);
    store
        .commit(&batch(epoch, &[task(1, TaskState::Queued)], &[event]))
        .unwrap();
    let before = store.load(10).unwrap();
    store
        .commit(&Transaction {
            epoch,
            next_task: 2,
            ..Transaction::default()
        })
        .unwrap();
    assert_eq!(store.load(10).unwrap(), before);
}

fn pruning_keeps_open_tasks_and_never_reuses_a_number<P: Place>(place: &P) {
    let mut store = place.open();
    let epoch = store.begin_epoch().unwrap();
    let tasks = [task(1, TaskState::Merged), task(2, TaskState::Review)];
    let events = [
        event(1, 1, TaskEvent::Submitted),
        event(2, 2, TaskEvent::Submitted),
        noted(3),
        event(4, 1, TaskEvent::Seen),
    ];
    store.commit(&batch(epoch, &tasks, &events)).unwrap();
    assert_eq!(P::prune(&mut store, Timestamp(4)), 2);
    assert_eq!(
        sequences(&store.events(&EventFilter::default()).unwrap()),
        [2, 4]
    );
    assert_eq!(P::prune(&mut store, Timestamp(100)), 1);
    assert_eq!(store.load(10).unwrap().next_event, 5);
    assert_eq!(store.load(10).unwrap().tasks.len(), 2);
}
