//! Which endpoint a request goes to: the one where it is expected to be complete first.
//!
//! Hard filters come first: the model is installed there, its breaker lets requests pass, the
//! prompt fits the context. Of what is left the cost model decides; its terms are kept with the
//! choice. When nothing is left for now, the request waits: the last endpoint is never given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::memory::shape;
use super::report::{load_of, resident_context};
use super::state::{Conductor, Seat, State};
use crate::core::breaker::Permission;
use crate::core::catalogue::Catalogue;
use crate::core::context::{ANSWER_RESERVE, Admission, Fit, capped};
use crate::core::dispatch::{Candidate, Runner, Size, choose};
use crate::core::endpoint::EndpointName;
use crate::core::model::{Capability, Model, ModelName};
use crate::core::runners::EndpointLoad;
use crate::core::task::Priority;
use crate::gateway::ask::Ask;
use crate::gateway::course::Caller;

/// Before a look at the catalogue when an endpoint has not been seen since the start.
const UNSEEN: Duration = Duration::from_millis(200);
/// Longest wait before a request that found no endpoint looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is to be placed.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Request {
    pub(in crate::gateway) client: String,
    pub(in crate::gateway) model: ModelName,
    /// The endpoint that was chosen when its agent was started.
    pub(in crate::gateway) endpoint: EndpointName,
    /// Context it should have at least, tokens.
    pub(in crate::gateway) context: u32,
    /// Its prompt, estimated, tokens.
    pub(in crate::gateway) tokens: u64,
    pub(in crate::gateway) chars: u64,
    pub(in crate::gateway) prefixes: Vec<(u64, u64)>,
    pub(in crate::gateway) priority: Priority,
    /// Most tokens of the answer that the client wants.
    limit: Option<u32>,
    think: bool,
    /// The context that was found too large for the GPU, tokens.
    too_large: Option<u32>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gateway) struct Placed {
    pub(in crate::gateway) runner: Runner,
    pub(in crate::gateway) url: String,
    pub(in crate::gateway) digest: String,
    pub(in crate::gateway) num_predict: Option<u32>,
    pub(in crate::gateway) think: Option<bool>,
    /// Predicted time of service.
    pub(in crate::gateway) work: Duration,
    /// GPU memory of the runner, bytes; 0 where that is unknown.
    pub(in crate::gateway) need: u64,
    /// It runs on another host.
    pub(in crate::gateway) remote: bool,
    /// Why here, in words.
    pub(in crate::gateway) why: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gateway) enum Placement {
    Go(Box<Placed>),
    /// Nowhere for now: look again after this.
    Wait(Duration, String),
    /// Nowhere at all.
    Never(String),
}

/// One endpoint that could serve a request.
struct Site<'a> {
    seat: &'a Seat,
    model: &'a Model,
    context: u32,
    num_predict: u32,
    need: u64,
}

impl Request {
    /// Takes a smaller context, if its prompt fits one: a larger one was too much for the GPU.
    pub(in crate::gateway) fn shrink(&mut self, placed: &Placed) -> bool {
        let smaller = crate::core::context::rung_below(placed.runner.context);
        let Some(smaller) = smaller.filter(|rung| u64::from(*rung) > self.tokens) else {
            return false;
        };
        self.too_large = Some(placed.runner.context);
        self.context = smaller;
        true
    }
}

impl Conductor {
    /// What is asked, with what is known of it before it is placed.
    pub(in crate::gateway) fn request(&self, caller: &Caller, ask: &Ask) -> Request {
        let model = ModelName::new(&ask.model);
        let bond = caller
            .bond
            .as_ref()
            .filter(|bond| bond.model.is_same(&model));
        let catalogue = self.catalogue.borrow().clone();
        let endpoint = bond
            .map(|bond| bond.endpoint.clone())
            .or_else(|| home_of(&catalogue, &model))
            .unwrap_or_else(|| EndpointName(String::new()));
        let tuning = self.settings.models.tuning(model.as_str());
        let thinks = bond.map(|bond| bond.thinks).or(ask.think);
        let now = self.now();
        let (tokens, context) = self.begin(|state| {
            state.budget.sent(now);
            let tokens = state.learned.estimate(&model, ask.chars);
            let context = bond.map_or(0, |bond| bond.context);
            (tokens, context)
        });
        let context = context.max(self.context(&endpoint, &model, tuning.context));
        Request {
            client: caller.client.clone(),
            model,
            endpoint,
            context,
            tokens,
            chars: ask.chars,
            prefixes: ask.prefixes.clone(),
            priority: caller.work.priority,
            limit: ask.limit,
            think: thinks.or(tuning.thinking).unwrap_or(false),
            too_large: None,
        }
    }

    /// The context that an agent of `model` on `endpoint` is started with, tokens.
    pub(in crate::gateway) fn context(
        &self,
        endpoint: &EndpointName,
        model: &ModelName,
        configured: Option<u32>,
    ) -> u32 {
        let catalogue = self.catalogue.borrow().clone();
        let known = catalogue
            .endpoints
            .get(endpoint)
            .and_then(|endpoint| endpoint.model(model));
        let seat = self.seat(endpoint);
        self.look(|state, _| {
            let fits = |context: u32| {
                let (seat, known) = (seat?, known?);
                let need = state
                    .learned
                    .vram
                    .need(endpoint, known, shape(seat, context));
                Some(need.size <= state.room(seat)?)
            };
            let trained = known.and_then(|model| model.context_length);
            state.learned.context(model, configured, trained, fits)
        })
    }

    /// How often a place was looked for.
    pub(in crate::gateway) fn decisions(&self) -> u64 {
        self.begin(|state| state.decisions)
    }

    pub(super) fn seat(&self, endpoint: &EndpointName) -> Option<&Seat> {
        self.settings
            .seats
            .iter()
            .find(|seat| seat.name == *endpoint)
    }

    /// Where the request goes; `avoid` has failed it already.
    pub(in crate::gateway) fn place(
        &self,
        request: &Request,
        avoid: &BTreeSet<EndpointName>,
    ) -> Placement {
        let catalogue = self.catalogue.borrow().clone();
        let now = self.now();
        // Nothing follows from it for others: requests that wait for an endpoint must not wake each
        // other by looking for one.
        self.begin(|state| {
            state.decisions += 1;
            state.forget_absent(&catalogue);
            let loads = state.loads(now);
            let sites = match self.sites((state, &loads), &catalogue, request) {
                Ok(sites) => sites,
                Err(placement) => return placement,
            };
            let (open, blocked): (Vec<_>, Vec<_>) = sites
                .into_iter()
                .map(|site| {
                    let may = state.may(&site.seat.name, &request.model, now);
                    (site, may)
                })
                .partition(|(_, may)| !matches!(may, Permission::No { .. }));
            let fresh = |(site, _): &&(Site<'_>, Permission)| !avoid.contains(&site.seat.name);
            let any_fresh = open.iter().any(|it| fresh(&it));
            let open: Vec<&Site<'_>> = open
                .iter()
                .filter(|it| !any_fresh || fresh(it))
                .map(|(site, _)| site)
                .collect();
            let candidates: Vec<Candidate> = open
                .iter()
                .map(|site| candidate(state, site, request, now))
                .collect();
            let choice = choose(&candidates);
            let chosen = choice.and_then(|choice| Some((open.get(choice.index)?, choice)));
            match chosen {
                Some((site, choice)) => {
                    state.breakers.goes(&site.seat.name, &request.model, now);
                    Placement::Go(Box::new(placed(state, site, request, choice.to_string())))
                }
                None => waits(state, &blocked, &request.model, now),
            }
        })
    }

    /// Every endpoint with the model, in a context that holds the prompt.
    fn sites<'a>(
        &'a self,
        known: Known<'_>,
        catalogue: &'a Catalogue,
        request: &Request,
    ) -> Result<Vec<Site<'a>>, Placement> {
        let (state, _) = known;
        let digest = catalogue
            .endpoints
            .get(&request.endpoint)
            .and_then(|endpoint| endpoint.model(&request.model))
            .map(|model| model.digest.as_str());
        let mut sites = Vec::new();
        let mut too_long = None;
        for seat in &self.settings.seats {
            let Some(model) = catalogue
                .endpoints
                .get(&seat.name)
                .and_then(|endpoint| endpoint.model(&request.model))
            else {
                continue;
            };
            let absent = state
                .absent
                .contains(&(seat.name.clone(), request.model.clone()));
            // The same name with another digest is another model.
            if absent || digest.is_some_and(|digest| digest != model.digest) {
                continue;
            }
            match self.site(known, (seat, model), request) {
                Ok(site) => sites.push(site),
                Err(most) => too_long = Some(most),
            }
        }
        match (sites.is_empty(), too_long) {
            (false, _) => Ok(sites),
            (true, Some(most)) => Err(Placement::Never(format!(
                "the prompt has about {} tokens and exceeds the context length: {} can be given \
                 {most} at most",
                request.tokens, request.model
            ))),
            (true, None) => Err(self.nowhere(catalogue, request)),
        }
    }

    /// No endpoint that was looked at has the model; after a start none has been yet.
    fn nowhere(&self, catalogue: &Catalogue, request: &Request) -> Placement {
        let unseen = self.settings.seats.iter().find(|seat| {
            let known = catalogue.endpoints.get(&seat.name);
            known.is_none_or(|endpoint| endpoint.seen_at.is_none() && endpoint.models.is_empty())
        });
        match unseen {
            Some(seat) => {
                let why = format!("endpoint {} has not answered yet", seat.name);
                Placement::Wait(UNSEEN, why)
            }
            None => Placement::Never(format!("model '{}' not found", request.model)),
        }
    }

    fn site<'a>(
        &self,
        (state, loads): Known<'_>,
        (seat, model): (&'a Seat, &'a Model),
        request: &Request,
    ) -> Result<Site<'a>, u32> {
        let load = load_of(loads, &seat.name, &model.name);
        let resident = resident_context(load);
        let trained = model.context_length.unwrap_or(u32::MAX);
        let rung = request.context.max(resident.unwrap_or(0)).min(trained);
        let tuned = self.settings.models.tuning(request.model.as_str()).context;
        let most = tuned.map_or(trained, |tuned| tuned.min(trained).max(rung));
        let most = request
            .too_large
            .map_or(most, |large| most.min(large.saturating_sub(1)));
        let rung = rung.min(most);
        let mut fit = Fit { rung, most };
        let num_predict = loop {
            match fit.admit(request.tokens, ANSWER_RESERVE) {
                Admission::Fits { num_predict } => break num_predict,
                Admission::NeedsLarger(larger) => fit.rung = larger,
                Admission::TooLong { most } => return Err(most),
            }
        };
        let limit = request.limit.map(i64::from);
        let shape = shape(seat, fit.rung);
        Ok(Site {
            seat,
            model,
            context: fit.rung,
            num_predict: capped(limit, num_predict).get(),
            need: state.learned.vram.need(&seat.name, model, shape).size,
        })
    }
}

/// The state, and what the dispatchers say of all endpoints.
type Known<'a> = (&'a State, &'a BTreeMap<EndpointName, EndpointLoad>);

fn candidate(state: &State, site: &Site<'_>, request: &Request, now: Duration) -> Candidate {
    let runner = runner(site);
    let gpu = state.gpu_of(&runner);
    let outlook = gpu.map(|gpu| gpu.outlook(&runner, site.need, now));
    let outlook = outlook.unwrap_or_default();
    let size = size(state, request);
    let read = outlook.epoch.map_or(0.0, |epoch| {
        let conversations = &state.conversations;
        conversations.hit(&runner, epoch, &request.prefixes)
    });
    Candidate {
        queue: outlook.queue,
        load: outlook.load,
        evict: outlook.eviction,
        prefill: state.rates.prefill(&runner, size.prompt),
        hit: read,
        decode: state.rates.decode(&runner, size.output),
        penalty: state.breakers.penalty(&runner.endpoint, &runner.model, now),
        runner,
    }
}

fn size(state: &State, request: &Request) -> Size {
    let expected = state.learned.output(&request.model);
    let limit = request.limit.map_or(u64::MAX, u64::from);
    Size {
        prompt: request.tokens,
        output: expected.min(limit),
    }
}

fn placed(state: &State, site: &Site<'_>, request: &Request, why: String) -> Placed {
    let runner = runner(site);
    let can_think = site.model.capabilities.contains(&Capability::Thinking);
    Placed {
        url: site.seat.url.trim_end_matches('/').to_owned(),
        digest: site.model.digest.clone(),
        num_predict: Some(site.num_predict),
        think: can_think.then_some(request.think),
        work: state.rates.work(&runner, size(state, request)),
        need: site.need,
        remote: site.model.remote,
        why,
        runner,
    }
}

fn runner(site: &Site<'_>) -> Runner {
    Runner {
        endpoint: site.seat.name.clone(),
        model: site.model.name.clone(),
        context: site.context,
    }
}

fn waits(
    state: &State,
    blocked: &[(Site<'_>, Permission)],
    model: &ModelName,
    now: Duration,
) -> Placement {
    let soonest = blocked
        .iter()
        .filter_map(|(site, may)| match may {
            Permission::No { until } => Some((until.saturating_sub(now), site.seat)),
            Permission::Yes | Permission::Probe => None,
        })
        .min_by_key(|(pause, _)| *pause);
    match soonest {
        Some((pause, seat)) => {
            let rests = state.rests_until(&seat.name, model, now).is_some();
            let how = if rests { "is busy" } else { "fails" };
            let seconds = pause.as_secs() + 1;
            let why = format!(
                "endpoint {} {how}; it is tried again in {seconds} s",
                seat.name
            );
            Placement::Wait(pause.clamp(Duration::from_millis(50), LOOK_AGAIN), why)
        }
        None => Placement::Wait(LOOK_AGAIN, "no endpoint may be asked".into()),
    }
}

/// The first endpoint with the model; one where it is resident before others.
fn home_of(catalogue: &Catalogue, model: &ModelName) -> Option<EndpointName> {
    let having = catalogue
        .endpoints
        .iter()
        .filter(|(_, endpoint)| endpoint.model(model).is_some());
    having
        .min_by_key(|(name, endpoint)| {
            let loaded = endpoint.resident.keys().any(|it| it.is_same(model));
            (!loaded, !endpoint.health.is_ok(), (*name).clone())
        })
        .map(|(name, _)| name.clone())
}
