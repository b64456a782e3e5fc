//! What holds of the dispatcher whatever is asked of it.

use std::time::Duration;

use proptest::prelude::*;

use super::rig::{End, Plan, Rig, Turn, Weights};
use crate::core::dispatch::Focus;
use crate::core::task::Priority;

const PRIORITIES: [Priority; 5] = [
    Priority::Critical,
    Priority::High,
    Priority::Normal,
    Priority::Low,
    Priority::Background,
];

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn turn(models: usize) -> impl Strategy<Value = Turn> {
    let when = (
        millis(0..40_000),
        millis(1..30_000),
        prop::option::weighted(0.2, millis(0..60_000)),
    );
    let how = (
        0..PRIORITIES.len(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
    );
    (when, 0..models, how).prop_map(|((gap, service, patience), model, how)| Turn {
        gap,
        model,
        service,
        priority: PRIORITIES[how.0],
        focus: if how.1 {
            Focus::Focused
        } else {
            Focus::Background
        },
        is_hasty: how.2,
        patience,
    })
}

fn weights() -> impl Strategy<Value = Weights> {
    let size = 1..10_u64;
    let load = prop_oneof![1 => Just(Duration::ZERO), 9 => millis(100..20_000)];
    (size, load, prop::bool::weighted(0.05)).prop_map(|(size, load, is_broken)| Weights {
        size,
        load,
        is_broken,
    })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (1..5_usize).prop_flat_map(|models| {
        let clients = prop::collection::vec(prop::collection::vec(turn(models), 1..12), 1..8);
        let machine = (0..9_u32, 1..5_u16, 1..20_u64, millis(0..2_000));
        (prop::collection::vec(weights(), models), clients, machine).prop_map(
            |(models, clients, (quantum, slots, room, unload))| Plan {
                quantum,
                slots,
                room,
                models,
                unload,
                clients,
            },
        )
    })
}

/// Models of one size with room for one, all loads equal; clients that always come back soon,
/// each with a model of its own; what the clients of a model ask at a time fits into a quantum.
fn saturated() -> impl Strategy<Value = Plan> {
    let clients = prop::collection::vec(1..5_usize, 2..5);
    let shape = (clients, 1..5_u32, 1..3_u16, 1_000..20_000_u64);
    shape.prop_flat_map(|(clients, quantum, slots, swap)| {
        let most = clients.iter().max().copied().unwrap_or(1) as u64;
        // A client may be served twice before another, and a quarter of the quantum is kept back.
        let longest = (swap * u64::from(quantum) * 3 / 4 / (2 * most)).max(2);
        let turn = (millis(0..2_000), millis(longest / 2..longest));
        let models = clients.len();
        let each = clients.into_iter().enumerate();
        let owners: Vec<usize> = each
            .flat_map(|(model, count)| std::iter::repeat_n(model, count))
            .collect();
        let turns = prop::collection::vec(turn, 20..40);
        prop::collection::vec(turns, owners.len()).prop_map(move |turns| Plan {
            quantum,
            slots,
            room: 1,
            models: vec![
                Weights {
                    size: 1,
                    load: Duration::from_millis(swap * 9 / 10),
                    is_broken: false
                };
                models
            ],
            unload: Duration::from_millis(swap - swap * 9 / 10),
            clients: owners
                .iter()
                .zip(turns)
                .map(|(owner, turns)| patient(*owner, turns))
                .collect(),
        })
    })
}

fn patient(model: usize, turns: Vec<(Duration, Duration)>) -> Vec<Turn> {
    let turn = |(gap, service)| Turn {
        gap,
        model,
        service,
        priority: Priority::Normal,
        focus: Focus::Background,
        is_hasty: false,
        patience: None,
    };
    turns.into_iter().map(turn).collect()
}

fn longest(plan: &Plan) -> Duration {
    plan.clients
        .iter()
        .flatten()
        .map(|turn| turn.service)
        .max()
        .unwrap()
}

/// A batch of another model: its load, its quantum, the hold and what runs at its end.
fn batch(plan: &Plan) -> Duration {
    let swap = plan.models.iter().map(|model| model.load).max().unwrap() + plan.unload;
    let hold = (swap / 10).min(Duration::from_secs(2));
    swap * (plan.quantum + 1) + hold + longest(plan)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The rig checks besides, at every order: the model is there, nothing is admitted to one that
    /// goes, none goes before it has served anybody who waits, slots and room are kept, a client's
    /// order is kept, there is one load at a time.
    #[test]
    fn every_request_is_admitted_once_or_withdrawn_or_failed_with_its_load(plan in any_plan()) {
        let rig = Rig::run(&plan);
        for (id, fate) in &rig.fates {
            prop_assert!(fate.end.is_some(), "{} was forgotten: {:?}", id, fate);
            let is_broken = plan.models[fate.model].is_broken;
            let has_failed = matches!(fate.end, Some((End::Failed, _)));
            prop_assert!(is_broken || !has_failed);
        }
        let asked: usize = plan.clients.iter().map(Vec::len).sum();
        prop_assert_eq!(rig.fates.len(), asked, "every turn was taken");
    }

    #[test]
    fn nobody_waits_longer_than_one_batch_of_every_other_model_and_its_own(plan in saturated()) {
        let rig = Rig::run(&plan);
        let others = u32::try_from(plan.models.len() - 1).unwrap();
        let swap = plan.models[0].load + plan.unload;
        for (id, fate) in &rig.fates {
            let Some((End::Admitted, admitted)) = fate.end else {
                return Err(TestCaseError::fail(format!("{id}: {fate:?}")));
            };
            let waited = admitted.saturating_sub(fate.arrived);
            let same = plan.clients.iter().filter(|turns| turns[0].model == fate.model).count();
            let same = u32::try_from(same).unwrap();
            // What runs when it comes, its own swap, and each client of its model twice before it.
            let drain = longest(&plan) + swap + longest(&plan) * (2 * same);
            prop_assert!(waited <= batch(&plan) * others + drain, "{} waited {:?}", id, waited);
        }
    }

    #[test]
    fn the_same_plan_is_served_the_same_way(plan in any_plan()) {
        let (one, two) = (Rig::run(&plan), Rig::run(&plan));
        prop_assert_eq!(&one.loads, &two.loads);
        let ends = |rig: &Rig<'_>| rig.fates.values().map(|fate| fate.end).collect::<Vec<_>>();
        prop_assert_eq!(ends(&one), ends(&two));
    }
}
