//! The tab of endpoints and models: where a model is, who waits for it, how fast it is, what keeps
//! requests away.
//!
//! The sums stay on top. Of each endpoint come first the models that are used, loaded or in
//! trouble; those that are only installed follow after all endpoints.

use super::super::model::Model;
use super::super::theme::Role;
use crate::core::endpoint::{Endpoint, EndpointHealth, EndpointName};
use crate::core::measurement::{Figures, brief, rate};
use crate::core::model::{Model as Language, Residency};
use crate::core::runners::{BreakerState, ModelLoad, RunnerState};

pub(super) fn lines(model: &Model) -> Vec<(String, Role)> {
    let endpoints = &model.view.catalogue.endpoints;
    if endpoints.is_empty() {
        let text = "no endpoint is configured; 'warpsquad doctor' says what to do";
        return vec![(text.into(), Role::Attention)];
    }
    let mut lines = Vec::new();
    let mut installed = Vec::new();
    for (name, endpoint) in endpoints {
        let rows = endpoint
            .models
            .values()
            .map(|it| row(model, name, endpoint, it));
        let (used, rest): (Vec<_>, Vec<_>) = rows.partition(|row| row.rank < Rank::Installed);
        lines.push(head_of(model, name, endpoint));
        lines.extend(sorted(used));
        if endpoints.len() > 1 && !rest.is_empty() {
            installed.push((format!("{name}  installed"), Role::Title));
        }
        installed.extend(sorted(rest));
    }
    lines.extend(installed);
    lines
}

/// Sums of all requests, and the names of the columns.
pub(super) fn head(model: &Model) -> Vec<(String, Role)> {
    if model.view.catalogue.endpoints.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    if model.view.gateway.swaps > 0 || model.view.gateway.swaps_avoided > 0 {
        lines.push((model.view.gateway.swaps_in_words(), Role::Faint));
    }
    let all = &model.view.measured.all;
    if let (Some(queued), Some(first)) =
        (all.queue_ms.words(brief), all.first_token_ms.words(brief))
    {
        let text = format!("p50/p95/p99: queued {queued}, first token {first}");
        lines.push((text, Role::Faint));
    }
    let columns = columns("model", "state", &speeds("tok/s", "first token"));
    lines.push((columns, Role::Faint));
    lines
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Busy,
    Loaded,
    Troubled,
    Installed,
}

/// A model on an endpoint, with what is wrong with it.
struct Row {
    rank: Rank,
    lines: Vec<(String, Role)>,
}

/// Of equals in the order of their names.
fn sorted(mut rows: Vec<Row>) -> impl Iterator<Item = (String, Role)> {
    rows.sort_by_key(|row| row.rank);
    rows.into_iter().flat_map(|row| row.lines)
}

fn row(model: &Model, name: &EndpointName, endpoint: &Endpoint, language: &Language) -> Row {
    let resident = endpoint.resident.get(&language.name);
    let load = model.view.gateway.load(name, &language.name);
    let figures = model.view.measured.place(name, &language.name);
    let (text, role) = of_model(language, resident, load, figures);
    let troubles: Vec<_> = load.into_iter().flat_map(troubles).collect();
    let rank = match role {
        Role::Working => Rank::Busy,
        Role::Good => Rank::Loaded,
        _ if !troubles.is_empty() => Rank::Troubled,
        _ => Rank::Installed,
    };
    let mut lines = vec![(text, role)];
    lines.extend(troubles);
    Row { rank, lines }
}

fn columns(model: &str, state: &str, rest: &str) -> String {
    format!("  {model:<20} {state:<18} {rest}")
}

fn speeds(decode: &str, first: &str) -> String {
    format!("{decode:>6} {first:>14}")
}

/// What is wrong comes before where it is: the line may be cut.
fn head_of(model: &Model, name: &EndpointName, endpoint: &Endpoint) -> (String, Role) {
    let load = model.view.gateway.endpoints.get(name);
    let mut parts = vec![name.to_string()];
    let mut role = Role::Title;
    if let EndpointHealth::Unknown { why } = &endpoint.health {
        parts.push(format!("unknown: {why}"));
        role = Role::Attention;
    }
    if let Some(load) = load {
        if let Some(words) = load.breaker.words() {
            parts.push(words);
            role = of_breaker(&load.breaker);
        }
        if load.foreign {
            parts.push("others use it too".into());
        }
        let (running, queued) = load.requests();
        parts.push(format!("{running} running, {queued} queued"));
    }
    parts.push(endpoint.url.clone());
    (parts.join("  "), role)
}

fn of_breaker(breaker: &BreakerState) -> Role {
    match breaker {
        BreakerState::Closed => Role::Title,
        BreakerState::HalfOpen => Role::Attention,
        BreakerState::Open { .. } => Role::Bad,
    }
}

fn of_model(
    language: &Language,
    resident: Option<&Residency>,
    load: Option<&ModelLoad>,
    figures: Option<&Figures>,
) -> (String, Role) {
    let state = match (load, resident) {
        (Some(load), _) => load.words(),
        (None, Some(_)) => "loaded".into(),
        (None, None) => String::new(),
    };
    let rest = speed(figures).unwrap_or_else(|| size(language, resident));
    let text = columns(language.name.as_str(), &state, &rest);
    let role = match (load.map(|load| load.state), resident) {
        (Some(RunnerState::Busy | RunnerState::Loading | RunnerState::Unloading), _) => {
            Role::Working
        }
        (Some(RunnerState::Idle), _) | (None | Some(RunnerState::Installed), Some(_)) => Role::Good,
        (None | Some(RunnerState::Installed), None) => Role::Text,
    };
    (text, role)
}

/// Tokens a second, and how long the first one takes; none before anything was measured.
fn speed(figures: Option<&Figures>) -> Option<String> {
    let figures = figures?;
    let first = figures.first_token_ms.words(brief)?;
    let decode = figures.decode_rate;
    let decode = (decode.count > 0).then(|| format!("{}/s", rate(decode.p50)));
    Some(speeds(&decode.unwrap_or_default(), &first))
}

fn size(language: &Language, resident: Option<&Residency>) -> String {
    let bytes = resident.map_or(language.size, |resident| resident.size_vram);
    format!(
        "{} {}  {:.1} GiB",
        language.parameter_size,
        language.quantisation,
        bytes as f64 / f64::from(1u32 << 30)
    )
}

fn troubles(load: &ModelLoad) -> Vec<(String, Role)> {
    let trouble = load.trouble.clone().map(|what| (what, Role::Attention));
    let breaker = load.breaker.words();
    let breaker = breaker.map(|words| (words, of_breaker(&load.breaker)));
    let both = trouble.into_iter().chain(breaker);
    both.map(|(text, role)| (format!("    {text}"), role))
        .collect()
}
