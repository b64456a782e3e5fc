//! `update`: one input changes the state and asks for effects. One function per noun.

mod clock;
mod commands;
mod pool;
mod progress;
pub(super) mod routing;
mod schedule;
mod submit;

use std::sync::Arc;

use crate::core::command::{Refusal, Reply};
use crate::core::event::{Actor, Event, SquadEvent, TaskEvent, What};
use crate::core::task::{IllegalTransition, Task};
use crate::core::{TaskId, Timestamp};

use super::input::{Effect, Input};
use super::state::{EVENTS_KEPT, State};

/// What one input led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be done once the transaction is durable.
    pub effects: Vec<Effect>,
    /// The answer to the input, when it was a command.
    pub answer: Option<Answer>,
    /// Answers to earlier commands that waited for this input.
    pub later: Vec<(TaskId, Result<Reply, Refusal>)>,
}

/// The answer to a command.
#[derive(Debug)]
pub enum Answer {
    /// As soon as the transaction is durable.
    Now(Result<Reply, Refusal>),
    /// When a merge or a restoration of this task has ended.
    When(TaskId),
}

/// Applies one input at `now`.
pub fn update(state: &mut State, input: Input, now: Timestamp) -> Outcome {
    state.now = now;
    let mut step = Step {
        state,
        now,
        by: Actor::squad(),
        outcome: Outcome::default(),
    };
    match input {
        Input::Command(request) => commands::command(&mut step, request),
        Input::Attempt { task, number, fact } => progress::attempt(&mut step, task, number, fact),
        Input::Task { task, fact } => progress::task(&mut step, task, fact),
        Input::Catalogue { catalogue, changes } => {
            step.state.catalogue = catalogue;
            for what in changes {
                step.record_squad(SquadEvent::CatalogueChanged { what });
            }
        }
        Input::Installation(installation) => step.state.installation = installation,
        Input::Pool(pool) => pool::report(&mut step, pool),
        Input::Gateway(gateway) => {
            step.state.gateway = gateway;
            step.state.gateway_at = now;
        }
        Input::Fits(fits) => step.state.fits = fits,
        Input::Machine {
            load_per_core,
            free_kib,
        } => {
            step.state.load_per_core = load_per_core;
            step.state.free_kib = Some(free_kib);
        }
        Input::Measured(report) => step.state.measured = report,
        Input::Squad(event) => step.record_squad(event),
        Input::Room(no_room) => room(&mut step, no_room),
        Input::Jumped(jump) => clock::jumped(&mut step, jump),
        Input::Tick => {}
    }
    schedule::due(&mut step);
    pool::limit(&mut step);
    schedule::assign(&mut step);
    schedule::explain_blocked(&mut step);
    pool::spares(&mut step);
    step.outcome
}

/// The disk has too little room, or room again; said once each.
fn room(step: &mut Step<'_>, no_room: Option<String>) {
    match (&step.state.no_room, &no_room) {
        (None, Some(why)) => step.record_squad(SquadEvent::HeldBack { why: why.clone() }),
        (Some(_), None) => step.record_squad(SquadEvent::RoomAgain),
        (None, None) | (Some(_), Some(_)) => {}
    }
    step.state.no_room = no_room;
}

/// One update under way.
struct Step<'a> {
    state: &'a mut State,
    now: Timestamp,
    by: Actor,
    outcome: Outcome,
}

impl Step<'_> {
    fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.state.tasks.get(&id)
    }

    /// Applies and records one event of a task.
    fn record(&mut self, id: TaskId, event: TaskEvent) -> Result<(), IllegalTransition> {
        let Some(task) = self.state.tasks.get_mut(&id) else {
            return Ok(());
        };
        let before = task.state;
        Arc::make_mut(task).apply(&event, self.now)?;
        self.state.dirty.insert(id);
        routing::learn(self.state, id, before, &event);
        self.push(What::Task { task: id, event });
        Ok(())
    }

    fn record_squad(&mut self, event: SquadEvent) {
        self.push(What::Squad { event });
    }

    fn push(&mut self, what: What) {
        let event = Arc::new(Event {
            sequence: self.state.next_event,
            at: self.now,
            by: self.by.clone(),
            what,
        });
        self.state.next_event += 1;
        self.state.events.push_back(Arc::clone(&event));
        while self.state.events.len() > EVENTS_KEPT {
            self.state.events.pop_front();
        }
        self.state.fresh.push(event);
    }

    fn effect(&mut self, effect: Effect) {
        self.outcome.effects.push(effect);
    }

    /// Asks for the effect that the task's new state waits for.
    fn proceed(&mut self, id: TaskId) {
        if let Some(effect) = self.task(id).and_then(State::outstanding) {
            self.effect(effect);
        }
    }
}

#[cfg(test)]
mod tests;
