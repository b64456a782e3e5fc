//! Two formulas: ours, and the one by which Ollama decides whether to evict.
//!
//! Ours: weights, plus keys and values of every token of every slot in every layer, plus the
//! buffers of one batch, plus what CUDA takes for itself. Source of the parts: llama.cpp's
//! allocation of the KV cache and of the graph with flash attention; checked by hand against the
//! figures of llama3.1:8b in the tests.

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;

/// Bytes that CUDA takes for its context: Ollama's own minimum for it, 457 MiB.
const CUDA: u64 = 457 << 20;
/// Tokens of one batch, Ollama's `num_batch`.
const BATCH: u64 = 512;
/// Vocabulary where the file does not say: that of qwen2 and qwen3, one of the largest.
const VOCABULARY: u32 = 152_064;

/// Type of the numbers in the KV cache (`OLLAMA_KV_CACHE_TYPE`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KvCache {
    /// 16 bits each: Ollama's default.
    #[default]
    F16,
    /// 34 bytes for 32.
    Q8_0,
    /// 18 bytes for 32.
    Q4_0,
}

impl KvCache {
    /// All of them, the largest first.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// As Ollama writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Reads what [`as_str`](Self::as_str) writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }

    /// Bytes of `numbers`, rounded up.
    pub fn stored(self, numbers: u64) -> u64 {
        let per_32 = match self {
            Self::F16 => 64,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
        };
        numbers.saturating_mul(per_32).div_ceil(32)
    }
}

/// How a model is loaded: what, besides the model, decides its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Context of one slot, tokens.
    pub context: u32,
    /// Slots.
    pub slots: u16,
    /// Type of the KV cache.
    #[serde(default)]
    pub kv_cache: KvCache,
}

impl Shape {
    /// Tokens of all slots together.
    pub fn tokens(self) -> u64 {
        u64::from(self.context) * u64::from(self.slots.max(1))
    }
}

/// Bytes of keys and values; none where the file says too little.
pub fn kv_cache(architecture: &Architecture, shape: Shape) -> Option<u64> {
    let layers = u64::from(architecture.layers?).max(1);
    let kv_heads = u64::from(architecture.kv_heads?);
    let head = u64::from(architecture.key()?) + u64::from(architecture.value()?);
    let whole = u64::from(shape.context);
    let windowed = u64::from(architecture.window_layers.unwrap_or(0)).min(layers);
    let seen = match architecture.window {
        Some(window) => whole.min(u64::from(window) + BATCH),
        None => whole,
    };
    let in_layers = (layers - windowed) * whole + windowed * seen;
    let slots = u64::from(shape.slots.max(1));
    // Heads are those of all layers: a layer has their mean, and the mean is taken last.
    let numbers = u128::from(in_layers) * u128::from(slots * kv_heads * head) / u128::from(layers);
    let numbers = u64::try_from(numbers).unwrap_or(u64::MAX);
    let recurrent = architecture.recurrent.unwrap_or(0);
    Some(
        shape
            .kv_cache
            .stored(numbers)
            .saturating_add(recurrent.saturating_mul(4 * slots)),
    )
}

/// Bytes of GPU memory that a model file of `size` bytes needs, wholly on one GPU; none where the
/// file says too little.
pub fn formula(size: u64, architecture: &Architecture, shape: Shape) -> Option<u64> {
    let context = kv_cache(architecture, shape)?;
    let embedding = u64::from(architecture.embedding?);
    let vocabulary = u64::from(architecture.vocabulary.unwrap_or(VOCABULARY));
    let graph = 4 * BATCH * (embedding + vocabulary);
    Some(
        size.saturating_add(context)
            .saturating_add(graph)
            .saturating_add(CUDA),
    )
}

/// Bytes that Ollama (0.30 and later) predicts for itself; it evicts where this exceeds 80 % of
/// what is free, and it counts 16 bits whatever the cache's type is.
pub fn ollama_predicts(size: u64, architecture: &Architecture, shape: Shape) -> Option<u64> {
    let layers = u64::from(architecture.layers?);
    let kv_heads = u64::from(architecture.kv_heads_least?);
    let head = u64::from(architecture.head()?);
    let a_token = 2 * layers * kv_heads * head * 2;
    Some(size.saturating_add(a_token.saturating_mul(shape.tokens())))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    /// llama3.1:8b as its model card has it.
    pub(in crate::core::vram) fn llama() -> Architecture {
        Architecture {
            name: "llama".into(),
            layers: Some(32),
            heads: Some(32),
            kv_heads: Some(32 * 8),
            kv_heads_least: Some(8),
            embedding: Some(4_096),
            vocabulary: Some(128_256),
            ..Architecture::default()
        }
    }

    fn shape(context: u32, cache: KvCache) -> Shape {
        Shape {
            context,
            slots: 1,
            kv_cache: cache,
        }
    }

    #[test]
    fn the_context_of_llama_8b_takes_what_is_computed_by_hand() {
        // 2 × 32 layers × 8 heads × 128 numbers × 2 bytes = 128 KiB a token.
        let cases = [
            (4_096, KvCache::F16, GIB / 2),
            (8_192, KvCache::F16, GIB),
            (32_768, KvCache::F16, 4 * GIB),
            (131_072, KvCache::F16, 16 * GIB),
            (32_768, KvCache::Q8_0, 2 * GIB + GIB / 8),
            (32_768, KvCache::Q4_0, GIB + GIB / 8),
        ];
        for (context, cache, stored) in cases {
            assert_eq!(kv_cache(&llama(), shape(context, cache)), Some(stored));
        }
    }

    #[test]
    fn the_whole_of_llama_8b_is_weights_context_batch_and_cuda() {
        let weights = 4_340 * MIB;
        let need = formula(weights, &llama(), shape(32_768, KvCache::F16)).unwrap();
        // 4 × 512 × (4,096 + 128,256) bytes are 258.5 MiB.
        assert_eq!(need, weights + 4 * GIB + 271_056_896 + 457 * MIB);
        assert_eq!(
            ollama_predicts(weights, &llama(), shape(32_768, KvCache::Q8_0)),
            Some(weights + 4 * GIB)
        );
    }

    #[test]
    fn every_slot_has_a_context_of_its_own() {
        let four = Shape {
            slots: 4,
            ..shape(8_192, KvCache::F16)
        };
        assert_eq!(kv_cache(&llama(), four), Some(4 * GIB));
    }

    #[test]
    fn a_layer_with_a_window_stops_growing_at_window_and_batch() {
        // gemma3:4b: 34 layers, 5 of 6 with a window of 1,024; 4 heads of 256 and 256.
        let gemma = Architecture {
            layers: Some(34),
            kv_heads: Some(34 * 4),
            key_length: Some(256),
            value_length: Some(256),
            window: Some(1_024),
            window_layers: Some(29),
            ..Architecture::default()
        };
        let a_layers_token = 4 * 512 * 2;
        let expected = (5 * 131_072 + 29 * 1_536) * a_layers_token;
        assert_eq!(
            kv_cache(&gemma, shape(131_072, KvCache::F16)),
            Some(expected)
        );
    }

    #[test]
    fn a_file_that_says_too_little_has_no_formula() {
        let bare = Architecture::default();
        assert_eq!(formula(1, &bare, shape(1, KvCache::F16)), None);
        assert_eq!(ollama_predicts(1, &bare, shape(1, KvCache::F16)), None);
    }

    #[test]
    fn cache_types_are_read_as_they_are_written() {
        for cache in KvCache::ALL {
            assert_eq!(KvCache::parse(cache.as_str()), Some(cache));
        }
        assert_eq!(KvCache::parse("f32"), None);
    }

    proptest! {
        #[test]
        fn more_context_more_slots_and_wider_numbers_never_need_less(
            layers in 1_u32..128,
            kv_heads in 1_u32..64,
            window in proptest::option::of(1_u32..100_000),
            window_layers in proptest::option::of(0_u32..128),
            (context, more) in (1_u32..1 << 20, 0_u32..1 << 20),
            (slots, more_slots) in (1_u16..32, 0_u16..32),
        ) {
            let one = Architecture { layers: Some(layers), kv_heads: Some(layers * kv_heads),
                window, window_layers, ..llama() };
            let need = |context, slots, cache| formula(1, &one, Shape { context, slots, kv_cache: cache }).unwrap();
            let small = need(context, slots, KvCache::Q8_0);
            prop_assert!(small <= need(context + more, slots, KvCache::Q8_0));
            prop_assert!(small <= need(context, slots + more_slots, KvCache::Q8_0));
            prop_assert!(small <= need(context, slots, KvCache::F16));
            prop_assert!(small >= need(context, slots, KvCache::Q4_0));
        }
    }
}
