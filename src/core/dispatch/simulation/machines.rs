//! What a log tells of the machines that served it: slots, room, loads.
//!
//! Everything is read off what was seen for certain. A model is in memory from the first to the
//! last request of one load of it (an epoch), and for a while after, because nobody unloads a model
//! at once; not beyond an eviction that was recorded, nor beyond the life of the server that wrote
//! it, nor where it was loaded again although no eviction was recorded: then it had left at a
//! moment that nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::served::Served;

/// Arrivals are logged in whole milliseconds: what overlaps by less has not overlapped.
const ROUNDING: Duration = Duration::from_millis(2);
/// A load, where the log has none: 10 to 30 s are typical.
const LOAD: Duration = Duration::from_secs(15);
/// How long a model stays unused in memory: Ollama's own `keep_alive`.
const KEPT: Duration = Duration::from_secs(300);

/// A request and the life of the server that logged it: its numbers begin anew with each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lived<'a> {
    pub(super) life: usize,
    pub(super) served: &'a Served,
}

/// The lives of requests in the order of their arrival: another one begins where the numbers of
/// requests fall back.
pub(super) fn lives(requests: &[Served]) -> Vec<Lived<'_>> {
    let mut life = 0;
    let mut last = 0;
    let lived = requests.iter().map(|served| {
        life += usize::from(served.id < last);
        last = served.id;
        Lived { life, served }
    });
    lived.collect()
}

/// The requests of one endpoint, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    requests: Vec<Lived<'a>>,
}

/// A model in memory.
struct Stay {
    life: usize,
    epoch: u64,
    from: Duration,
    /// The end of its last request.
    last: Duration,
}

impl Stay {
    /// It left at the latest then, which may be long after it was used.
    fn until(&self, gone: Duration) -> (Duration, Duration) {
        let kept = self.last.saturating_add(KEPT);
        (self.from, kept.min(gone).max(self.last))
    }
}

impl<'a> Seen<'a> {
    /// By endpoint.
    pub(super) fn by_endpoint(requests: &'a [Served]) -> BTreeMap<&'a EndpointName, Self> {
        let mut all: BTreeMap<&EndpointName, Self> = BTreeMap::new();
        for lived in lives(requests) {
            let here = all.entry(&lived.served.endpoint).or_default();
            here.requests.push(lived);
        }
        all
    }

    /// The most requests that one model was seen to serve at a time; 0 where none took any time.
    ///
    /// Whoever waited inside the endpoint was sent to find out about its slots and had none.
    pub(super) fn at_once(&self) -> u16 {
        let mut spans: BTreeMap<&ModelName, Vec<(Duration, Duration)>> = BTreeMap::new();
        for Lived { served, .. } in &self.requests {
            if served.slot_wait().is_zero() {
                let end = ended(served).saturating_sub(ROUNDING);
                let spans = spans.entry(&served.model).or_default();
                spans.push((began(served), end));
            }
        }
        count(spans.into_values().map(|spans| most(&spans)).max())
    }

    /// The most models that were seen in memory together.
    pub(super) fn together(&self) -> u16 {
        let mut stays = Vec::new();
        let mut open: BTreeMap<&ModelName, Stay> = BTreeMap::new();
        let mut requests = self.requests.clone();
        requests.sort_by_key(|lived| (lived.life, began(lived.served)));
        let mut now = 0;
        for Lived { life, served } in requests {
            let (begin, end) = (began(served), ended(served));
            if life != now {
                now = life;
                stays.extend(std::mem::take(&mut open).values().map(|it| it.until(begin)));
            }
            let is_same = |stay: &Stay| (stay.life, stay.epoch) == (life, served.epoch);
            if let Some(stay) = open.get_mut(&served.model).filter(|stay| is_same(stay)) {
                stay.last = stay.last.max(end);
                continue;
            }
            // Nobody has said when it left; it is not beside itself.
            let before = open.remove(&served.model);
            stays.extend(before.map(|stay| (stay.from, stay.last.min(begin))));
            if let Some((evicted, loading)) = evicted(served, begin) {
                let gone = open.remove(evicted);
                stays.extend(gone.map(|stay| stay.until(loading)));
            }
            let stay = Stay {
                life,
                epoch: served.epoch,
                from: begin,
                last: end,
            };
            open.insert(&served.model, stay);
        }
        stays.extend(open.values().map(|stay| stay.until(Duration::MAX)));
        count(Some(most(&stays)))
    }

    /// The median of the loads that were seen of each model.
    pub(super) fn loads(&self) -> BTreeMap<&'a ModelName, Duration> {
        let mut all: BTreeMap<&ModelName, Vec<Duration>> = BTreeMap::new();
        for Lived { served, .. } in &self.requests {
            if let Some(swap) = &served.swap {
                let took = Duration::from_micros(swap.took_us);
                all.entry(&served.model).or_default().push(took);
            }
        }
        let medians = all.into_iter();
        medians
            .filter_map(|(model, took)| Some((model, median(took)?)))
            .collect()
    }
}

/// A load of whatever model: the median of all that were seen.
pub(super) fn any_load(requests: &[Served]) -> Duration {
    let swaps = requests.iter().filter_map(|served| served.swap.as_ref());
    let took = swaps.map(|swap| Duration::from_micros(swap.took_us));
    median(took.collect()).unwrap_or(LOAD)
}

/// What had to go for a request that began to be served then, and when.
fn evicted(served: &Served, begin: Duration) -> Option<(&ModelName, Duration)> {
    let swap = served.swap.as_ref()?;
    let took = Duration::from_micros(swap.took_us);
    Some((swap.evicted.as_ref()?, begin.saturating_sub(took)))
}

/// Since 1970.
fn began(served: &Served) -> Duration {
    arrived(served) + Duration::from_micros(served.queue_us)
}

fn ended(served: &Served) -> Duration {
    arrived(served) + Duration::from_micros(served.total_us)
}

fn arrived(served: &Served) -> Duration {
    Duration::from_millis(served.at.0)
}

/// The most spans that have a moment in common.
fn most(spans: &[(Duration, Duration)]) -> usize {
    let spans = spans.iter().filter(|(from, to)| from < to);
    // An end at the moment of a beginning makes room for it.
    let changes: BTreeSet<(Duration, bool, usize)> = spans
        .enumerate()
        .flat_map(|(at, (from, to))| [(*from, true, at), (*to, false, at)])
        .collect();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins, _) in changes {
        if begins {
            now += 1;
            most = most.max(now);
        } else {
            now -= 1;
        }
    }
    most
}

fn count(most: Option<usize>) -> u16 {
    u16::try_from(most.unwrap_or(0)).unwrap_or(u16::MAX)
}

fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One request of 5 s for `model` at `at` s, by the load `epoch`.
    fn served(id: u64, at: u64, model: &str, epoch: u64) -> Served {
        serde_json::from_value(serde_json::json!({
            "id": id, "at": at * 1_000, "client": "agent-1", "model": model, "endpoint": "gpu",
            "epoch": epoch, "total_us": 5_000_000, "outcome": {"ended": "done"},
        }))
        .unwrap()
    }

    fn together(requests: &[Served]) -> u16 {
        Seen::by_endpoint(requests)[&EndpointName::from("gpu")].together()
    }

    #[test]
    fn models_that_are_used_in_turns_without_a_load_are_in_memory_together() {
        let log = [
            served(1, 0, "a:1b", 1),
            served(2, 600, "b:1b", 2),
            served(3, 1_200, "a:1b", 1),
        ];
        assert_eq!(together(&log), 2);
    }

    #[test]
    fn a_model_that_is_not_used_for_long_is_not_known_to_be_there() {
        let after = |pause: u64| [served(1, 0, "a:1b", 1), served(2, 5 + pause, "b:1b", 2)];
        assert_eq!(together(&after(299)), 2);
        assert_eq!(together(&after(301)), 1);
    }

    #[test]
    fn a_model_that_was_loaded_again_had_left_at_a_moment_that_nobody_knows() {
        let log = [
            served(1, 0, "a:1b", 1),
            served(2, 60, "b:1b", 2),
            served(3, 400, "a:1b", 3),
        ];
        assert_eq!(together(&log), 1);
    }

    #[test]
    fn a_model_is_never_beside_itself() {
        let log = [served(1, 0, "a:1b", 1), served(2, 3, "a:1b", 2)];
        assert_eq!(together(&log), 1);
    }

    #[test]
    fn an_eviction_makes_room_and_its_load_is_no_time_together() {
        let mut second = served(2, 60, "b:1b", 2);
        second.queue_us = 20_000_000;
        second.total_us = 25_000_000;
        let log = |swap: serde_json::Value| {
            let mut second = second.clone();
            second.swap = serde_json::from_value(swap).unwrap();
            [served(1, 0, "a:1b", 1), second]
        };
        let evicted = serde_json::json!({"evicted": "a:1b", "took_us": 10_000_000});
        assert_eq!(together(&log(evicted)), 1);
        let beside = serde_json::json!({"evicted": null, "took_us": 10_000_000});
        assert_eq!(together(&log(beside)), 2);
    }

    #[test]
    fn a_restart_says_nothing_of_what_is_in_memory() {
        let log = [
            served(1, 0, "a:1b", 1),
            served(2, 10, "a:1b", 1),
            served(1, 60, "b:1b", 1),
        ];
        assert_eq!(together(&log), 1);
    }

    #[test]
    fn another_life_begins_where_the_numbers_of_requests_fall_back() {
        let ids = [1, 2, 5, 1, 4, 3];
        let at = 0..;
        let log: Vec<Served> = ids
            .into_iter()
            .zip(at)
            .map(|(id, at)| served(id, at, "a:1b", 1))
            .collect();
        let found: Vec<usize> = lives(&log).iter().map(|it| it.life).collect();
        assert_eq!(found, [0, 0, 0, 1, 1, 2]);
    }
}
