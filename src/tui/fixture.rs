//! Squads to look at in tests: empty, at work, in trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::Model;
use super::wire::ClientHello;
use crate::core::agent::{AgentReport, AgentState, Question, Why};
use crate::core::catalogue::Catalogue;
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::event::{Actor, Event, SquadEvent, TaskEvent, What};
use crate::core::measurement::{Figures, MeasurementReport, Quantiles};
use crate::core::model::{Model as Language, ModelName, Residency};
use crate::core::runners::{BreakerState, EndpointLoad, GatewayReport, ModelLoad, RunnerState};
use crate::core::settings::UiSettings;
use crate::core::task::{Attempt, Blocked, Priority, Task, TaskSpec, TaskState};
use crate::core::verify::{VerifyOutcome, VerifyReport, VerifyRun};
use crate::core::{AgentSlot, TaskId, Timestamp};
use crate::engine::view::{AgentView, Installation, View};
use crate::pty::{Screen, Size};

pub(super) const NOW: Timestamp = Timestamp(1_000_000);

pub(super) fn agent(slot: u16, state: AgentState) -> AgentView {
    AgentView {
        slot: AgentSlot(slot),
        task: None,
        title: String::new(),
        model: String::new(),
        endpoint: "local".into(),
        since: None,
        report: AgentReport {
            state,
            ..AgentReport::default()
        },
    }
}

fn working(slot: u16, task: u64, title: &str, why: Why) -> AgentView {
    let mut agent = agent(slot, AgentState::Working);
    agent.task = Some(TaskId(task));
    agent.title = title.into();
    agent.model = "qwen2.5-coder:7b".into();
    agent.since = Some(Timestamp(NOW.0 - u64::from(slot) * 42_000));
    agent.report.why = why;
    agent
}

pub(super) fn task(id: u64, state: TaskState, prompt: &str) -> Task {
    let spec = TaskSpec {
        prompt: prompt.into(),
        target: "main".into(),
        ..TaskSpec::default()
    };
    let mut task = Task::new(TaskId(id), spec, Blocked::No, Timestamp(NOW.0 - 600_000));
    task.state = state;
    if !matches!(state, TaskState::Queued | TaskState::Blocked) {
        task.attempts.push(Attempt {
            number: 1,
            slot: AgentSlot(u16::try_from(id).unwrap()),
            model: "qwen2.5-coder:7b".into(),
            endpoint: "local".into(),
            started: Timestamp(NOW.0 - 60_000),
            delivered: None,
            settled: None,
            head: None,
            failure: None,
            job: None,
            usage: None,
            uncounted_ms: 0,
            routing: None,
            fault: None,
            malformed: 0,
        });
        task.commits = 1;
    }
    task
}

fn verified(mut task: Task, outcome: VerifyOutcome, tail: &str) -> Task {
    task.verify = Some(VerifyReport {
        command: "cargo test".into(),
        outcome,
        baseline: None,
        run: Some(VerifyRun {
            code: Some(i32::from(outcome == VerifyOutcome::Failed)),
            failing: std::collections::BTreeSet::new(),
            tail: tail.into(),
            millis: 1200,
            timed_out: false,
        }),
        log: None,
    });
    task
}

fn catalogue() -> Catalogue {
    let mut endpoint = Endpoint::new("http://127.0.0.1:11434");
    endpoint.health = EndpointHealth::Ok;
    for (name, size) in [
        ("qwen2.5-coder:7b", 4_700_000_000),
        ("llama3.1:8b", 4_900_000_000),
    ] {
        let model = Language {
            name: ModelName::new(name),
            digest: String::new(),
            size,
            parameters: None,
            parameter_size: "7.6B".into(),
            quantisation: "Q4_K_M".into(),
            family: "qwen2".into(),
            context_length: Some(32_768),
            capabilities: std::collections::BTreeSet::new(),
            remote: false,
            architecture: None,
            shown: None,
        };
        endpoint.models.insert(model.name.clone(), model);
    }
    let residency = Residency {
        size: 6_000_000_000,
        size_vram: 6_000_000_000,
        context_length: Some(16_384),
        expires_at: None,
    };
    endpoint
        .resident
        .insert(ModelName::new("qwen2.5-coder:7b"), residency);
    let mut away = Endpoint::new("http://gpu-2:11434");
    away.health = EndpointHealth::Unknown {
        why: "connection refused".into(),
    };
    Catalogue {
        endpoints: BTreeMap::from([("local".into(), endpoint), ("gpu-2".into(), away)]),
    }
}

/// One model works and has a queue, one endpoint is tried again.
pub(super) fn gateway() -> GatewayReport {
    let busy = ModelLoad {
        state: RunnerState::Busy,
        context: Some(16_384),
        slots: 4,
        running: 2,
        queued: 3,
        ..ModelLoad::default()
    };
    let spilled = ModelLoad {
        trouble: Some("12 % of the model is not on the GPU".into()),
        ..ModelLoad::default()
    };
    let local = EndpointLoad {
        models: BTreeMap::from([
            (ModelName::new("qwen2.5-coder:7b"), busy),
            (ModelName::new("llama3.1:8b"), spilled),
        ]),
        ..EndpointLoad::default()
    };
    let away = EndpointLoad {
        breaker: BreakerState::Open {
            why: "connection refused".into(),
            retry_ms: 7_400,
        },
        ..EndpointLoad::default()
    };
    GatewayReport {
        endpoints: BTreeMap::from([("local".into(), local), ("gpu-2".into(), away)]),
        swaps: 3,
        swap_ms: 45_000,
        swaps_avoided: 9,
        avoided_ms: 135_000,
        ..GatewayReport::default()
    }
}

/// What was measured of it.
pub(super) fn measured() -> MeasurementReport {
    let quantiles = |p50, p95, p99| Quantiles {
        count: 40,
        p50,
        p95,
        p99,
    };
    let figures = Figures {
        requests: 40,
        answered: 40,
        queue_ms: quantiles(120.0, 4_100.0, 15_000.0),
        first_token_ms: quantiles(640.0, 5_200.0, 17_000.0),
        decode_rate: quantiles(38.4, 41.0, 42.0),
        ..Figures::default()
    };
    let models = BTreeMap::from([(ModelName::new("qwen2.5-coder:7b"), figures.clone())]);
    MeasurementReport {
        all: figures,
        models: models.clone(),
        places: BTreeMap::from([("local".into(), models)]),
        ..MeasurementReport::default()
    }
}

pub(super) fn event(sequence: u64, what: What) -> Arc<Event> {
    Arc::new(Event {
        sequence,
        at: Timestamp(NOW.0 - 5_000 * (10 - sequence)),
        by: Actor::squad(),
        what,
    })
}

/// Nothing to do yet.
pub(super) fn empty() -> View {
    View {
        at: NOW,
        agents: (1..=4).map(|slot| agent(slot, AgentState::Cold)).collect(),
        installation: Installation::Ready {
            version: "0.86.2".into(),
        },
        ..View::default()
    }
}

/// At work: every kind of line.
pub(super) fn normal() -> View {
    let mut review = verified(
        task(
            4,
            TaskState::Review,
            "Document the public API\n\nEvery item.",
        ),
        VerifyOutcome::Passed,
        "test result: ok. 12 passed",
    );
    review.unseen = true;
    let mut urgent = task(6, TaskState::Queued, "Fix the off-by-one in the pager");
    urgent.spec.priority = Priority::High;
    let mut merged = task(8, TaskState::Merged, "Add a changelog");
    merged.merged = Some("0123456789abcdef".into());
    View {
        agents: vec![
            working(
                1,
                1,
                "Add retry with backoff to the HTTP client",
                Why::Generating(38.4),
            ),
            working(2, 2, "Fix the parser for nested lists", Why::Queued(2)),
            working(3, 3, "日本語のドキュメントを書く", Why::Editing),
            agent(4, AgentState::Ready),
        ],
        tasks: vec![
            task(
                1,
                TaskState::Running,
                "Add retry with backoff to the HTTP client",
            ),
            task(2, TaskState::Running, "Fix the parser for nested lists"),
            task(3, TaskState::Running, "日本語のドキュメントを書く"),
            review,
            task(5, TaskState::Verifying, "Rename Foo to Bar"),
            urgent,
            task(7, TaskState::Blocked, "Release notes"),
            merged,
        ]
        .into_iter()
        .map(Arc::new)
        .collect(),
        waiting: BTreeMap::from([(TaskId(7), "waits for task 6".to_owned())]),
        catalogue: Arc::new(catalogue()),
        events: vec![
            event(
                1,
                What::Squad {
                    event: SquadEvent::Resumed,
                },
            ),
            event(
                2,
                What::Task {
                    task: TaskId(4),
                    event: TaskEvent::Submitted,
                },
            ),
            event(
                3,
                What::Task {
                    task: TaskId(8),
                    event: TaskEvent::MergeStarted,
                },
            ),
        ],
        ..empty()
    }
}

/// In trouble, with hostile text in every place that shows any.
pub(super) fn alarming() -> View {
    let evil = "\x1b[31mred\x1b]0;title\x07\u{202e}\nsecond line";
    let mut asking = working(1, 1, evil, Why::Unknown);
    asking.report.state = AgentState::Waiting;
    asking.report.question = Some(Question {
        number: 1,
        kind: "shell".into(),
        text: "Run shell command? rm -rf / \x1b[2J".into(),
    });
    asking.report.note = Some(evil.into());
    let mut dead = task(3, TaskState::Dead, evil);
    dead.why = Some("the model answered \x1b[31mnothing\x07 three times".into());
    View {
        paused: true,
        store_fault: Some("disk full \x1b[5m".into()),
        agents: vec![asking, agent(2, AgentState::Dead)],
        tasks: vec![
            task(1, TaskState::Running, evil),
            verified(
                task(2, TaskState::Review, evil),
                VerifyOutcome::Failed,
                "test a ... FAILED\x1b[0m\ntest b ... ok",
            ),
            dead,
        ]
        .into_iter()
        .map(Arc::new)
        .collect(),
        catalogue: Arc::new(Catalogue {
            endpoints: BTreeMap::from([(evil.into(), Endpoint::new(evil))]),
        }),
        events: vec![event(
            1,
            What::Squad {
                event: SquadEvent::KeeperLost { what: evil.into() },
            },
        )],
        ..empty()
    }
}

/// A dashboard of a client with colours and Unicode.
pub(super) fn model(size: Size, view: View) -> Model {
    let hello = ClientHello {
        size,
        term: "xterm-256color".into(),
        cwd: "/home/user/project".into(),
        ..ClientHello::default()
    };
    Model::new(&hello, &UiSettings::default(), Arc::new(view), NOW)
}

/// What an agent's terminal may show.
pub(super) fn screen() -> crate::pty::Snapshot {
    let mut screen = Screen::new(Size::new(60, 12), 50);
    for line in 0..30 {
        screen.feed(format!("scrolled line {line}\r\n").as_bytes());
    }
    screen.feed(
        "\x1b[2J\x1b[HAider v0.86.2\r\n\x1b[32m+fn retry() {}\x1b[0m\r\n日本 e\u{301}\r\n> "
            .as_bytes(),
    );
    screen.snapshot(0)
}
