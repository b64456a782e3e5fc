//! The fit planner: which contexts and slots of a model a GPU holds, and what that needs of Ollama.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::formula::{KvCache, Shape, ollama_predicts};
use super::table::{VramNeed, VramTable};
use crate::core::context::{CONTEXT_DEFAULT, LADDER};
use crate::core::endpoint::EndpointName;
use crate::core::model::Model;

/// Slots that are looked at.
pub const SLOTS: [u16; 4] = [1, 2, 4, 8];

/// More context than this, tokens, is for other models better than for prompts.
const CONTEXT_ENOUGH: u32 = 65_536;

/// More slots than this rarely add throughput on one GPU.
const SLOTS_ENOUGH: u16 = 4;

/// What a GPU offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes that models may take: the memory there is, less what others use and what is kept free.
    pub size: u64,
    /// Bytes of memory there are.
    pub total: u64,
    /// How that is known.
    pub source: RoomSource,
}

impl Room {
    /// What is configured, less what is kept free.
    pub fn configured(total: u64, reserve: u64) -> Self {
        Self {
            size: total.saturating_sub(reserve),
            total,
            source: RoomSource::Configured,
        }
    }

    /// What the driver tells: of `total`, `used` are in use, `resident` of them by models, which
    /// may give way to others; what other programs use may not.
    pub fn driver((total, used): (u64, u64), resident: u64, reserve: u64) -> Self {
        let others = used.saturating_sub(resident);
        Self {
            size: total.saturating_sub(others).saturating_sub(reserve),
            total,
            source: RoomSource::Driver,
        }
    }
}

/// How a GPU's memory is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoomSource {
    /// It is configured.
    Configured,
    /// The driver of this machine told.
    Driver,
}

/// Whether a shape fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Fits,
    /// A part would run on the CPU.
    Spills {
        /// Bytes that would be on the CPU.
        over: u64,
    },
    /// The GPU's memory is not known.
    Unknown,
}

/// One shape of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitting {
    /// Context, slots and type of the cache.
    pub shape: Shape,
    /// What it needs.
    pub need: VramNeed,
    /// Whether that is there.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Ollama evicts every other model for it: its own prediction exceeds 80 % of the memory.
    pub alone: bool,
}

/// All shapes of a model on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFit {
    /// Every rung up to the trained context, with every number of slots.
    pub shapes: Vec<Fitting>,
    /// The shape to load it with: see [`fit`].
    pub best: Option<Shape>,
}

impl Fitting {
    /// `model` on `endpoint` in this `shape`, in this `room`.
    pub fn of(
        table: &VramTable,
        (endpoint, model): (&EndpointName, &Model),
        shape: Shape,
        room: Option<Room>,
    ) -> Self {
        let need = table.need(endpoint, model, shape);
        Self {
            shape,
            need,
            verdict: need.verdict(room),
            alone: is_alone(model, shape, room),
        }
    }
}

impl VramNeed {
    /// Whether it is there.
    pub fn verdict(self, room: Option<Room>) -> Verdict {
        match room {
            None => Verdict::Unknown,
            Some(room) if self.size <= room.size => Verdict::Fits,
            Some(room) => Verdict::Spills {
                over: self.size - room.size,
            },
        }
    }
}

/// Every shape of `model` on `endpoint` with caches of type `cache`.
///
/// The best shape has as many slots (up to 4) as hold the default context each, and the largest
/// context up to 65,536 that then fits; where the default context does not even fit once, the largest that does.
pub fn fit(
    table: &VramTable,
    (endpoint, model): (&EndpointName, &Model),
    cache: KvCache,
    room: Option<Room>,
) -> ModelFit {
    let trained = model.context_length.unwrap_or(u32::MAX);
    let single = model
        .architecture
        .as_ref()
        .is_some_and(super::Architecture::is_single_slot);
    let mut contexts: Vec<u32> = LADDER.into_iter().filter(|it| *it < trained).collect();
    if trained <= LADDER[LADDER.len() - 1] {
        contexts.push(trained);
    }
    let slots = SLOTS.into_iter().filter(|slots| !single || *slots == 1);
    let pairs = slots.flat_map(|slots| contexts.iter().map(move |context| (*context, slots)));
    let shapes: Vec<Fitting> = pairs
        .map(|(context, slots)| {
            let shape = Shape {
                context,
                slots,
                kv_cache: cache,
            };
            Fitting::of(table, (endpoint, model), shape, room)
        })
        .collect();
    ModelFit {
        best: best(&shapes, trained),
        shapes,
    }
}

fn is_alone(model: &Model, shape: Shape, room: Option<Room>) -> bool {
    let (Some(room), Some(known)) = (room, model.architecture.as_ref()) else {
        return false;
    };
    let predicted = ollama_predicts(model.size, known, shape);
    predicted.is_some_and(|size| u128::from(size) * 5 > u128::from(room.total) * 4)
}

fn best(shapes: &[Fitting], trained: u32) -> Option<Shape> {
    let enough = CONTEXT_DEFAULT.min(trained);
    let fitting = shapes.iter().filter(|it| it.verdict == Verdict::Fits);
    let key = |it: &Fitting| {
        let roomy = it.shape.context >= enough;
        let slots = if roomy { it.shape.slots } else { 1 };
        let over = it.shape.slots > SLOTS_ENOUGH;
        let context = it.shape.context;
        (
            !over,
            roomy,
            slots,
            context.min(CONTEXT_ENOUGH),
            Reverse(context),
        )
    };
    fitting
        .map(|it| (key(it), it.shape))
        .max()
        .map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::formula::tests::llama;
    use super::super::table::tests::model;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(size: u64) -> Room {
        Room {
            size,
            total: size + GIB,
            source: RoomSource::Configured,
        }
    }

    fn planned(size: u64) -> ModelFit {
        let one = model(Some(llama()));
        let table = VramTable::default();
        fit(
            &table,
            (&"local".into(), &one),
            KvCache::F16,
            Some(room(size)),
        )
    }

    #[test]
    fn what_other_programs_use_is_no_room_and_what_models_use_is() {
        let room = Room::driver((24 * GIB, 20 * GIB), 18 * GIB, GIB);
        assert_eq!((room.size, room.total), (21 * GIB, 24 * GIB));
        assert_eq!(Room::configured(24 * GIB, GIB).size, 23 * GIB);
        assert_eq!(Room::driver((GIB, GIB), 0, 2 * GIB).size, 0);
    }

    #[test]
    fn every_rung_up_to_the_trained_context_is_planned_with_every_number_of_slots() {
        let plan = planned(24 * GIB);
        assert_eq!(plan.shapes.len(), 5 * 4);
        assert_eq!(plan.shapes[4].shape.context, 131_072);
        let mut one = model(Some(llama()));
        one.context_length = Some(40_960);
        let plan = fit(
            &VramTable::default(),
            (&"local".into(), &one),
            KvCache::F16,
            None,
        );
        let contexts: Vec<_> = plan.shapes[..4].iter().map(|it| it.shape.context).collect();
        assert_eq!(contexts, [8_192, 16_384, 32_768, 40_960]);
        assert_eq!(plan.best, None);
        assert!(plan.shapes.iter().all(|it| it.verdict == Verdict::Unknown));
    }

    #[test]
    fn the_best_shape_is_slots_first_then_context() {
        // llama3.1:8b by the formula: 1.15 × (4.95 GiB + 2 GiB for 16,384 tokens of each slot).
        let best = |gib| planned(gib * GIB).best.map(|it| (it.slots, it.context));
        assert_eq!(best(24), Some((4, 16_384)));
        assert_eq!(best(11), Some((2, 16_384)));
        assert_eq!(best(10), Some((1, 16_384)));
        assert_eq!(best(7), Some((1, 8_192)));
        assert_eq!(best(6), None);
    }

    #[test]
    fn a_family_that_ollama_serves_one_at_a_time_is_planned_with_one_slot() {
        let mut build = llama();
        build.name = "qwen3next".into();
        let one = model(Some(build));
        let plan = fit(
            &VramTable::default(),
            (&"local".into(), &one),
            KvCache::F16,
            None,
        );
        assert!(plan.shapes.iter().all(|it| it.shape.slots == 1));
    }

    #[test]
    fn what_ollama_would_clear_the_gpu_for_is_marked() {
        // Its own prediction: 4.24 GiB and 128 KiB a token, of at most 80 % of 16 GiB.
        let plan = planned(15 * GIB);
        let alone = |context, slots| {
            let it = |it: &&Fitting| it.shape.context == context && it.shape.slots == slots;
            plan.shapes.iter().find(it).unwrap().alone
        };
        assert!(!alone(65_536, 1));
        assert!(alone(131_072, 1));
    }

    proptest! {
        #[test]
        fn what_fits_a_gpu_fits_a_larger_one(gib in 1_u64..80, more in 0_u64..80) {
            let (small, large) = (planned(gib * GIB), planned((gib + more) * GIB));
            for (small, large) in small.shapes.iter().zip(&large.shapes) {
                let grew = small.verdict == Verdict::Fits && large.verdict != Verdict::Fits;
                prop_assert!(!grew);
            }
        }
    }
}
