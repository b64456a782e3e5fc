//! How many characters a token has, learned for each model from what endpoints counted.
//!
//! No tokenizer is needed: `prompt_eval_count` is the truth after each request. The ratio is that
//! of sums, so that long prompts, which decide whether something fits, weigh the most.

use serde::{Deserialize, Serialize};

/// Before anything is known: English and code have 3 to 4 characters a token.
const PRIOR: f64 = 4.0;
/// Tokens that the prior is worth.
const PRIOR_TOKENS: f64 = 500.0;
/// Tokens that are remembered; what is older fades.
const MEMORY_TOKENS: f64 = 65_536.0;
/// Shorter prompts say more about the template than about the text.
const SHORTEST: u64 = 64;
/// One sample may differ from what is known by this factor at most; beyond, it is taken as that.
const OUTLIER: f64 = 2.0;
/// Below is Chinese or binary data, above are runs of blanks.
const RANGE: (f64, f64) = (0.8, 10.0);

/// Characters per token of one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CharsPerToken {
    chars: f64,
    tokens: f64,
}

impl Default for CharsPerToken {
    fn default() -> Self {
        Self {
            chars: PRIOR * PRIOR_TOKENS,
            tokens: PRIOR_TOKENS,
        }
    }
}

impl CharsPerToken {
    /// A prompt of `chars` characters had `tokens` tokens. Prompts that were cut do not count
    /// ([`was_cut`](super::was_cut)).
    pub fn observe(&mut self, chars: u64, tokens: u64) {
        if tokens < SHORTEST || chars == 0 {
            return;
        }
        let (ratio, counted) = (self.ratio(), tokens as f64);
        let sample = (chars as f64 / counted).clamp(ratio / OUTLIER, ratio * OUTLIER);
        let weight = counted.min(MEMORY_TOKENS);
        let kept = (MEMORY_TOKENS - weight).min(self.tokens) / self.tokens;
        self.chars = self.chars * kept + sample * weight;
        self.tokens = self.tokens * kept + weight;
    }

    /// Characters per token.
    pub fn ratio(&self) -> f64 {
        let ratio = self.chars / self.tokens;
        if ratio.is_finite() {
            ratio.clamp(RANGE.0, RANGE.1)
        } else {
            PRIOR
        }
    }

    /// Tokens that a prompt of `chars` characters has, rounded up.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest integer there is, and none is negative here"
    )]
    pub fn estimate(&self, chars: u64) -> u64 {
        (chars as f64 / self.ratio()).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_model_has_four_characters_a_token() {
        assert_eq!(CharsPerToken::default().estimate(4_001), 1_001);
    }

    #[test]
    fn the_ratio_of_a_model_is_learned_within_a_few_prompts() {
        let mut known = CharsPerToken::default();
        for _ in 0..5 {
            known.observe(30_000, 10_000);
        }
        let estimate = known.estimate(30_000);
        assert!((9_900..=10_100).contains(&estimate), "{estimate}");
    }

    #[test]
    fn one_absurd_count_moves_the_ratio_by_its_share_only() {
        let mut known = CharsPerToken::default();
        for _ in 0..20 {
            known.observe(16_000, 4_000);
        }
        known.observe(1_000_000, 1_000);
        assert!((4.0..4.2).contains(&known.ratio()), "{}", known.ratio());
    }

    #[test]
    fn a_prompt_of_a_few_words_teaches_nothing() {
        let mut known = CharsPerToken::default();
        known.observe(10, 40);
        assert_eq!(known, CharsPerToken::default());
    }

    proptest! {
        #[test]
        fn a_longer_text_never_has_fewer_tokens_whatever_was_seen(
            seen in proptest::collection::vec((0_u64..1 << 40, 0_u64..1 << 40), 0..30),
            (chars, more) in (0_u64..1 << 40, 0_u64..1 << 40),
        ) {
            let mut known = CharsPerToken::default();
            for (chars, tokens) in seen {
                known.observe(chars, tokens);
            }
            prop_assert!((RANGE.0..=RANGE.1).contains(&known.ratio()));
            prop_assert!(known.estimate(chars) <= known.estimate(chars + more));
        }
    }
}
