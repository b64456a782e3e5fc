//! Which model a task gets, and what is learned from what came of it.
//!
//! Looking ahead for spares and choosing ask the same question, so they get the same answer; only a
//! choice that is made advances whose turn it is, if it went by turns. What was given away and has
//! not asked its endpoint yet ([`Given`]) counts as what it will ask.

use std::sync::Arc;

use crate::core::TaskId;
use crate::core::catalogue::NoModel;
use crate::core::endpoint::EndpointName;
use crate::core::event::TaskEvent;
use crate::core::model::ModelName;
use crate::core::pool::Binding;
use crate::core::router::{
    Ask, Choice, Ending, FormatUse, Known, Lesson, Promise, Ready, Rounds, Routing, Shunned,
    Strategy, World, choose_after, choose_with_chances, format_key, named_rule, reward,
};
use crate::core::settings::Selection;
use crate::core::task::{Attempt, Autonomy, Category, Fault, Mode, Task, TaskState};
use crate::core::verify::VerifyOutcome;

use super::super::state::State;
use super::Step;

/// What was given to tasks, beyond what the gateway has seen.
#[derive(Debug, Default)]
pub(super) struct Given {
    promised: Vec<Promise>,
    /// Choices by turns that are looked ahead at.
    turns: u64,
}

impl Given {
    /// Of the attempts under way: those whose prompt was not delivered when the gateway last said
    /// what it serves.
    pub(super) fn by_now(state: &State) -> Self {
        let unseen = state.unfinished().filter_map(|task| {
            let attempt = task.slot().and_then(|_| task.attempt())?;
            let is_early = matches!(task.state, TaskState::Assigned | TaskState::Running);
            let is_seen = attempt.delivered.is_some_and(|at| at < state.gateway_at);
            (is_early && !is_seen).then(|| Promise {
                endpoint: EndpointName(attempt.endpoint.clone()),
                model: ModelName::new(&attempt.model),
            })
        });
        Self {
            promised: unseen.collect(),
            turns: 0,
        }
    }

    /// One more was given away.
    pub(super) fn also(&mut self, choice: &Choice) {
        self.promised.push(Promise {
            endpoint: choice.endpoint.clone(),
            model: choice.model.clone(),
        });
    }

    /// One more will be: a look ahead.
    pub(super) fn expect(&mut self, choice: &Choice) {
        self.turns += u64::from(choice.routing.strategy == Strategy::RoundRobin);
        self.also(choice);
    }
}

/// The choice for the next task, after those that were looked at before.
pub(super) fn look(step: &Step<'_>, task: &Task, given: &Given) -> Result<Choice, NoModel> {
    decide(step.state, task, given, choose_after)
}

/// The choice that is made now, with the chances it had.
pub(super) fn make(step: &Step<'_>, task: &Task, given: &Given) -> Result<Choice, NoModel> {
    decide(step.state, task, given, choose_with_chances)
}

fn decide<T>(
    state: &State,
    task: &Task,
    given: &Given,
    answer: impl Fn(&Ask<'_>, &World<'_>, Known<'_>) -> T,
) -> T {
    let settings = &state.settings.models;
    let word = task.spec.model.as_deref();
    let rule = word.and_then(named_rule);
    let named = word.filter(|_| rule.is_none()).map(ModelName::new);
    let default = settings.default.as_deref().map(ModelName::new);
    let tuned = named.as_ref().or(default.as_ref()).map(ModelName::as_str);
    let context = tuned.and_then(|name| settings.tuning(name).context);
    let ready = ready(state, task);
    let shunned = shunned(task);
    let ask = Ask {
        task: task.id,
        attempt: task.attempt_number() + 1,
        category: task.spec.category,
        strategy: rule.flatten().unwrap_or_else(|| configured(state)),
        named: named.as_ref(),
        default: default.as_ref(),
        context: context.or(settings.defaults.context).unwrap_or(0),
        ready: ready
            .as_ref()
            .map(|(endpoint, model)| Ready { endpoint, model }),
        shunned: Shunned {
            model: shunned.0.as_ref(),
            endpoint: shunned.1.as_ref(),
        },
        largest_file: task
            .spec
            .largest_file
            .filter(|_| task.spec.mode != Mode::Ask),
        seed: u64::from(state.settings.router.seed),
        turn: state.learned.turn + given.turns,
    };
    let known = Known {
        learned: &state.learned,
        promised: &given.promised,
    };
    answer(&ask, &world(state), known)
}

/// The model that a task of each category would get now, where there is one.
pub(in crate::engine) fn preferred(state: &State) -> Vec<(Category, ModelName)> {
    let default = state.settings.models.default.as_deref().map(ModelName::new);
    let given = Given::by_now(state);
    let of = |category: Category| {
        let ask = Ask {
            task: TaskId(0),
            attempt: 1,
            category,
            strategy: configured(state),
            named: None,
            default: default.as_ref(),
            context: state.settings.models.defaults.context.unwrap_or(0),
            ready: None,
            shunned: Shunned {
                model: None,
                endpoint: None,
            },
            largest_file: None,
            seed: u64::from(state.settings.router.seed),
            turn: state.learned.turn,
        };
        let known = Known {
            learned: &state.learned,
            promised: &given.promised,
        };
        let choice = choose_after(&ask, &world(state), known).ok()?;
        Some((category, choice.model))
    };
    Category::ALL.into_iter().filter_map(of).collect()
}

fn world(state: &State) -> World<'_> {
    World {
        catalogue: &state.catalogue,
        gateway: &state.gateway,
        gateway_age_ms: state.now.0.saturating_sub(state.gateway_at.0),
        fits: &state.fits,
    }
}

fn configured(state: &State) -> Strategy {
    match state.settings.models.selection {
        Selection::Auto => state.settings.router.strategy,
        Selection::Fastest => Strategy::Fastest,
        Selection::MostCapable => Strategy::MostCapable,
        Selection::RoundRobin => Strategy::RoundRobin,
    }
}

/// The place of a spare that was asked for and fits the task.
fn ready(state: &State, task: &Task) -> Option<(EndpointName, ModelName)> {
    let fitting = state.spares.iter().map(|order| &order.binding).find(|it| {
        let format = it.edit_format.as_deref();
        Binding::of(&task.spec, &it.endpoint, &it.model).with_format(format) == **it
    })?;
    let endpoint = EndpointName(fitting.endpoint.clone());
    Some((endpoint, ModelName::new(&fitting.model)))
}

/// What failed the last attempt.
fn shunned(task: &Task) -> (Option<ModelName>, Option<EndpointName>) {
    let Some(attempt) = task.attempt() else {
        return (None, None);
    };
    match attempt.fault {
        Some(Fault::Model) => (Some(ModelName::new(&attempt.model)), None),
        Some(Fault::Endpoint) => (None, Some(EndpointName(attempt.endpoint.clone()))),
        None => (None, None),
    }
}

/// Learns from an event that has just been applied; `before` is the state it met.
pub(super) fn learn(state: &mut State, id: TaskId, before: TaskState, event: &TaskEvent) {
    let Some(task) = state.tasks.get(&id).map(Arc::clone) else {
        return;
    };
    let Some(attempt) = task.attempt() else {
        return;
    };
    let routing = attempt.routing.as_deref();
    let is_by_turns = routing.is_some_and(|routing| routing.strategy == Strategy::RoundRobin);
    if matches!(event, TaskEvent::Assigned { .. }) && is_by_turns {
        state.learned.turn += 1;
        state.learned_dirty = true;
    }
    let Some(ending) = ending(&task, before, event) else {
        return;
    };
    let rounds = Rounds {
        malformed: attempt.malformed,
    };
    if matches!(
        event,
        TaskEvent::Verified { .. } | TaskEvent::AttemptFailed { .. }
    ) {
        form(state, &task, attempt, rounds);
    }
    let followed = routing.filter(|routing| routing.strategy == Strategy::Hybrid);
    let lesson = Lesson {
        category: routing.map_or(task.spec.category, |routing| routing.category),
        model: &ModelName::new(&attempt.model),
        reward: reward(ending, rounds),
        seconds: seconds(attempt, ending),
        strategies: followed.map_or(&[], |routing| routing.agreed.as_slice()),
        cost: routing.map_or(0.0, Routing::cost),
    };
    state.learned.learn(&lesson);
    state.learned_dirty = true;
}

/// What an event says about the attempt that came to it; most say nothing.
fn ending(task: &Task, before: TaskState, event: &TaskEvent) -> Option<Ending> {
    match event {
        TaskEvent::Verified { report } => Some(Ending::Verified(report.outcome)),
        // The verify command failed and another attempt follows.
        TaskEvent::AttemptFailed { .. } if before == TaskState::Verifying => {
            Some(Ending::Verified(VerifyOutcome::Failed))
        }
        TaskEvent::AttemptFailed { .. } => Some(Ending::Failed),
        // A merge that nobody decided says no more than the verification did.
        TaskEvent::Merged { .. } if task.spec.autonomy == Autonomy::Review => Some(Ending::Kept),
        TaskEvent::Revised { .. } => Some(Ending::SentBack),
        TaskEvent::Discarded if before == TaskState::Review => Some(Ending::Discarded),
        _ => None,
    }
}

/// What an attempt that succeeded took; a failure says nothing about how fast a model is.
fn seconds(attempt: &Attempt, ending: Ending) -> Option<f64> {
    let Ending::Verified(outcome) = ending else {
        return None;
    };
    let (from, to) = (attempt.delivered?, attempt.settled?);
    outcome
        .is_success()
        .then(|| to.since(from).as_secs_f64())
        .filter(|seconds| *seconds > 0.0)
}

/// Remembers how the model kept to the format that it was told.
fn form(state: &mut State, task: &Task, attempt: &Attempt, rounds: Rounds) {
    let tuned = state.settings.models.tuning(&attempt.model).edit_format;
    let routed = attempt.routing.as_ref();
    let routed = routed.and_then(|routing| routing.edit_format.clone());
    let format = tuned.or_else(|| task.spec.edit_format.clone()).or(routed);
    if let (Some(format), Some(largest)) = (format, task.spec.largest_file) {
        state.learned.formed(&FormatUse {
            model: &ModelName::new(&attempt.model),
            key: format_key(&format, largest),
            rounds,
        });
    }
}
