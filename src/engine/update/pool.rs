//! What the engine asks of the pool: how many agents work, and which are made ahead.

use crate::core::AgentSlot;
use crate::core::agent::{AgentState, Why};
use crate::core::event::SquadEvent;
use crate::core::pool::{Binding, Forking, Load, PoolReport, SpareOrder, takes_spares, wanted};
use crate::core::settings::MaxAgents;
use crate::core::task::TaskState;

use super::super::input::Effect;
use super::super::state::State;
use super::super::view::Installation;
use super::{Step, routing, schedule};

/// Takes the pool's report; whether forking works or not is worth an event.
pub(super) fn report(step: &mut Step<'_>, pool: PoolReport) {
    let before = std::mem::replace(&mut step.state.pool, pool);
    let failed = |forking: &Forking| matches!(forking, Forking::Failed { .. });
    match &step.state.pool.forking {
        Forking::Failed { why } if !failed(&before.forking) => {
            let why = why.clone();
            step.record_squad(SquadEvent::ForkingFailed { why });
        }
        Forking::On { .. } if failed(&before.forking) => {
            step.record_squad(SquadEvent::ForkingResumed);
        }
        Forking::Failed { .. } | Forking::On { .. } | Forking::Off | Forking::Starting => {}
    }
}

/// Follows the load with the number of agents that may work, where that is not fixed.
pub(super) fn limit(step: &mut Step<'_>) {
    let state = &mut *step.state;
    let waits = state
        .unfinished()
        .any(|task| task.state == TaskState::Queued);
    if state.settings.max != MaxAgents::Auto || !waits {
        return;
    }
    let load = load(state);
    let before = state.auto.limit();
    if state.auto.observe(&load, step.now) {
        let limit = state.auto.limit();
        let why = format!(
            "{} slots of endpoints, {} agents busy elsewhere",
            load.endpoint_slots, load.elsewhere
        );
        step.record_squad(SquadEvent::LimitChanged { before, limit, why });
    }
}

fn load(state: &State) -> Load {
    let healthy = state.catalogue.endpoints.iter();
    let slots = healthy
        .filter(|(_, endpoint)| endpoint.health.is_ok())
        .map(|(name, _)| state.settings.parallel.get(name).copied().unwrap_or(1));
    let holders = || state.tasks.values().filter_map(|task| task.slot());
    let is_elsewhere = |slot: &AgentSlot| {
        state.reports.get(slot).is_some_and(|report| {
            report.state == AgentState::Waiting
                || matches!(report.why, Why::Editing | Why::Judging | Why::Preparing)
        })
    };
    let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    Load {
        endpoint_slots: slots.fold(0, u16::saturating_add),
        elsewhere: count(holders().filter(is_elsewhere).count()),
        load_per_core: state.load_per_core,
        free_kib: state.free_kib,
        working: count(holders().count()),
    }
}

/// Asks for spares when others are wanted than before.
pub(super) fn spares(step: &mut Step<'_>) {
    let count = usize::from(step.state.settings.spares);
    let is_ready = matches!(step.state.installation, Installation::Ready { .. });
    if count == 0 || !is_ready {
        return;
    }
    let last = last_order(step);
    let orders = wanted(next_orders(step, count).into_iter(), last.as_ref(), count);
    // Another base alone is no reason: a spare is put on the task's own base when it is taken.
    let bindings = |orders: &[SpareOrder]| -> Vec<_> {
        orders.iter().map(|order| order.binding.clone()).collect()
    };
    if bindings(&orders) != bindings(&step.state.spares) {
        step.state.spares.clone_from(&orders);
        step.effect(Effect::KeepSpares(orders));
    }
}

/// What the first tasks of the queue will need.
fn next_orders(step: &Step<'_>, count: usize) -> Vec<SpareOrder> {
    if step.state.paused {
        return Vec::new();
    }
    let queue = schedule::queue(step);
    let fitting = queue.iter().filter(|task| takes_spares(task));
    let mut given = routing::Given::by_now(step.state);
    let orders = fitting.filter_map(|task| {
        let choice = routing::look(step, task, &given).ok()?;
        given.expect(&choice);
        Some(SpareOrder::routed(&task.spec, &choice.routing))
    });
    orders.take(count).collect()
}

/// What was assigned last; after a start, what the newest task that had an agent was given.
fn last_order(step: &mut Step<'_>) -> Option<SpareOrder> {
    if step.state.last_order.is_none() {
        let tasks = step.state.tasks.values();
        let known = tasks.filter(|task| task.state != TaskState::Dead);
        let newest = known.max_by_key(|task| task.attempt().map(|attempt| attempt.started));
        step.state.last_order = newest.and_then(|task| {
            let binding = Binding::of_attempt(task)?;
            let base_commit = task.spec.base_commit.clone();
            Some(SpareOrder {
                binding,
                base_commit,
            })
        });
    }
    step.state.last_order.clone()
}
