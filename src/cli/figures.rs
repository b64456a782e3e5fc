//! Endpoints, models and what passes the gateway, in words and tables.

use super::output::{Output, bytes};
use super::show::words;
use crate::api::wire::View;
use crate::core::endpoint::{EndpointHealth, EndpointName};
use crate::core::measurement::{Figures, brief, rate};
use crate::core::model::{Model, Residency};
use crate::core::runners::ModelLoad;

/// What the gateway has done, one row each for `status`.
pub(super) fn gateway(view: &View) -> Vec<String> {
    let (gateway, measured) = (&view.gateway, &view.measured);
    let address = if gateway.address.is_empty() {
        String::new()
    } else {
        format!("{} · ", gateway.address)
    };
    let mut rows = vec![format!(
        "gateway    {address}{} requests · {:.0} tok/s · {}",
        measured.all.requests.max(gateway.served),
        gateway.rate,
        gateway.swaps_in_words()
    )];
    let times = [
        ("queued", &measured.all.queue_ms),
        ("first token", &measured.all.first_token_ms),
        ("total", &measured.all.total_ms),
    ];
    let times: Vec<_> = times
        .into_iter()
        .filter_map(|(name, quantiles)| Some(format!("{name} {}", quantiles.words(brief)?)))
        .collect();
    if !times.is_empty() {
        rows.push(format!("p50/95/99  {}", times.join(" · ")));
    }
    let recorder = &measured.recorder;
    if recorder.lost > 0 || recorder.fault.is_some() {
        rows.push(format!("recorder   {recorder}"));
    }
    rows
}

/// The rows of a list of models.
pub(super) fn models(view: &View) -> Vec<Vec<String>> {
    let mut rows = vec![words(&[
        "MODEL",
        "ENDPOINT",
        "SIZE",
        "CONTEXT",
        "STATE",
        "FIRST TOKEN P50/95/99",
        "TOK/S",
        "CAN",
    ])];
    for (name, endpoint) in &view.catalogue.endpoints {
        rows.extend(endpoint.models.values().map(|model| {
            let figures = view.measured.place(name, &model.name);
            let can = model.capabilities.iter().cloned().map(String::from);
            vec![
                model.name.to_string(),
                name.to_string(),
                format!("{} {}", model.parameter_size, model.quantisation),
                model
                    .context_length
                    .map(|tokens| tokens.to_string())
                    .unwrap_or_default(),
                state(view, name, model, endpoint.resident.get(&model.name)),
                first_token(figures),
                decode(figures),
                can.collect::<Vec<_>>().join(", "),
            ]
        }));
    }
    rows
}

/// Where a model is, what it does, what is wrong with it.
fn state(
    view: &View,
    endpoint: &EndpointName,
    model: &Model,
    resident: Option<&Residency>,
) -> String {
    let load = view.gateway.load(endpoint, &model.name);
    let mut parts = Vec::new();
    parts.extend(load.map(ModelLoad::words));
    if let Some(resident) = resident {
        let share = percent(resident.size_vram, resident.size);
        let words = if load.is_some() {
            format!("{share} on the GPU")
        } else {
            format!("loaded, {share} on the GPU")
        };
        parts.push(words);
    }
    if let Some(load) = load {
        parts.extend(load.trouble.clone());
        parts.extend(load.breaker.words());
    }
    parts.join("; ")
}

fn first_token(figures: Option<&Figures>) -> String {
    let quantiles = figures.and_then(|figures| figures.first_token_ms.words(brief));
    quantiles.unwrap_or_default()
}

fn decode(figures: Option<&Figures>) -> String {
    figures
        .filter(|figures| figures.decode_rate.count > 0)
        .map(|figures| rate(figures.decode_rate.p50))
        .unwrap_or_default()
}

fn percent(part: u64, whole: u64) -> String {
    let whole = whole.max(1);
    format!("{} %", part.saturating_mul(100) / whole)
}

/// One model on one endpoint.
pub(super) fn model(out: &mut Output, view: &View, endpoint: &EndpointName, model: &Model) {
    out.line(&format!("{} on {endpoint}", model.name));
    let can: Vec<_> = model
        .capabilities
        .iter()
        .cloned()
        .map(String::from)
        .collect();
    let resident = view.catalogue.endpoints.get(endpoint);
    let resident = resident.and_then(|endpoint| endpoint.resident.get(&model.name));
    let mut rows = vec![
        ("digest", model.digest.clone()),
        ("family", model.family.clone()),
        ("parameters", model.parameter_size.clone()),
        ("quantisation", model.quantisation.clone()),
        ("on disk", bytes(model.size)),
        (
            "context",
            model
                .context_length
                .map_or("unknown".into(), |tokens| tokens.to_string()),
        ),
        ("can", can.join(", ")),
        ("state", state(view, endpoint, model, resident)),
    ];
    if let Some(load) = view.gateway.load(endpoint, &model.name) {
        rows.push(("would wait", brief(load.predicted_wait_ms as f64)));
    }
    if let Some(figures) = view.measured.place(endpoint, &model.name) {
        rows.extend(measured(figures));
    }
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    out.table(&rows);
}

/// What was measured, each as p50/p95/p99.
fn measured(figures: &Figures) -> Vec<(&'static str, String)> {
    let mut rows = vec![(
        "requests",
        format!(
            "{}, {} answered, {} failed, {} refused, {} given up",
            figures.requests, figures.answered, figures.failed, figures.refused, figures.cancelled
        ),
    )];
    let tokens = format!(
        "{} read, {} of them from a cache, {} written",
        figures.prompt_tokens, figures.cached_tokens, figures.output_tokens
    );
    rows.push(("tokens", tokens));
    let quantiles = [
        ("queued", figures.queue_ms.words(brief)),
        ("loading", figures.load_ms.words(brief)),
        ("first token", figures.first_token_ms.words(brief)),
        ("total", figures.total_ms.words(brief)),
        ("reads, tok/s", figures.prefill_rate.words(rate)),
        ("writes, tok/s", figures.decode_rate.words(rate)),
    ];
    let quantiles = quantiles.into_iter();
    rows.extend(quantiles.filter_map(|(name, words)| Some((name, words?))));
    rows
}

/// The rows of a list of endpoints.
pub(super) fn endpoints(view: &View) -> Vec<Vec<String>> {
    let mut rows = vec![words(&[
        "ENDPOINT",
        "ADDRESS",
        "VERSION",
        "MODELS",
        "LOADED",
        "REQUESTS",
        "FIRST TOKEN P50/95/99",
        "HEALTH",
    ])];
    let endpoints = view.catalogue.endpoints.iter();
    rows.extend(endpoints.map(|(name, endpoint)| {
        let loaded: Vec<_> = endpoint.resident.keys().map(ToString::to_string).collect();
        let load = view.gateway.endpoints.get(name);
        let requests = load.map(|load| {
            let (running, queued) = load.requests();
            format!("{running} running, {queued} queued")
        });
        vec![
            name.to_string(),
            endpoint.url.clone(),
            endpoint.version.clone().unwrap_or_default(),
            endpoint.models.len().to_string(),
            loaded.join(", "),
            requests.unwrap_or_default(),
            first_token(view.measured.endpoints.get(name)),
            health(view, name, &endpoint.health),
        ]
    }));
    rows
}

/// What the last look says, and what the gateway knows beyond it.
fn health(view: &View, name: &EndpointName, health: &EndpointHealth) -> String {
    let mut parts = vec![match health {
        EndpointHealth::Ok => "ok".to_owned(),
        EndpointHealth::Unknown { why } => format!("unknown: {why}"),
    }];
    if let Some(load) = view.gateway.endpoints.get(name) {
        parts.extend(load.breaker.words());
        if load.foreign {
            parts.push("others use it too".into());
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::core::catalogue::Catalogue;
    use crate::core::endpoint::Endpoint;
    use crate::core::measurement::{MeasurementReport, Quantiles};
    use crate::core::runners::{BreakerState, EndpointLoad, GatewayReport};

    fn view() -> View {
        let mut endpoint = Endpoint::new("http://127.0.0.1:11434");
        endpoint.health = EndpointHealth::Ok;
        let load = EndpointLoad {
            breaker: BreakerState::Open {
                why: "refused".into(),
                retry_ms: 5_000,
            },
            foreign: true,
            ..EndpointLoad::default()
        };
        let figures = Figures {
            first_token_ms: Quantiles {
                count: 3,
                p50: 400.0,
                p95: 2_000.0,
                p99: 30_000.0,
            },
            ..Figures::default()
        };
        View {
            catalogue: Arc::new(Catalogue {
                endpoints: BTreeMap::from([("local".into(), endpoint)]),
            }),
            gateway: Arc::new(GatewayReport {
                endpoints: BTreeMap::from([("local".into(), load)]),
                swaps: 3,
                swap_ms: 45_000,
                swaps_avoided: 9,
                avoided_ms: 120_000,
                ..GatewayReport::default()
            }),
            measured: Arc::new(MeasurementReport {
                all: figures.clone(),
                endpoints: BTreeMap::from([("local".into(), figures)]),
                ..MeasurementReport::default()
            }),
            ..View::default()
        }
    }

    #[test]
    fn an_endpoint_says_what_keeps_requests_away_and_how_long_a_token_takes() {
        let rows = endpoints(&view());
        assert_eq!(rows[1][5], "0 running, 0 queued");
        assert_eq!(rows[1][6], "400ms/2.0s/30s");
        assert_eq!(
            rows[1][7],
            "ok; breaker open, tried in 5 s: refused; others use it too"
        );
    }

    #[test]
    fn a_model_shows_what_was_measured_on_its_own_endpoint() {
        let model: Model = serde_json::from_value(serde_json::json!({
            "name": "m:1b", "digest": "", "size": 0, "parameter_size": "1B",
            "quantisation": "Q4_0", "family": "f", "capabilities": ["completion"], "remote": false,
        }))
        .unwrap();
        let mut view = view();
        let mut endpoint = Endpoint::new("http://127.0.0.1:11434");
        endpoint.models.insert(model.name.clone(), model.clone());
        let figures = view.measured.all.clone();
        let measured = BTreeMap::from([(model.name, figures)]);
        view.catalogue = Arc::new(Catalogue {
            endpoints: BTreeMap::from([
                ("busy".into(), endpoint.clone()),
                ("idle".into(), endpoint),
            ]),
        });
        view.measured = Arc::new(MeasurementReport {
            models: measured.clone(),
            places: BTreeMap::from([("busy".into(), measured)]),
            ..MeasurementReport::default()
        });
        let rows = models(&view);
        let first_token = |row: usize| (rows[row][1].as_str(), rows[row][5].as_str());
        assert_eq!(first_token(1), ("busy", "400ms/2.0s/30s"));
        assert_eq!(first_token(2), ("idle", ""));
    }

    #[test]
    fn status_says_the_swaps_that_were_made_and_avoided() {
        let rows = gateway(&view());
        assert!(
            rows[0].ends_with("3 swaps in 45 s, 9 avoided, 120 s saved"),
            "{rows:?}"
        );
        assert_eq!(rows[1], "p50/95/99  first token 400ms/2.0s/30s");
        assert_eq!(rows.len(), 2);
    }
}
