//! The doctor's look at the endpoints: do they answer, and is there a model to work with?

use super::finding::Finding;
use crate::cli::output::bytes;
use crate::config::mistake::nearest;
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::model::ModelName;
use crate::core::settings::{EndpointSettings, Settings};
use crate::discovery::Looker;

/// What was seen of one endpoint.
pub(super) struct Seen {
    pub(super) settings: EndpointSettings,
    pub(super) endpoint: Endpoint,
}

/// Asks every configured endpoint, one after the other.
pub(super) async fn look(settings: &Settings) -> Vec<Seen> {
    let mut seen = Vec::new();
    for endpoint in &settings.endpoints {
        let mut looker = Looker::new(endpoint, &settings.discovery);
        seen.push(Seen {
            settings: endpoint.clone(),
            endpoint: looker.look().await,
        });
    }
    seen
}

/// Whether each endpoint answers.
pub(super) fn endpoints(seen: &[Seen]) -> Vec<Finding> {
    seen.iter().map(endpoint).collect()
}

fn endpoint(seen: &Seen) -> Finding {
    let name = format!("endpoint-{}", seen.settings.name);
    let url = &seen.settings.url;
    match &seen.endpoint.health {
        EndpointHealth::Unknown { why } => Finding::unknown(name, why).remedy(
            "start it with 'ollama serve', or correct endpoints in the configuration or OLLAMA_HOST",
        ),
        EndpointHealth::Ok => {
            let version = seen.endpoint.version.as_deref().unwrap_or("of unknown version");
            let count = seen.endpoint.models.len();
            Finding::ok(name, format!("{url}: Ollama {version}, {count} models"))
        }
    }
}

/// Whether there is a model that can hold a conversation, and whether the configured one exists.
pub(super) fn models(seen: &[Seen], settings: &Settings) -> Vec<Finding> {
    let answering: Vec<_> = seen
        .iter()
        .filter(|seen| seen.endpoint.health.is_ok())
        .collect();
    if answering.is_empty() {
        return vec![
            Finding::error("models", "no endpoint answers, so there is no model")
                .remedy("start Ollama with 'ollama serve', or try 'warpsquad demo' without it"),
        ];
    }
    let usable: Vec<_> = answering
        .iter()
        .flat_map(|seen| seen.endpoint.models.values())
        .filter(|model| model.can_chat() && !model.remote)
        .collect();
    if usable.is_empty() {
        return vec![
            Finding::error("models", "no installed model can hold a conversation")
                .remedy("ollama pull qwen2.5-coder:7b"),
        ];
    }
    let names: Vec<_> = usable.iter().map(|model| model.name.to_string()).collect();
    let mut findings = vec![Finding::ok("models", names.join(", "))];
    if let Some(default) = &settings.models.default {
        let wanted = ModelName::new(default);
        if !usable.iter().any(|model| model.name.is_same(&wanted)) {
            let remedy = match nearest(wanted.as_str(), names.iter().map(String::as_str)) {
                Some(meant) => format!("models.default = \"{meant}\"?"),
                None => format!("ollama pull {wanted}"),
            };
            let what = format!("models.default is {wanted}, which is not installed");
            findings.push(Finding::error("default-model", what).remedy(remedy));
        }
    }
    findings.extend(answering.iter().flat_map(|seen| resident(seen)));
    findings
}

/// A model that is only partly on the GPU is many times slower.
fn resident(seen: &Seen) -> Vec<Finding> {
    let is_partial = |size: u64, vram: u64| vram > 0 && vram < size;
    seen.endpoint
        .resident
        .iter()
        .filter(|(_, resident)| is_partial(resident.size, resident.size_vram))
        .map(|(name, resident)| {
            let what = format!(
                "{name} on {}: only {} of {} are in GPU memory",
                seen.settings.name,
                bytes(resident.size_vram),
                bytes(resident.size)
            );
            Finding::warning("residency", what).remedy(
                "choose a smaller models.defaults.context, a quantised KV cache \
                 (OLLAMA_KV_CACHE_TYPE=q8_0) or a smaller model",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Status;
    use crate::core::model::Model;

    fn seen(models: &[(&str, &str)]) -> Seen {
        let mut endpoint = Endpoint::new("http://x");
        endpoint.health = EndpointHealth::Ok;
        for (name, family) in models {
            let model = Model {
                name: ModelName::new(name),
                digest: String::new(),
                size: 1,
                parameters: None,
                parameter_size: "7B".into(),
                quantisation: String::new(),
                family: (*family).into(),
                context_length: None,
                capabilities: std::collections::BTreeSet::default(),
                remote: false,
                architecture: None,
                shown: None,
            };
            endpoint.models.insert(model.name.clone(), model);
        }
        let settings = EndpointSettings {
            name: "local".into(),
            url: "http://x".into(),
            ..EndpointSettings::default()
        };
        Seen { settings, endpoint }
    }

    #[test]
    fn an_endpoint_with_nothing_but_embeddings_is_not_enough() {
        let found = models(&[seen(&[("bge:small", "bert")])], &Settings::default());
        assert_eq!(found[0].status, Status::Error);
        assert!(found[0].remedy.as_ref().unwrap().contains("ollama pull"));
    }

    #[test]
    fn a_default_model_that_is_not_installed_brings_the_nearest_one() {
        let mut settings = Settings::default();
        settings.models.default = Some("qwen2.5-codr:7b".into());
        let found = models(&[seen(&[("qwen2.5-coder:7b", "qwen2")])], &settings);
        assert_eq!(found[1].status, Status::Error);
        assert!(
            found[1]
                .remedy
                .as_ref()
                .unwrap()
                .contains("qwen2.5-coder:7b")
        );
    }

    #[test]
    fn an_endpoint_that_does_not_answer_is_unknown_and_no_models_are_an_error() {
        let settings = EndpointSettings {
            name: "local".into(),
            url: "http://x".into(),
            ..EndpointSettings::default()
        };
        let silent = Seen {
            settings,
            endpoint: Endpoint::new("http://x"),
        };
        assert_eq!(
            endpoints(std::slice::from_ref(&silent))[0].status,
            Status::Unknown
        );
        assert_eq!(
            models(&[silent], &Settings::default())[0].status,
            Status::Error
        );
    }
}
