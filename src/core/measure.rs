//! What a measurement of one model on one endpoint says: throughput by streams, knee, slots.
//!
//! Invariant: pure. The streams are run and timed elsewhere.

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointName;
use super::model::ModelName;

/// Streams at a time that are tried.
pub const LEVELS: [u16; 4] = [1, 2, 4, 8];

/// The knee is the first level with this share of the best throughput.
const KNEE: f64 = 0.9;
/// A stream waited for a slot when it did so for longer than this, milliseconds, …
const WAIT_MS: f64 = 50.0;
/// … and than this part of its own generation.
const WAIT_PART: f64 = 0.1;

/// One answer, timed. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Tokens that were generated.
    pub tokens: u64,
    /// Generation as the endpoint timed it.
    pub decode_ms: f64,
    /// Waiting for a slot inside the endpoint: `total − load − prefill − decode`.
    pub waited_ms: f64,
    /// From the start of the level to its first token.
    pub first_ms: f64,
    /// From the start of the level to its end.
    pub ended_ms: f64,
}

impl Stream {
    fn waited(&self) -> bool {
        self.waited_ms > WAIT_MS.max(self.decode_ms * WAIT_PART)
    }
}

/// So many streams at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// How many.
    pub streams: u16,
    /// Tokens a second of all together, from the first token to the last end.
    pub rate: f64,
    /// Tokens a second of the median stream while it generates.
    pub each: f64,
    /// Median time to the first token, milliseconds.
    pub first_ms: f64,
    /// Streams that waited for a slot.
    pub waited: u16,
}

impl Level {
    /// What these streams, begun at the same moment, say.
    pub fn of(streams: &[Stream]) -> Self {
        let tokens: u64 = streams.iter().map(|it| it.tokens).sum();
        let began = streams
            .iter()
            .map(|it| it.first_ms)
            .fold(f64::INFINITY, f64::min);
        let ended = streams.iter().map(|it| it.ended_ms).fold(0.0, f64::max);
        let each = streams.iter().map(|it| a_second(it.tokens, it.decode_ms));
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Self {
            streams: count(streams.len()),
            rate: a_second(tokens, ended - began),
            each: median(each.collect()),
            first_ms: median(streams.iter().map(|it| it.first_ms).collect()),
            waited: count(streams.iter().filter(|it| it.waited()).count()),
        }
    }
}

/// Slots that an endpoint has for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCount {
    /// So many.
    pub count: u16,
    /// Or more: not even the highest level had to wait.
    pub or_more: bool,
}

/// A whole measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Where.
    pub endpoint: EndpointName,
    /// Which model.
    pub model: ModelName,
    /// `num_ctx` that it was loaded with, tokens.
    pub context: u32,
    /// Loading it, its file probably cached by the system, milliseconds; none when it could not be
    /// unloaded before.
    pub load_ms: Option<f64>,
    /// Tokens of prompt a second.
    pub prefill: Option<f64>,
    /// By streams at a time.
    pub levels: Vec<Level>,
    /// Streams at a time beyond which throughput hardly grows.
    pub knee: Option<u16>,
    /// Its slots, inferred.
    pub slots: Option<SlotCount>,
}

/// The smallest level with nine tenths of the best throughput; none without a measurement.
pub fn knee(levels: &[Level]) -> Option<u16> {
    let best = levels.iter().map(|it| it.rate).fold(0.0, f64::max);
    let enough = levels
        .iter()
        .filter(|it| it.rate > 0.0 && it.rate >= best * KNEE);
    enough.map(|it| it.streams).min()
}

/// Slots inferred from who had to wait.
pub fn slots(levels: &[Level]) -> Option<SlotCount> {
    let served = |it: &Level| it.streams - it.waited.min(it.streams);
    let count = levels.iter().map(served).max().filter(|count| *count > 0)?;
    Some(SlotCount {
        count,
        or_more: levels.iter().all(|it| it.waited == 0),
    })
}

/// Tokens a second; 0 where no time passed.
pub fn a_second(tokens: u64, ms: f64) -> f64 {
    if ms > 0.0 {
        tokens as f64 * 1_000.0 / ms
    } else {
        0.0
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `count` equal answers of 100 tokens on an endpoint with so many slots, 1 s each.
    fn level(count: u16, slots: u16) -> Level {
        let streams = (0..count).map(|number| {
            let waited_ms = f64::from(number / slots) * 1_000.0;
            Stream {
                tokens: 100,
                decode_ms: 1_000.0,
                waited_ms,
                first_ms: waited_ms,
                ended_ms: waited_ms + 1_000.0,
            }
        });
        Level::of(&streams.collect::<Vec<_>>())
    }

    fn levels(slots: u16) -> Vec<Level> {
        LEVELS.iter().map(|count| level(*count, slots)).collect()
    }

    #[test]
    fn throughput_is_that_of_all_streams_together() {
        let two = level(2, 2);
        assert_eq!((two.rate, two.each, two.waited), (200.0, 100.0, 0));
        let queued = level(2, 1);
        assert_eq!((queued.rate, queued.waited), (100.0, 1));
    }

    #[test]
    fn knee_and_slots_are_where_streams_begin_to_wait() {
        for count in [1, 2, 4] {
            assert_eq!(knee(&levels(count)), Some(count));
            let found = slots(&levels(count)).unwrap();
            assert_eq!((found.count, found.or_more), (count, false));
        }
        let wide = slots(&levels(8)).unwrap();
        assert_eq!((wide.count, wide.or_more), (8, true));
    }

    #[test]
    fn a_level_that_adds_less_than_a_tenth_is_beyond_the_knee() {
        let rate = |streams: u16, rate: f64| Level {
            rate,
            ..level(streams, 8)
        };
        assert_eq!(
            knee(&[rate(1, 100.0), rate(2, 150.0), rate(4, 160.0)]),
            Some(2)
        );
        assert_eq!(knee(&[]), None);
        assert_eq!(slots(&[]), None);
    }

    proptest! {
        #[test]
        fn slots_are_never_more_than_the_streams_that_were_tried(
            waits in proptest::collection::vec((0_u64..1_000, 0.0_f64..5_000.0, 0.0_f64..5_000.0), 1..9),
        ) {
            let streams: Vec<_> = waits
                .iter()
                .map(|(tokens, decode_ms, waited_ms)| Stream {
                    tokens: *tokens,
                    decode_ms: *decode_ms,
                    waited_ms: *waited_ms,
                    first_ms: *waited_ms,
                    ended_ms: waited_ms + decode_ms,
                })
                .collect();
            let level = Level::of(&streams);
            prop_assert!(level.rate.is_finite() && level.rate >= 0.0);
            let found = slots(&[level]).map_or(0, |it| it.count);
            prop_assert!(usize::from(found) <= streams.len());
        }
    }
}
