//! Names of models that mean "whichever suits": for clients that are no agents.
//!
//! `warpsquad/auto` is the model that a task without a name would get; `warpsquad/<category>` the
//! one for that kind of work.

use super::ask::BadRequest;
use super::serve::Gateway;
use crate::core::catalogue::pick_model;
use crate::core::model::ModelName;
use crate::core::task::Category;

/// What every virtual name begins with.
const PREFIX: &str = "warpsquad/";

/// All virtual names.
pub(super) fn names() -> impl Iterator<Item = String> {
    std::iter::once("auto")
        .chain(Category::WORDS)
        .map(|word| format!("{PREFIX}{word}"))
}

/// Whether a name is one of these.
pub(super) fn is_virtual(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The installed model that a virtual name stands for now; none for other names.
pub(super) fn resolve(gateway: &Gateway, name: &str) -> Result<Option<ModelName>, BadRequest> {
    let Some(word) = name.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let word = word.strip_suffix(":latest").unwrap_or(word);
    let category = Category::from_word(word);
    if word != "auto" && category.is_none() {
        return Err(BadRequest {
            status: axum::http::StatusCode::NOT_FOUND,
            why: format!(
                "model '{name}' not found; there are: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        });
    }
    if let Some(model) = category.and_then(|category| gateway.best_for(category)) {
        return Ok(Some(model));
    }
    let default = gateway.settings.default_model.as_ref();
    let catalogue = gateway.catalogue();
    match pick_model(&catalogue, None, default, 0) {
        Ok((_, model)) => Ok(Some(model)),
        Err(why) => Err(BadRequest {
            status: axum::http::StatusCode::SERVICE_UNAVAILABLE,
            why: why.to_string(),
        }),
    }
}
