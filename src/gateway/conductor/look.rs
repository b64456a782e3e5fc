//! What is in memory: the conductor's own looks at `/api/ps`.
//!
//! A list is as old as its question. What was loaded or unloaded by us since is not in it, so a list
//! that was asked for before the last such change of its endpoint is dropped: the next one tells.
//!
//! While nobody asks for a model, nobody looks here; discovery does, as long as a person watches.
//! Where its list is another than ours, the endpoint is looked at again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use tokio::task::JoinSet;

use super::drive::AFTERGLOW;
use super::state::{Conductor, State};
use crate::core::dispatch::{Listed, Runner};
use crate::core::endpoint::{Endpoint, EndpointName};
use crate::core::runners::{EndpointLoad, RunnerState};
use crate::gateway::upstream::Upstream;
use crate::ollama::wire::Running;

/// A request waits this long at most for a look at the endpoints.
const REFRESH: Duration = Duration::from_secs(1);
/// A question about residency.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A model that is still listed after this is stuck: Ollama itself gives up after 5 s.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// What an endpoint lists.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) listed: Vec<Listed>,
    /// Changes that we had made there when it was asked.
    moves: u64,
}

/// What has become of an unload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Gone,
    Stuck,
    /// The endpoint does not say what it has in memory.
    Unknown,
}

impl Fate {
    pub(super) fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Gone => None,
            Self::Stuck => Some("it does not leave memory: restart Ollama there"),
            Self::Unknown => Some("its endpoint does not say whether it has left memory"),
        }
    }
}

/// What has become of an unload after so long; none while it is waited for. An endpoint that cannot
/// be asked has said nothing about what left its memory.
pub(super) fn fate(look: Option<&Look>, runner: &Runner, waited: Duration) -> Option<Fate> {
    let is_over = waited >= GONE_LIMIT;
    match look.map(|look| look.vram_of(runner).is_some()) {
        Some(false) => Some(Fate::Gone),
        Some(true) => is_over.then_some(Fate::Stuck),
        None => is_over.then_some(Fate::Unknown),
    }
}

/// Looks at one endpoint.
pub(super) async fn look(conductor: Arc<Conductor>, upstream: Upstream, endpoint: EndpointName) {
    if let Some(look) = running(&conductor, &upstream, &endpoint).await {
        if !conductor.is_current(&endpoint, &look) {
            return;
        }
        conductor.gauge(&endpoint, &look.listed).await;
        conductor.seen(&endpoint, &look);
    }
}

/// What is resident; none when the endpoint does not say.
pub(super) async fn running(
    conductor: &Conductor,
    upstream: &Upstream,
    endpoint: &EndpointName,
) -> Option<Look> {
    let seat = conductor.seat(endpoint)?;
    let moves = conductor.look(|state, _| state.moves_of(endpoint));
    let url = format!("{}/api/ps", seat.url.trim_end_matches('/'));
    let asked = upstream.whole((Method::GET, &url), Bytes::new(), ASK_LIMIT);
    let (status, answer) = asked.await.ok()?;
    let running: Running = serde_json::from_slice(&answer)
        .ok()
        .filter(|_| status.is_success())?;
    let listed = running.models.iter().map(listed).collect();
    Some(Look { listed, moves })
}

fn listed(model: &crate::ollama::wire::RunningModel) -> Listed {
    Listed {
        model: model.name.as_str().into(),
        context: model
            .context_length
            .and_then(|tokens| u32::try_from(tokens).ok())
            .unwrap_or(0),
        size: model.size,
        size_vram: model.size_vram,
        expires_at: crate::ollama::residency_from(model)
            .1
            .expires_at
            .unwrap_or_default(),
    }
}

impl Look {
    /// GPU memory of a runner, bytes; none when it is not in memory.
    pub(super) fn vram_of(&self, runner: &Runner) -> Option<u64> {
        let same = |it: &&Listed| it.model.is_same(&runner.model);
        self.listed.iter().find(same).map(|it| it.size_vram)
    }
}

impl Conductor {
    /// Looks at the endpoints if nobody has for a while: after a pause a model may be gone.
    pub(in crate::gateway) async fn refresh(self: &Arc<Self>, upstream: &Upstream) {
        let is_stale = self.begin(|state| {
            let now = self.now();
            let is_stale = state.looked.is_none_or(|at| now > at + AFTERGLOW);
            if is_stale {
                state.looked = Some(now);
            }
            is_stale
        });
        if !is_stale {
            return;
        }
        let mut looks = JoinSet::new();
        for endpoint in self.endpoints() {
            looks.spawn(look(Arc::clone(self), upstream.clone(), endpoint));
        }
        let all = async { while looks.join_next().await.is_some() {} };
        // An endpoint that does not answer this is found out by the request itself.
        let _elapsed = tokio::time::timeout(REFRESH, all).await;
    }

    /// Endpoints on which discovery has found other models in memory than we know of.
    pub(super) fn contradicted(&self) -> Vec<EndpointName> {
        let catalogue = self.catalogue.borrow().clone();
        let loads = self.look(State::loads);
        let known = catalogue.endpoints.iter();
        let differing = known.filter(|(name, endpoint)| {
            let load = loads.get(*name);
            endpoint.health.is_ok() && load.is_some_and(|load| differs(endpoint, load))
        });
        differing.map(|(name, _)| name.clone()).collect()
    }

    /// What an endpoint has in memory.
    pub(super) fn seen(&self, endpoint: &EndpointName, look: &Look) {
        let catalogue = self.catalogue.borrow().clone();
        self.change(|state, now| {
            if look.moves != state.moves_of(endpoint) {
                return;
            }
            state.looked = Some(now);
            if let Some(gpu) = state.gpu(endpoint) {
                gpu.seen(endpoint, &look.listed, now);
            }
            state.see(
                endpoint,
                &look.listed,
                &catalogue,
                (self.seat(endpoint), now),
            );
        });
    }

    fn is_current(&self, endpoint: &EndpointName, look: &Look) -> bool {
        self.look(|state, _| look.moves == state.moves_of(endpoint))
    }
}

impl State {
    /// We have loaded or unloaded something there. A look of ours that was asked for afterwards
    /// stays current.
    pub(super) fn moved(&mut self, endpoint: &EndpointName, after: Option<&mut Look>) {
        let before = self.moves_of(endpoint);
        self.moves.insert(endpoint.clone(), before + 1);
        if let Some(look) = after.filter(|look| look.moves == before) {
            look.moves = before + 1;
        }
    }

    fn moves_of(&self, endpoint: &EndpointName) -> u64 {
        self.moves.get(endpoint).copied().unwrap_or(0)
    }
}

/// Whether the models in memory are not the same. What is on its way is neither there nor away.
fn differs(endpoint: &Endpoint, load: &EndpointLoad) -> bool {
    let is_listed = |model| endpoint.resident.keys().any(|it| it.is_same(model));
    let is_lost = load.models.iter().any(|(model, runner)| {
        matches!(runner.state, RunnerState::Idle | RunnerState::Busy) && !is_listed(model)
    });
    let is_found = endpoint.resident.keys().any(|model| {
        let runner = load.models.iter().find(|(it, _)| it.is_same(model));
        runner.is_none_or(|(_, runner)| runner.state == RunnerState::Installed)
    });
    is_lost || is_found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::watch;

    use super::*;
    use crate::core::Timestamp;
    use crate::core::catalogue::Catalogue;
    use crate::core::endpoint::EndpointHealth;
    use crate::core::model::{ModelName, Residency};
    use crate::core::vram::KvCache;
    use crate::gateway::conductor::{ConductorSettings, Seat};

    fn name() -> EndpointName {
        "local".into()
    }

    fn runner() -> Runner {
        Runner {
            endpoint: name(),
            model: ModelName::new("m:7b"),
            context: 8_192,
        }
    }

    /// One endpoint on which `m:7b` was loaded, and on which discovery has found so many models.
    fn conductor(resident: &[&str]) -> (Conductor, watch::Sender<Arc<Catalogue>>) {
        let residency = Residency {
            size: 1,
            size_vram: 1,
            context_length: None,
            expires_at: None,
        };
        let mut endpoint = Endpoint::new("http://127.0.0.1:1");
        endpoint.health = EndpointHealth::Ok;
        let found = resident
            .iter()
            .map(|model| ((*model).into(), residency.clone()));
        endpoint.resident = found.collect();
        let (sender, catalogue) = watch::channel(Arc::new(Catalogue {
            endpoints: BTreeMap::from([(name(), endpoint)]),
        }));
        let seat = Seat {
            name: name(),
            url: "http://127.0.0.1:1".into(),
            parallel: Some(1),
            room: None,
            kv_cache: KvCache::F16,
            gpu: "local".into(),
        };
        let settings = ConductorSettings {
            seats: vec![seat],
            ..ConductorSettings::default()
        };
        let conductor = Conductor::new(settings, catalogue);
        conductor.change(|state, now| {
            let gpu = state.gpu(&name()).unwrap();
            gpu.loaded(&runner(), 1, Duration::from_secs(1), now);
        });
        (conductor, sender)
    }

    fn is_resident(conductor: &Conductor) -> bool {
        let loads = conductor.look(State::loads);
        loads[&name()].models[&runner().model].state == RunnerState::Idle
    }

    fn nothing(moves: u64) -> Look {
        Look {
            listed: Vec::new(),
            moves,
        }
    }

    #[test]
    fn a_list_that_was_asked_for_before_a_load_ended_is_dropped() {
        let (conductor, _catalogue) = conductor(&[]);
        conductor.change(|state, _| state.moved(&name(), None));
        conductor.seen(&name(), &nothing(0));
        assert!(is_resident(&conductor));
        conductor.seen(&name(), &nothing(1));
        assert!(!is_resident(&conductor));
    }

    #[test]
    fn the_list_that_a_load_has_asked_for_itself_is_current_unless_another_one_ended() {
        let (conductor, _catalogue) = conductor(&[]);
        let (mut own, mut late) = (nothing(0), nothing(0));
        conductor.change(|state, _| state.moved(&name(), Some(&mut own)));
        assert!(conductor.is_current(&name(), &own));
        conductor.change(|state, _| state.moved(&name(), Some(&mut late)));
        assert!(!conductor.is_current(&name(), &late));
        assert!(!conductor.is_current(&name(), &own));
    }

    #[test]
    fn an_endpoint_is_looked_at_again_where_discovery_has_found_something_else() {
        let contradicted = |resident: &[&str]| conductor(resident).0.contradicted();
        assert_eq!(contradicted(&["m:7b"]), []);
        assert_eq!(contradicted(&[]), [name()]);
        assert_eq!(contradicted(&["m:7b", "n:3b"]), [name()]);
    }

    #[test]
    fn a_model_is_gone_when_its_endpoint_says_so_and_not_when_it_says_nothing() {
        let [empty, mut full] = [nothing(0), nothing(0)];
        full.listed.push(Listed {
            model: runner().model,
            context: 8_192,
            size: 7,
            size_vram: 5,
            expires_at: Timestamp(0),
        });
        assert_eq!(full.vram_of(&runner()), Some(5));
        let after = |look, seconds| fate(look, &runner(), Duration::from_secs(seconds));
        assert_eq!(after(Some(&empty), 0), Some(Fate::Gone));
        assert_eq!(after(Some(&full), 9), None);
        assert_eq!(after(Some(&full), 10), Some(Fate::Stuck));
        assert_eq!(after(None, 9), None);
        assert_eq!(after(None, 10), Some(Fate::Unknown));
    }
}
