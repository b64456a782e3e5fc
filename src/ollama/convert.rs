//! From Ollama's JSON to what the catalogue keeps.

use std::sync::Arc;

use crate::core::Timestamp;
use crate::core::model::{Capability, Model, ModelName, Residency, Shown, parse_parameter_size};

use super::architecture::architecture_from;
use super::wire::{RunningModel, Show, TaggedModel};

/// One installed model; `show` adds its build and fills what an older `/api/tags` leaves out.
pub fn model_from(tagged: &TaggedModel, show: Option<&Show>) -> Model {
    let name = ModelName::new(&tagged.name);
    let capabilities = match (&tagged.capabilities, show) {
        (Some(words), _) => words.clone(),
        (None, Some(show)) => show.capabilities.clone(),
        (None, None) => Vec::new(),
    };
    let shown = |suffix: &str| {
        let info = &show?.model_info;
        let key = |key: &String| key.ends_with(suffix);
        let (_, value) = info.iter().find(|(name, _)| key(name))?;
        value.as_u64()
    };
    let context = tagged.details.context_length;
    let context = context.or_else(|| shown(".context_length"));
    let counted = shown("general.parameter_count");
    let parameter_size = tagged.details.parameter_size.clone();
    Model {
        digest: tagged.digest.clone(),
        size: tagged.size,
        parameters: counted.or_else(|| parse_parameter_size(&parameter_size)),
        parameter_size,
        quantisation: tagged.details.quantization_level.clone(),
        family: tagged.details.family.clone(),
        context_length: context.and_then(|tokens| u32::try_from(tokens).ok()),
        capabilities: capabilities.into_iter().map(Capability::from).collect(),
        remote: tagged.remote_host.is_some() || is_cloud(&name),
        architecture: show.and_then(|show| architecture_from(&show.model_info)),
        shown: Some(Arc::new(shown_of(tagged, show))),
        name,
    }
}

/// What other clients may ask for.
fn shown_of(tagged: &TaggedModel, show: Option<&Show>) -> Shown {
    let text = |of: fn(&Show) -> &String| show.map(of).cloned().unwrap_or_default();
    let info = show.and_then(|show| serde_json::to_string(&show.model_info).ok());
    Shown {
        template: text(|show| &show.template),
        system: text(|show| &show.system),
        parameters: text(|show| &show.parameters),
        format: tagged.details.format.clone(),
        families: tagged.details.families.clone(),
        parent: tagged.details.parent_model.clone(),
        info: info.unwrap_or_default(),
        modified_at: tagged.modified_at.clone(),
    }
}

/// Cloud models carry it in their names: `:cloud`, `:120b-cloud`.
fn is_cloud(name: &ModelName) -> bool {
    let name = name.as_str();
    name.ends_with(":cloud") || name.ends_with("-cloud")
}

/// One loaded model.
pub fn residency_from(running: &RunningModel) -> (ModelName, Residency) {
    let expires_at = running
        .expires_at
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|moment| u64::try_from(moment.as_millisecond()).ok())
        .map(Timestamp);
    let residency = Residency {
        size: running.size,
        size_vram: running.size_vram,
        context_length: running.context_length.and_then(|n| u32::try_from(n).ok()),
        expires_at,
    };
    (ModelName::new(&running.name), residency)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tagged(extra: Value) -> TaggedModel {
        let mut whole = json!({
            "name": "qwen2.5-coder:7b", "model": "qwen2.5-coder:7b", "size": 42, "digest": "d",
            "modified_at": "2026-01-01T00:00:00Z",
            "details": {"family": "qwen2", "families": null, "parameter_size": "7.6B",
                        "quantization_level": "Q4_K_M"},
        });
        let (Some(whole_map), Value::Object(extra)) = (whole.as_object_mut(), extra) else {
            panic!("both are objects");
        };
        whole_map.extend(extra);
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn show_fills_what_an_older_list_leaves_out() {
        let show: Show = serde_json::from_value(json!({
            "capabilities": ["completion", "tools"],
            "model_info": {"general.parameter_count": 7_615_616_512_u64, "qwen2.context_length": 32768},
        }))
        .unwrap();
        let model = model_from(&tagged(json!({})), Some(&show));
        assert_eq!(model.context_length, Some(32_768));
        assert_eq!(model.parameters, Some(7_615_616_512));
        assert!(model.capabilities.contains(&Capability::Tools));
        let without = model_from(&tagged(json!({})), None);
        assert_eq!(without.parameters, Some(7_600_000_000));
        assert!(without.can_chat() && !without.remote);
    }

    #[test]
    fn a_cloud_model_is_remote() {
        assert!(model_from(&tagged(json!({"name": "gpt:120b-cloud"})), None).remote);
        assert!(model_from(&tagged(json!({"remote_host": "https://x"})), None).remote);
    }

    #[test]
    fn the_expiry_of_a_model_kept_for_ever_is_a_moment_far_away() {
        let running = RunningModel {
            name: "a".into(),
            expires_at: "2319-03-02T20:44:15.702643837Z".into(),
            ..RunningModel::default()
        };
        let (name, residency) = residency_from(&running);
        assert_eq!(name.as_str(), "a:latest");
        assert_eq!(residency.expires_at, Some(Timestamp(11_018_580_255_702)));
    }
}
