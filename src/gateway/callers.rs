//! Who asks, and for which model.
//!
//! Agents have a token in the path and the model they were started with; other clients have a key,
//! where one is configured, and take what is installed.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use super::ask::{Ask, BadRequest, Shape, Usage};
use super::course::Caller;
use super::reply::refusal;
use super::serve::Gateway;
use super::virtual_models;
use crate::core::model::ModelName;
use crate::core::traffic::Work;

/// Who asks, and the rest of the path.
pub(super) fn identify<'a>(
    gateway: &Gateway,
    path: &'a str,
    headers: &HeaderMap,
) -> Result<(Caller, &'a str), Box<Response>> {
    let refused = |status, why: &str| Box::new(refusal(shape_of(path), status, why));
    if let Some((token, rest)) = split(path) {
        let Some(grant) = gateway.grants.get(token) else {
            let why = "this agent's token is not in force";
            return Err(refused(StatusCode::FORBIDDEN, why));
        };
        let caller = Caller {
            client: grant.bond.client.clone(),
            bond: Some(grant.bond),
            work: grant.work,
            traffic: Some(grant.traffic),
            gone: grant.gone,
        };
        return Ok((caller, rest));
    }
    let Some(key) = &gateway.settings.key else {
        let why = "agents are served under /agent/TOKEN/; other clients are not let in \
                   (gateway.key)";
        return Err(refused(StatusCode::NOT_FOUND, why));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(bearer);
    if !given.is_some_and(|given| is_same(given, key)) {
        return Err(refused(
            StatusCode::UNAUTHORIZED,
            "the key is missing or wrong: send 'Authorization: Bearer KEY'",
        ));
    }
    let caller = Caller {
        client: "client".into(),
        bond: None,
        work: Work::default(),
        traffic: None,
        gone: CancellationToken::new(),
    };
    Ok((caller, path))
}

/// The shape of errors on a path whose caller is not known yet.
fn shape_of(path: &str) -> Option<Shape> {
    let usage = Usage::Unwanted;
    path.contains("/v1/").then_some(Shape::OpenAi { usage })
}

/// The key of `Bearer KEY`; the word may be written in any case.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Compares without telling by its time how much is right.
fn is_same(given: &str, key: &str) -> bool {
    let differs = given
        .bytes()
        .zip(key.bytes())
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == key.len() && differs == 0
}

/// `/agent/TOKEN/rest` → (TOKEN, /rest)
fn split(path: &str) -> Option<(&str, &str)> {
    let tail = path.strip_prefix("/agent/")?;
    let slash = tail.find('/')?;
    Some(tail.split_at(slash))
}

/// The request with a model that is installed somewhere.
pub(super) fn named(gateway: &Gateway, caller: &Caller, mut ask: Ask) -> Result<Ask, BadRequest> {
    if caller.bond.is_none()
        && let Some(name) = virtual_models::resolve(gateway, &ask.model)?
    {
        ask.model = name.to_string();
        return Ok(ask);
    }
    let name = ModelName::new(&ask.model);
    // What an agent is bound to was installed when it was started: the endpoints have the say.
    let is_bound = caller
        .bond
        .as_ref()
        .is_some_and(|bond| bond.model.is_same(&name));
    if is_bound || is_known(gateway, &name) {
        return Ok(ask);
    }
    Err(unknown(gateway, &ask.model))
}

/// Nobody has it, or whoever may have it has never answered.
fn unknown(gateway: &Gateway, model: &str) -> BadRequest {
    let catalogue = gateway.catalogue();
    let mut endpoints = catalogue.endpoints.iter();
    let unseen = endpoints.find(|(_, it)| it.seen_at.is_none() && it.models.is_empty());
    match unseen {
        Some((name, _)) => BadRequest {
            status: StatusCode::SERVICE_UNAVAILABLE,
            why: format!("model '{model}' not found: endpoint {name} has not answered yet"),
        },
        None => BadRequest {
            status: StatusCode::NOT_FOUND,
            why: format!("model '{model}' not found"),
        },
    }
}

/// Whether the model is installed on any endpoint, as far as anybody has looked. Virtual ones are not
/// looked for.
pub(super) fn is_known(gateway: &Gateway, name: &ModelName) -> bool {
    let catalogue = gateway.catalogue();
    let mut endpoints = catalogue.endpoints.values();
    virtual_models::is_virtual(name.as_str())
        || endpoints.any(|endpoint| endpoint.model(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_split_into_token_and_rest() {
        assert_eq!(split("/agent/abc/api/chat"), Some(("abc", "/api/chat")));
        assert_eq!(split("/agent/abc"), None);
        assert_eq!(split("/api/chat"), None);
    }

    #[test]
    fn a_key_is_the_same_only_as_a_whole() {
        assert!(is_same("secret", "secret"));
        for wrong in ["", "secre", "secret1", "Secret"] {
            assert!(!is_same(wrong, "secret"), "{wrong}");
        }
    }
}
