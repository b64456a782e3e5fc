//! `warpsquad doctor --measure`: how fast a model is here, and how many streams are worth having.

use std::collections::BTreeMap;

use super::ollama::{Seen, look};
use crate::cli::args::Doctor;
use crate::cli::client::block_on;
use crate::cli::context::Context;
use crate::cli::dispatch::Exit;
use crate::cli::report::{Report, chain};
use crate::core::catalogue::{Catalogue, pick_model};
use crate::core::context::CONTEXT_DEFAULT;
use crate::core::endpoint::EndpointName;
use crate::core::measure::{Level, Measured};
use crate::core::model::{Capability, ModelName};
use crate::core::settings::Settings;
use crate::discovery::{Subject, measure};

pub(super) fn run(context: &mut Context, options: &Doctor) -> Result<Exit, Report> {
    let settings = context.load(context.repository(None))?.settings;
    let seen = block_on(async { Ok(look(&settings).await) })?;
    let subject = subject(&settings, &seen, options)?;
    if !options.json {
        context.out.line(&format!(
            "Measuring {} on {} with a context of {} tokens. This occupies its GPU: requests of agents and other clients wait, and make the figures worse.",
            subject.model, subject.endpoint, subject.context
        ));
        context.out.line("");
        context.out.line(&row([
            "STREAMS",
            "TOKENS/S",
            "EACH",
            "FIRST TOKEN",
            "WAITED",
        ]));
    }
    let (out, json) = (&mut context.out, options.json);
    let measured = block_on(async {
        let told = |level: &Level| {
            if !json {
                out.line(&level_row(level));
            }
        };
        measure(&subject, told).await.map_err(|error| {
            Report::unavailable(format!(
                "{} on {} cannot be measured: {}",
                subject.model,
                subject.endpoint,
                chain(&error)
            ))
            .hint("'warpsquad doctor' says whether the endpoint is well")
        })
    })?;
    if options.json {
        context.out.json(&measured);
        return Ok(Exit::Done);
    }
    let configured = settings.endpoints.iter();
    let configured = configured
        .filter(|it| it.name == measured.endpoint.as_str())
        .find_map(|it| it.parallel);
    context.out.line("");
    for line in conclusions(&measured, configured) {
        context.out.line(&line);
    }
    Ok(Exit::Done)
}

/// What is measured: the endpoint that was named, else the first that answers; the model that was
/// named, else the one that tasks get.
fn subject(settings: &Settings, seen: &[Seen], options: &Doctor) -> Result<Subject, Report> {
    let wanted = options.endpoint.as_deref();
    let named = |seen: &&Seen| wanted.is_none_or(|name| seen.settings.name == name);
    let endpoints: BTreeMap<_, _> = seen
        .iter()
        .filter(named)
        .map(|seen| {
            (
                EndpointName(seen.settings.name.clone()),
                seen.endpoint.clone(),
            )
        })
        .collect();
    if let (true, Some(name)) = (endpoints.is_empty(), wanted) {
        let names: Vec<_> = seen
            .iter()
            .map(|seen| seen.settings.name.as_str())
            .collect();
        return Err(Report::user(format!("no endpoint is called {name}"))
            .hint(format!("configured are: {}", names.join(", "))));
    }
    let catalogue = Catalogue { endpoints };
    let model = options.model.as_deref().map(ModelName::new);
    let default = settings.models.default.as_deref().map(ModelName::new);
    let (endpoint, model) =
        pick_model(&catalogue, model.as_ref(), default.as_ref(), 0).map_err(|error| {
            Report::unavailable(error.to_string()).hint("'warpsquad doctor' says what is missing")
        })?;
    let place = catalogue.endpoints.get(&endpoint);
    let known = place.and_then(|place| place.model(&model));
    let resident = place.and_then(|place| place.resident.get(&model)?.context_length);
    let trained = known.and_then(|known| known.context_length);
    let pinned = settings.models.tuning(model.as_str()).context;
    let context = pinned.or(resident).unwrap_or(CONTEXT_DEFAULT);
    Ok(Subject {
        url: place.map(|place| place.url.clone()).unwrap_or_default(),
        thinks: known.is_some_and(|known| known.capabilities.contains(&Capability::Thinking)),
        context: context.min(trained.unwrap_or(u32::MAX)),
        endpoint,
        model: known.map_or(model, |known| known.name.clone()),
    })
}

fn row(cells: [&str; 5]) -> String {
    let [streams, rate, each, first, waited] = cells;
    format!("{streams:>7}  {rate:>8}  {each:>6}  {first:>11}  {waited:>6}")
}

fn level_row(level: &Level) -> String {
    row([
        &level.streams.to_string(),
        &format!("{:.1}", level.rate),
        &format!("{:.1}", level.each),
        &format!("{:.0} ms", level.first_ms),
        &level.waited.to_string(),
    ])
}

/// What the figures mean, and what to do about it.
fn conclusions(measured: &Measured, configured: Option<u16>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(load) = measured.load_ms {
        lines.push(format!(
            "load: {:.1} s (its file probably in memory)",
            load / 1_000.0
        ));
    } else {
        lines.push("load: not measured, somebody kept the model loaded".into());
    }
    if let Some(prefill) = measured.prefill {
        lines.push(format!("prefill: {prefill:.0} tokens/s"));
    }
    if let Some(slots) = measured.slots {
        let more = if slots.or_more { " or more" } else { "" };
        lines.push(format!(
            "slots: {}{more}, inferred from who waited",
            slots.count
        ));
        if !slots.or_more && configured != Some(slots.count) {
            lines.push(format!(
                "  say so in the configuration: parallel = {} in the [[endpoints]] table of {}",
                slots.count, measured.endpoint
            ));
        }
    }
    if let Some(knee) = measured.knee {
        lines.push(format!(
            "your knee is {knee}: more streams at a time add less than a tenth"
        ));
        let is_all = measured
            .slots
            .is_some_and(|slots| !slots.or_more && slots.count <= knee);
        if is_all {
            lines.push(
                "  more slots (OLLAMA_NUM_PARALLEL) may bring more: 'warpsquad model list --fit' shows what fits"
                    .into(),
            );
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::measure::SlotCount;

    fn measured(knee: u16, count: u16, or_more: bool) -> Measured {
        Measured {
            endpoint: "local".into(),
            model: "a:7b".into(),
            context: 16_384,
            load_ms: Some(1_250.0),
            prefill: Some(3_456.7),
            levels: Vec::new(),
            knee: Some(knee),
            slots: Some(SlotCount { count, or_more }),
        }
    }

    #[test]
    fn conclusions_say_what_to_do() {
        let lines = conclusions(&measured(4, 4, false), None).join("\n");
        assert!(lines.contains("your knee is 4"), "{lines}");
        assert!(lines.contains("parallel = 4 in the [[endpoints]] table of local"));
        assert!(lines.contains("OLLAMA_NUM_PARALLEL"));
        assert!(lines.contains("prefill: 3457 tokens/s"));
    }

    #[test]
    fn what_is_as_configured_and_enough_needs_nothing() {
        let lines = conclusions(&measured(4, 8, true), Some(8)).join("\n");
        assert!(lines.contains("slots: 8 or more"), "{lines}");
        assert!(!lines.contains("parallel =") && !lines.contains("OLLAMA_NUM_PARALLEL"));
    }
}
