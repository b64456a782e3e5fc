//! `warpsquad model list --fit`: which contexts and slots each model can have, and what to set in
//! Ollama for it. Looks at the endpoints itself, so that no squad has to run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::client::block_on;
use super::context::Context;
use super::output::{Output, bytes};
use super::report::Report;
use crate::core::endpoint::{Endpoint, EndpointName};
use crate::core::model::Model;
use crate::core::settings::{EndpointSettings, Settings};
use crate::core::vram::{
    Advice, Fitting, KvCache, ModelFit, NeedSource, Room, RoomSource, Shape, Verdict, VramTable,
    advise, fit, main_model,
};
use crate::discovery::Looker;
use crate::telemetry::room;

/// Where the server keeps what it has learned of models.
const LEARNED: &str = "learned.json";

/// Everything that is planned for one endpoint.
#[derive(Debug, Serialize)]
pub(super) struct EndpointPlan {
    pub(super) endpoint: EndpointName,
    /// GPU memory that its models may take; none where it is unknown.
    pub(super) room: Option<Room>,
    /// Its cache's type, and whether that is configured.
    pub(super) kv_cache: KvCache,
    kv_cache_configured: bool,
    pub(super) models: Vec<ModelPlan>,
    /// What to set in Ollama.
    pub(super) advice: Option<Advice>,
}

/// One model of it.
#[derive(Debug, Serialize)]
pub(super) struct ModelPlan {
    pub(super) model: String,
    #[serde(flatten)]
    fit: ModelFit,
    /// As it is used now: the context that is pinned, the slots that are configured.
    pub(super) now: Fitting,
}

/// Plans every endpoint that answers.
pub(super) fn plans(
    settings: &Settings,
    seen: &[(EndpointSettings, Endpoint)],
    data_dir: &Path,
) -> Vec<EndpointPlan> {
    let mut table = learned(data_dir);
    let answering = || seen.iter().filter(|(_, endpoint)| endpoint.health.is_ok());
    for (configured, endpoint) in answering() {
        observe(&mut table, configured, endpoint);
    }
    let resident: BTreeMap<EndpointName, u64> = answering()
        .map(|(configured, endpoint)| {
            let taken = endpoint.resident.values().map(|it| it.size_vram).sum();
            (EndpointName(configured.name.clone()), taken)
        })
        .collect();
    let rooms = room::rooms(settings, |name| resident.get(name).copied().unwrap_or(0));
    answering()
        .map(|(configured, endpoint)| {
            let name = EndpointName(configured.name.clone());
            let room = rooms.get(&name).copied();
            plan(settings, &table, (configured, endpoint), room)
        })
        .collect()
}

/// What the server has learned, or nothing.
fn learned(data_dir: &Path) -> VramTable {
    #[derive(Deserialize)]
    struct Learned {
        vram: VramTable,
    }
    let text = std::fs::read(data_dir.join(LEARNED)).unwrap_or_default();
    serde_json::from_slice::<Learned>(&text).map_or_else(|_none| VramTable::default(), |it| it.vram)
}

/// What is resident tells what it takes. With more slots than are known, that is too much for the
/// context it is booked under, never too little.
fn observe(table: &mut VramTable, configured: &EndpointSettings, endpoint: &Endpoint) {
    let name = EndpointName(configured.name.clone());
    for (model, residency) in &endpoint.resident {
        let (Some(model), Some(context)) = (endpoint.model(model), residency.context_length) else {
            continue;
        };
        let shape = Shape {
            context,
            slots: configured.parallel.unwrap_or(1),
            kv_cache: configured.kv_cache.unwrap_or_default(),
        };
        table.observe(&name, model, shape, residency.size);
    }
}

fn plan(
    settings: &Settings,
    table: &VramTable,
    (configured, endpoint): (&EndpointSettings, &Endpoint),
    room: Option<Room>,
) -> EndpointPlan {
    let name = EndpointName(configured.name.clone());
    let cache = configured.kv_cache.unwrap_or_default();
    let usable = |model: &&Model| model.can_chat() && !model.remote;
    let models: Vec<&Model> = endpoint.models.values().filter(usable).collect();
    let default = settings.models.default.as_deref();
    let main = main_model(table, &name, (&models, default), (cache, room));
    let advice = match (main, room) {
        (Some(main), Some(room)) => advise(table, &name, (main, &models), (cache, room)),
        (Some(_) | None, _) => None,
    };
    let of = |model: &&Model| ModelPlan {
        model: model.name.to_string(),
        fit: fit(table, (&name, model), cache, room),
        now: now(settings, table, (configured, model), room),
    };
    EndpointPlan {
        room,
        kv_cache: cache,
        kv_cache_configured: configured.kv_cache.is_some(),
        models: models.iter().map(of).collect(),
        advice,
        endpoint: name,
    }
}

fn now(
    settings: &Settings,
    table: &VramTable,
    (configured, model): (&EndpointSettings, &Model),
    room: Option<Room>,
) -> Fitting {
    let pinned = settings.models.tuning(model.name.as_str()).context;
    let trained = model.context_length.unwrap_or(u32::MAX);
    let shape = Shape {
        context: pinned
            .unwrap_or(crate::core::context::CONTEXT_DEFAULT)
            .min(trained),
        slots: configured.parallel.unwrap_or(1),
        kv_cache: configured.kv_cache.unwrap_or_default(),
    };
    Fitting::of(
        table,
        (&EndpointName(configured.name.clone()), model),
        shape,
        room,
    )
}

/// `model list --fit`
pub(super) fn list(context: &mut Context, json: bool) -> Result<(), Report> {
    let settings = context.load(context.repository(None))?.settings;
    let seen = block_on(async { Ok(look(&settings).await) })?;
    let plans = plans(&settings, &seen, &context.places()?.data_dir);
    if json {
        context.out.json(&plans);
        return Ok(());
    }
    for (configured, endpoint) in &seen {
        if !endpoint.health.is_ok() {
            let line = format!(
                "endpoint {} does not answer: nothing is planned",
                configured.name
            );
            context.out.line(&line);
        }
    }
    for plan in &plans {
        print(&mut context.out, plan);
    }
    Ok(())
}

async fn look(settings: &Settings) -> Vec<(EndpointSettings, Endpoint)> {
    let mut seen = Vec::new();
    for endpoint in &settings.endpoints {
        let mut looker = Looker::new(endpoint, &settings.discovery);
        seen.push((endpoint.clone(), looker.look().await));
    }
    seen
}

fn print(out: &mut Output, plan: &EndpointPlan) {
    out.line(&headline(plan));
    if plan.room.is_none() {
        out.line(&format!("  {}", how_to_tell(&plan.endpoint)));
    }
    if plan.models.is_empty() {
        out.line("  no model that can hold a conversation");
    }
    for model in &plan.models {
        out.line("");
        out.line(&format!("{} ({})", model.model, basis(&model.fit)));
        out.table(&table(&model.fit));
        if let Some(best) = model.fit.best {
            out.line(&format!("  best: {}", worded(best)));
        } else if plan.room.is_some() {
            out.line("  does not fit: a part of it would run on the CPU");
        }
    }
    out.line("");
    if plan.room.is_some() {
        out.line(
            "GiB; ! does not fit, a part would run on the CPU; * Ollama unloads all others for it",
        );
    } else {
        out.line("GiB of GPU memory needed");
    }
    if let Some(advice) = &plan.advice {
        out.line(&format!(
            "For {}, set in Ollama's environment:",
            advice.model
        ));
        for (name, value) in advice.variables() {
            out.line(&format!("  {name}={value}"));
        }
    }
    out.line("");
}

fn headline(plan: &EndpointPlan) -> String {
    let cache = plan.kv_cache.as_str();
    let assumed = if plan.kv_cache_configured {
        ""
    } else {
        " (assumed; endpoints.kv_cache tells)"
    };
    let room = match plan.room {
        None => "GPU memory unknown".to_owned(),
        Some(room) => format!(
            "{} for models of {} ({})",
            bytes(room.size),
            bytes(room.total),
            source(room)
        ),
    };
    format!(
        "endpoint {}: {room}, KV cache {cache}{assumed}",
        plan.endpoint
    )
}

fn source(room: Room) -> &'static str {
    match room.source {
        RoomSource::Configured => "endpoints.vram",
        RoomSource::Driver => "told by the driver",
    }
}

/// How an endpoint's memory can be made known.
pub(super) fn how_to_tell(endpoint: &EndpointName) -> String {
    format!(
        "say it in the configuration: vram = \"24GiB\" in the [[endpoints]] table of {endpoint}"
    )
}

/// Where the figures of a model come from.
fn basis(fit: &ModelFit) -> &'static str {
    let best = |it: &Fitting| match it.need.source {
        NeedSource::Observed => 0,
        NeedSource::Fitted => 1,
        NeedSource::Formula => 2,
        NeedSource::FileSize => 3,
    };
    match fit.shapes.iter().map(best).min() {
        Some(0 | 1) => "as observed when it was loaded",
        Some(2) => "by formula, 15 % on top; exact after its first load",
        Some(_) | None => "guessed from the size of its file; exact after its first load",
    }
}

/// Contexts across, slots down.
fn table(fit: &ModelFit) -> Vec<Vec<String>> {
    let mut contexts: Vec<u32> = fit.shapes.iter().map(|it| it.shape.context).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let mut rows = vec![vec!["  SLOTS".to_owned()]];
    rows[0].extend(
        contexts
            .iter()
            .map(|context| format!("{:>7}", short(*context))),
    );
    for slots in crate::core::vram::SLOTS {
        let of = |it: &&Fitting| it.shape.slots == slots;
        let cells: Vec<_> = fit.shapes.iter().filter(of).map(cell).collect();
        if !cells.is_empty() {
            let mut row = vec![format!("  {slots:>5}")];
            row.extend(cells);
            rows.push(row);
        }
    }
    rows
}

fn cell(it: &Fitting) -> String {
    let gib = it.need.size as f64 / f64::from(1 << 30);
    let mark = match it.verdict {
        Verdict::Spills { .. } => "!",
        Verdict::Fits if it.alone => "*",
        Verdict::Fits | Verdict::Unknown => " ",
    };
    format!("{gib:>6.1}{mark}")
}

/// `32k`, or all digits where it is no multiple.
fn short(context: u32) -> String {
    if context.is_multiple_of(1_024) {
        format!("{}k", context / 1_024)
    } else {
        context.to_string()
    }
}

/// `4 slots of 16384 tokens`
pub(super) fn worded(shape: Shape) -> String {
    let slots = match shape.slots {
        1 => "1 slot".to_owned(),
        many => format!("{many} slots"),
    };
    format!("{slots} of {} tokens", shape.context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(context: u32, slots: u16, verdict: Verdict) -> Fitting {
        Fitting {
            shape: Shape {
                context,
                slots,
                kv_cache: KvCache::F16,
            },
            need: crate::core::vram::VramNeed {
                size: 3 << 29,
                source: NeedSource::Formula,
            },
            verdict,
            alone: false,
        }
    }

    #[test]
    fn contexts_go_across_and_slots_down_and_what_spills_is_marked() {
        let fit = ModelFit {
            shapes: vec![
                fitting(8_192, 1, Verdict::Fits),
                fitting(40_000, 1, Verdict::Spills { over: 1 }),
                fitting(8_192, 2, Verdict::Unknown),
                fitting(40_000, 2, Verdict::Spills { over: 1 }),
            ],
            best: None,
        };
        let expected = [
            ["  SLOTS", "     8k", "  40000"],
            ["      1", "   1.5 ", "   1.5!"],
            ["      2", "   1.5 ", "   1.5!"],
        ];
        assert_eq!(table(&fit), expected);
    }

    #[test]
    fn what_the_server_has_learned_is_used_and_a_broken_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(learned(folder.path()), VramTable::default());
        let row = r#"{"endpoint":"a","digest":"d","shape":{"context":8192,"slots":1},"size":7}"#;
        let text = format!(r#"{{"models":{{}},"vram":[{row}],"rates":{{}}}}"#);
        std::fs::write(folder.path().join(LEARNED), text).unwrap();
        assert!(learned(folder.path()).knows(&"a".into(), "d"));
        std::fs::write(folder.path().join(LEARNED), "{").unwrap();
        assert_eq!(learned(folder.path()), VramTable::default());
    }
}
