//! The places where a model could serve, without those that may not, and what each would take.
//!
//! Hard filters come first and are never traded against anything: a place that is dropped here is
//! chosen by no strategy. The prediction then adds up what the gateway reports and, where it has
//! measured nothing yet, what the size of the model says.
//!
//! Invariant: pure. What nobody knows counts as possible, except the health of an endpoint.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{REJECTED_MAX, Rejected};
use crate::core::catalogue::{Catalogue, NoModel};
use crate::core::endpoint::{Endpoint, EndpointHealth, EndpointName};
use crate::core::model::{Model, ModelName};
use crate::core::runners::{
    Ahead, BreakerState, EndpointLoad, GatewayReport, ModelLoad, RunnerState,
};

/// Bytes a millisecond that a load reads where nothing was measured: 1 GB/s, a fast disk.
const LOAD_BYTES_PER_MS: f64 = 1e6;
/// Bytes a millisecond of memory that generation reads: 400 GB/s, a middling graphics card. Every
/// token reads the whole model once.
const MEMORY_BYTES_PER_MS: f64 = 4e8;
/// Prefill is faster than generation by this much: tokens are worked on together.
const PREFILL_SPEEDUP: f64 = 10.0;
/// Tokens that one request of an agent brings, typically: system prompt, map, files.
const PROMPT_TOKENS: f64 = 6_000.0;
/// Tokens of an answer with edits.
const ANSWER_TOKENS: f64 = 800.0;

/// Models that do not fit into the memory of an endpoint; what is not in it fits or is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fits {
    /// Too large, by endpoint.
    pub too_large: BTreeMap<EndpointName, BTreeSet<ModelName>>,
}

/// What a choice is made of.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Endpoints and models.
    pub catalogue: &'a Catalogue,
    /// What the gateway measured.
    pub gateway: &'a GatewayReport,
    /// Age of that report, milliseconds: a breaker that was to be tried again in the meantime may
    /// be.
    pub gateway_age_ms: u64,
    /// What fits.
    pub fits: &'a Fits,
}

/// One place that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) endpoint: &'a EndpointName,
    pub(super) model: &'a Model,
    /// Its breaker lets one request through, to see.
    pub(super) on_trial: bool,
    pub(super) times: Times,
}

/// What an attempt would take, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Times {
    /// Behind other requests.
    pub(super) wait: f64,
    /// Unloading and loading.
    pub(super) load: f64,
    /// One request.
    pub(super) service: f64,
}

impl Times {
    pub(super) fn total(&self) -> f64 {
        self.wait + self.load + self.service
    }
}

/// What is asked of a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need<'a> {
    /// The model, if one is named.
    pub(super) named: Option<&'a ModelName>,
    /// The configured default, which may run elsewhere.
    pub(super) default: Option<&'a ModelName>,
    /// Context, tokens.
    pub(super) context: u32,
}

/// The places that may be chosen, and some of those that may not.
#[derive(Debug, Default)]
pub(super) struct Sifted<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) rejected_more: u32,
    reasons: BTreeSet<Reason>,
    /// The largest context of a model that is too small.
    largest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    CannotChat,
    Remote,
    TooSmall,
    TooLarge,
    Broken,
}

/// Applies the hard filters.
///
/// # Errors
/// Nothing is left, and why.
pub(super) fn sift<'a>(world: &World<'a>, need: &Need<'a>) -> Result<Sifted<'a>, NoModel> {
    answering(world.catalogue)?;
    let mut sifted = Sifted::default();
    for (name, endpoint) in &world.catalogue.endpoints {
        if !endpoint.health.is_ok() {
            continue;
        }
        let load = world.gateway.endpoints.get(name);
        // Both are in the order of names: one walk instead of a search for each model.
        let mut runners = load.iter().flat_map(|load| &load.models).peekable();
        for model in endpoint.models.values() {
            while runners.next_if(|(name, _)| **name < model.name).is_some() {}
            let runner = runners.next_if(|(name, _)| **name == model.name);
            if need.named.is_none_or(|named| named.is_same(&model.name)) {
                let runner = runner.map(|(_, runner)| runner);
                sifted.consider(world, need, (name, endpoint, load, runner), model);
            }
        }
    }
    // A place on trial is for when there is no other.
    if sifted.candidates.iter().any(|place| !place.on_trial) {
        sifted.candidates.retain(|place| !place.on_trial);
    }
    if sifted.candidates.is_empty() {
        return Err(sifted.nothing(need));
    }
    Ok(sifted)
}

fn answering(catalogue: &Catalogue) -> Result<(), NoModel> {
    if catalogue.endpoints.is_empty() {
        return Err(NoModel::NoEndpoint);
    }
    let mut reasons = Vec::new();
    for (name, endpoint) in &catalogue.endpoints {
        match &endpoint.health {
            EndpointHealth::Ok => return Ok(()),
            EndpointHealth::Unknown { why } => reasons.push(format!("{name}: {why}")),
        }
    }
    let why = reasons.join("; ");
    Err(NoModel::NoneReachable { why })
}

type Place<'a> = (
    &'a EndpointName,
    &'a Endpoint,
    Option<&'a EndpointLoad>,
    Option<&'a ModelLoad>,
);

impl<'a> Sifted<'a> {
    fn consider(&mut self, world: &World<'a>, need: &Need<'_>, place: Place<'a>, model: &'a Model) {
        let (endpoint, at, load, runner) = place;
        let of_endpoint = load.map_or(Gate::Open, |load| gate(&load.breaker, world));
        let of_model = runner.map_or(Gate::Open, |runner| gate(&runner.breaker, world));
        let refusal = self.refusal(world, need, endpoint, model);
        let refusal = refusal.or_else(|| match (&of_endpoint, &of_model) {
            (Gate::Shut(why), _) | (_, Gate::Shut(why)) => {
                Some((Reason::Broken, format!("its breaker is open: {why}")))
            }
            (Gate::Open | Gate::Trial, Gate::Open | Gate::Trial) => None,
        });
        match refusal {
            Some((reason, why)) => self.reject(endpoint, model, reason, why),
            None => self.candidates.push(Candidate {
                endpoint,
                model,
                on_trial: of_endpoint == Gate::Trial || of_model == Gate::Trial,
                times: times(at, load, runner, model),
            }),
        }
    }

    /// Why a model itself may not be chosen.
    fn refusal(
        &mut self,
        world: &World<'_>,
        need: &Need<'_>,
        endpoint: &EndpointName,
        model: &Model,
    ) -> Option<(Reason, String)> {
        if !model.can_chat() {
            return Some((Reason::CannotChat, "it cannot chat".into()));
        }
        let asked_for = need.named.is_some()
            || need
                .default
                .is_some_and(|default| default.is_same(&model.name));
        if model.remote && !asked_for {
            let why = "it runs elsewhere and nobody named it";
            return Some((Reason::Remote, why.into()));
        }
        if !model.fits(need.context) {
            let context = model.context_length.unwrap_or(0);
            self.largest = self.largest.max(context);
            let why = format!("{} tokens are needed, it has {context}", need.context);
            return Some((Reason::TooSmall, why));
        }
        let too_large = world.fits.too_large.get(endpoint);
        // Who names it knows that a part of it will run on the CPU.
        let is_too_large = too_large.is_some_and(|models| models.contains(&model.name));
        (is_too_large && !asked_for)
            .then(|| (Reason::TooLarge, "it does not fit into the memory".into()))
    }

    fn reject(&mut self, endpoint: &EndpointName, model: &Model, reason: Reason, why: String) {
        self.reasons.insert(reason);
        if self.rejected.len() == REJECTED_MAX {
            self.rejected_more += 1;
            return;
        }
        self.rejected.push(Rejected {
            endpoint: endpoint.to_string(),
            model: model.name.to_string(),
            why,
        });
    }

    /// The reason that nothing is left: the one that is nearest to a choice.
    fn nothing(&self, need: &Need<'_>) -> NoModel {
        let named = need.named.cloned();
        let context = need.context;
        match (self.reasons.last(), named) {
            (None, Some(model)) => NoModel::NotInstalled { model },
            (None | Some(Reason::CannotChat), None) => NoModel::NothingInstalled,
            (Some(Reason::CannotChat | Reason::Remote), Some(model)) => {
                NoModel::CannotChat { model }
            }
            (Some(Reason::TooSmall), Some(model)) => NoModel::TooSmall {
                model,
                context: self.largest,
                need: context,
            },
            (Some(Reason::Remote | Reason::TooSmall), None) => {
                NoModel::NothingFits { need: context }
            }
            (Some(Reason::TooLarge), _) => NoModel::NoRoom { why: self.said() },
            (Some(Reason::Broken), _) => NoModel::AllBroken { why: self.said() },
        }
    }

    fn said(&self) -> String {
        let last = self.rejected.last();
        let said = |it: &Rejected| format!("{} on {}: {}", it.model, it.endpoint, it.why);
        last.map(said).unwrap_or_default()
    }
}

/// Whether a breaker lets anything through.
#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Trial,
    Shut(String),
}

fn gate(breaker: &BreakerState, world: &World<'_>) -> Gate {
    match breaker {
        BreakerState::Closed => Gate::Open,
        BreakerState::HalfOpen => Gate::Trial,
        // Nobody asks while nothing is assigned, so nothing would ever be tried again.
        BreakerState::Open { retry_ms, .. } if *retry_ms <= world.gateway_age_ms => Gate::Trial,
        BreakerState::Open { why, .. } => Gate::Shut(why.clone()),
    }
}

/// What an attempt would take there. Where the gateway tells what a request would meet, that is
/// taken as it is; of a model that it does not know it tells what the endpoint is like.
pub(super) fn times(
    endpoint: &Endpoint,
    load: Option<&EndpointLoad>,
    runner: Option<&ModelLoad>,
    model: &Model,
) -> Times {
    let decode = model.size as f64 / MEMORY_BYTES_PER_MS;
    let decode = runner.and_then(|runner| runner.decode_ms).unwrap_or(decode);
    let prefill = runner.and_then(|runner| runner.prefill_ms);
    let prefill = prefill.unwrap_or(decode / PREFILL_SPEEDUP);
    let is_there = endpoint.resident.contains_key(&model.name);
    let (wait, load) = match (runner, runner.and_then(|runner| runner.ahead)) {
        (Some(runner), Some(ahead)) => (ahead.queue_ms as f64, told(runner, ahead, model)),
        (Some(runner), None) => (
            runner.predicted_wait_ms as f64,
            guessed(runner, is_there, model),
        ),
        (None, _) if is_there => (0.0, 0.0),
        (None, _) => strange(load, model),
    };
    Times {
        wait,
        load,
        service: prefill * PROMPT_TOKENS + decode * ANSWER_TOKENS,
    }
}

/// Unloading and loading as the gateway tells them; a load that it has never seen is estimated.
fn told(runner: &ModelLoad, ahead: Ahead, model: &Model) -> f64 {
    let is_known = ahead.load_ms == 0 || runner.state == RunnerState::Loading;
    let load = if is_known || runner.load_ms.is_some() {
        ahead.load_ms as f64
    } else {
        read_ms(model)
    };
    load + ahead.evict_ms as f64
}

/// The same where it tells no more than the state.
fn guessed(runner: &ModelLoad, is_there: bool, model: &Model) -> f64 {
    match runner.state {
        RunnerState::Idle | RunnerState::Busy | RunnerState::Loading => 0.0,
        // The gateway has not used it: the catalogue has looked itself.
        RunnerState::Installed if is_there => 0.0,
        RunnerState::Installed | RunnerState::Unloading => runner
            .load_ms
            .map_or(read_ms(model), |millis| millis as f64),
    }
}

/// Waiting, and unloading and loading, for a model that the gateway has never been asked for: it
/// waits for others only where there is no room beside them.
fn strange(load: Option<&EndpointLoad>, model: &Model) -> (f64, f64) {
    let free = load.and_then(|load| load.free);
    let ahead = load.and_then(|load| load.stranger).unwrap_or_default();
    let has_room = free.is_some_and(|free| model.size <= free);
    let wait = if has_room { 0 } else { ahead.queue_ms };
    let evict = if has_room || free.is_none() {
        0
    } else {
        ahead.evict_ms
    };
    (wait as f64, read_ms(model) + evict as f64)
}

/// Reading a model's file.
fn read_ms(model: &Model) -> f64 {
    model.size as f64 / LOAD_BYTES_PER_MS
}
