//! What to set in Ollama so that an endpoint holds its main model with as many slots as are useful.

use serde::{Deserialize, Serialize};

use super::fit::{Room, Verdict, fit};
use super::formula::{KvCache, Shape};
use super::table::{VramNeed, VramTable};
use crate::core::context::CONTEXT_DEFAULT;
use crate::core::endpoint::EndpointName;
use crate::core::model::Model;

/// Models kept loaded at most: Ollama's own default on one GPU.
const LOADED_MAX: u16 = 3;

/// Values for Ollama's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The model it is made for.
    pub model: String,
    /// `OLLAMA_NUM_PARALLEL`.
    pub parallel: u16,
    /// `OLLAMA_CONTEXT_LENGTH`, tokens: what requests get that do not say; ours do.
    pub context: u32,
    /// `OLLAMA_KV_CACHE_TYPE`; anything but f16 needs `OLLAMA_FLASH_ATTENTION=1`.
    pub kv_cache: KvCache,
    /// `OLLAMA_MAX_LOADED_MODELS`: how many models fit together.
    pub loaded: u16,
    /// What the model then needs.
    pub need: VramNeed,
}

impl Advice {
    /// The variables with their values.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OLLAMA_NUM_PARALLEL", self.parallel.to_string()),
            ("OLLAMA_CONTEXT_LENGTH", self.context.to_string()),
            ("OLLAMA_FLASH_ATTENTION", "1".into()),
            ("OLLAMA_KV_CACHE_TYPE", self.kv_cache.as_str().into()),
            ("OLLAMA_MAX_LOADED_MODELS", self.loaded.to_string()),
        ]
    }
}

/// Advice for `endpoint` with this `room`, whose work is done by `main`; `others` may be loaded
/// beside it. None where not even its smallest shape fits.
///
/// `now` is the type of cache it has; a smaller one is advised only where it brings slots, or
/// context below the default.
pub fn advise(
    table: &VramTable,
    endpoint: &EndpointName,
    (main, others): (&Model, &[&Model]),
    (now, room): (KvCache, Room),
) -> Option<Advice> {
    let best = |cache: KvCache| fit(table, (endpoint, main), cache, Some(room)).best;
    let worth = |shape: Shape| (shape.slots.min(4), shape.context.min(CONTEXT_DEFAULT));
    let smaller = KvCache::Q8_0;
    let with_smaller = if smaller > now { best(smaller) } else { None };
    let chosen = match (best(now), with_smaller) {
        (Some(now), Some(other)) if worth(other) > worth(now) => other,
        (Some(now), _) => now,
        (None, other) => other?,
    };
    let need = |model: &Model, shape: Shape| table.need(endpoint, model, shape);
    let mut left = room.size.checked_sub(need(main, chosen).size)?;
    let mut beside: Vec<u64> = others
        .iter()
        .filter(|model| model.digest != main.digest)
        .map(|model| {
            let trained = model.context_length.unwrap_or(u32::MAX);
            let context = CONTEXT_DEFAULT.min(trained);
            need(model, Shape { context, ..chosen }).size
        })
        .collect();
    beside.sort_unstable();
    let mut loaded = 1;
    for size in beside {
        match left.checked_sub(size) {
            Some(rest) if loaded < LOADED_MAX => {
                left = rest;
                loaded += 1;
            }
            Some(_) | None => break,
        }
    }
    Some(Advice {
        model: main.name.to_string(),
        parallel: chosen.slots,
        context: chosen.context,
        kv_cache: chosen.kv_cache,
        loaded,
        need: need(main, chosen),
    })
}

/// The model that does an endpoint's work: the configured one, else the most capable that fits the
/// `room` once, else the smallest that can chat.
pub fn main_model<'a>(
    table: &VramTable,
    endpoint: &EndpointName,
    (models, default): (&[&'a Model], Option<&str>),
    (cache, room): (KvCache, Option<Room>),
) -> Option<&'a Model> {
    let named = |model: &&&Model| default.is_some_and(|it| model.name.is_same(&it.into()));
    if let Some(model) = models.iter().find(named) {
        return Some(model);
    }
    let fits = |model: &&&Model| {
        let trained = model.context_length.unwrap_or(u32::MAX);
        let shape = Shape {
            context: CONTEXT_DEFAULT.min(trained),
            slots: 1,
            kv_cache: cache,
        };
        let verdict = table.need(endpoint, model, shape).verdict(room);
        !matches!(verdict, Verdict::Spills { .. })
    };
    let able = models.iter().filter(fits).max_by_key(|it| it.ability());
    able.or_else(|| models.iter().min_by_key(|it| it.ability()))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::super::formula::tests::llama;
    use super::super::table::tests::model;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn advised(gib: u64, others: &[&Model], now: KvCache) -> Option<Advice> {
        let one = model(Some(llama()));
        let room = Room::configured(gib * GIB, 0);
        let table = VramTable::default();
        advise(&table, &"local".into(), (&one, others), (now, room))
    }

    #[test]
    fn a_smaller_cache_is_advised_only_where_it_brings_slots() {
        // 1.15 × (4.95 GiB + 4 × 2 GiB) are 14.9 GiB in f16, 1.15 × (4.95 + 4 × 1.06) 10.6 in q8_0.
        let roomy = advised(16, &[], KvCache::F16).unwrap();
        assert_eq!((roomy.parallel, roomy.kv_cache), (4, KvCache::F16));
        let tight = advised(11, &[], KvCache::F16).unwrap();
        assert_eq!((tight.parallel, tight.kv_cache), (4, KvCache::Q8_0));
        assert_eq!(tight.context, 16_384);
        assert_eq!(advised(5, &[], KvCache::F16), None);
    }

    #[test]
    fn models_that_fit_beside_are_counted() {
        let mut small = model(Some(llama()));
        small.digest = "small".into();
        small.size = GIB / 2;
        let mut large = model(None);
        large.digest = "large".into();
        large.size = 40 * GIB;
        let loaded = |gib| advised(gib, &[&small, &large], KvCache::F16).map(|it| it.loaded);
        // 14.9 GiB and 1.15 × (0.5 + 0.7 + 8) GiB are 25.5; with less, context takes what is left.
        assert_eq!(loaded(15), Some(1));
        assert_eq!(loaded(32), Some(1));
        assert_eq!(loaded(80), Some(2));
    }

    #[test]
    fn the_work_is_done_by_the_named_model_else_by_the_most_capable_that_fits() {
        let one = model(Some(llama()));
        let mut large = model(None);
        (large.name, large.digest) = ("huge:70b".into(), "e".into());
        (large.size, large.parameters) = (40 * GIB, Some(70_000_000_000));
        let table = VramTable::default();
        let main = |default: Option<&str>, gib: Option<u64>| {
            let room = gib.map(|gib| Room::configured(gib * GIB, 0));
            let models = [&one, &large];
            let chosen = main_model(
                &table,
                &"local".into(),
                (&models, default),
                (KvCache::F16, room),
            );
            chosen.unwrap().name.to_string()
        };
        assert_eq!(main(None, Some(24)), "llama3.1:8b");
        assert_eq!(main(None, Some(80)), "huge:70b");
        assert_eq!(main(None, None), "huge:70b");
        assert_eq!(main(Some("HUGE:70b"), Some(24)), "huge:70b");
    }
}
