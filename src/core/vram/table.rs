//! What models were seen to take, and what follows for shapes that were not seen.
//!
//! Memory grows with the tokens of all slots in a straight line, `a + b · tokens`, exact to about
//! 100 MiB for most models. With two observations the line is theirs; with one it has the slope of
//! the formula; with none the formula is taken with a margin.
//!
//! An endpoint does not tell how many slots it has loaded a model with. Who asks does not always know
//! either, and takes one for all: the need for more comes out too large then, never too small. The
//! same bytes for the same context with other slots are the same load called otherwise, and say
//! nothing about what a slot takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::formula::{KvCache, Shape, formula};
use crate::core::endpoint::EndpointName;
use crate::core::model::Model;

/// Models remembered; the one seen longest ago goes first.
const MODELS_MAX: usize = 256;
/// Shapes remembered of each.
const SHAPES_MAX: usize = 16;
/// Percent of the formula before the first load: it errs by that much on common architectures.
const MARGIN: u64 = 115;
/// Where nothing is known but the file, a token of context takes this part of it: llama3.1:8b has
/// 128 KiB a token and 4.3 GiB, which is one to 35,500.
const FILE_TOKENS: u64 = 32_768;

/// Bytes that a model needs, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VramNeed {
    /// Bytes of GPU memory.
    pub size: u64,
    /// How it is known.
    pub source: NeedSource,
}

/// How a need is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeedSource {
    /// The endpoint reported it for this very shape.
    Observed,
    /// The endpoint reported others, and this lies on their line.
    Fitted,
    /// Computed from the model's build, with a margin.
    Formula,
    /// Guessed from the size of its file.
    FileSize,
}

impl NeedSource {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Fitted => "fitted",
            Self::Formula => "formula",
            Self::FileSize => "file size",
        }
    }
}

/// All observations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Observed>", into = "Vec<Observed>")]
pub struct VramTable {
    models: BTreeMap<Key, Observations>,
    clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    endpoint: EndpointName,
    digest: String,
    cache: KvCache,
}

/// Bytes by (context, slots), and when the last one came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Observations {
    sizes: BTreeMap<(u32, u16), u64>,
    last: u64,
}

/// One row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Observed {
    endpoint: EndpointName,
    digest: String,
    shape: Shape,
    size: u64,
}

impl VramTable {
    /// The endpoint reported that the model takes `bytes`, on the GPU and beside it together.
    ///
    /// Returns whether that is news.
    pub fn observe(
        &mut self,
        endpoint: &EndpointName,
        model: &Model,
        shape: Shape,
        size: u64,
    ) -> bool {
        let key = Key::new(endpoint, &model.digest, shape.kv_cache);
        if let Some(seen) = self.models.get_mut(&key) {
            seen.sizes
                .retain(|at, known| !is_same_load((*at, *known), (shape, size)));
        }
        self.put(endpoint, &model.digest, (shape, size))
    }

    fn put(&mut self, endpoint: &EndpointName, digest: &str, seen: (Shape, u64)) -> bool {
        let (shape, size) = seen;
        if size == 0 || digest.is_empty() || shape.context == 0 {
            return false;
        }
        self.clock += 1;
        let key = Key::new(endpoint, digest, shape.kv_cache);
        let model = self.models.entry(key).or_default();
        model.last = self.clock;
        let known = model
            .sizes
            .insert((shape.context, shape.slots.max(1)), size);
        if model.sizes.len() > SHAPES_MAX {
            model.forget(shape);
        }
        self.forget();
        known != Some(size)
    }

    /// What `model` needs on `endpoint` in that shape.
    pub fn need(&self, endpoint: &EndpointName, model: &Model, shape: Shape) -> VramNeed {
        let computed = computed(model, shape);
        let key = Key::new(endpoint, &model.digest, shape.kv_cache);
        let Some(seen) = self.models.get(&key) else {
            return computed;
        };
        let tokens = shape.tokens();
        let points = seen.points();
        if let Some((_, size)) = points.iter().find(|(at, _)| *at == tokens) {
            return VramNeed {
                size: *size,
                source: NeedSource::Observed,
            };
        }
        let size = match points.as_slice() {
            [] => return computed,
            [only] => shifted(*only, seen.shape(*only, shape.kv_cache), model, shape),
            _ => between(&points, tokens),
        };
        VramNeed {
            size,
            source: NeedSource::Fitted,
        }
    }

    /// Takes what was stored. Of several rows for one load the one with the fewest slots stays.
    fn restore(&mut self, row: &Observed) {
        let key = Key::new(&row.endpoint, &row.digest, row.shape.kv_cache);
        let seen = self.models.get(&key);
        let is_known = seen.is_some_and(|seen| {
            let mut sizes = seen.sizes.iter();
            sizes.any(|(at, size)| is_same_load((*at, *size), (row.shape, row.size)))
        });
        if !is_known {
            self.put(&row.endpoint, &row.digest, (row.shape, row.size));
        }
    }

    /// Whether anything was ever observed of that model there.
    pub fn knows(&self, endpoint: &EndpointName, digest: &str) -> bool {
        let is_it = |key: &Key| key.endpoint == *endpoint && key.digest == digest;
        self.models.keys().any(is_it)
    }

    fn forget(&mut self) {
        if self.models.len() <= MODELS_MAX {
            return;
        }
        let oldest = self.models.iter().min_by_key(|(_, model)| model.last);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.models.remove(&key);
        }
    }
}

impl Key {
    fn new(endpoint: &EndpointName, digest: &str, cache: KvCache) -> Self {
        Self {
            endpoint: endpoint.clone(),
            digest: digest.to_owned(),
            cache,
        }
    }
}

impl Observations {
    /// Forgets one shape: the one nearest to its neighbours says the least; the ends and the
    /// newest stay.
    fn forget(&mut self, newest: Shape) {
        let keys: Vec<(u32, u16)> = self.sizes.keys().copied().collect();
        let newest = (newest.context, newest.slots.max(1));
        let inner = keys.windows(3).filter(|three| three[1] != newest);
        let least = inner.min_by_key(|three| u64::from(three[2].0) - u64::from(three[0].0));
        if let Some(key) = least.map(|three| three[1]) {
            self.sizes.remove(&key);
        }
    }

    /// The shape of the observation that takes so many bytes for so many tokens.
    fn shape(&self, (tokens, size): (u64, u64), kv_cache: KvCache) -> Shape {
        let of = |((context, slots), _): (&(u32, u16), &u64)| Shape {
            context: *context,
            slots: *slots,
            kv_cache,
        };
        let is_it = |shape: &Shape| shape.tokens() == tokens;
        let found = self.sizes.iter().filter(|(_, seen)| **seen == size).map(of);
        found.into_iter().find(is_it).unwrap_or(Shape {
            context: u32::try_from(tokens).unwrap_or(u32::MAX),
            slots: 1,
            kv_cache,
        })
    }

    /// (tokens of all slots, bytes), growing in both: a report that is lower than that of a
    /// smaller shape is an error of the server's (it loses the second cache of some models).
    fn points(&self) -> Vec<(u64, u64)> {
        let mut points: BTreeMap<u64, u64> = BTreeMap::new();
        for ((context, slots), size) in &self.sizes {
            let tokens = u64::from(*context) * u64::from(*slots);
            let at = points.entry(tokens).or_default();
            *at = (*at).max(*size);
        }
        let mut most = 0;
        let rising = points.into_iter().map(|(tokens, size)| {
            most = most.max(size);
            (tokens, most)
        });
        rising.collect()
    }
}

/// Bytes of `shape` after one observation: as far from it as the formula says, but on a line that
/// does not fall below the file at no context: the formula may not know of windows or shared heads.
fn shifted((tokens, size): (u64, u64), observed: Shape, model: &Model, shape: Shape) -> u64 {
    let of = |shape: Shape| computed(model, shape).size as f64;
    let away = shape.tokens() as f64 - tokens as f64;
    let steepest = size.saturating_sub(model.size) as f64 / tokens as f64;
    let (least, most) = (steepest * away.min(0.0), steepest * away.max(0.0));
    let change = (of(shape) - of(observed)).clamp(least, most);
    rounded(size as f64 + change)
}

/// Bytes at `tokens` on the line of `points`, never beyond the observations beside it.
///
/// The line starts at the next lower observation, else at the lowest: so estimates rise with the
/// tokens.
fn between(points: &[(u64, u64)], tokens: u64) -> u64 {
    let below = points.iter().rev().find(|(at, _)| *at < tokens);
    let above = points.iter().find(|(at, _)| *at > tokens);
    let (at, size) = below.or(above).copied().unwrap_or_default();
    let away = tokens as f64 - at as f64;
    let estimate = rounded(size as f64 + median_slope(points) * away);
    let estimate = above.map_or(estimate, |(_, most)| estimate.min(*most));
    below.map_or(estimate, |(_, least)| estimate.max(*least))
}

/// The median of the slopes between all pairs: one false report does not bend it.
fn median_slope(points: &[(u64, u64)]) -> f64 {
    let mut slopes: Vec<f64> = Vec::new();
    for (index, (x0, y0)) in points.iter().enumerate() {
        for (x1, y1) in points.iter().skip(index + 1) {
            slopes.push((*y1 as f64 - *y0 as f64) / (*x1 as f64 - *x0 as f64));
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes
        .get(slopes.len() / 2)
        .copied()
        .unwrap_or(0.0)
        .max(0.0)
}

/// Whether a row is what was seen now, with other slots.
fn is_same_load(known: ((u32, u16), u64), (shape, size): (Shape, u64)) -> bool {
    let ((context, slots), taken) = known;
    context == shape.context && taken == size && slots != shape.slots.max(1)
}

fn computed(model: &Model, shape: Shape) -> VramNeed {
    let known = model.architecture.as_ref();
    if let Some(size) = known.and_then(|it| formula(model.size, it, shape)) {
        let size = u128::from(size) * u128::from(MARGIN) / 100;
        return VramNeed {
            size: u64::try_from(size).unwrap_or(u64::MAX),
            source: NeedSource::Formula,
        };
    }
    let context = u128::from(model.size) * u128::from(shape.tokens()) / u128::from(FILE_TOKENS);
    let context = u64::try_from(context).unwrap_or(u64::MAX);
    // 2 bytes a number is what the part of the file stands for.
    let context = shape.kv_cache.stored(context) / 2;
    VramNeed {
        size: model.size.saturating_add(context),
        source: NeedSource::FileSize,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest integer there is, a negative one becomes 0"
)]
fn rounded(size: f64) -> u64 {
    size.round() as u64
}

impl From<VramTable> for Vec<Observed> {
    fn from(table: VramTable) -> Self {
        let mut models: Vec<_> = table.models.into_iter().collect();
        models.sort_by_key(|(_, model)| model.last);
        let rows = models.into_iter().flat_map(|(key, model)| {
            model
                .sizes
                .into_iter()
                .map(move |((context, slots), size)| Observed {
                    endpoint: key.endpoint.clone(),
                    digest: key.digest.clone(),
                    shape: Shape {
                        context,
                        slots,
                        kv_cache: key.cache,
                    },
                    size,
                })
        });
        rows.collect()
    }
}

impl From<Vec<Observed>> for VramTable {
    fn from(rows: Vec<Observed>) -> Self {
        let mut table = Self::default();
        // They were written by context and slots.
        for row in rows {
            table.restore(&row);
        }
        table
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(super) mod tests;
