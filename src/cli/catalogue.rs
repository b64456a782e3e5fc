//! `warpsquad model …` and `warpsquad endpoint …`: what Ollama offers, as the squad sees it.

use serde_json::json;

use super::args::{Endpoint, Model};
use super::client::block_on;
use super::context::Context;
use super::figures;
use super::fit;
use super::report::Report;
use super::task::client;
use crate::api::wire::View;
use crate::config::mistake::nearest;
use crate::core::model::ModelName;

fn view(context: &Context) -> Result<View, Report> {
    let client = client(context)?;
    block_on(async { Ok(client.fresh_view().await?) })
}

pub(super) fn endpoints(context: &mut Context, asked: &Endpoint) -> Result<(), Report> {
    let Endpoint::List(options) = asked;
    let view = view(context)?;
    if options.json {
        let rows: Vec<_> = view
            .catalogue
            .endpoints
            .iter()
            .map(|(name, endpoint)| {
                json!({
                    "name": name,
                    "url": endpoint.url,
                    "version": endpoint.version,
                    "health": endpoint.health,
                    "models": endpoint.models.len(),
                    "resident": endpoint.resident,
                    "load": view.gateway.endpoints.get(name),
                    "measured": view.measured.endpoints.get(name),
                })
            })
            .collect();
        context.out.json(&rows);
    } else {
        context.out.table(&figures::endpoints(&view));
    }
    Ok(())
}

pub(super) fn models(context: &mut Context, asked: &Model) -> Result<(), Report> {
    if let Model::List(options) = asked
        && options.fit
    {
        return fit::list(context, options.json);
    }
    let view = view(context)?;
    match asked {
        Model::List(options) if options.json => {
            let view = &view;
            let rows: Vec<_> = view
                .catalogue
                .endpoints
                .iter()
                .flat_map(|(name, endpoint)| {
                    endpoint.models.values().map(move |model| {
                        let resident = endpoint.resident.get(&model.name);
                        json!({
                            "endpoint": name,
                            "model": model,
                            "resident": resident,
                            "load": view.gateway.load(name, &model.name),
                            "measured": view.measured.place(name, &model.name),
                        })
                    })
                })
                .collect();
            context.out.json(&rows);
            Ok(())
        }
        Model::List(_) => {
            let rows = figures::models(&view);
            if rows.len() == 1 {
                context
                    .out
                    .line("no models; 'ollama pull qwen2.5-coder:7b' installs one");
            } else {
                context.out.table(&rows);
            }
            Ok(())
        }
        Model::Show { name, json } => one(context, &view, name, *json),
    }
}

fn one(context: &mut Context, view: &View, name: &str, json: bool) -> Result<(), Report> {
    let wanted = ModelName::new(name);
    let all = &view.catalogue;
    let found: Vec<_> = all
        .endpoints
        .iter()
        .filter_map(|(endpoint, state)| Some((endpoint, state.model(&wanted)?)))
        .collect();
    if found.is_empty() {
        let names = all
            .endpoints
            .values()
            .flat_map(|endpoint| endpoint.models.keys());
        let report = Report::user(format!("no endpoint has the model {wanted}"));
        let names: Vec<_> = names.map(ModelName::as_str).collect();
        // A name without a tag means ":latest"; another tag is more likely meant.
        let tagged = format!("{}:", name.trim().to_ascii_lowercase());
        let meant = names
            .iter()
            .copied()
            .find(|known| known.to_ascii_lowercase().starts_with(&tagged))
            .or_else(|| nearest(wanted.as_str(), names.iter().copied()));
        return Err(match meant {
            Some(meant) => report.hint(format!("did you mean {meant}?")),
            None => report.hint("'warpsquad model list' shows all"),
        });
    }
    if json {
        let rows: Vec<_> = found
            .iter()
            .map(|(endpoint, model)| {
                json!({
                    "endpoint": endpoint,
                    "model": model,
                    "load": view.gateway.load(endpoint, &model.name),
                    "measured": view.measured.place(endpoint, &model.name),
                })
            })
            .collect();
        context.out.json(&rows);
        return Ok(());
    }
    for (endpoint, model) in found {
        figures::model(&mut context.out, view, endpoint, model);
    }
    Ok(())
}
