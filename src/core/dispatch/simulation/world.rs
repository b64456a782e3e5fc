//! The machine of the simulation: a queue of events and whoever decides.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::dispatch::{
    Ask, DispatchSettings, Dispatcher, Focus, Moment, Order, RequestId, Runner,
};

use super::fifo::{Fifo, Pinning};
use super::outcome::Outcome;
use super::workload::{Machine, Since, Workload};

/// The least that a load takes, whatever was measured. The dispatcher holds and serves in parts and
/// multiples of a swap: with swaps of no time at all it would look again without time passing.
const LOAD_LEAST: Duration = Duration::from_millis(1);
/// The most: a year is a torn number.
const LOAD_MOST: Duration = Duration::from_secs(365 * 86_400);

/// Orders of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// In the order of arrival, and each request asks for another context, so that each loads its
    /// model again: Aider on Ollama, left alone.
    UnpinnedFifo,
    /// In the order of arrival with the context pinned: Ollama.
    Fifo,
    /// A model is served as long as it has work.
    Collate,
    /// The dispatcher with a quantum of this many swaps.
    Quantum(u32),
}

/// Runs a workload to its end.
pub fn run(workload: &Workload, strategy: Strategy) -> Outcome {
    let mut world = World::new(workload, strategy);
    while world.step() {}
    world.outcome()
}

#[derive(Debug, Clone)]
enum Scheduler {
    Dispatcher(Box<Dispatcher>),
    Fifo(Fifo),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrives { client: usize, step: usize },
    Ends(RequestId),
    Loads { machine: usize, model: usize },
    Unloads { machine: usize, model: usize },
    Wakes { machine: usize },
}

#[derive(Debug, Clone, Copy)]
struct Open {
    client: usize,
    step: usize,
    arrived: Moment,
}

#[derive(Debug, Clone)]
pub(super) struct World<'a> {
    workload: &'a Workload,
    schedulers: Vec<Scheduler>,
    events: BTreeMap<(Moment, u64), Event>,
    now: Moment,
    numbers: u64,
    open: BTreeMap<RequestId, Open>,
    waits: Vec<Duration>,
    outcome: Outcome,
}

impl<'a> World<'a> {
    pub(super) fn new(workload: &'a Workload, strategy: Strategy) -> Self {
        let schedulers = workload
            .machines
            .iter()
            .map(|machine| scheduler(machine, strategy));
        let mut world = Self {
            workload,
            schedulers: schedulers.collect(),
            events: BTreeMap::new(),
            now: Moment::ZERO,
            numbers: 0,
            open: BTreeMap::new(),
            waits: Vec::new(),
            outcome: Outcome {
                served: vec![0; workload.scripts.len()],
                ..Outcome::default()
            },
        };
        for client in 0..workload.scripts.len() {
            world.follow(client, 0, Since::End);
        }
        world
    }

    /// Lets the next event happen; false when there is none in time.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return false;
        };
        if self.workload.until.is_some_and(|until| at > until) {
            return false;
        }
        self.now = at;
        let machine = self.apply(event);
        self.obey(machine);
        true
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// A copy that starts to count afresh.
    pub(super) fn fork(&self) -> Self {
        Self {
            workload: self.workload,
            schedulers: self.schedulers.clone(),
            events: self.events.clone(),
            now: self.now,
            numbers: self.numbers,
            open: self.open.clone(),
            waits: Vec::new(),
            outcome: Outcome {
                served: vec![0; self.workload.scripts.len()],
                ..Outcome::default()
            },
        }
    }

    /// Answers up to a moment, if the strategy goes on by itself.
    pub(super) fn answers_by(mut self, until: Moment) -> u64 {
        while self.next_at().is_some_and(|at| at <= until) && self.step() {}
        self.outcome.answers()
    }

    fn next_at(&self) -> Option<Moment> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Models for which the resident one could be left now, on the first machine.
    pub(super) fn ways(&self) -> Vec<usize> {
        let Scheduler::Dispatcher(gpu) = &self.schedulers[0] else {
            return Vec::new();
        };
        let models = 0..self.workload.models.len();
        models
            .filter(|model| gpu.could_leave_for(&self.runner(0, *model)))
            .collect()
    }

    /// Leaves what is resident on the first machine for this model.
    pub(super) fn leave_for(&mut self, model: usize) {
        let runner = self.runner(0, model);
        if let Scheduler::Dispatcher(gpu) = &mut self.schedulers[0] {
            gpu.leave_for(&runner, self.now);
        }
        self.obey(0);
    }

    pub(super) fn outcome(mut self) -> Outcome {
        self.waits.sort_unstable();
        self.outcome.waits = self.waits;
        if let Some(until) = self.workload.until {
            self.outcome.makespan = until;
        }
        self.outcome
    }

    fn apply(&mut self, event: Event) -> usize {
        match event {
            Event::Arrives { client, step } => self.arrive(client, step),
            Event::Ends(id) => self.end(id),
            Event::Loads { machine, model } => {
                let took = load(&self.workload.machines[machine], model);
                let (runner, now) = (self.runner(machine, model), self.now);
                match &mut self.schedulers[machine] {
                    Scheduler::Dispatcher(gpu) => gpu.loaded(&runner, 1, took, now),
                    Scheduler::Fifo(fifo) => fifo.loaded(&runner),
                }
                machine
            }
            Event::Unloads { machine, model } => {
                let took = self.workload.machines[machine].unload;
                let (runner, now) = (self.runner(machine, model), self.now);
                match &mut self.schedulers[machine] {
                    Scheduler::Dispatcher(gpu) => gpu.unloaded(&runner, took, now),
                    Scheduler::Fifo(fifo) => fifo.unloaded(&runner),
                }
                machine
            }
            Event::Wakes { machine } => machine,
        }
    }

    fn arrive(&mut self, client: usize, at: usize) -> usize {
        let script = &self.workload.scripts[client];
        let step = &script.steps[at];
        self.numbers += 1;
        let id = RequestId(self.numbers);
        self.open.insert(
            id,
            Open {
                client,
                step: at,
                arrived: self.now,
            },
        );
        let ask = Ask {
            id,
            client: script.client.clone(),
            runner: self.runner(step.machine, step.model),
            priority: step.priority,
            focus: Focus::Background,
            work: self.workload.predicted,
            need: 1,
        };
        match &mut self.schedulers[step.machine] {
            Scheduler::Dispatcher(gpu) => gpu.submit(ask, self.now),
            Scheduler::Fifo(fifo) => fifo.submit(ask),
        }
        self.follow(client, at + 1, Since::Arrival);
        step.machine
    }

    fn end(&mut self, id: RequestId) -> usize {
        let Some(open) = self.open.remove(&id) else {
            return 0;
        };
        let machine = self.workload.scripts[open.client].steps[open.step].machine;
        match &mut self.schedulers[machine] {
            Scheduler::Dispatcher(gpu) => gpu.finished(id, None, self.now),
            Scheduler::Fifo(fifo) => fifo.finished(id),
        }
        self.outcome.served[open.client] += 1;
        self.outcome.makespan = self.now;
        self.follow(open.client, open.step + 1, Since::End);
        machine
    }

    /// Schedules a client's next request if it follows this.
    fn follow(&mut self, client: usize, step: usize, since: Since) {
        let next = self.workload.scripts[client].steps.get(step);
        if let Some(next) = next.filter(|next| next.since == since) {
            self.schedule(next.gap, Event::Arrives { client, step });
        }
    }

    fn obey(&mut self, machine: usize) {
        self.outcome.decisions += 1;
        let orders = match &mut self.schedulers[machine] {
            Scheduler::Dispatcher(gpu) => gpu.orders(self.now),
            Scheduler::Fifo(fifo) => fifo.orders(),
        };
        for order in orders {
            self.carry_out(machine, order);
        }
        if let Scheduler::Dispatcher(gpu) = &self.schedulers[machine]
            && let Some(wake) = gpu.deadline()
        {
            self.schedule(wake.saturating_sub(self.now), Event::Wakes { machine });
        }
    }

    fn carry_out(&mut self, machine: usize, order: Order) {
        let place = &self.workload.machines[machine];
        match order {
            Order::Admit { id, .. } => {
                let Some(open) = self.open.get(&id).copied() else {
                    return;
                };
                self.waits.push(self.now.saturating_sub(open.arrived));
                let service = self.workload.scripts[open.client].steps[open.step].service;
                self.schedule(service, Event::Ends(id));
            }
            Order::Load { runner, .. } => {
                let model = self.model(&runner);
                let took = load(place, model);
                self.outcome.swapping += took;
                self.schedule(took, Event::Loads { machine, model });
            }
            Order::Unload { runner } => {
                let model = self.model(&runner);
                self.outcome.swaps += 1;
                self.outcome.swapping += place.unload;
                self.schedule(place.unload, Event::Unloads { machine, model });
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.numbers += 1;
        let at = self.now.saturating_add(after);
        self.events.insert((at, self.numbers), event);
    }

    fn runner(&self, machine: usize, model: usize) -> Runner {
        Runner {
            endpoint: self.workload.machines[machine].endpoint.clone(),
            model: self.workload.models[model].clone(),
            context: 0,
        }
    }

    fn model(&self, runner: &Runner) -> usize {
        let model = self
            .workload
            .models
            .iter()
            .position(|model| *model == runner.model);
        model.unwrap_or_default()
    }
}

fn scheduler(machine: &Machine, strategy: Strategy) -> Scheduler {
    let fifo = |pinning| Scheduler::Fifo(Fifo::new(machine.slots, machine.room, pinning));
    match strategy {
        Strategy::UnpinnedFifo => fifo(Pinning::Unpinned),
        Strategy::Fifo => fifo(Pinning::Pinned),
        Strategy::Collate => dispatcher(machine, u32::MAX),
        Strategy::Quantum(quantum) => dispatcher(machine, quantum),
    }
}

/// What loading a model takes.
fn load(machine: &Machine, model: usize) -> Duration {
    machine.loads[model].clamp(LOAD_LEAST, LOAD_MOST)
}

fn dispatcher(machine: &Machine, quantum: u32) -> Scheduler {
    let loads = (0..machine.loads.len()).map(|model| load(machine, model));
    let settings = DispatchSettings {
        quantum,
        swap: loads.max().unwrap_or(LOAD_LEAST) + machine.unload,
        ..DispatchSettings::default()
    };
    let place = (
        machine.endpoint.clone(),
        Some(machine.slots),
        Some(u64::from(machine.room)),
    );
    Scheduler::Dispatcher(Box::new(Dispatcher::new(settings, &[place])))
}
