//! GPU memory: how much of it models may take, which models fit, and which came in only in part.
//!
//! What other programs take changes, so the driver is asked at every look at an endpoint. Used
//! memory less what the endpoint lists is what others use; while a model is on its way in or out,
//! the two do not speak of the same moment and nothing is concluded. Of two readings the larger
//! counts, so that a load that somebody else has ordered, which is used before it is listed, does
//! not make the room look small.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::state::{Conductor, Seat, State};
use crate::core::catalogue::Catalogue;
use crate::core::context::LADDER;
use crate::core::dispatch::{Listed, Runner};
use crate::core::endpoint::EndpointName;
use crate::core::model::Model;
use crate::core::router::Fits;
use crate::core::runners::RunnerState;
use crate::core::vram::Shape;

/// How a trouble ends that a look at the endpoint takes back.
const SPILLED: &str = "runs on the CPU";

/// Bytes of GPU memory that an endpoint's models may take, given the bytes that they take now.
type ReadRoom = dyn Fn(&EndpointName, u64) -> Option<u64> + Send + Sync;

/// Reads how much GPU memory an endpoint's models may take. It may take some milliseconds.
#[derive(Clone)]
pub struct Gauge(pub Arc<ReadRoom>);

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauge")
    }
}

/// What the driver told of one endpoint, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    before: u64,
    last: u64,
}

impl Reading {
    fn room(self) -> u64 {
        self.before.max(self.last)
    }
}

impl Conductor {
    /// Asks the driver, beside what `listed` says.
    pub(super) async fn gauge(&self, endpoint: &EndpointName, listed: &[Listed]) {
        let Some(gauge) = self.settings.gauge.clone() else {
            return;
        };
        let taken = self.begin(|state| state.taken_beside(endpoint, listed));
        let name = endpoint.clone();
        let read = tokio::task::spawn_blocking(move || gauge.0(&name, taken)).await;
        if let Ok(Some(room)) = read {
            self.change(|state, now| state.gauged(endpoint, room, now));
        }
    }

    /// The models that do not fit into the memory of their endpoint with the smallest context that
    /// they would be given.
    pub(in crate::gateway) fn fits(&self, catalogue: &Catalogue) -> Fits {
        self.look(|state, _| {
            let mut fits = Fits::default();
            for (name, endpoint) in &catalogue.endpoints {
                let Some(seat) = self.seat(name) else {
                    continue;
                };
                let models = endpoint.models.values();
                let too_large: BTreeSet<_> = models
                    .filter(|model| self.is_too_large(state, seat, model))
                    .map(|model| model.name.clone())
                    .collect();
                if !too_large.is_empty() {
                    fits.too_large.insert(name.clone(), too_large);
                }
            }
            fits
        })
    }

    fn is_too_large(&self, state: &State, seat: &Seat, model: &Model) -> bool {
        let Some(room) = state.room(seat).filter(|_| !model.remote) else {
            return false;
        };
        let tuned = self.settings.models.tuning(model.name.as_str()).context;
        let trained = model.context_length.unwrap_or(u32::MAX);
        let shape = shape(seat, tuned.unwrap_or(LADDER[0]).min(trained));
        state.learned.vram.need(&seat.name, model, shape).size > room
    }
}

/// What a runner of this endpoint is loaded as. How many slots it has is known where that is
/// configured; what the dispatcher tries out meanwhile says nothing about a load. One stands for as
/// many as there are: what is seen of such loads counts for all of them.
pub(super) fn shape(seat: &Seat, context: u32) -> Shape {
    Shape {
        context,
        slots: seat.parallel.unwrap_or(1).max(1),
        kv_cache: seat.kv_cache,
    }
}

impl State {
    /// GPU memory that models may take on this endpoint, bytes.
    pub(super) fn room(&self, seat: &Seat) -> Option<u64> {
        let read = self.rooms.get(&seat.name);
        read.map(|reading| reading.room()).or(seat.room)
    }

    /// What the models of all endpoints take that share a GPU with this one.
    fn taken_beside(&mut self, endpoint: &EndpointName, listed: &[Listed]) -> u64 {
        let own = listed.iter().map(|it| it.size_vram).sum();
        self.taken.insert(endpoint.clone(), own);
        let home = self.home.get(endpoint);
        let beside = self
            .taken
            .iter()
            .filter(|(name, _)| self.home.get(name) == home);
        beside.map(|(_, bytes)| bytes).sum()
    }

    fn gauged(&mut self, endpoint: &EndpointName, room: u64, now: Duration) {
        let loads = self.gpu(endpoint).map(|gpu| gpu.load(now).endpoints);
        let mut runners = loads
            .iter()
            .flatten()
            .flat_map(|(_, load)| load.models.values());
        let moves = |state| matches!(state, RunnerState::Loading | RunnerState::Unloading);
        if runners.any(|runner| moves(runner.state)) {
            return;
        }
        let before = self.rooms.get(endpoint).map_or(room, |it| it.last);
        let reading = Reading { before, last: room };
        self.rooms.insert(endpoint.clone(), reading);
        if let Some(gpu) = self.gpu(endpoint) {
            gpu.set_room(Some(reading.room()));
        }
    }

    /// What is resident says how much memory a model needs, and whether a part runs on the CPU. One
    /// that would be on the GPU as a whole now is loaded again.
    pub(super) fn see(
        &mut self,
        endpoint: &EndpointName,
        listed: &[Listed],
        catalogue: &Catalogue,
        (seat, now): (Option<&Seat>, Duration),
    ) {
        let installed = catalogue.endpoints.get(endpoint);
        let room = seat.and_then(|seat| self.room(seat));
        let taken = self.taken_beside(endpoint, listed);
        let loads = self.loads(now);
        self.learned.resident(&loads);
        for it in listed {
            self.spills(endpoint, it, (room, taken), now);
            let model = installed.and_then(|endpoint| endpoint.model(&it.model));
            if let (Some(model), Some(seat)) = (model, seat) {
                let shape = shape(seat, it.context);
                self.is_unsaved |= self.learned.vram.observe(endpoint, model, shape, it.size);
            }
        }
    }

    /// Says that a part of a model runs on the CPU, where there is a GPU to run it on.
    fn spills(
        &mut self,
        endpoint: &EndpointName,
        it: &Listed,
        (room, taken): (Option<u64>, u64),
        now: Duration,
    ) {
        let key = (endpoint.clone(), it.model.clone());
        let Some(room) = room.filter(|_| it.size_vram < it.size) else {
            let is_over = |why: &String| why.contains(SPILLED);
            if self.trouble.get(&key).is_some_and(is_over) {
                self.trouble.remove(&key);
            }
            return;
        };
        let spilled = it.size - it.size_vram;
        let percent = (spilled * 100).div_ceil(it.size.max(1));
        let would_fit = taken.saturating_add(spilled) <= room;
        let runner = Runner {
            endpoint: endpoint.clone(),
            model: it.model.clone(),
            context: it.context,
        };
        if would_fit
            && self
                .gpu(endpoint)
                .is_some_and(|gpu| gpu.reload(&runner, now))
        {
            tracing::info!(%endpoint, model = %it.model, percent, "loaded again: it runs on the CPU in part");
        }
        self.trouble
            .insert(key, format!("{percent} % of it {SPILLED}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::watch;

    use super::*;
    use crate::core::Timestamp;
    use crate::core::dispatch::{Ask, Focus, RequestId, ServiceTiming};
    use crate::core::endpoint::Endpoint;
    use crate::core::model::ModelName;
    use crate::core::task::Priority;
    use crate::core::vram::{KvCache, NeedSource};
    use crate::gateway::conductor::ConductorSettings;

    fn seat(parallel: Option<u16>) -> Seat {
        Seat {
            name: "local".into(),
            url: "http://127.0.0.1:1".into(),
            parallel,
            room: None,
            kv_cache: KvCache::F16,
            gpu: "local".into(),
        }
    }

    fn model() -> Model {
        Model {
            name: ModelName::new("m:7b"),
            digest: "d".into(),
            size: 4 << 30,
            parameters: None,
            parameter_size: "7B".into(),
            quantisation: "Q4_0".into(),
            family: "llama".into(),
            context_length: None,
            capabilities: BTreeSet::new(),
            remote: false,
            architecture: None,
            shown: None,
        }
    }

    fn runner() -> Runner {
        Runner {
            endpoint: "local".into(),
            model: model().name,
            context: 16_384,
        }
    }

    /// A dispatcher that has found out that it may try two requests at a time.
    fn try_two(state: &mut State, now: Duration) {
        let ask = |id| Ask {
            id: RequestId(id),
            client: "c".into(),
            runner: runner(),
            priority: Priority::Normal,
            focus: Focus::Background,
            work: Duration::from_secs(1),
            need: 0,
        };
        let gpu = state.gpu(&"local".into()).unwrap();
        gpu.loaded(&runner(), 5 << 30, Duration::from_secs(1), now);
        gpu.submit(ask(1), now);
        gpu.submit(ask(2), now);
        gpu.orders(now);
        let timing = ServiceTiming {
            decode: Duration::from_secs(1),
            output_tokens: 10,
            ..ServiceTiming::default()
        };
        gpu.finished(RequestId(1), Some(timing), now);
        let loads = gpu.load(now);
        assert_eq!(
            loads.endpoints[&"local".into()].models[&model().name].slots,
            2
        );
    }

    /// How the need of so many slots is known after a look.
    fn known(parallel: Option<u16>, slots: u16) -> NeedSource {
        let mut endpoint = Endpoint::new("http://127.0.0.1:1");
        endpoint.models.insert(model().name, model());
        let catalogue = Catalogue {
            endpoints: BTreeMap::from([("local".into(), endpoint)]),
        };
        let (_keep, catalogue) = watch::channel(Arc::new(catalogue));
        let settings = ConductorSettings {
            seats: vec![seat(parallel)],
            ..ConductorSettings::default()
        };
        let conductor = Conductor::new(settings, catalogue);
        let listed = [Listed {
            model: model().name,
            context: 16_384,
            size: 5 << 30,
            size_vram: 5 << 30,
            expires_at: Timestamp(0),
        }];
        conductor.change(|state, now| {
            if parallel.is_none() {
                try_two(state, now);
            }
            let catalogue = conductor.catalogue.borrow().clone();
            let seat = seat(parallel);
            state.see(&seat.name, &listed, &catalogue, (Some(&seat), now));
            let shape = Shape {
                context: 16_384,
                slots,
                kv_cache: KvCache::F16,
            };
            state.learned.vram.need(&seat.name, &model(), shape).source
        })
    }

    #[test]
    fn what_a_load_takes_is_remembered_for_the_slots_that_are_configured_and_no_others() {
        assert_eq!(known(Some(4), 4), NeedSource::Observed);
        assert_eq!(known(Some(4), 1), NeedSource::Fitted);
        assert_eq!(known(None, 1), NeedSource::Observed);
        assert_eq!(known(None, 2), NeedSource::Fitted, "two are only tried");
    }
}
