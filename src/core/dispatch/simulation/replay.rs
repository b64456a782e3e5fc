//! A recorded log as a workload: what it has cost, and what it would have cost otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::served::{Outcome as Ending, Served};

use super::machines::{Lived, Seen, any_load, lives};
use super::outcome::Outcome;
use super::workload::{Machine, Script, Since, Step, Workload};

/// What a log does not tell of its machines; without it, it is inferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machines {
    /// Requests that a model serves at a time; else the most that the log shows at once.
    pub slots: Option<u16>,
    /// Models that fit into memory together; else the most that the log shows without an eviction.
    pub room: Option<u16>,
    /// A load; else what the log shows for each model.
    pub load: Option<Duration>,
}

/// Requests that reached an endpoint, in the order of their arrival.
#[derive(Debug, Clone)]
pub struct Log {
    requests: Vec<Served>,
}

impl Log {
    /// A log without what was refused or given up before it was served: it cost nothing.
    pub fn new(mut requests: Vec<Served>) -> Self {
        requests.retain(|served| match &served.outcome {
            Ending::Refused { .. } => false,
            Ending::Cancelled => served.total_us > served.queue_us,
            Ending::Done | Ending::Length | Ending::Failed { .. } | Ending::Broken { .. } => true,
        });
        requests.sort_by_key(|served| (served.at, served.id));
        Self { requests }
    }

    /// Requests in it.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// What it has cost.
    pub fn recorded(&self) -> Outcome {
        let by_client = self.by_client();
        let served = by_client.values().map(|requests| requests.len() as u64);
        let mut outcome = Outcome {
            served: served.collect(),
            waits: self.requests.iter().map(Served::waited).collect(),
            ..Outcome::default()
        };
        let mut loads = BTreeSet::new();
        for Lived { life, served } in lives(&self.requests) {
            let end = self.arrival(served) + micros(served.total_us);
            outcome.makespan = outcome.makespan.max(end);
            // All that waited for a load tell of it, and each server counts its own.
            let is_new = loads.insert((life, &served.endpoint, &served.model, served.epoch));
            if let Some(swap) = served.swap.as_ref().filter(|_| is_new) {
                outcome.swaps += u64::from(swap.evicted.is_some());
                outcome.swapping += micros(swap.took_us);
            }
        }
        outcome.waits.sort_unstable();
        outcome
    }

    /// The requests.
    pub fn requests(&self) -> &[Served] {
        &self.requests
    }

    /// The same requests for a simulation.
    pub fn workload(&self, known: Machines) -> Workload {
        self.workload_of(self, known)
    }

    /// Other requests for a simulation of the machines of this log.
    pub fn workload_of(&self, other: &Self, known: Machines) -> Workload {
        let models: Vec<ModelName> = distinct(&self.requests, |it| it.model.clone());
        let seen = Seen::by_endpoint(&self.requests);
        let endpoints: Vec<&EndpointName> = seen.keys().copied().collect();
        let any_load = any_load(&self.requests);
        let machines = seen.iter().map(|(endpoint, seen)| {
            let loads = seen.loads();
            let load = |model| loads.get(model).copied().unwrap_or(any_load);
            Machine {
                endpoint: (*endpoint).clone(),
                slots: known.slots.unwrap_or_else(|| seen.at_once()).max(1),
                room: known.room.unwrap_or_else(|| seen.together()).max(1),
                loads: models
                    .iter()
                    .map(|model| known.load.unwrap_or_else(|| load(model)))
                    .collect(),
                // A recorded swap is told as one time; all of it is in the load.
                unload: Duration::ZERO,
            }
        });
        Workload {
            machines: machines.collect(),
            scripts: other.scripts(&endpoints, &models),
            predicted: other.mean_service(),
            models,
            until: None,
        }
    }

    fn mean_service(&self) -> Duration {
        let count = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        let services = self.requests.iter().map(Served::service);
        services.fold(Duration::ZERO, Duration::saturating_add) / count.max(1)
    }

    /// The requests of each client, in the order of their arrival.
    fn by_client(&self) -> BTreeMap<&str, Vec<&Served>> {
        let mut all: BTreeMap<&str, Vec<&Served>> = BTreeMap::new();
        for served in &self.requests {
            all.entry(&served.client).or_default().push(served);
        }
        all
    }

    /// Since the first arrival.
    fn arrival(&self, served: &Served) -> Duration {
        let first = self.requests.first().map_or(served.at, |first| first.at);
        served.at.since(first)
    }

    fn scripts(&self, endpoints: &[&EndpointName], models: &[ModelName]) -> Vec<Script> {
        let scripts = self.by_client().into_iter().map(|(client, requests)| {
            let mut before: Option<&Served> = None;
            let steps = requests.into_iter().map(|served| {
                let (gap, since) = self.gap(before.replace(served), served);
                Step {
                    gap,
                    since,
                    machine: place(endpoints, &&served.endpoint),
                    model: place(models, &served.model),
                    service: served.service(),
                    priority: served.priority,
                }
            });
            Script {
                client: client.to_owned(),
                steps: steps.collect(),
            }
        });
        scripts.collect()
    }

    fn gap(&self, before: Option<&Served>, served: &Served) -> (Duration, Since) {
        let arrival = self.arrival(served);
        let Some(before) = before else {
            return (arrival, Since::End);
        };
        let came = self.arrival(before);
        let ended = came + micros(before.total_us);
        match arrival.checked_sub(ended) {
            Some(gap) => (gap, Since::End),
            None => (arrival.saturating_sub(came), Since::Arrival),
        }
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn distinct<T: Ord>(requests: &[Served], of: impl Fn(&Served) -> T) -> Vec<T> {
    let all: BTreeSet<T> = requests.iter().map(of).collect();
    all.into_iter().collect()
}

fn place<T: PartialEq>(all: &[T], wanted: &T) -> usize {
    all.iter().position(|one| one == wanted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dispatch::simulation::world::World;
    use crate::core::dispatch::simulation::{Strategy, run};

    /// A request of `client` at `at` s that waits `queue` s and is done after `total` s.
    fn served(client: &str, model: &str, [at, queue, total]: [u64; 3], swap: &str) -> Served {
        let text = format!(
            r#"{{"id": {at}, "at": {}, "client": "{client}", "model": "{model}:latest", "endpoint": "gpu",
                "queue_us": {}, "total_us": {}, "swap": {swap}, "epoch": {at},
                "outcome": {{"ended": "done"}}}}"#,
            at * 1000,
            queue * 1_000_000,
            total * 1_000_000
        );
        serde_json::from_str(&text).unwrap()
    }

    const LOADED: &str = r#"{"evicted": null, "took_us": 10000000}"#;
    const SWAPPED: &str = r#"{"evicted": "b:latest", "took_us": 12000000}"#;

    /// x uses a, y uses b, in turns, with a swap between.
    fn log() -> Log {
        Log::new(vec![
            served("x", "a", [100, 10, 15], LOADED),
            served(
                "y",
                "b",
                [101, 26, 31],
                r#"{"evicted": "a:latest", "took_us": 12000000}"#,
            ),
            served("x", "a", [120, 24, 29], SWAPPED),
            served("x", "a", [150, 0, 5], "null"),
        ])
    }

    #[test]
    fn what_was_recorded_is_told_as_it_was() {
        let outcome = log().recorded();
        let secs = |seconds: &[u64]| -> Vec<Duration> {
            seconds
                .iter()
                .map(|seconds| Duration::from_secs(*seconds))
                .collect()
        };
        assert_eq!(outcome.waits, secs(&[0, 10, 24, 26]));
        assert_eq!(
            (outcome.swaps, outcome.swapping),
            (2, Duration::from_secs(34))
        );
        assert_eq!(outcome.makespan, Duration::from_secs(55));
        assert_eq!(outcome.served, [3, 1]);
    }

    #[test]
    fn machines_are_inferred_from_what_is_seen() {
        let workload = log().workload(Machines::default());
        let machine = &workload.machines[0];
        assert_eq!((machine.slots, machine.room), (1, 1));
        // Of 10 s and 12 s the lower; b was seen once.
        assert_eq!(
            machine.loads,
            [Duration::from_secs(10), Duration::from_secs(12)]
        );
        let steps = &workload.scripts[0].steps;
        let gaps: Vec<u64> = steps.iter().map(|step| step.gap.as_secs()).collect();
        // 115 → 120, 149 → 150.
        assert_eq!(gaps, [0, 5, 1]);
        assert!(
            steps
                .iter()
                .all(|step| step.service == Duration::from_secs(5))
        );
    }

    #[test]
    fn a_client_that_did_not_wait_for_its_answer_does_not_in_the_replay() {
        let log = Log::new(vec![
            served("x", "a", [0, 0, 10], "null"),
            served("x", "a", [4, 0, 10], "null"),
        ]);
        let workload = log.workload(Machines::default());
        assert_eq!(workload.machines[0].slots, 2, "both were served at once");
        let second = &workload.scripts[0].steps[1];
        assert_eq!(
            (second.gap, second.since),
            (Duration::from_secs(4), Since::Arrival)
        );
    }

    #[test]
    fn the_same_requests_take_the_least_time_when_swaps_are_avoided() {
        let each = |at: u64| {
            let (client, model) = (format!("agent {at}"), ["a", "b"][(at % 2) as usize]);
            served(&client, model, [at, 17 * at, 17 * at + 5], SWAPPED)
        };
        let workload = Log::new((0..12).map(each).collect()).workload(Machines {
            room: Some(1),
            ..Machines::default()
        });
        let by = |strategy| run(&workload, strategy);
        let secs = |seconds| Duration::from_secs(seconds);
        // Twelve requests of 5 s, each with a swap of 12 s.
        let fifo = by(Strategy::Fifo);
        assert_eq!((fifo.makespan, fifo.swaps), (secs(12 * 17), 11));
        let unpinned = by(Strategy::UnpinnedFifo);
        assert_eq!((unpinned.makespan, unpinned.swaps), (secs(12 * 17), 11));
        // Two batches of six, each with a swap of 12 s, and the hold of a tenth of a swap.
        let quantum = by(Strategy::Quantum(4));
        assert_eq!(
            (quantum.makespan, quantum.swaps),
            (secs(2 * 42) + secs(12) / 10, 1)
        );
        assert_eq!(
            (quantum.answers(), fifo.answers(), unpinned.answers()),
            (12, 12, 12)
        );
    }

    #[test]
    fn loads_that_took_no_time_end_all_the_same() {
        let free = r#"{"evicted": "b:latest", "took_us": 0}"#;
        let each = |at: u64| {
            let (client, model) = (format!("agent {at}"), ["a", "b"][(at % 2) as usize]);
            served(&client, model, [at, 5 * at, 5 * at + 5], free)
        };
        let workload = Log::new((0..12).map(each).collect()).workload(Machines {
            room: Some(1),
            ..Machines::default()
        });
        for strategy in [
            Strategy::UnpinnedFifo,
            Strategy::Fifo,
            Strategy::Collate,
            Strategy::Quantum(4),
        ] {
            let mut world = World::new(&workload, strategy);
            let steps = (0..10_000).take_while(|_| world.step()).count();
            assert!(steps < 10_000, "{strategy:?} goes on without time passing");
            assert_eq!(world.outcome().answers(), 12, "{strategy:?}");
        }
    }

    #[test]
    fn one_after_the_other_is_one_slot_although_arrivals_are_rounded_down() {
        let mut second = served("y", "a", [1, 9, 19], "null");
        second.queue_us -= 900;
        let log = Log::new(vec![served("x", "a", [0, 0, 10], "null"), second]);
        assert_eq!(log.workload(Machines::default()).machines[0].slots, 1);
    }

    #[test]
    fn whoever_waited_inside_the_endpoint_was_served_after_that() {
        let mut probe = served("y", "a", [1, 0, 19], "null");
        probe.slot_wait_us = 9_000_000;
        let log = Log::new(vec![served("x", "a", [0, 0, 10], "null"), probe]);
        let workload = log.workload(Machines::default());
        assert_eq!(workload.machines[0].slots, 1, "a probe is no slot");
        let service = workload.scripts[1].steps[0].service;
        assert_eq!(service, Duration::from_secs(10));
        assert_eq!(log.recorded().wait(1.0), Duration::from_secs(9));
    }

    #[test]
    fn each_server_counts_its_own_loads() {
        let lives = [(1, 100), (2, 120), (1, 200), (2, 220)];
        let requests = lives.map(|(id, at)| {
            let mut served = served("x", "a", [at, 12, 15], SWAPPED);
            (served.id, served.epoch) = (id, 1);
            served
        });
        let outcome = Log::new(requests.to_vec()).recorded();
        // One in each life; the second request of a life tells of the same.
        assert_eq!(
            (outcome.swaps, outcome.swapping),
            (2, Duration::from_secs(24))
        );
    }

    #[test]
    fn what_never_reached_an_endpoint_is_left_out() {
        let mut refused = served("x", "a", [0, 1, 1], "null");
        refused.outcome = Ending::Cancelled;
        assert!(Log::new(vec![refused]).is_empty());
    }
}
