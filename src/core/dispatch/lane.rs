//! One runner with those who wait for it: fair among clients, in order for each.
//!
//! Fair queueing in virtual time: a request is stamped with the time at which it would end if
//! its client had a share of the runner to itself, and the smallest stamp goes first. A client
//! that has used much comes later, one that was away gets no credit for it, and a more urgent
//! request counts as less work. A stamp always grows within a client, so its order is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::served::Swap;
use crate::core::task::Priority;

use super::ask::{Ask, Focus, Listed, Moment, RequestId, Runner};
use super::slots::Slots;

/// The most that a predicted service counts in virtual time, so that a wrong prediction delays a
/// request by minutes at most.
const WORK_MOST: Duration = Duration::from_secs(120);

/// Clients whose use of a runner is remembered while they ask nothing.
const FLOWS_MOST: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Installed,
    Loading,
    Resident,
    Unloading,
}

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) client: String,
    pub(super) priority: Priority,
    pub(super) focus: Focus,
    pub(super) work: Duration,
    pub(super) arrived: Moment,
    start: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) id: RequestId,
    client: String,
    pub(super) work: Duration,
    pub(super) since: Moment,
    pub(super) at_once: u32,
    /// When it has come, if it is critical.
    critical: Option<Moment>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    stamp: u64,
    open: u32,
}

/// Place in a lane: virtual time, then arrival.
pub(super) type Stamp = (u64, u64);

#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) runner: Runner,
    pub(super) state: State,
    /// Nothing is admitted: it is about to be unloaded, or may have been.
    pub(super) fenced: bool,
    /// Requests that were admitted since the batch began.
    in_batch: u32,
    pub(super) epoch: u64,
    /// Memory, bytes; 0 when unknown.
    pub(super) size: u64,
    pub(super) load_time: Option<Duration>,
    pub(super) batch_since: Moment,
    /// End of its last batch.
    pub(super) served_at: Option<Moment>,
    pub(super) idle_since: Moment,
    pub(super) slots: Slots,
    pub(super) swap: Option<(Swap, Moment)>,
    /// Its process has died; the endpoint may go on listing it.
    pub(super) dead: bool,
    pub(super) stuck_since: Option<Moment>,
    /// When it was last loaded again because a part of it ran on the CPU.
    pub(super) reloaded_at: Option<Moment>,
    pub(super) expires_at: Option<Timestamp>,
    /// The context that it is listed with since its load. An endpoint may give a model less than
    /// was asked for, and is then not asked to load it again and again.
    pub(super) listed: Option<u32>,
    /// We have used it since it was last listed, so its expiry may have moved by us.
    pub(super) touched: bool,
    pub(super) foreign_until: Option<Moment>,
    /// When the shadow used it last; 0: it does not have it in memory.
    pub(super) shadow: u64,
    pub(super) running: Vec<Running>,
    waiting: BTreeMap<Stamp, Waiting>,
    arrivals: BTreeMap<u64, Stamp>,
    backlog: Duration,
    /// When those that are critical have come, by number.
    critical: BTreeMap<u64, Moment>,
    weights: u64,
    weighted: u128,
    flows: BTreeMap<String, Flow>,
    virtual_now: u64,
    past_focus: Option<Moment>,
}

impl Lane {
    pub(super) fn new(runner: Runner, slots: Option<u16>) -> Self {
        Self {
            runner,
            state: State::Installed,
            fenced: false,
            in_batch: 0,
            epoch: 0,
            size: 0,
            load_time: None,
            batch_since: Moment::ZERO,
            served_at: None,
            idle_since: Moment::ZERO,
            slots: Slots::new(slots),
            swap: None,
            dead: false,
            stuck_since: None,
            reloaded_at: None,
            expires_at: None,
            listed: None,
            touched: false,
            foreign_until: None,
            shadow: 0,
            running: Vec::new(),
            waiting: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            backlog: Duration::ZERO,
            critical: BTreeMap::new(),
            weights: 0,
            weighted: 0,
            flows: BTreeMap::new(),
            virtual_now: 0,
            past_focus: None,
        }
    }

    pub(super) fn begin_batch(&mut self, now: Moment) {
        self.batch_since = now;
        self.idle_since = now;
        self.in_batch = 0;
    }

    /// Whether nobody has been served since the batch began.
    pub(super) fn is_fresh(&self) -> bool {
        self.in_batch == 0
    }

    /// Whether this runner may be what its endpoint lists.
    pub(super) fn is_listed_as(&self, line: &Listed) -> bool {
        let is_new = self.state != State::Installed && self.listed.is_none();
        let context = self.listed.unwrap_or(self.runner.context);
        self.runner.model == line.model && (is_new || line.context == 0 || line.context == context)
    }

    pub(super) fn queued(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    pub(super) fn is_used(&self) -> bool {
        self.has_work() || self.state != State::Installed
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn has_critical(&self) -> bool {
        !self.critical.is_empty()
    }

    /// When the first of the critical requests that wait has come.
    pub(super) fn waits_critically(&self) -> Option<Moment> {
        self.critical.values().next().copied()
    }

    /// Whether a critical request that has come by then waits or runs.
    pub(super) fn has_critical_by(&self, then: Moment) -> bool {
        let runs = self.running.iter().filter_map(|running| running.critical);
        runs.chain(self.waits_critically()).any(|came| came <= then)
    }

    /// The number of the request that waits longest.
    pub(super) fn first_number(&self) -> Option<u64> {
        self.arrivals.keys().next().copied()
    }

    /// When the request that waits longest has come.
    pub(super) fn oldest(&self) -> Option<Moment> {
        let (_, stamp) = self.arrivals.first_key_value()?;
        self.waiting.get(stamp).map(|waiting| waiting.arrived)
    }

    /// Σ priority × (waited + `each`).
    pub(super) fn pressure(&self, now: Moment, each: Duration) -> u128 {
        let until = (now + each).as_micros() * u128::from(self.weights);
        until.saturating_sub(self.weighted)
    }

    /// Predicted time until everything that runs and waits is done, with all slots in use.
    pub(super) fn remaining(&self, now: Moment) -> Duration {
        let running: Duration = self
            .running
            .iter()
            .map(|running| {
                running
                    .work
                    .saturating_sub(now.saturating_sub(running.since))
            })
            .sum();
        (running + self.backlog) / u32::from(self.slots.get())
    }

    /// Predicted time until the requests that run are done.
    pub(super) fn draining(&self, now: Moment) -> Duration {
        self.running
            .iter()
            .map(|running| {
                running
                    .work
                    .saturating_sub(now.saturating_sub(running.since))
            })
            .max()
            .unwrap_or_default()
    }

    pub(super) fn push(&mut self, ask: Ask, number: u64, now: Moment) -> Stamp {
        let flow = self.flows.entry(ask.client.clone()).or_default();
        let start = flow.stamp.max(self.virtual_now);
        flow.stamp = start + cost(ask.work, ask.priority);
        flow.open += 1;
        let stamp = (flow.stamp, number);
        let weight = weight(ask.priority);
        self.weights += weight;
        self.weighted += u128::from(weight) * now.as_micros();
        if ask.priority == Priority::Critical {
            self.critical.insert(number, now);
        }
        self.backlog += ask.work;
        self.arrivals.insert(number, stamp);
        self.waiting.insert(
            stamp,
            Waiting {
                id: ask.id,
                client: ask.client,
                priority: ask.priority,
                focus: ask.focus,
                work: ask.work,
                arrived: now,
                start,
            },
        );
        stamp
    }

    /// Takes a request out of the queue.
    pub(super) fn take(&mut self, stamp: Stamp) -> Option<Waiting> {
        let waiting = self.waiting.remove(&stamp)?;
        self.arrivals.remove(&stamp.1);
        let weight = weight(waiting.priority);
        self.weights -= weight;
        self.weighted -= u128::from(weight) * waiting.arrived.as_micros();
        self.critical.remove(&stamp.1);
        self.backlog = self.backlog.saturating_sub(waiting.work);
        Some(waiting)
    }

    /// Forgets a request that waits.
    pub(super) fn withdraw(&mut self, stamp: Stamp) {
        let Some(waiting) = self.take(stamp) else {
            return;
        };
        if let Some(flow) = self.flows.get_mut(&waiting.client) {
            flow.open = flow.open.saturating_sub(1);
            if flow.stamp == stamp.0 {
                flow.stamp = waiting.start;
            }
        }
        self.forget(&waiting.client);
    }

    /// Takes everything out of the queue.
    pub(super) fn clear(&mut self) -> Vec<RequestId> {
        let mut ids = Vec::with_capacity(self.waiting.len());
        while let Some((stamp, waiting)) = self.waiting.first_key_value() {
            let (stamp, id) = (*stamp, waiting.id);
            ids.push(id);
            self.withdraw(stamp);
        }
        ids
    }

    /// The request that is to be admitted next.
    pub(super) fn next(&self, focused: Option<&str>) -> Option<Stamp> {
        let (first, waiting) = self.waiting.first_key_value()?;
        let passed = |since: Moment| self.oldest().is_some_and(|oldest| oldest <= since);
        if self.past_focus.is_some_and(passed) {
            return Some(*first);
        }
        let is_focused = |waiting: &Waiting| {
            waiting.focus == Focus::Focused || focused == Some(waiting.client.as_str())
        };
        if is_focused(waiting) {
            return Some(*first);
        }
        let ahead = self.waiting.iter().find(|(_, waiting)| is_focused(waiting));
        let Some((stamp, chosen)) = ahead else {
            return Some(*first);
        };
        // An older request of the same client may be in background: its order is kept.
        let same = self
            .waiting
            .range(..stamp)
            .find(|(_, waiting)| waiting.client == chosen.client);
        Some(same.map_or(*stamp, |(stamp, _)| *stamp))
    }

    /// Moves a request from the queue to those that run.
    pub(super) fn admit(&mut self, stamp: Stamp, now: Moment) -> Option<Waiting> {
        let out_of_turn = self.waiting.keys().next() != Some(&stamp);
        let waiting = self.take(stamp)?;
        // After one out of turn the next goes by turn if somebody has waited through it.
        self.past_focus = out_of_turn.then_some(now);
        self.virtual_now = self.virtual_now.max(waiting.start);
        self.touched = true;
        self.in_batch = self.in_batch.saturating_add(1);
        self.running.push(Running {
            id: waiting.id,
            client: waiting.client.clone(),
            work: waiting.work,
            since: now,
            at_once: u32::try_from(self.running.len()).unwrap_or(u32::MAX) + 1,
            critical: (waiting.priority == Priority::Critical).then_some(waiting.arrived),
        });
        Some(waiting)
    }

    /// Ends a request that runs. Its client has paid what was predicted: paying what it took
    /// instead makes whoever had one long answer wait for all others, and the longest wait longer
    /// by a quarter.
    pub(super) fn finish(&mut self, id: RequestId, now: Moment) -> Option<Running> {
        let at = self.running.iter().position(|running| running.id == id)?;
        let ended = self.running.swap_remove(at);
        self.touched = true;
        if let Some(flow) = self.flows.get_mut(&ended.client) {
            flow.open = flow.open.saturating_sub(1);
        }
        self.forget(&ended.client);
        if !self.has_work() {
            self.idle_since = now;
        }
        Some(ended)
    }

    /// Everybody who waits or runs.
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> {
        let running = self.running.iter().map(|running| running.id);
        running.chain(self.waiting.values().map(|waiting| waiting.id))
    }

    /// Requests that go before this one.
    pub(super) fn ahead_of(&self, stamp: Stamp) -> usize {
        self.waiting.range(..stamp).count()
    }

    fn forget(&mut self, client: &str) {
        let now = self.virtual_now;
        if self
            .flows
            .get(client)
            .is_some_and(|flow| flow.open == 0 && flow.stamp <= now)
        {
            self.flows.remove(client);
        }
        if self.flows.len() > FLOWS_MOST {
            self.flows.retain(|_, flow| flow.open > 0);
        }
    }
}

/// A step of priority halves what a request counts.
fn weight(priority: Priority) -> u64 {
    match priority {
        Priority::Critical => 16,
        Priority::High => 8,
        Priority::Normal => 4,
        Priority::Low => 2,
        Priority::Background => 1,
    }
}

/// Virtual time of a service, never nothing.
fn cost(work: Duration, priority: Priority) -> u64 {
    let micros = u64::try_from(work.min(WORK_MOST).as_micros()).unwrap_or(u64::MAX);
    (micros * 4 / weight(priority)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::endpoint::EndpointName;
    use crate::core::model::ModelName;

    fn ask(number: u64) -> Ask {
        Ask {
            id: RequestId(number),
            client: format!("client {number}"),
            runner: Runner {
                endpoint: EndpointName::from("gpu"),
                model: ModelName::new("m"),
                context: 8192,
            },
            priority: [Priority::Critical, Priority::Normal, Priority::Background]
                [usize::try_from(number % 3).unwrap()],
            focus: Focus::Background,
            work: Duration::from_secs(10),
            need: 0,
        }
    }

    #[test]
    fn nothing_grows_with_what_has_been_served_or_withdrawn() {
        let mut lane = Lane::new(ask(0).runner, Some(1));
        for number in 0..10_000 {
            let now = Duration::from_secs(number);
            let stamp = lane.push(ask(number), number, now);
            if number % 7 == 0 {
                lane.withdraw(stamp);
            } else {
                lane.admit(stamp, now).unwrap();
                lane.finish(RequestId(number), now).unwrap();
            }
            assert!(lane.flows.len() <= FLOWS_MOST + 1, "{}", lane.flows.len());
        }
        assert!(lane.waiting.is_empty() && lane.arrivals.is_empty() && lane.running.is_empty());
        assert_eq!(lane.backlog, Duration::ZERO);
        assert!(lane.critical.is_empty());
        assert_eq!((lane.weights, lane.weighted), (0, 0), "no sum drifts");
    }
}
