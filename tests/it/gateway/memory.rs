//! The memory of GPUs: what does not fit, and what came into memory in part only.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use warpsquad::core::runners::GatewayReport;
use warpsquad::core::served::Outcome;
use warpsquad::gateway::{ConductorSettings, GatewaySettings, Gauge, Patience};

use super::world::{LIMIT, World, read};

const GIB: u64 = 1 << 30;

/// The first load lands on the processor, as it does while another program has the memory.
const ON_THE_PROCESSOR: &str =
    "[server]\nvram = \"64GiB\"\n[[fault]]\nkind = \"cpu-only\"\nnth = 1\n";

/// A gateway before one endpoint, whose driver tells of so much memory for models.
async fn world(scenario: &str, room: u64) -> World {
    let settings = GatewaySettings {
        conductor: ConductorSettings {
            gauge: Some(Gauge(Arc::new(move |_, _| Some(room)))),
            ..ConductorSettings::default()
        },
        ..GatewaySettings::default()
    };
    World::with(&[scenario], settings, Patience::default()).await
}

async fn reported(world: &World, is_so: impl FnMut(&GatewayReport) -> bool) -> GatewayReport {
    let mut report = world.gateway.report();
    let found = tokio::time::timeout(LIMIT, report.wait_for(is_so)).await;
    found.unwrap().unwrap().clone()
}

fn trouble(report: &GatewayReport) -> Option<&str> {
    let load = report.load(&"e0".into(), &"coder:7b".into())?;
    load.trouble.as_deref()
}

fn epoch(report: &GatewayReport) -> u64 {
    let load = report.load(&"e0".into(), &"coder:7b".into());
    load.map_or(0, |load| load.epoch)
}

async fn resident(world: &World) -> Vec<Value> {
    let listed = world.ask(0, "/api/ps").await;
    listed["models"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_model_on_the_processor_that_would_fit_is_loaded_again_between_requests() {
    let mut world = world(ON_THE_PROCESSOR, 64 * GIB).await;
    reported(&world, |it| {
        it.endpoints.values().any(|it| it.room.is_some())
    })
    .await;
    drop(world.agent("t", "coder:7b"));
    let (text, _) = read(world.chat("t", "coder:7b", "@sim say hello").await).await;
    assert!(text.contains("hello"));
    assert_eq!(world.record().await.outcome, Outcome::Done);

    let (text, _) = read(world.chat("t", "coder:7b", "@sim say again").await).await;
    assert!(text.contains("again"));
    let report = reported(&world, |it| epoch(it) == 2).await;
    assert_eq!(trouble(&report), None);
    let resident = resident(&world).await;
    assert_eq!(resident.len(), 1);
    assert_eq!(resident[0]["size_vram"], resident[0]["size"]);
}

#[tokio::test]
async fn a_model_on_the_processor_that_would_not_fit_stays_there_and_is_named() {
    let mut world = world(ON_THE_PROCESSOR, GIB).await;
    reported(&world, |it| {
        it.endpoints.values().any(|it| it.room.is_some())
    })
    .await;
    drop(world.agent("t", "coder:7b"));
    for word in ["hello", "again"] {
        let text = format!("@sim say {word}");
        let (text, _) = read(world.chat("t", "coder:7b", &text).await).await;
        assert!(text.contains(word));
        assert_eq!(world.record().await.outcome, Outcome::Done);
    }
    let report = reported(&world, |it| trouble(it).is_some()).await;
    assert_eq!(trouble(&report), Some("100 % of it runs on the CPU"));
    assert_eq!(epoch(&report), 1);
    assert_eq!(resident(&world).await[0]["size_vram"], 0);
}

#[tokio::test]
async fn models_larger_than_the_memory_are_told_to_the_router() {
    for (room, too_large) in [(GIB, 2), (64 * GIB, 0)] {
        let world = world("", room).await;
        let known = |it: &GatewayReport| {
            let rooms = it.endpoints.values().filter_map(|it| it.room);
            rooms.eq([room])
        };
        reported(&world, known).await;
        let catalogue = world.catalogue.borrow().clone();
        let fits = world.gateway.fits(&catalogue);
        let models: usize = fits.too_large.values().map(BTreeSet::len).sum();
        assert_eq!(models, too_large, "{room} bytes");
    }
}
