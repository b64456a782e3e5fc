//! The doctor's look at GPU memory: does what the squad uses fit, and what would?

use std::path::Path;

use super::finding::Finding;
use super::ollama::Seen;
use super::settings::unit_lines;
use crate::cli::fit::{EndpointPlan, ModelPlan, how_to_tell, plans, worded};
use crate::cli::output::bytes;
use crate::core::settings::Settings;
use crate::core::vram::{Room, Verdict};

/// The plans of `model list --fit`.
pub(super) fn planned(seen: &[Seen], settings: &Settings, data_dir: &Path) -> Vec<EndpointPlan> {
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| (seen.settings.clone(), seen.endpoint.clone()))
        .collect();
    plans(settings, &seen, data_dir)
}

/// One finding for each endpoint that answers and has a model for conversation.
pub(super) fn fits(plans: &[EndpointPlan]) -> Vec<Finding> {
    plans.iter().filter_map(finding).collect()
}

fn finding(plan: &EndpointPlan) -> Option<Finding> {
    let name = format!("fit-{}", plan.endpoint);
    let first = plan.models.first()?;
    let Some(room) = plan.room else {
        let what = "how much GPU memory it has is unknown, so what fits cannot be planned";
        return Some(Finding::unknown(name, what).remedy(how_to_tell(&plan.endpoint)));
    };
    let Some(advice) = &plan.advice else {
        let what = format!("no model fits the {} for models", bytes(room.size));
        return Some(
            Finding::warning(name, what).remedy("ollama pull a smaller or more quantised model"),
        );
    };
    let is_main = |model: &&ModelPlan| model.model == advice.model;
    let main = plan.models.iter().find(is_main).unwrap_or(first);
    let what = sentence(main, room);
    Some(match main.now.verdict {
        Verdict::Fits | Verdict::Unknown => Finding::ok(name, what),
        Verdict::Spills { .. } => {
            Finding::warning(name, format!("{what}: a part would run on the CPU")).remedy(format!(
                "{}\n('warpsquad model list --fit' shows what else fits)",
                unit_lines(&advice.variables())
            ))
        }
    })
}

fn sentence(model: &ModelPlan, room: Room) -> String {
    let need = model.now.need;
    format!(
        "{}: {} need {} of {} ({})",
        model.model,
        worded(model.now.shape),
        bytes(need.size),
        bytes(room.size),
        need.source.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Status;
    use crate::core::endpoint::{Endpoint, EndpointHealth};
    use crate::core::model::{Model, ModelName};
    use crate::core::settings::EndpointSettings;

    /// A file of 8 GiB of which nothing else is known: 16,384 tokens take half as much again.
    fn seen(vram: Option<usize>) -> Seen {
        let mut endpoint = Endpoint::new("http://gpu-2:11434");
        endpoint.health = EndpointHealth::Ok;
        let model = Model {
            name: ModelName::new("some:13b"),
            digest: "d".into(),
            size: 8 << 30,
            parameters: None,
            parameter_size: "13B".into(),
            quantisation: String::new(),
            family: "llama".into(),
            context_length: Some(16_384),
            capabilities: std::collections::BTreeSet::default(),
            remote: false,
            architecture: None,
            shown: None,
        };
        endpoint.models.insert(model.name.clone(), model);
        let settings = EndpointSettings {
            name: "gpu-2".into(),
            url: "http://gpu-2:11434".into(),
            vram,
            ..EndpointSettings::default()
        };
        Seen { settings, endpoint }
    }

    fn found(vram: Option<usize>) -> Finding {
        let seen = seen(vram);
        let settings = Settings {
            endpoints: vec![seen.settings.clone()],
            ..Settings::default()
        };
        let nowhere = Path::new("/nonexistent");
        fits(&planned(&[seen], &settings, nowhere)).remove(0)
    }

    #[test]
    fn what_fits_is_said_with_its_source() {
        let found = found(Some(16 << 30));
        assert_eq!(found.status, Status::Ok);
        assert_eq!(
            found.what,
            "some:13b: 1 slot of 16384 tokens need 12.0 GiB of 15.0 GiB (file size)"
        );
    }

    #[test]
    fn what_spills_brings_the_settings_that_do_not() {
        let found = found(Some(12 << 30));
        assert_eq!(found.status, Status::Warning);
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains("OLLAMA_KV_CACHE_TYPE=q8_0"), "{remedy}");
        assert!(remedy.contains("OLLAMA_NUM_PARALLEL=1"), "{remedy}");
    }

    #[test]
    fn unknown_memory_says_how_to_tell_and_too_little_asks_for_a_smaller_model() {
        let unknown = found(None);
        assert_eq!(unknown.status, Status::Unknown);
        assert!(unknown.remedy.unwrap().contains("vram = \"24GiB\""));
        assert_eq!(found(Some(4 << 30)).status, Status::Warning);
    }
}
