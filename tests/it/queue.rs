//! Any sequence of commands and facts, late and repeated ones included, keeps the queue's promises.
//!
//! A model of the outside keeps every effect that was ever asked for and answers any of them at
//! any time, with any outcome, as often as it likes; it crashes the engine whenever it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use warpsquad::core::command::{Command, NewTask, Reply, Request};
use warpsquad::core::event::{Actor, TaskEvent, What};
use warpsquad::core::settings::MaxAgents;
use warpsquad::core::task::{Autonomy, Priority, Task, TaskSpec, TaskState, Workplace};
use warpsquad::core::verify::{VerifyOutcome, VerifyReport};
use warpsquad::core::{AgentSlot, TaskId, Timestamp};
use warpsquad::engine::journal::Transaction;
use warpsquad::engine::{
    Answer, Effect, EngineSettings, Fact, Input, Installation, Journal, State, TaskFact, update,
};
use warpsquad::store::MemoryStore;

use crate::squad::catalogue;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        spec: Box<TaskSpec>,
        after: Option<usize>,
    },
    Command {
        kind: u8,
        task: usize,
    },
    /// One that was asked for this many effects ago.
    Answer {
        back: usize,
        kind: u8,
    },
    AnswerLatest {
        kind: u8,
    },
    Wait {
        millis: u64,
    },
    Aider {
        there: bool,
    },
    Crash,
}

fn spec() -> impl Strategy<Value = TaskSpec> {
    let priority = prop_oneof![
        Just(Priority::Critical),
        Just(Priority::Normal),
        Just(Priority::Background)
    ];
    let autonomy = prop_oneof![Just(Autonomy::Review), Just(Autonomy::Merge)];
    let key = proptest::option::weighted(0.3, "[ab]");
    let ttl = proptest::option::weighted(0.1, 1_u64..50_000);
    (priority, autonomy, 0_u32..3, key, ttl).prop_map(
        |(priority, autonomy, retries, key, ttl_ms)| {
            let prompt = "do it".to_owned();
            TaskSpec {
                prompt,
                priority,
                autonomy,
                retries,
                key,
                ttl_ms,
                ..TaskSpec::default()
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let task = 0_usize..5;
    prop_oneof![
        3 => (spec(), proptest::option::weighted(0.3, task.clone()))
            .prop_map(|(spec, after)| Step::Submit { spec: Box::new(spec), after }),
        4 => (0_u8..10, task).prop_map(|(kind, task)| Step::Command { kind, task }),
        3 => (0_usize..10, 0_u8..6).prop_map(|(back, kind)| Step::Answer { back, kind }),
        12 => (0_u8..6).prop_map(|kind| Step::AnswerLatest { kind }),
        2 => (1_u64..20_000).prop_map(|millis| Step::Wait { millis }),
        1 => any::<bool>().prop_map(|there| Step::Aider { there }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_promises(
        slots in 1_u16..4,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut outside = Outside::new(slots);
        for step in steps {
            outside.take(step);
        }
        outside.finish();
    }
}

/// Everything around the engine.
struct Outside {
    state: State,
    store: MemoryStore,
    now: Timestamp,
    /// Every effect ever asked for, the oldest first.
    effects: Vec<Effect>,
    accepted: BTreeSet<TaskId>,
    merged: BTreeSet<TaskId>,
    attempts: BTreeSet<(TaskId, usize)>,
    next_event: u64,
}

impl Outside {
    fn new(slots: u16) -> Self {
        let mut outside = Self {
            state: State::default(),
            store: MemoryStore::new(),
            now: Timestamp(1_000),
            effects: Vec::new(),
            accepted: BTreeSet::new(),
            merged: BTreeSet::new(),
            attempts: BTreeSet::new(),
            next_event: 1,
        };
        outside.state.settings = EngineSettings {
            max: MaxAgents::Fixed(slots),
            ..EngineSettings::default()
        };
        outside.crash();
        outside
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Submit { spec, after } => self.submit(*spec, after),
            Step::Command { kind, task } => self.command(kind, TaskId(task as u64 + 1)),
            Step::Answer { back, kind } => {
                if let Some(effect) = self.effects.iter().nth_back(back).cloned() {
                    self.answer(&effect, kind);
                }
            }
            Step::AnswerLatest { kind } => {
                if let Some(effect) = self.effects.last().cloned() {
                    self.answer(&effect, kind);
                }
            }
            Step::Wait { millis } => {
                self.now = self.now.plus(Duration::from_millis(millis));
                self.input(Input::Tick);
            }
            Step::Aider { there } => self.input(Input::Installation(aider(there))),
            Step::Crash => self.crash(),
        }
    }

    fn submit(&mut self, spec: TaskSpec, after: Option<usize>) {
        let known = after.map(|number| TaskId(number as u64 + 1));
        let after = known
            .filter(|id| self.accepted.contains(id))
            .into_iter()
            .collect();
        let tasks = vec![NewTask {
            spec: TaskSpec { after, ..spec },
            after_index: vec![],
        }];
        self.ask(Command::Submit { tasks });
    }

    fn command(&mut self, kind: u8, task: TaskId) {
        let comment = "more".to_owned();
        self.ask(match kind {
            0 => Command::Cancel { task },
            1 => Command::Retry { task },
            2 => Command::Revise { task, comment },
            3 => Command::Discard { task },
            4 => Command::Restore { task },
            5 => Command::MarkSeen { task },
            6 => Command::Pause,
            7 => Command::Resume,
            8 => Command::StopAll,
            _ => Command::Merge {
                task,
                strategy: None,
            },
        });
    }

    fn ask(&mut self, command: Command) {
        self.input(Input::Command(Request {
            by: Actor::squad(),
            command,
        }));
    }

    fn answer(&mut self, effect: &Effect, kind: u8) {
        for input in answers(effect, kind) {
            self.input(input);
        }
    }

    /// One update, its commit, and everything that must hold afterwards.
    fn input(&mut self, input: Input) {
        let before: BTreeMap<TaskId, Asked> = self.state.tasks.values().filter_map(asked).collect();
        let could_start = can_start(&self.state);
        let outcome = update(&mut self.state, input, self.now);
        if let Some(Answer::Now(Ok(Reply::Submitted { tasks }))) = &outcome.answer {
            self.accepted.extend(tasks);
        }
        self.one_effect_each(&before, &outcome.effects);
        self.fair(could_start);
        self.once_only();
        self.slots();
        self.worktrees();
        self.commit();
        self.reloads();
        self.effects.extend(outcome.effects);
        assert!(
            self.accepted
                .iter()
                .all(|id| self.state.tasks.contains_key(id)),
            "a task is lost"
        );
    }

    /// A task that begins to wait for something outside has asked for it, once; no other has.
    fn one_effect_each(&self, before: &BTreeMap<TaskId, Asked>, effects: &[Effect]) {
        let emitted: Vec<(TaskId, Asked)> = effects.iter().filter_map(key).collect();
        let after: BTreeMap<TaskId, Asked> = self.state.tasks.values().filter_map(asked).collect();
        let new = after.iter().filter(|(id, key)| before.get(id) != Some(key));
        let expected: BTreeSet<(TaskId, Asked)> = new.map(|(id, key)| (*id, *key)).collect();
        assert_eq!(emitted.iter().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(emitted.len(), expected.len(), "asked twice: {emitted:?}");
    }

    /// Who was assigned goes before all who could have been and wait; no slot stays free for them.
    fn fair(&self, could_start: bool) {
        let rank = |task: &Task| (task.spec.priority, task.id);
        let ripe = |task: &&Arc<Task>| {
            task.state == TaskState::Queued
                && !task.archiving
                && task.not_before.is_none_or(|moment| moment <= self.now)
        };
        let waiting = self
            .state
            .tasks
            .values()
            .filter(ripe)
            .map(|task| rank(task))
            .min();
        let assigned = self
            .state
            .fresh
            .iter()
            .filter_map(|event| match &event.what {
                What::Task {
                    task,
                    event: TaskEvent::Assigned { .. },
                } => Some(rank(&self.state.tasks[task])),
                _ => None,
            });
        let last = assigned.max();
        assert!(could_start || can_start(&self.state) || last.is_none());
        if let (Some(waiting), Some(last)) = (waiting, last) {
            assert!(last < waiting, "{last:?} was assigned before {waiting:?}");
        }
        if can_start(&self.state) && !self.state.free_slots().is_empty() {
            assert_eq!(waiting, None, "a slot is free and a task waits");
        }
    }

    /// Merged once; every attempt has a number of its own; events are counted without gaps.
    fn once_only(&mut self) {
        for event in &self.state.fresh {
            assert_eq!(event.sequence, self.next_event);
            self.next_event += 1;
            match &event.what {
                What::Task {
                    task,
                    event: TaskEvent::Merged { .. },
                } => {
                    assert!(self.merged.insert(*task), "{task} is completed twice");
                }
                What::Task {
                    task,
                    event: TaskEvent::Assigned { .. },
                } => {
                    let number = self.state.tasks[task].attempts.len();
                    assert!(
                        self.attempts.insert((*task, number)),
                        "{task} {number} twice"
                    );
                }
                What::Task { .. } | What::Squad { .. } => {}
            }
        }
    }

    fn slots(&self) {
        let held: Vec<AgentSlot> = self
            .state
            .tasks
            .values()
            .filter_map(|task| task.slot())
            .collect();
        let different: BTreeSet<AgentSlot> = held.iter().copied().collect();
        assert_eq!(
            held.len(),
            different.len(),
            "a slot is held twice: {held:?}"
        );
        let known = |slot: &AgentSlot| (1..=self.state.limit()).contains(&slot.0);
        assert!(different.iter().all(known), "{different:?}");
    }

    /// Whoever works, or whose work is looked at, has a worktree.
    fn worktrees(&self) {
        use TaskState as S;
        for task in self.state.tasks.values() {
            let needed = matches!(
                task.state,
                S::Running | S::Verifying | S::Review | S::Merging
            );
            assert!(
                !needed || task.workplace.is_some(),
                "{task:?} has no worktree"
            );
        }
    }

    /// As the engine's loop does it.
    fn commit(&mut self) {
        let dirty = std::mem::take(&mut self.state.dirty);
        let transaction = Transaction {
            epoch: self.state.epoch,
            tasks: dirty
                .iter()
                .map(|id| Arc::clone(&self.state.tasks[id]))
                .collect(),
            events: std::mem::take(&mut self.state.fresh),
            paused: self.state.paused,
            next_task: self.state.next_task,
            learned: self.state.take_lessons(),
        };
        self.store.commit(&transaction).unwrap();
    }

    /// What is on the disk is what is in memory.
    fn reloads(&mut self) {
        let loaded = self.load();
        assert_eq!(loaded.tasks, self.state.tasks);
        assert_eq!(loaded.events, self.state.events);
        let counters = |state: &State| (state.next_task, state.next_event, state.paused);
        assert_eq!(counters(&loaded), counters(&self.state));
    }

    fn load(&mut self) -> State {
        let loaded = self.store.load(500).unwrap();
        State::from_loaded(self.state.settings.clone(), self.state.epoch, loaded)
    }

    /// A new engine: the store's state, a new epoch, everything outstanding asked for again.
    fn crash(&mut self) {
        self.state.epoch = self.store.begin_epoch().unwrap();
        self.state = self.load();
        self.effects
            .extend(self.state.tasks.values().filter_map(State::outstanding));
        self.input(Input::Catalogue {
            catalogue: catalogue(),
            changes: vec![],
        });
        self.input(Input::Installation(aider(true)));
    }

    /// From here on everything works: everything that can come to an end does.
    fn finish(&mut self) {
        self.ask(Command::Resume);
        self.input(Input::Installation(aider(true)));
        for _ in 0..1_000 {
            let open: Vec<Effect> = self
                .state
                .tasks
                .values()
                .filter_map(State::outstanding)
                .collect();
            for effect in &open {
                self.answer(effect, 0);
            }
            let Some(deadline) = self.state.deadline() else {
                if open.is_empty() {
                    break;
                }
                continue;
            };
            if open.is_empty() {
                self.now = deadline;
                self.input(Input::Tick);
            }
        }
        for task in self.state.tasks.values() {
            let ended = task.state.is_final() && !task.archiving;
            let waits = matches!(task.state, TaskState::Review | TaskState::Blocked);
            assert!(ended || waits, "{task:?} is stuck");
        }
    }
}

/// What an effect asks for and for which attempt.
type Asked = (&'static str, u32);

fn key(effect: &Effect) -> Option<(TaskId, Asked)> {
    let (name, task) = match effect {
        Effect::Prepare(task) => ("prepare", task),
        Effect::RunAgent(task) => ("run", task),
        Effect::Verify(task) => ("verify", task),
        Effect::Merge(task, _) => ("merge", task),
        Effect::Archive(task) => ("archive", task),
        Effect::StopAgent { .. }
        | Effect::Restore(_)
        | Effect::KeepSpares(_)
        | Effect::Answer { .. }
        | Effect::SendLine { .. }
        | Effect::KillAgent { .. } => return None,
    };
    Some((task.id, (name, task.attempt_number())))
}

fn asked(task: &Arc<Task>) -> Option<(TaskId, Asked)> {
    State::outstanding(task).as_ref().and_then(key)
}

fn can_start(state: &State) -> bool {
    !state.paused && matches!(state.installation, Installation::Ready { .. })
}

fn aider(there: bool) -> Installation {
    if there {
        Installation::Ready {
            version: "0.86.2".into(),
        }
    } else {
        Installation::Installing {
            message: "half".into(),
        }
    }
}

/// What the outside may say about `effect`; kind 0 is the good end.
fn answers(effect: &Effect, kind: u8) -> Vec<Input> {
    let (why, kept) = (String::from("why"), String::from("kept"));
    let facts = match (effect, kind) {
        (Effect::Prepare(task), 0 | 1) => vec![Fact::Prepared {
            workplace: workplace(task.id),
            job: None,
        }],
        (Effect::RunAgent(_), 0) => vec![Fact::Delivered, settled()],
        (Effect::RunAgent(_), 1) => vec![Fact::Delivered],
        (Effect::Verify(_), 0) => vec![verified(VerifyOutcome::Passed)],
        (Effect::Verify(_), 1) => vec![verified(VerifyOutcome::Failed)],
        (_, 2) => vec![Fact::Failed { why }],
        (_, 3) => vec![Fact::Held { why }],
        (_, 4) => vec![Fact::Lost { why, kept }],
        _ => vec![verified(VerifyOutcome::Unclear), settled()],
    };
    let fact = match (effect, kind) {
        (Effect::Merge(..), 0) => Some(TaskFact::Merged(Some("commit".into()))),
        (Effect::Merge(..), _) => Some(TaskFact::MergeRefused("conflict".into())),
        (Effect::Archive(_), 0 | 1) => Some(TaskFact::Archived),
        (Effect::Archive(_), _) => Some(TaskFact::ArchiveFailed("busy".into())),
        (Effect::Restore(task), 0 | 1) => Some(TaskFact::Restored(workplace(task.id))),
        (Effect::Restore(_), _) => Some(TaskFact::RestoreFailed("gone".into())),
        _ => None,
    };
    match (effect, fact) {
        (Effect::Merge(task, _) | Effect::Archive(task) | Effect::Restore(task), Some(fact)) => {
            vec![Input::Task {
                task: task.id,
                fact,
            }]
        }
        (Effect::Prepare(task) | Effect::RunAgent(task) | Effect::Verify(task), _) => {
            let about = |fact| attempt(task.id, task.attempt_number(), fact);
            facts.into_iter().map(about).collect()
        }
        (Effect::StopAgent { task, number }, _) => facts
            .into_iter()
            .map(|fact| attempt(*task, *number, fact))
            .collect(),
        _ => vec![],
    }
}

fn attempt(task: TaskId, number: u32, fact: Fact) -> Input {
    Input::Attempt { task, number, fact }
}

fn settled() -> Fact {
    Fact::Settled {
        head: "head".into(),
        commits: 1,
        answer: None,
    }
}

fn verified(outcome: VerifyOutcome) -> Fact {
    let command = "make test".to_owned();
    Fact::Verified(VerifyReport {
        command,
        outcome,
        baseline: None,
        run: None,
        log: None,
    })
}

fn workplace(task: TaskId) -> Workplace {
    Workplace {
        dir: format!("/w/{task}").into(),
        branch: format!("squad/{task}"),
        base_commit: "base".into(),
    }
}
