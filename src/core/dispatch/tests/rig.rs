//! A GPU for tests: it does what the dispatcher orders, on a virtual clock, and watches that no
//! order breaks a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::dispatch::*;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::task::Priority;

/// One GPU and its clients.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) quantum: u32,
    pub(super) slots: u16,
    /// Bytes; the size of each model is in `models`.
    pub(super) room: u64,
    pub(super) models: Vec<Weights>,
    pub(super) unload: Duration,
    pub(super) clients: Vec<Vec<Turn>>,
}

#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) size: u64,
    pub(super) load: Duration,
    /// Its loads fail, all of them.
    pub(super) is_broken: bool,
}

/// A request, `gap` after the end of the client's one before.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) gap: Duration,
    pub(super) model: usize,
    pub(super) service: Duration,
    pub(super) priority: Priority,
    pub(super) focus: Focus,
    /// The client does not wait for the end of this one before it asks again.
    pub(super) is_hasty: bool,
    /// The client leaves after this, if it still waits.
    pub(super) patience: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Admitted,
    Withdrawn,
    Failed,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    pub(super) client: usize,
    turn: usize,
    pub(super) model: usize,
    pub(super) arrived: Moment,
    pub(super) end: Option<(End, Moment)>,
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Asks { client: usize, turn: usize },
    Leaves(u64),
    Ends(u64),
    Loads(usize),
    Unloads(usize),
    Wakes,
}

pub(super) struct Rig<'a> {
    plan: &'a Plan,
    gpu: Dispatcher,
    queue: BTreeMap<(Moment, u64), Happening>,
    now: Moment,
    numbers: u64,
    resident: Vec<bool>,
    loading: Option<usize>,
    unloading: Vec<usize>,
    /// Somebody has waited for a model when it came, and nobody has been served there since.
    owed: Vec<bool>,
    /// Client, turn, model.
    running: BTreeMap<u64, (usize, usize, usize)>,
    pub(super) fates: BTreeMap<u64, Fate>,
    /// Moments at which a model's load was over.
    pub(super) loads: Vec<(usize, Moment)>,
}

impl<'a> Rig<'a> {
    /// Lets everything happen that is planned.
    pub(super) fn run(plan: &'a Plan) -> Self {
        let longest = plan.models.iter().map(|model| model.load).max().unwrap();
        let settings = DispatchSettings {
            quantum: plan.quantum,
            swap: longest + plan.unload,
            ..DispatchSettings::default()
        };
        let place = (EndpointName::from("gpu"), Some(plan.slots), Some(plan.room));
        let mut rig = Self {
            plan,
            gpu: Dispatcher::new(settings, &[place]),
            queue: BTreeMap::new(),
            now: Moment::ZERO,
            numbers: 0,
            resident: vec![false; plan.models.len()],
            loading: None,
            unloading: Vec::new(),
            owed: vec![false; plan.models.len()],
            running: BTreeMap::new(),
            fates: BTreeMap::new(),
            loads: Vec::new(),
        };
        for client in 0..plan.clients.len() {
            rig.plan_turn(client, 0);
        }
        while let Some(((at, _), happening)) = rig.queue.pop_first() {
            assert!(at >= rig.now);
            rig.now = at;
            rig.happen(happening);
            rig.obey();
        }
        rig
    }

    fn plan_turn(&mut self, client: usize, turn: usize) {
        if let Some(next) = self.plan.clients[client].get(turn) {
            self.after(next.gap, Happening::Asks { client, turn });
        }
    }

    fn after(&mut self, wait: Duration, happening: Happening) {
        self.numbers += 1;
        self.queue
            .insert((self.now + wait, self.numbers), happening);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Asks { client, turn } => self.ask(client, turn),
            Happening::Leaves(id) => {
                let fate = self.fates.get_mut(&id).unwrap();
                if fate.end.is_none() {
                    fate.end = Some((End::Withdrawn, now));
                    let (client, turn) = (fate.client, fate.turn);
                    self.gpu.withdraw(RequestId(id), now);
                    self.go_on(client, turn);
                }
            }
            Happening::Ends(id) => {
                self.gpu.finished(RequestId(id), None, now);
                let (client, turn, _) = self.running.remove(&id).unwrap();
                self.go_on(client, turn);
            }
            Happening::Loads(model) => self.load(model),
            Happening::Unloads(model) => {
                self.unloading.retain(|other| *other != model);
                self.resident[model] = false;
                self.gpu.unloaded(&runner(model), self.plan.unload, now);
            }
            Happening::Wakes => {}
        }
    }

    fn ask(&mut self, client: usize, turn: usize) {
        let asked = &self.plan.clients[client][turn];
        self.numbers += 1;
        let id = self.numbers;
        let fate = Fate {
            client,
            turn,
            model: asked.model,
            arrived: self.now,
            end: None,
        };
        self.fates.insert(id, fate);
        let ask = Ask {
            id: RequestId(id),
            client: format!("client {client}"),
            runner: runner(asked.model),
            priority: asked.priority,
            focus: asked.focus,
            work: Duration::from_secs(10),
            need: self.plan.models[asked.model].size,
        };
        self.gpu.submit(ask, self.now);
        if let Some(patience) = asked.patience {
            self.after(patience, Happening::Leaves(id));
        }
        if asked.is_hasty {
            self.plan_turn(client, turn + 1);
        }
    }

    /// A client has got rid of a request: its next turn, if it has waited for that.
    fn go_on(&mut self, client: usize, turn: usize) {
        if !self.plan.clients[client][turn].is_hasty {
            self.plan_turn(client, turn + 1);
        }
    }

    fn load(&mut self, model: usize) {
        self.loading = None;
        let (wanted, now) = (runner(model), self.now);
        if !self.plan.models[model].is_broken {
            self.resident[model] = true;
            self.owed[model] = self.waits_for(model);
            self.loads.push((model, now));
            let Weights { size, load, .. } = self.plan.models[model];
            return self.gpu.loaded(&wanted, size, load, now);
        }
        for RequestId(id) in self.gpu.load_failed(&wanted, now) {
            let fate = self.fates.get_mut(&id).unwrap();
            assert_eq!((fate.model, fate.end), (model, None));
            fate.end = Some((End::Failed, now));
            let (client, turn) = (fate.client, fate.turn);
            self.go_on(client, turn);
        }
    }

    fn obey(&mut self) {
        let fenced = self.fenced();
        for order in self.gpu.orders(self.now) {
            match order {
                Order::Admit { id, .. } => self.admit(id.0, &fenced),
                Order::Load { runner, beside } => self.begin_load(&runner, beside),
                Order::Unload { runner } => {
                    let model = self.model(&runner);
                    assert!(self.resident[model] && !self.unloading.contains(&model));
                    assert_eq!(self.running_on(model), 0, "{runner:?} was not drained");
                    assert!(!self.owed[model], "{runner:?} was loaded for nothing");
                    self.unloading.push(model);
                    self.after(self.plan.unload, Happening::Unloads(model));
                }
            }
        }
        assert_eq!(self.gpu.orders(self.now), [], "each order is given once");
        if let Some(wake) = self.gpu.deadline() {
            assert!(wake > self.now, "{wake:?} at {:?}", self.now);
            self.after(wake.saturating_sub(self.now), Happening::Wakes);
        }
    }

    fn admit(&mut self, id: u64, fenced: &[usize]) {
        let fate = self.fates.get_mut(&id).unwrap();
        assert_eq!(fate.end, None, "{id} was over");
        fate.end = Some((End::Admitted, self.now));
        let Fate {
            client,
            turn,
            model,
            arrived,
            ..
        } = *fate;
        assert!(self.resident[model], "{id} to a model that is not there");
        let is_fenced = fenced.contains(&model) && self.fenced().contains(&model);
        assert!(!is_fenced, "{id} to a fenced model");
        assert!(
            !self.unloading.contains(&model),
            "{id} to a model that goes"
        );
        let earlier = self
            .fates
            .range(..id)
            .find(|(_, fate)| (fate.client, fate.model, fate.end) == (client, model, None));
        assert!(earlier.is_none(), "{id} of {arrived:?} before {earlier:?}");
        self.running.insert(id, (client, turn, model));
        self.owed[model] = false;
        assert!(self.running_on(model) <= usize::from(self.plan.slots));
        self.after(self.plan.clients[client][turn].service, Happening::Ends(id));
    }

    fn begin_load(&mut self, runner: &Runner, beside: usize) {
        let model = self.model(runner);
        assert_eq!(self.loading, None, "two loads at a time");
        assert!(self.unloading.is_empty() && !self.resident[model]);
        let sizes = self.plan.models.iter().zip(&self.resident);
        let others: Vec<u64> = sizes
            .filter(|(_, is)| **is)
            .map(|(other, _)| other.size)
            .collect();
        assert_eq!(others.len(), beside);
        let sum: u64 = others.iter().sum::<u64>() + self.plan.models[model].size;
        assert!(beside == 0 || sum <= self.plan.room, "{sum} bytes");
        self.loading = Some(model);
        self.after(self.plan.models[model].load, Happening::Loads(model));
    }

    /// Models that have to go.
    fn fenced(&self) -> Vec<usize> {
        let victims = self.gpu.change.iter().flat_map(|change| &change.victims);
        victims
            .map(|victim| self.model(&self.gpu.lanes[*victim].runner))
            .collect()
    }

    fn waits_for(&self, model: usize) -> bool {
        let mut fates = self.fates.values();
        fates.any(|fate| (fate.model, fate.end) == (model, None))
    }

    fn running_on(&self, wanted: usize) -> usize {
        self.running
            .values()
            .filter(|(_, _, model)| *model == wanted)
            .count()
    }

    fn model(&self, wanted: &Runner) -> usize {
        (0..self.plan.models.len())
            .find(|model| runner(*model) == *wanted)
            .unwrap()
    }
}

fn runner(model: usize) -> Runner {
    Runner {
        endpoint: EndpointName::from("gpu"),
        model: ModelName::new(&format!("m{model}")),
        context: 0,
    }
}
