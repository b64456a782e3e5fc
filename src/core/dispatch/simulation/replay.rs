//! A recorded log as a workload: what it has cost, and what it would have cost otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::served::{Outcome as Ending, Served};

use super::outcome::Outcome;
use super::workload::{Machine, Script, Since, Step, Workload};

/// Arrivals are logged in whole milliseconds: what overlaps by less has not overlapped.
const ROUNDING: Duration = Duration::from_millis(2);
/// A load, where the log has none: 10 to 30 s are typical.
const LOAD: Duration = Duration::from_secs(15);

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
        let clients = self.clients();
        let mut outcome = Outcome {
            served: vec![0; clients.len()],
            ..Outcome::default()
        };
        let mut loads = BTreeSet::new();
        for served in &self.requests {
            outcome.waits.push(micros(served.queue_us));
            if let Some(client) = clients.iter().position(|client| *client == served.client) {
                outcome.served[client] += 1;
            }
            let end = self.arrival(served) + micros(served.total_us);
            outcome.makespan = outcome.makespan.max(end);
            // All that waited for a load tell of it.
            let is_new = loads.insert((&served.endpoint, &served.model, served.epoch));
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
        let endpoints: Vec<EndpointName> = distinct(&self.requests, |it| it.endpoint.clone());
        let models: Vec<ModelName> = distinct(&self.requests, |it| it.model.clone());
        let services: Duration = other.requests.iter().map(service).sum();
        let count = u32::try_from(other.requests.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let machines = endpoints.iter().map(|endpoint| Machine {
            endpoint: endpoint.clone(),
            slots: known.slots.unwrap_or_else(|| self.at_once(endpoint)).max(1),
            room: known.room.unwrap_or_else(|| self.together(endpoint)).max(1),
            loads: models
                .iter()
                .map(|model| known.load.unwrap_or_else(|| self.load(endpoint, model)))
                .collect(),
            // A recorded swap is told as one time; all of it is in the load.
            unload: Duration::ZERO,
        });
        Workload {
            machines: machines.collect(),
            scripts: other.scripts(&endpoints, &models),
            models,
            predicted: services / count,
            until: None,
        }
    }

    fn clients(&self) -> Vec<String> {
        distinct(&self.requests, |it| it.client.clone())
    }

    /// Since the first arrival.
    fn arrival(&self, served: &Served) -> Duration {
        let first = self.requests.first().map_or(served.at, |first| first.at);
        served.at.since(first)
    }

    fn scripts(&self, endpoints: &[EndpointName], models: &[ModelName]) -> Vec<Script> {
        let clients = self.clients();
        let scripts = clients.into_iter().map(|client| {
            let mut before: Option<&Served> = None;
            let requests = self
                .requests
                .iter()
                .filter(|served| served.client == client);
            let steps = requests.map(|served| {
                let (gap, since) = self.gap(before.replace(served), served);
                Step {
                    gap,
                    since,
                    machine: place(endpoints, &served.endpoint),
                    model: place(models, &served.model),
                    service: service(served),
                    priority: served.priority,
                }
            });
            let steps = steps.collect();
            Script { client, steps }
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

    /// The most requests that one model was seen to serve at a time.
    fn at_once(&self, endpoint: &EndpointName) -> u16 {
        let mut changes: BTreeMap<&ModelName, Vec<(Duration, i32)>> = BTreeMap::new();
        for served in self
            .requests
            .iter()
            .filter(|served| served.endpoint == *endpoint)
        {
            let came = self.arrival(served);
            let (begin, end) = (
                came + micros(served.queue_us),
                came + micros(served.total_us),
            );
            let end = end.saturating_sub(ROUNDING);
            if begin < end {
                let changes = changes.entry(&served.model).or_default();
                changes.extend([(begin, 1), (end, -1)]);
            }
        }
        let most = changes.into_values().map(|mut changes| {
            // An end at the moment of a beginning makes room for it.
            changes.sort_unstable();
            let counts = changes.iter().scan(0, |count, (_, change)| {
                *count += change;
                Some(*count)
            });
            counts.max().unwrap_or(0)
        });
        u16::try_from(most.max().unwrap_or(1)).unwrap_or(u16::MAX)
    }

    /// The most models that were seen in memory together.
    fn together(&self, endpoint: &EndpointName) -> u16 {
        let mut loaded = BTreeSet::new();
        let mut most = 1;
        let here = self
            .requests
            .iter()
            .filter(|served| served.endpoint == *endpoint);
        let mut here: Vec<&Served> = here.collect();
        here.sort_by_key(|served| self.arrival(served) + micros(served.queue_us));
        for served in here {
            if let Some(evicted) = served.swap.as_ref().and_then(|swap| swap.evicted.as_ref()) {
                loaded.remove(evicted);
            }
            loaded.insert(&served.model);
            most = most.max(loaded.len());
        }
        u16::try_from(most).unwrap_or(u16::MAX)
    }

    /// The median of the loads seen of a model there, else of all.
    fn load(&self, endpoint: &EndpointName, model: &ModelName) -> Duration {
        let here = |served: &&Served| served.endpoint == *endpoint && served.model == *model;
        let took = |served: &Served| served.swap.as_ref().map(|swap| micros(swap.took_us));
        let own = median(self.requests.iter().filter(here).filter_map(took).collect());
        own.or_else(|| median(self.requests.iter().filter_map(took).collect()))
            .unwrap_or(LOAD)
    }
}

fn service(served: &Served) -> Duration {
    micros(served.total_us.saturating_sub(served.queue_us))
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

fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dispatch::simulation::world::World;
    use crate::core::dispatch::simulation::{Strategy, run};

    /// A request of `client` at `at` s that waits `queue` s and is done after `total` s.
    fn served(client: &str, model: &str, [at, queue, total]: [u64; 3], swap: &str) -> Served {
        let text = format!(
            r#"{{"id": 1, "at": {}, "client": "{client}", "model": "{model}:latest", "endpoint": "gpu",
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
    fn what_never_reached_an_endpoint_is_left_out() {
        let mut refused = served("x", "a", [0, 1, 1], "null");
        refused.outcome = Ending::Cancelled;
        assert!(Log::new(vec![refused]).is_empty());
    }
}
