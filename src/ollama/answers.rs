//! Answers in Ollama's own shape, made from the catalogue: what a client asks about models.
//!
//! Aider (through litellm) asks `/api/show` before its first message and again on errors; it reads
//! the context from `model_info` and looks for `.Tools` in the template. Nobody's question about a
//! model has to reach an endpoint, or wait behind a load there.

use serde_json::{Map, Value, json};

use super::wire::{Details, Show, TaggedModel, Tags, Version};
use crate::core::model::{Model, Shown};

/// The version whose answers were recorded and are followed here.
const VERSION: &str = "0.32.15";

/// When nothing is known of it: a moment that clients can parse.
const LONG_AGO: &str = "1970-01-01T00:00:00Z";

/// `POST /api/show`.
pub fn show(model: &Model) -> Value {
    let shown = shown(model);
    let answer = Show {
        modelfile: String::new(),
        parameters: shown.parameters.clone(),
        template: shown.template.clone(),
        system: shown.system.clone(),
        details: details(model, &shown),
        model_info: info(model, &shown),
        tensors: Vec::new(),
        capabilities: capabilities(model),
        modified_at: modified_at(&shown),
    };
    json!(answer)
}

/// `GET /api/tags`.
pub fn tags(models: &[&Model]) -> Value {
    let models = models.iter().map(|model| tagged(model)).collect();
    json!(Tags { models })
}

/// `GET /api/version`: of the API that these answers follow, whatever the endpoints run.
pub fn version() -> Value {
    json!(Version {
        version: VERSION.to_owned(),
    })
}

fn tagged(model: &Model) -> TaggedModel {
    let shown = shown(model);
    let mut details = details(model, &shown);
    details.context_length = model.context_length.map(u64::from);
    let build = model.architecture.as_ref();
    details.embedding_length = build.and_then(|it| it.embedding).map(u64::from);
    TaggedModel {
        name: model.name.to_string(),
        model: model.name.to_string(),
        remote_model: None,
        remote_host: None,
        modified_at: modified_at(&shown),
        size: model.size,
        digest: model.digest.clone(),
        details,
        capabilities: Some(capabilities(model)),
    }
}

fn shown(model: &Model) -> Shown {
    model.shown.as_deref().cloned().unwrap_or_default()
}

fn details(model: &Model, shown: &Shown) -> Details {
    let families = if shown.families.is_empty() {
        vec![model.family.clone()]
    } else {
        shown.families.clone()
    };
    let format = if shown.format.is_empty() {
        "gguf".to_owned()
    } else {
        shown.format.clone()
    };
    Details {
        parent_model: shown.parent.clone(),
        format,
        family: model.family.clone(),
        families,
        parameter_size: model.parameter_size.clone(),
        quantization_level: model.quantisation.clone(),
        context_length: None,
        embedding_length: None,
    }
}

/// As the endpoint told it, else the little that the catalogue knows.
fn info(model: &Model, shown: &Shown) -> Map<String, Value> {
    if let Ok(info) = serde_json::from_str::<Map<String, Value>>(&shown.info)
        && !info.is_empty()
    {
        return info;
    }
    let family = &model.family;
    let mut info = Map::new();
    info.insert("general.architecture".into(), json!(family));
    if let Some(count) = model.parameters {
        info.insert("general.parameter_count".into(), json!(count));
    }
    if let Some(context) = model.context_length {
        info.insert(format!("{family}.context_length"), json!(context));
    }
    info
}

fn capabilities(model: &Model) -> Vec<String> {
    model
        .capabilities
        .iter()
        .cloned()
        .map(String::from)
        .collect()
}

fn modified_at(shown: &Shown) -> String {
    if shown.modified_at.is_empty() {
        LONG_AGO.to_owned()
    } else {
        shown.modified_at.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ollama::model_from;

    /// As Ollama 0.32 answers for a model with a template for tools.
    fn asked() -> (TaggedModel, Show) {
        let details = json!({
            "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
            "parameter_size": "17.85M", "quantization_level": "F16",
        });
        let tagged = json!({
            "name": "tiny-coder:20m", "model": "tiny-coder:20m", "size": 35_784_832,
            "digest": "1f2e", "modified_at": "2026-11-20T20:50:23.1Z", "details": details,
            "capabilities": ["completion", "tools"],
        });
        let show = json!({
            "parameters": "num_ctx                        2048",
            "template": "{{ .System }}{{ .Tools }}{{ .Prompt }}",
            "details": details,
            "model_info": {"general.architecture": "llama", "llama.context_length": 8192,
                           "llama.block_count": 6, "tokenizer.ggml.tokens": null},
            "capabilities": ["completion", "tools"],
            "modified_at": "2026-11-20T20:50:23.1Z",
        });
        (
            serde_json::from_value(tagged).unwrap(),
            serde_json::from_value(show).unwrap(),
        )
    }

    #[test]
    fn what_an_endpoint_showed_is_answered_as_it_came() {
        let (tagged, asked) = asked();
        let mut model = model_from(&tagged, Some(&asked));
        assert_eq!(show(&model), json!(asked));
        model.context_length = Some(8_192);
        let answer: Tags = serde_json::from_value(tags(&[&model])).unwrap();
        let mut expected = tagged;
        expected.details.context_length = Some(8_192);
        assert_eq!(answer.models, [expected]);
    }

    #[test]
    fn a_model_that_was_not_shown_still_tells_its_context() {
        let (mut tagged, _) = asked();
        tagged.details.context_length = Some(4_096);
        let answer = show(&model_from(&tagged, None));
        assert_eq!(answer["model_info"]["llama.context_length"], 4_096);
        assert_eq!(answer["details"]["families"], json!(["llama"]));
        assert_eq!(answer["capabilities"], json!(["completion", "tools"]));
        assert_eq!(answer["modified_at"], "2026-11-20T20:50:23.1Z");
    }

    #[test]
    fn a_version_is_answered_as_ollama_does() {
        assert_eq!(version(), json!({"version": "0.32.15"}));
    }
}
