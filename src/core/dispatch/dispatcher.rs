//! What happens to the GPU and its requests, as the dispatcher keeps account of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::served::Swap;

use super::ask::{Ask, DispatchSettings, Listed, Moment, Order, RequestId, Runner, ServiceTiming};
use super::lane::{Lane, Stamp, State};
use super::room::Room;
use super::shadow::Shadow;
use super::slots::Sample;

/// Weight of a new measurement of a load or a swap.
const SMOOTH: u32 = 3;
/// A request to a warm runner is granted within 100 ms; one that took longer found it reloaded.
const RELOADED: Duration = Duration::from_millis(250);
/// Traffic that is not ours is taken to go on for this long after it was noticed.
const FOREIGN: Duration = Duration::from_secs(60);
/// Runners that are remembered; beyond it those out of use are forgotten.
const LANES_MOST: usize = 256;

/// The requests of one GPU, and what is in its memory.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    pub(super) settings: DispatchSettings,
    pub(super) endpoints: Vec<(EndpointName, Option<u16>)>,
    pub(super) lanes: Vec<Lane>,
    pub(super) live: BTreeMap<RequestId, Place>,
    pub(super) room: Room,
    pub(super) change: Option<Change>,
    pub(super) focused: Option<String>,
    pub(super) unload_time: Option<Duration>,
    pub(super) swap_time: Option<Duration>,
    pub(super) pre_empted_at: Option<Moment>,
    pub(super) wake: Option<Moment>,
    pub(super) swaps: u64,
    pub(super) swapping: Duration,
    pub(super) shadow: Shadow,
    numbers: u64,
    epochs: u64,
}

/// Where a request is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) lane: usize,
    /// Its place in the queue; none once it runs.
    pub(super) stamp: Option<Stamp>,
}

/// What is being loaded, and what has to go for it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) target: usize,
    pub(super) victims: Vec<usize>,
    pub(super) going: Going,
    pub(super) phase: Phase,
    /// When this phase began.
    pub(super) since: Moment,
    pub(super) unloading: Duration,
}

impl Change {
    pub(super) fn enter(&mut self, phase: Phase, now: Moment) {
        self.phase = phase;
        self.since = now;
    }

    /// How long it has been loading.
    pub(super) fn loading(&self, now: Moment) -> Duration {
        match self.phase {
            Phase::Loading => now.saturating_sub(self.since),
            Phase::Draining | Phase::Unloading => Duration::ZERO,
        }
    }
}

/// How victims go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// By our order.
    Unloaded,
    /// They are left to the endpoint, which may keep them: nobody knows whether there is room.
    Tried,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Draining,
    Unloading,
    Loading,
}

impl Dispatcher {
    /// The dispatcher of a GPU, used by these endpoints: configured slots, and the VRAM that
    /// models may use in bytes, where they are known.
    pub fn new(
        settings: DispatchSettings,
        endpoints: &[(EndpointName, Option<u16>, Option<u64>)],
    ) -> Self {
        let mut room = Room::default();
        room.known = endpoints.iter().filter_map(|(_, _, room)| *room).min();
        Self {
            settings,
            endpoints: endpoints
                .iter()
                .map(|(name, slots, _)| (name.clone(), *slots))
                .collect(),
            lanes: Vec::new(),
            live: BTreeMap::new(),
            room,
            change: None,
            focused: None,
            unload_time: None,
            swap_time: None,
            pre_empted_at: None,
            wake: None,
            swaps: 0,
            swapping: Duration::ZERO,
            shadow: Shadow::default(),
            numbers: 0,
            epochs: 0,
        }
    }

    /// A request wants to be served.
    pub fn submit(&mut self, ask: Ask, now: Moment) {
        let at = self.lane(&ask.runner);
        self.numbers += 1;
        let lane = &mut self.lanes[at];
        if lane.size == 0 {
            lane.size = ask.need;
        }
        let id = ask.id;
        let stamp = lane.push(ask, self.numbers, now);
        self.live.insert(
            id,
            Place {
                lane: at,
                stamp: Some(stamp),
            },
        );
    }

    /// A request that waits is given up. A load that was ordered for it goes on.
    pub fn withdraw(&mut self, id: RequestId, now: Moment) {
        match self.live.get(&id).copied() {
            None => {}
            Some(Place {
                lane,
                stamp: Some(stamp),
            }) => {
                self.live.remove(&id);
                self.lanes[lane].withdraw(stamp);
                if !self.lanes[lane].has_work() {
                    self.lanes[lane].idle_since = now;
                }
            }
            Some(Place { stamp: None, .. }) => self.finished(id, None, now),
        }
    }

    /// A request that was admitted has ended, well or badly.
    pub fn finished(&mut self, id: RequestId, timing: Option<ServiceTiming>, now: Moment) {
        let Some(place) = self
            .live
            .get(&id)
            .copied()
            .filter(|place| place.stamp.is_none())
        else {
            return;
        };
        self.live.remove(&id);
        let lane = &mut self.lanes[place.lane];
        let ended_with = u32::try_from(lane.running.len()).unwrap_or(u32::MAX);
        let Some(ended) = lane.finish(id, now) else {
            return;
        };
        let Some(timing) = timing else {
            return;
        };
        let wanted = lane.is_wanted();
        lane.slots.learn(
            Sample {
                admitted_with: ended.at_once,
                ended_with,
                wanted,
                timing,
            },
            now,
        );
        if timing.load
            >= lane
                .load_time
                .map_or(RELOADED, |load| RELOADED.max(load / 4))
        {
            self.epochs += 1;
            lane.epoch = self.epochs;
        }
    }

    /// A runner is in memory: `took` from the request for it, `size_vram` bytes.
    pub fn loaded(&mut self, runner: &Runner, size_vram: u64, took: Duration, now: Moment) {
        let at = self.lane(runner);
        let change = self.change.take_if(|change| change.target == at);
        self.arrive(at, size_vram, now);
        let lane = &mut self.lanes[at];
        lane.load_time = Some(smooth(lane.load_time, took));
        let Some(change) = change else {
            return;
        };
        // What was left to the endpoint may still be there: the next look at it tells.
        let gone = change.victims.iter().map(|victim| &self.lanes[*victim]);
        let mut gone = gone.filter(|lane| lane.state == State::Installed);
        let evicted = gone.next().map(|lane| lane.runner.model.clone());
        let whole = change.unloading + took;
        let took_us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
        if evicted.is_some() {
            self.swaps += 1;
            self.swapping += whole;
            self.swap_time = Some(smooth(self.swap_time, whole));
        }
        self.lanes[at].swap = Some((Swap { evicted, took_us }, now));
    }

    /// A runner could not be loaded: who waited for it, and does no longer.
    pub fn load_failed(&mut self, runner: &Runner, now: Moment) -> Vec<RequestId> {
        let at = self.lane(runner);
        if let Some(change) = self.change.take_if(|change| change.target == at) {
            for victim in change.victims {
                self.lanes[victim].fenced &= self.lanes[victim].state == State::Unloading;
            }
        }
        let lane = &mut self.lanes[at];
        lane.state = State::Installed;
        lane.idle_since = now;
        let waited = lane.clear();
        for id in &waited {
            self.live.remove(id);
        }
        waited
    }

    /// A runner is gone from memory.
    pub fn unloaded(&mut self, runner: &Runner, took: Duration, now: Moment) {
        let at = self.lane(runner);
        self.unload_time = Some(smooth(self.unload_time, took));
        if let Some(change) = &mut self.change {
            change.unloading = change.unloading.max(took);
        }
        self.leave(at, now);
    }

    /// A runner does not go. It is served again, and asked to go again later.
    pub fn unload_stuck(&mut self, runner: &Runner, now: Moment) {
        let at = self.lane(runner);
        let lane = &mut self.lanes[at];
        lane.state = State::Resident;
        lane.fenced = false;
        lane.stuck_since = Some(now);
        lane.begin_batch(now);
        if let Some(change) = self.change.take_if(|change| change.victims.contains(&at)) {
            for victim in change.victims {
                let lane = &mut self.lanes[victim];
                lane.fenced = lane.state == State::Unloading;
            }
        }
    }

    /// A runner's process has died. Its requests are reported as they end.
    pub fn runner_died(&mut self, runner: &Runner, now: Moment) {
        let at = self.lane(runner);
        if self.lanes[at].state == State::Resident {
            self.leave(at, now);
            self.lanes[at].dead = true;
        }
    }

    /// What an endpoint lists as loaded.
    pub fn seen(&mut self, endpoint: &EndpointName, listed: &[Listed], now: Moment) {
        let mut sum = 0_u64;
        for line in listed {
            let at = self.listed_lane(endpoint, line);
            self.look_at(at, line, now);
            sum = sum.saturating_add(line.size_vram);
        }
        let is_settled = self.change.is_none();
        let trial = self
            .change
            .as_ref()
            .filter(|change| change.going == Going::Tried && change.phase == Phase::Loading);
        let coming = trial.map(|change| self.lanes[change.target].size);
        for at in 0..self.lanes.len() {
            let lane = &self.lanes[at];
            let is_listed = |line: &Listed| lane.is_listed_as(line);
            if lane.runner.endpoint != *endpoint
                || lane.state != State::Resident
                || !lane.running.is_empty()
            {
                continue;
            }
            if listed.iter().any(is_listed) {
                self.lanes[at].fenced &= !is_settled;
                continue;
            }
            if lane.fenced && (is_settled || coming.is_some_and(|size| size > 0)) {
                let pushed_out = sum.saturating_add(lane.size);
                self.room
                    .saw_pushed_out(pushed_out.saturating_add(coming.unwrap_or(0)));
                self.swaps += u64::from(is_settled);
            }
            self.leave(at, now);
        }
        if listed.len() > 1 && is_settled {
            self.room.saw_together(sum);
        }
    }

    /// Changes an endpoint's configured slots; none: they are found out.
    pub fn set_slots(&mut self, endpoint: &EndpointName, slots: Option<u16>) {
        for (name, configured) in &mut self.endpoints {
            if name == endpoint {
                *configured = slots;
            }
        }
        for lane in &mut self.lanes {
            if lane.runner.endpoint == *endpoint {
                lane.slots.configure(slots);
            }
        }
    }

    /// Changes the memory that models may use, bytes of VRAM; none: it is found out.
    pub fn set_room(&mut self, room: Option<u64>) {
        self.room.known = room;
    }

    /// Whose requests go first, because a person looks at them.
    pub fn set_focus(&mut self, client: Option<&str>) {
        self.focused = client.map(str::to_owned);
    }

    /// What is to be done now.
    pub fn orders(&mut self, now: Moment) -> Vec<Order> {
        let mut orders = Vec::new();
        self.decide(now, &mut orders);
        orders
    }

    /// When to ask for orders again although nothing has happened.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake
    }

    /// Requests that go before this one in the queue of its runner; none when it does not wait.
    pub fn position(&self, id: RequestId) -> Option<usize> {
        let place = self.live.get(&id)?;
        Some(self.lanes[place.lane].ahead_of(place.stamp?))
    }

    fn arrive(&mut self, at: usize, size: u64, now: Moment) {
        let is_new = self.lanes[at].state != State::Resident;
        let other = self.lanes.iter().enumerate().find(|(other, lane)| {
            *other != at
                && lane.state == State::Resident
                && lane.runner.is_same_model(&self.lanes[at].runner)
        });
        if let Some((other, _)) = other {
            self.leave(other, now);
        }
        let lane = &mut self.lanes[at];
        lane.state = State::Resident;
        lane.fenced = false;
        lane.dead = false;
        lane.stuck_since = None;
        lane.size = size.max(1);
        if is_new {
            self.epochs += 1;
            lane.epoch = self.epochs;
            lane.begin_batch(now);
            lane.expires_at = None;
            lane.listed = None;
        }
    }

    pub(super) fn leave(&mut self, at: usize, now: Moment) {
        let lane = &mut self.lanes[at];
        lane.state = State::Installed;
        lane.fenced = false;
        lane.stuck_since = None;
        lane.swap = None;
        lane.expires_at = None;
        lane.served_at = Some(now);
        if let Some(change) = &mut self.change
            && change.phase != Phase::Loading
            && change.going == Going::Unloaded
        {
            // A victim that went by itself needs no order; one by order is no longer waited for.
            change
                .victims
                .retain(|victim| *victim != at || change.phase == Phase::Unloading);
        }
    }

    fn look_at(&mut self, at: usize, line: &Listed, now: Moment) {
        let lane = &mut self.lanes[at];
        let moved = lane
            .expires_at
            .is_some_and(|before| before != line.expires_at);
        if moved && !lane.touched && lane.running.is_empty() {
            lane.foreign_until = Some(now + FOREIGN);
        }
        lane.touched = !lane.running.is_empty();
        lane.expires_at = Some(line.expires_at);
        match lane.state {
            State::Installed if !lane.dead => {
                self.arrive(at, line.size_vram.max(1), now);
                self.lanes[at].expires_at = Some(line.expires_at);
            }
            State::Installed | State::Loading | State::Unloading => {}
            State::Resident => lane.size = line.size_vram.max(1),
        }
        let lane = &mut self.lanes[at];
        if lane.state == State::Resident {
            lane.listed = Some(line.context);
        }
    }

    fn listed_lane(&mut self, endpoint: &EndpointName, line: &Listed) -> usize {
        let here = |lane: &Lane| lane.runner.endpoint == *endpoint;
        let loaded = self.lanes.iter().position(|lane| {
            here(lane) && lane.state != State::Installed && lane.is_listed_as(line)
        });
        loaded.unwrap_or_else(|| {
            self.lane(&Runner {
                endpoint: endpoint.clone(),
                model: line.model.clone(),
                context: line.context,
            })
        })
    }

    pub(super) fn find(&self, runner: &Runner) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.runner == *runner)
    }

    fn lane(&mut self, runner: &Runner) -> usize {
        if let Some(at) = self.find(runner) {
            return at;
        }
        if self.lanes.len() >= LANES_MOST && self.change.is_none() {
            self.forget_lanes();
        }
        let configured = self
            .endpoints
            .iter()
            .find(|(name, _)| *name == runner.endpoint);
        let mut lane = Lane::new(runner.clone(), configured.and_then(|(_, slots)| *slots));
        let sibling = self
            .lanes
            .iter()
            .find(|other| other.runner.is_same_model(runner));
        if let Some(sibling) = sibling {
            lane.load_time = sibling.load_time;
            lane.slots = sibling.slots.clone();
        }
        self.lanes.push(lane);
        self.lanes.len() - 1
    }

    fn forget_lanes(&mut self) {
        self.shadow.flush(&mut self.lanes, &self.room);
        self.lanes.retain(Lane::is_used);
        for (at, lane) in self.lanes.iter().enumerate() {
            for id in lane.requests() {
                if let Some(place) = self.live.get_mut(&id) {
                    place.lane = at;
                }
            }
        }
    }
}

fn smooth(known: Option<Duration>, measured: Duration) -> Duration {
    known.map_or(measured, |known| (known * (SMOOTH - 1) + measured) / SMOOTH)
}
