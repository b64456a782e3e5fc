//! The catalogue: every endpoint with its models, what changed between two looks, and which model
//! another client of the gateway gets that names none (a task gets what [`super::router`] chooses).
//!
//! Selection rule: the model that is named; else the best resident one that fits; else the
//! configured default; else the most capable one that fits. Embedding-only models are never
//! chosen, and models that run elsewhere only when they are named or the default: prompts do not
//! leave the endpoint unless the user says so.
//!
//! Invariant: pure. An endpoint whose health is unknown is never chosen.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, EndpointHealth, EndpointName};
use super::model::{Model, ModelName, Residency};

/// All endpoints and what is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Endpoints by name.
    pub endpoints: BTreeMap<EndpointName, Endpoint>,
}

/// One difference between two catalogues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum CatalogueChange {
    /// An endpoint is configured now.
    EndpointAdded {
        /// Which.
        endpoint: EndpointName,
    },
    /// An endpoint is no longer configured.
    EndpointRemoved {
        /// Which.
        endpoint: EndpointName,
    },
    /// An endpoint answers again.
    EndpointReachable {
        /// Which.
        endpoint: EndpointName,
    },
    /// An endpoint cannot be asked any more, or for another reason.
    EndpointUnknown {
        /// Which.
        endpoint: EndpointName,
        /// The reason.
        why: String,
    },
    /// A model was installed.
    ModelAdded {
        /// Where.
        endpoint: EndpointName,
        /// Which.
        model: ModelName,
    },
    /// A model was deleted.
    ModelRemoved {
        /// Where.
        endpoint: EndpointName,
        /// Which.
        model: ModelName,
    },
    /// A model's name points to something else now, or more is known of it.
    ModelChanged {
        /// Where.
        endpoint: EndpointName,
        /// Which.
        model: ModelName,
    },
    /// A model was loaded, or loaded again with another context or split.
    ModelResident {
        /// Where.
        endpoint: EndpointName,
        /// Which.
        model: ModelName,
    },
    /// A model was unloaded.
    ModelEvicted {
        /// Where.
        endpoint: EndpointName,
        /// Which.
        model: ModelName,
    },
}

impl std::fmt::Display for CatalogueChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EndpointAdded { endpoint } => write!(f, "endpoint {endpoint} was added"),
            Self::EndpointRemoved { endpoint } => write!(f, "endpoint {endpoint} was removed"),
            Self::EndpointReachable { endpoint } => write!(f, "endpoint {endpoint} answers"),
            Self::EndpointUnknown { endpoint, why } => {
                write!(f, "endpoint {endpoint} is unknown: {why}")
            }
            Self::ModelAdded { endpoint, model } => {
                write!(f, "{model} was installed on {endpoint}")
            }
            Self::ModelRemoved { endpoint, model } => {
                write!(f, "{model} was removed from {endpoint}")
            }
            Self::ModelChanged { endpoint, model } => {
                write!(f, "{model} was changed on {endpoint}")
            }
            Self::ModelResident { endpoint, model } => {
                write!(f, "{model} is resident on {endpoint}")
            }
            Self::ModelEvicted { endpoint, model } => {
                write!(f, "{model} was evicted from {endpoint}")
            }
        }
    }
}

/// Why no model can be given to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum NoModel {
    /// Nothing is configured.
    #[error("no endpoint is configured")]
    NoEndpoint,
    /// No endpoint answers.
    #[error("no endpoint answers: {why}")]
    NoneReachable {
        /// Each endpoint with its reason.
        why: String,
    },
    /// Endpoints answer, but none has a model for conversation.
    #[error("no endpoint has a model that can chat")]
    NothingInstalled,
    /// The model that is named is not there.
    #[error("model {model} is not installed on any endpoint that answers")]
    NotInstalled {
        /// The name.
        model: ModelName,
    },
    /// The model that is named only makes embeddings.
    #[error("model {model} cannot chat")]
    CannotChat {
        /// The name.
        model: ModelName,
    },
    /// The model that is named was trained for less context than is needed.
    #[error("model {model} was trained for {context} tokens of context, {need} are needed")]
    TooSmall {
        /// The name.
        model: ModelName,
        /// Its context, tokens.
        context: u32,
        /// What is needed, tokens.
        need: u32,
    },
    /// What could serve does not fit into the memory of its endpoint.
    #[error("no endpoint has the memory ({why}); a model that is named is used all the same")]
    NoRoom {
        /// One of them.
        why: String,
    },
    /// What could serve is behind an open breaker.
    #[error("waits for an endpoint to recover ({why})")]
    AllBroken {
        /// One of them.
        why: String,
    },
    /// No installed model has enough context.
    #[error("no installed model was trained for {need} tokens of context")]
    NothingFits {
        /// What is needed, tokens.
        need: u32,
    },
}

/// Everything that differs between `old` and `new`, endpoint by endpoint.
pub fn diff(old: &Catalogue, new: &Catalogue) -> Vec<CatalogueChange> {
    let mut changes = Vec::new();
    for endpoint in old.endpoints.keys() {
        if !new.endpoints.contains_key(endpoint) {
            changes.push(CatalogueChange::EndpointRemoved {
                endpoint: endpoint.clone(),
            });
        }
    }
    for (name, after) in &new.endpoints {
        if let Some(before) = old.endpoints.get(name) {
            diff_endpoint(name, before, after, &mut changes);
        } else {
            let endpoint = name.clone();
            changes.push(CatalogueChange::EndpointAdded { endpoint });
            diff_endpoint(name, &Endpoint::new(&after.url), after, &mut changes);
        }
    }
    changes
}

fn diff_endpoint(
    name: &EndpointName,
    before: &Endpoint,
    after: &Endpoint,
    changes: &mut Vec<CatalogueChange>,
) {
    if before.health != after.health {
        let endpoint = name.clone();
        changes.push(match &after.health {
            EndpointHealth::Ok => CatalogueChange::EndpointReachable { endpoint },
            EndpointHealth::Unknown { why } => CatalogueChange::EndpointUnknown {
                endpoint,
                why: why.clone(),
            },
        });
    }
    for model in before.models.keys() {
        if !after.models.contains_key(model) {
            let (endpoint, model) = (name.clone(), model.clone());
            changes.push(CatalogueChange::ModelRemoved { endpoint, model });
        }
    }
    for (model, now) in &after.models {
        let (endpoint, model_name) = (name.clone(), model.clone());
        match before.models.get(model) {
            None => changes.push(CatalogueChange::ModelAdded {
                endpoint,
                model: model_name,
            }),
            Some(was) if was != now => changes.push(CatalogueChange::ModelChanged {
                endpoint,
                model: model_name,
            }),
            Some(_) => {}
        }
    }
    diff_residency(name, before, after, changes);
}

fn diff_residency(
    name: &EndpointName,
    before: &Endpoint,
    after: &Endpoint,
    changes: &mut Vec<CatalogueChange>,
) {
    for model in before.resident.keys() {
        if !after.resident.contains_key(model) {
            let (endpoint, model) = (name.clone(), model.clone());
            changes.push(CatalogueChange::ModelEvicted { endpoint, model });
        }
    }
    for (model, now) in &after.resident {
        let was = before.resident.get(model);
        if was.is_none_or(|was| loaded_as(was) != loaded_as(now)) {
            let (endpoint, model) = (name.clone(), model.clone());
            changes.push(CatalogueChange::ModelResident { endpoint, model });
        }
    }
}

/// What a load decides; the expiry moves with every request and is no change.
fn loaded_as(residency: &Residency) -> (u64, u64, Option<u32>) {
    (
        residency.size,
        residency.size_vram,
        residency.context_length,
    )
}

/// One place where a model could serve.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    endpoint: &'a EndpointName,
    model: &'a Model,
    resident: Option<&'a Residency>,
}

impl Candidate<'_> {
    fn chosen(&self) -> (EndpointName, ModelName) {
        (self.endpoint.clone(), self.model.name.clone())
    }
}

/// Chooses endpoint and model by the rule in this module's documentation.
///
/// `need_context` is the context that will be asked for, in tokens; 0 when nothing is known.
pub fn pick_model(
    catalogue: &Catalogue,
    wanted: Option<&ModelName>,
    default: Option<&ModelName>,
    need_context: u32,
) -> Result<(EndpointName, ModelName), NoModel> {
    let all = candidates(catalogue)?;
    if let Some(wanted) = wanted {
        return pick_named(&all, wanted, need_context);
    }
    let chatting: Vec<_> = all.iter().copied().filter(|c| c.model.can_chat()).collect();
    if chatting.is_empty() {
        return Err(NoModel::NothingInstalled);
    }
    let fitting = || {
        let here = |c: &&Candidate<'_>| !c.model.remote && c.model.fits(need_context);
        chatting.iter().filter(here)
    };
    let resident = fitting()
        .filter_map(|c| c.resident.map(|residency| (c, residency)))
        .max_by_key(|(c, residency)| {
            let roomy = residency.context_length.is_none_or(|n| n >= need_context);
            (roomy, c.model.ability(), Reverse(c.endpoint))
        });
    if let Some((candidate, _)) = resident {
        return Ok(candidate.chosen());
    }
    if let Some(chosen) = default.and_then(|name| pick_named(&all, name, need_context).ok()) {
        return Ok(chosen);
    }
    fitting()
        .max_by_key(|c| (c.model.ability(), Reverse(c.endpoint)))
        .map(Candidate::chosen)
        .ok_or(NoModel::NothingFits { need: need_context })
}

/// Every installed model of every endpoint that answers.
fn candidates(catalogue: &Catalogue) -> Result<Vec<Candidate<'_>>, NoModel> {
    if catalogue.endpoints.is_empty() {
        return Err(NoModel::NoEndpoint);
    }
    let reasons: Vec<String> = catalogue
        .endpoints
        .iter()
        .filter_map(|(name, endpoint)| match &endpoint.health {
            EndpointHealth::Ok => None,
            EndpointHealth::Unknown { why } => Some(format!("{name}: {why}")),
        })
        .collect();
    if reasons.len() == catalogue.endpoints.len() {
        return Err(NoModel::NoneReachable {
            why: reasons.join("; "),
        });
    }
    let answering = catalogue.endpoints.iter();
    Ok(answering
        .filter(|(_, endpoint)| endpoint.health.is_ok())
        .flat_map(|(name, endpoint)| {
            endpoint.models.values().map(move |model| Candidate {
                endpoint: name,
                model,
                resident: endpoint.resident.get(&model.name),
            })
        })
        .collect())
}

/// The endpoint that has `wanted`: one where it is resident, else the first by name.
fn pick_named(
    all: &[Candidate<'_>],
    wanted: &ModelName,
    need: u32,
) -> Result<(EndpointName, ModelName), NoModel> {
    let named = || all.iter().filter(|c| c.model.name.is_same(wanted));
    let Some(first) = named().next() else {
        return Err(NoModel::NotInstalled {
            model: wanted.clone(),
        });
    };
    if !named().any(|c| c.model.can_chat()) {
        return Err(NoModel::CannotChat {
            model: wanted.clone(),
        });
    }
    named()
        .filter(|c| c.model.can_chat() && c.model.fits(need))
        .min_by_key(|c| (c.resident.is_none(), c.endpoint))
        .map(Candidate::chosen)
        .ok_or_else(|| NoModel::TooSmall {
            model: wanted.clone(),
            context: first.model.context_length.unwrap_or(0),
            need,
        })
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
