//! Questions about models, answered from what discovery knows: no endpoint is asked, so an agent
//! starts at once and none of its questions can load or keep a model.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::course::Caller;
use super::reply::{json_response, refusal};
use super::serve::Gateway;
use super::virtual_models;
use crate::core::model::{Model, ModelName};
use crate::ollama::answers;

/// `GET /api/version`: the version whose answers these are like.
pub(super) fn version() -> Response {
    json_response(StatusCode::OK, &answers::version())
}

/// `GET /api/tags`
pub(super) fn tags(gateway: &Gateway, caller: &Caller) -> Response {
    let catalogue = gateway.catalogue();
    let own = installed(&catalogue);
    // An agent keeps the model it was started with.
    let names = virtual_models::names().filter(|_| caller.bond.is_none());
    let meant: Vec<Model> = names
        .filter_map(|name| {
            let model = virtual_models::resolve(gateway, &name).ok()??;
            let model = Model::clone(own.get(&model)?);
            Some(Model {
                name: ModelName::new(&name),
                ..model
            })
        })
        .collect();
    let models: Vec<&Model> = meant.iter().chain(own.into_values()).collect();
    json_response(StatusCode::OK, &answers::tags(&models))
}

/// `GET /v1/models`
pub(super) fn models(gateway: &Gateway, caller: &Caller) -> Response {
    let catalogue = gateway.catalogue();
    let own = installed(&catalogue).into_keys().map(ToString::to_string);
    // An agent keeps the model it was started with.
    let virtual_names = virtual_models::names().filter(|_| caller.bond.is_none());
    let list: Vec<Value> = virtual_names
        .chain(own)
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "library"}))
        .collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": list}))
}

/// `GET /api/ps`
pub(super) fn running(gateway: &Gateway) -> Response {
    let catalogue = gateway.catalogue();
    let resident = catalogue.endpoints.values().flat_map(|endpoint| {
        endpoint.resident.iter().map(|(name, residency)| {
            let expires = residency.expires_at.map_or(0, |at| at.0);
            let expires = jiff::Timestamp::from_millisecond(i64::try_from(expires).unwrap_or(0));
            json!({
                "name": name, "model": name,
                "size": residency.size, "size_vram": residency.size_vram,
                "digest": endpoint.model(name).map(|model| model.digest.as_str()),
                "context_length": residency.context_length,
                "expires_at": expires.unwrap_or_default().to_string(),
            })
        })
    });
    let models: Vec<Value> = resident.collect();
    json_response(StatusCode::OK, &json!({ "models": models }))
}

/// `POST /api/show`
pub(super) fn show(gateway: &Gateway, caller: &Caller, body: &[u8]) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    // litellm writes `name`, as Ollama did before 0.1.45.
    let name = asked.get("model").or_else(|| asked.get("name"));
    let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return refusal(None, StatusCode::BAD_REQUEST, "model is required");
    };
    let name = match virtual_models::resolve(gateway, name) {
        Ok(meant) if caller.bond.is_none() => meant.unwrap_or_else(|| ModelName::new(name)),
        Ok(_) | Err(_) => ModelName::new(name),
    };
    let catalogue = gateway.catalogue();
    let known = catalogue.endpoints.values().find_map(|it| it.model(&name));
    if let Some(model) = known {
        return json_response(StatusCode::OK, &answers::show(model));
    }
    let why = format!("model '{name}' not found");
    refusal(None, StatusCode::NOT_FOUND, &why)
}

/// Every installed model once, by name.
fn installed(catalogue: &crate::core::catalogue::Catalogue) -> BTreeMap<&ModelName, &Model> {
    let all = catalogue.endpoints.values().flat_map(|it| it.models.iter());
    all.collect()
}
