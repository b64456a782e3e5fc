//! Given a state, when an input comes, then this state and these effects: whole objects compared.

mod attempts;
mod clock;
mod commands;
mod fencing;
mod health;
mod queue;
mod results;
mod routing;

use std::collections::BTreeMap;

use super::*;
use crate::core::agent::AgentReport;
use crate::core::catalogue::Catalogue;
use crate::core::command::{Command, NewTask, RefusalKind, Request};
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::model::Model;
use crate::core::settings::MaxAgents;
use crate::core::settings::{MergeStrategy, TaskSettings};
use crate::core::task::{
    Attempt, Autonomy, Blocked, Fault, Mode, Priority, TaskSpec, TaskState, Workplace,
};
use crate::core::verify::{VerifyOutcome, VerifyReport, VerifyRun};
use crate::core::{AgentSlot, Epoch};
use crate::engine::input::{Fact, TaskFact};
use crate::engine::state::EngineSettings;
use crate::engine::view::Installation;

const START: Timestamp = Timestamp(1_000_000);
const NOW: Timestamp = Timestamp(2_000_000);
const MODEL: &str = "coder:7b";

fn catalogue() -> Arc<Catalogue> {
    let model = Model {
        name: MODEL.into(),
        digest: "d".into(),
        size: 1,
        parameters: None,
        parameter_size: "7B".into(),
        quantisation: "Q4".into(),
        family: "f".into(),
        context_length: None,
        capabilities: [].into(),
        remote: false,
        architecture: None,
        shown: None,
    };
    let mut endpoint = Endpoint::new("http://e");
    endpoint.health = EndpointHealth::Ok;
    endpoint.models.insert(model.name.clone(), model);
    Arc::new(Catalogue {
        endpoints: [("e".into(), endpoint)].into(),
    })
}

/// A squad of two slots in which agents can start.
fn squad(tasks: impl IntoIterator<Item = Task>) -> State {
    let tasks: BTreeMap<TaskId, Arc<Task>> = tasks
        .into_iter()
        .map(|task| (task.id, Arc::new(task)))
        .collect();
    State {
        settings: EngineSettings {
            max: MaxAgents::Fixed(2),
            tasks: TaskSettings::default(),
            ..Default::default()
        },
        epoch: Epoch(1),
        next_task: tasks.keys().last().map_or(1, |id| id.0 + 1),
        next_event: 1,
        catalogue: catalogue(),
        installation: Installation::Ready {
            version: "0.86.2".into(),
        },
        tasks,
        ..State::default()
    }
}

fn task(number: u64, state: TaskState) -> Task {
    let spec = TaskSpec {
        prompt: format!("do {number}"),
        ..TaskSpec::default()
    };
    let mut task = Task::new(TaskId(number), spec, Blocked::No, START);
    task.state = state;
    task
}

fn workplace(number: u64) -> Workplace {
    Workplace {
        dir: format!("/w/{number}").into(),
        branch: format!("squad/{number}"),
        base_commit: "base".into(),
    }
}

fn prepared(number: u64) -> Fact {
    Fact::Prepared {
        workplace: workplace(number),
        job: None,
    }
}

fn attempt(number: u32, slot: u16) -> Attempt {
    Attempt {
        number,
        slot: AgentSlot(slot),
        model: MODEL.into(),
        endpoint: "e".into(),
        started: START,
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
    }
}

/// A task in `state` in its first attempt on slot 1, with a worktree.
fn under_way(number: u64, state: TaskState) -> Task {
    Task {
        attempts: vec![attempt(1, 1)],
        workplace: Some(workplace(number)),
        ..task(number, state)
    }
}

/// The attempt as it looks when it was ended by a fault.
fn faulty(why: &str, fault: Fault) -> Vec<Attempt> {
    let mut attempts = ended(why);
    attempts[0].fault = Some(fault);
    attempts
}

/// The attempt as it looks when it ended at `NOW` because of `why`.
fn ended(why: &str) -> Vec<Attempt> {
    vec![Attempt {
        settled: Some(NOW),
        failure: Some(why.into()),
        ..attempt(1, 1)
    }]
}

fn report(outcome: VerifyOutcome) -> VerifyReport {
    let run = VerifyRun {
        code: Some(1),
        failing: [].into(),
        tail: "boom".into(),
        millis: 1,
        timed_out: false,
    };
    VerifyReport {
        command: "make test".into(),
        outcome,
        baseline: None,
        run: Some(run),
        log: None,
    }
}

fn command(command: Command) -> Input {
    Input::Command(Request {
        by: Actor::squad(),
        command,
    })
}

fn submit(specs: impl IntoIterator<Item = TaskSpec>) -> Input {
    let tasks = specs
        .into_iter()
        .map(|spec| NewTask {
            spec,
            after_index: vec![],
        })
        .collect();
    command(Command::Submit { tasks })
}

fn prompt(text: &str) -> TaskSpec {
    TaskSpec {
        prompt: text.into(),
        ..TaskSpec::default()
    }
}

fn fact(number: u64, fact: Fact) -> Input {
    Input::Attempt {
        task: TaskId(number),
        number: 1,
        fact,
    }
}

fn about(number: u64, fact: TaskFact) -> Input {
    Input::Task {
        task: TaskId(number),
        fact,
    }
}

fn stop(number: u64) -> Effect {
    Effect::StopAgent {
        task: TaskId(number),
        number: 1,
    }
}

struct When {
    state: State,
    outcome: Outcome,
}

fn when(mut state: State, input: Input) -> When {
    let outcome = update(&mut state, input, NOW);
    When { state, outcome }
}

impl When {
    /// Exactly these tasks, and exactly these effects made of them. Why an attempt got its model is
    /// left out: that is the router's business and tested there.
    #[track_caller]
    fn then(self, tasks: &[Task], effects: impl FnOnce(&[Arc<Task>]) -> Vec<Effect>) -> Self {
        let now: Vec<Arc<Task>> = self.state.tasks.values().cloned().collect();
        let mut after: Vec<Task> = now.iter().map(|task| Task::clone(task)).collect();
        let attempts = after.iter_mut().flat_map(|task| &mut task.attempts);
        attempts.for_each(|attempt| attempt.routing = None);
        assert_eq!(after, tasks);
        assert_eq!(self.outcome.effects, effects(&now));
        self
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        let Some(Answer::Now(Err(refusal))) = &self.outcome.answer else {
            panic!("not refused: {:?}", self.outcome.answer)
        };
        assert!(refusal.message.contains(part), "{refusal:?}");
        assert_eq!(refusal.kind, RefusalKind::User);
    }

    #[track_caller]
    fn waits(&self, number: u64, part: &str) {
        let why = &self.state.waiting[&TaskId(number)];
        assert!(why.contains(part), "{why}");
    }
}

/// Nothing at all has changed but the moment.
#[track_caller]
fn ignored(tasks: &[Task], input: Input) {
    let when = when(squad(tasks.to_vec()), input).then(tasks, |_| vec![]);
    assert!(when.state.fresh.is_empty() && when.state.dirty.is_empty());
}
