//! What a log tells of attempts, of the places that served them, and of what came of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::TaskId;
use crate::core::endpoint::EndpointName;
use crate::core::model::{Model, ModelName, parse_parameter_size};
use crate::core::router::{POOLED_MASS, SIZE_MASS, Tally, prior_mean};
use crate::core::served::Served;
use crate::core::task::Category;
use crate::core::time::Timestamp;

/// A model on an endpoint.
pub(super) type Place = (EndpointName, ModelName);

/// One attempt at a task, as its requests tell of it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) task: TaskId,
    pub(super) number: u32,
    pub(super) category: Category,
    /// When its first request arrived.
    pub(super) at: Timestamp,
    /// Where they are in the log.
    pub(super) requests: Vec<usize>,
    pub(super) place: Place,
    /// No other attempt followed, and its last request was answered.
    pub(super) is_success: bool,
    /// The task says which model: no strategy of the router changes that.
    pub(super) is_named: bool,
}

/// The attempts in `requests`, in the order of their beginning.
pub(super) fn attempts(requests: &[Served]) -> Vec<Attempt> {
    let mut found: BTreeMap<(TaskId, u32), Attempt> = BTreeMap::new();
    for (index, served) in requests.iter().enumerate() {
        let Some(task) = served.task else { continue };
        let attempt = found
            .entry((task, served.attempt))
            .or_insert_with(|| Attempt {
                task,
                number: served.attempt,
                category: served.category,
                at: served.at,
                requests: Vec::new(),
                place: place_of(served),
                is_success: false,
                is_named: served.named,
            });
        attempt.requests.push(index);
        attempt.is_success = served.outcome.is_answered();
        if attempt.is_success {
            attempt.place = place_of(served);
        }
    }
    let keys: Vec<(TaskId, u32)> = found.keys().copied().collect();
    for pair in keys.windows(2) {
        if let [(task, number), (next, _)] = pair
            && task == next
            && let Some(attempt) = found.get_mut(&(*task, *number))
        {
            attempt.is_success = false;
        }
    }
    let mut attempts: Vec<Attempt> = found.into_values().collect();
    attempts.sort_by_key(|attempt| (attempt.at, attempt.task, attempt.number));
    attempts
}

pub(super) fn place_of(served: &Served) -> Place {
    (served.endpoint.clone(), served.model.clone())
}

/// How fast a place was, medians.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Speed {
    /// Microseconds a token.
    pub(super) prefill: Option<f64>,
    /// Microseconds a token.
    pub(super) decode: Option<f64>,
    pub(super) load: Option<Duration>,
}

impl Speed {
    fn of<'a>(requests: impl Iterator<Item = &'a Served> + Clone) -> Self {
        let rate =
            |time: u64, tokens: u64| (tokens > 0 && time > 0).then(|| time as f64 / tokens as f64);
        let fresh = |it: &Served| it.prompt_tokens.saturating_sub(it.cached_tokens);
        let prefill = requests
            .clone()
            .filter_map(|it| rate(it.prefill_us, fresh(it)));
        let decode = requests
            .clone()
            .filter_map(|it| rate(it.decode_us, it.output_tokens));
        let loads = requests
            .filter_map(|it| it.swap.as_ref())
            .map(|swap| swap.took_us as f64);
        Self {
            prefill: median(prefill.collect()),
            decode: median(decode.collect()),
            load: median(loads.collect()).map(|micros| Duration::from_secs_f64(micros / 1e6)),
        }
    }
}

/// The places of a log with their speeds.
pub(super) fn places(requests: &[Served]) -> BTreeMap<Place, Speed> {
    let mut all: BTreeMap<Place, Vec<&Served>> = BTreeMap::new();
    for served in requests.iter().filter(|served| served.task.is_some()) {
        all.entry(place_of(served)).or_default().push(served);
    }
    let speed = |(place, served): (Place, Vec<&Served>)| (place, Speed::of(served.iter().copied()));
    all.into_iter().map(speed).collect()
}

/// What a request would have taken at a place of another speed: its tokens at those rates, and what
/// was neither prefill nor generation as it was.
pub(super) fn service_at(served: &Served, speed: &Speed) -> Duration {
    let own = served.service();
    let (Some(prefill), Some(decode)) = (speed.prefill, speed.decode) else {
        return own;
    };
    let timed = Duration::from_micros(served.prefill_us.saturating_add(served.decode_us));
    let rest = own.saturating_sub(timed);
    let fresh = served.prompt_tokens.saturating_sub(served.cached_tokens);
    let work = fresh as f64 * prefill + served.output_tokens as f64 * decode;
    // A torn line may tell any number.
    let work = Duration::try_from_secs_f64(work / 1e6).unwrap_or(Duration::MAX);
    rest.saturating_add(work)
}

/// How often each model succeeded at each kind of work, seen from the end of the log.
#[derive(Debug, Default)]
pub(super) struct Hindsight {
    cells: BTreeMap<(Category, ModelName), Tally>,
    models: BTreeMap<ModelName, Tally>,
}

impl Hindsight {
    pub(super) fn of(attempts: &[Attempt]) -> Self {
        let mut seen = Self::default();
        for attempt in attempts {
            let model = &attempt.place.1;
            let cell = (attempt.category, model.clone());
            let count = |tally: &mut Tally| {
                if attempt.is_success {
                    tally.good += 1.0;
                } else {
                    tally.bad += 1.0;
                }
            };
            count(seen.cells.entry(cell).or_default());
            count(seen.models.entry(model.clone()).or_default());
        }
        seen
    }

    /// The chance that the model succeeds, with the router's own priors.
    pub(super) fn chance(&self, category: Category, model: &ModelName) -> f64 {
        let overall = self.models.get(model).copied().unwrap_or_default();
        let overall = overall.mean(prior_mean(&named(model)), SIZE_MASS);
        let cell = self.cells.get(&(category, model.clone()));
        cell.copied().unwrap_or_default().mean(overall, POOLED_MASS)
    }
}

/// All that a log tells of a model: its name, and the size that the name says.
pub(super) fn named(name: &ModelName) -> Model {
    let tag = name.as_str().rsplit(':').next().unwrap_or_default();
    let size = tag.split('-').next().unwrap_or_default();
    let parameters = parse_parameter_size(size).filter(|count| *count >= 1_000_000);
    Model {
        name: name.clone(),
        digest: String::new(),
        // 7B where the name does not tell; a quantised model takes 0.6 bytes a parameter.
        size: parameters.unwrap_or(7_000_000_000) / 10 * 6,
        parameters,
        parameter_size: String::new(),
        quantisation: String::new(),
        family: String::new(),
        context_length: None,
        capabilities: std::collections::BTreeSet::new(),
        remote: false,
        architecture: None,
        shown: None,
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}
