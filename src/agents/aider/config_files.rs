//! The files generated for one agent: model settings, model metadata and git configuration.
//!
//! Invariant: pure.

use std::fmt::Write as _;

use super::flavour::{AgentPlan, UnusablePath};
use crate::core::settings::OptionValue;

/// Parameters that a model's options may not set: they are ours, or litellm's own arguments.
const RESERVED: &[&str] = &[
    "api_base",
    "api_key",
    "base_url",
    "keep_alive",
    "messages",
    "model",
    "num_ctx",
    "stream",
    "think",
    "timeout",
    "tools",
];

/// Tokens of the context that stay free for the answer: a quarter, between 512 and 8,192.
///
/// Aider refuses a request above `max_input_tokens` before it is sent; Ollama would silently cut
/// the prompt instead.
pub(super) fn answer_reserve(num_ctx: u32) -> u32 {
    (num_ctx / 4).clamp(512, 8_192).min(num_ctx / 2)
}

/// `--model-settings-file`: parameters of every request, for every model of this agent.
///
/// The entry `aider/extra_params` is merged over what Aider knows about the model, so that its
/// edit format and reasoning tag stay. Written as YAML that is also JSON, with numbers that never
/// use an exponent (YAML 1.1 would read `1e-5` as a text).
pub(super) fn model_settings(plan: &AgentPlan) -> String {
    let mut parameters = vec![("num_ctx".to_owned(), plan.num_ctx.to_string())];
    if let Some(temperature) = plan.tuning.temperature.filter(|it| it.is_finite()) {
        parameters.push(("temperature".into(), temperature.to_string()));
    }
    if plan.can_think {
        let thinks = plan.tuning.thinking.unwrap_or(false);
        parameters.push(("think".into(), thinks.to_string()));
    }
    for (name, value) in &plan.tuning.options {
        let is_temperature = name == "temperature" && plan.tuning.temperature.is_some();
        if !RESERVED.contains(&name.as_str()) && !is_temperature {
            parameters.push((name.clone(), option(value)));
        }
    }
    let inner: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}: {value}", quote(name)))
        .collect();
    format!(
        "- {{\"name\": \"aider/extra_params\", \"extra_params\": {{{}}}}}\n",
        inner.join(", ")
    )
}

/// `--model-metadata-file`: the pinned context, never the trained one.
pub(super) fn model_metadata(plan: &AgentPlan) -> String {
    let reserve = answer_reserve(plan.num_ctx);
    let entry = serde_json::json!({
        "litellm_provider": "ollama_chat",
        "mode": "chat",
        "max_tokens": plan.num_ctx,
        "max_input_tokens": plan.num_ctx - reserve,
        "max_output_tokens": reserve,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
    });
    let name = format!("ollama_chat/{}", plan.model);
    format!("{}\n", serde_json::json!({ name: entry }))
}

/// `GIT_CONFIG_GLOBAL`: the user's own configuration, and what agents' commits need over it.
pub(super) fn git_config(plan: &AgentPlan) -> Result<String, UnusablePath> {
    let mut config = String::new();
    for path in &plan.user_git_configs {
        let path = path.to_str().ok_or_else(|| UnusablePath(path.clone()))?;
        append(
            &mut config,
            &format!("[include]\n\tpath = {}\n", quote(path)),
        );
    }
    append(
        &mut config,
        "[commit]\n\tgpgSign = false\n[tag]\n\tgpgSign = false\n[gc]\n\tauto = 0\n",
    );
    if let Some(identity) = &plan.identity {
        let (name, email) = (quote(&identity.name), quote(&identity.email));
        append(
            &mut config,
            &format!("[user]\n\tname = {name}\n\temail = {email}\n"),
        );
    }
    Ok(config)
}

fn append(text: &mut String, more: &str) {
    // Writing to a String does not fail.
    let _written = text.write_str(more);
}

fn option(value: &OptionValue) -> String {
    match value {
        OptionValue::Bool(value) => value.to_string(),
        OptionValue::Integer(value) => value.to_string(),
        OptionValue::Float(value) if value.is_finite() => value.to_string(),
        OptionValue::Float(_) => "null".into(),
        OptionValue::Text(value) => quote(value),
    }
}

/// A text in double quotes, with the escapes that JSON, YAML and git share.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
