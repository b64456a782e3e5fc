//! A schedule made by somebody who knows what everybody will ask and how long each service takes.
//!
//! Whenever a request ends or arrives and another model is wanted, each way to go on is tried on
//! a copy of the machine, half an hour ahead: to stay with the resident model, or to leave it now
//! for one of those that are wanted. The way with the most answers is taken. That is no optimum,
//! and it is unfair, because nothing but answers counts. The best of it and of all other orders
//! of service is the best schedule known; what free swaps would give is a bound.

use std::time::Duration;

use super::outcome::Outcome;
use super::workload::Workload;
use super::world::{Strategy, World};

/// How far ahead a way is tried: several rounds of all models at the swap times of interest.
const AHEAD: Duration = Duration::from_secs(1800);

/// Runs a workload of one machine with foresight.
pub fn clairvoyant(workload: &Workload) -> Outcome {
    let mut world = World::new(workload, Strategy::Collate);
    while world.step() {
        let ways = world.ways();
        if ways.is_empty() {
            continue;
        }
        let until = world.now() + AHEAD;
        let stay = world.fork().answers_by(until);
        let best = ways.into_iter().map(|model| {
            let mut fork = world.fork();
            fork.leave_for(model);
            (fork.answers_by(until), model)
        });
        // Of equals the first: the order of the models.
        let best = best.reduce(|best, way| if way.0 > best.0 { way } else { best });
        if let Some((_, model)) = best.filter(|(answers, _)| *answers > stay) {
            world.leave_for(model);
        }
    }
    world.outcome()
}
