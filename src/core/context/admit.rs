//! Whether a request fits its context, and whether its prompt was cut after all.
//!
//! Ollama answers a prompt that is too long with status 200 and half of it thrown away, or with a
//! 400 in llama-server's words; both cost a prefill. So it is decided before.

use std::num::NonZeroU32;

use super::ladder::rung_for;

/// Room that an answer should have, tokens: an edit of a file or two.
pub const ANSWER_RESERVE: u64 = 2_048;

/// Room below which a request is pointless, tokens: not even one edit block.
pub const ANSWER_LEAST: u64 = 256;

/// The contexts that a request can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// The context that the model is or will be loaded with, tokens.
    pub rung: u32,
    /// The largest that it can be given: what is trained, configured and fits the GPU.
    pub most: u32,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It can be sent.
    Fits {
        /// Tokens that its answer may have. Never 0, which Ollama takes as endless.
        num_predict: NonZeroU32,
    },
    /// The model must be loaded with this context, tokens.
    NeedsLarger(u32),
    /// Its prompt fits no context that this model can be given.
    TooLong {
        /// The longest prompt that would, tokens.
        most: u32,
    },
}

impl Fit {
    /// Decides on a prompt of about `estimated` tokens whose answer should have `reserve` tokens.
    ///
    /// Where the largest context leaves less than `reserve`, a short answer is better than none.
    pub fn admit(self, estimated: u64, reserve: u64) -> Admission {
        let most = self.most.max(self.rung);
        let wanted = estimated.saturating_add(reserve.max(1));
        let least = estimated.saturating_add(reserve.clamp(1, ANSWER_LEAST));
        if wanted <= u64::from(self.rung) {
            return self.answer(estimated);
        }
        if wanted <= u64::from(most) {
            let rung = rung_for(wanted);
            let holds = u64::from(rung) >= wanted;
            return Admission::NeedsLarger(if holds { rung.min(most) } else { most });
        }
        if least > u64::from(most) {
            let least = u32::try_from(reserve.clamp(1, ANSWER_LEAST)).unwrap_or(u32::MAX);
            return Admission::TooLong {
                most: most.saturating_sub(least),
            };
        }
        if self.rung < most {
            return Admission::NeedsLarger(most);
        }
        self.answer(estimated)
    }

    fn answer(self, estimated: u64) -> Admission {
        let room = u64::from(self.rung).saturating_sub(estimated);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        Admission::Fits {
            num_predict: NonZeroU32::new(room).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// The `num_predict` to write: what was `asked` for, as far as it is `allowed`.
///
/// Ollama takes 0 and everything negative as "no limit", so those are what is allowed.
pub fn capped(asked: Option<i64>, allowed: NonZeroU32) -> NonZeroU32 {
    asked
        .and_then(|asked| u32::try_from(asked).ok())
        .and_then(NonZeroU32::new)
        .map_or(allowed, |asked| asked.min(allowed))
}

/// Whether an endpoint has cut a prompt of about `estimated` tokens of which it `counted` so many.
///
/// Two ways are seen: llama-server throws the middle away and keeps `num_ctx / 2 + 2` tokens (514
/// of 1,024; 2,050 of 4,096), and Ollama drops the oldest messages until the rest fits.
pub fn was_cut(estimated: u64, counted: u64, context: u32) -> bool {
    if counted == 0 || context == 0 {
        return false;
    }
    let context = u64::from(context);
    let is_half = counted.abs_diff(context / 2 + 2) <= 2;
    let shrank_by = |percent: u64| counted.saturating_mul(100 + percent) < estimated * 100;
    (is_half && shrank_by(20)) || (estimated > context && shrank_by(33))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(tokens: u32) -> Admission {
        Admission::Fits {
            num_predict: NonZeroU32::new(tokens).unwrap(),
        }
    }

    #[test]
    fn a_request_that_fits_may_answer_with_all_that_is_left() {
        let fit = Fit {
            rung: 16_384,
            most: 131_072,
        };
        assert_eq!(fit.admit(10_000, ANSWER_RESERVE), fits(6_384));
        assert_eq!(fit.admit(14_336, ANSWER_RESERVE), fits(2_048));
    }

    #[test]
    fn a_request_that_does_not_fit_asks_for_the_next_rung_that_holds_it() {
        let fit = Fit {
            rung: 16_384,
            most: 131_072,
        };
        assert_eq!(
            fit.admit(14_337, ANSWER_RESERVE),
            Admission::NeedsLarger(32_768)
        );
        let odd = Fit {
            rung: 16_384,
            most: 40_960,
        };
        assert_eq!(
            odd.admit(36_000, ANSWER_RESERVE),
            Admission::NeedsLarger(40_960)
        );
    }

    #[test]
    fn the_largest_context_admits_a_short_answer_before_it_refuses() {
        let fit = Fit {
            rung: 8_192,
            most: 8_192,
        };
        assert_eq!(fit.admit(7_900, ANSWER_RESERVE), fits(292));
        assert_eq!(
            fit.admit(8_000, ANSWER_RESERVE),
            Admission::TooLong { most: 7_936 }
        );
    }

    #[test]
    fn endless_is_never_asked_of_ollama() {
        let allowed = NonZeroU32::new(500).unwrap();
        for endless in [None, Some(0), Some(-1), Some(-2), Some(9_000)] {
            assert_eq!(capped(endless, allowed), allowed, "{endless:?}");
        }
        assert_eq!(capped(Some(100), allowed).get(), 100);
    }

    #[test]
    fn cut_prompts_are_noticed_and_whole_ones_are_not() {
        // Seen: 514 of 15,016 tokens at num_ctx 1,024; 2,050 at num_ctx 4,096.
        assert!(was_cut(15_016, 514, 1_024));
        assert!(was_cut(3_000, 2_050, 4_096));
        // Ollama dropped the oldest messages: 3,600 of about 9,000 are left.
        assert!(was_cut(9_000, 3_600, 4_096));
        // Estimates err by a quarter, and older servers do not count cached tokens.
        assert!(!was_cut(4_000, 3_200, 4_096));
        assert!(!was_cut(3_500, 40, 4_096));
        assert!(!was_cut(4_200, 3_900, 4_096));
        assert!(!was_cut(2_060, 2_050, 4_096));
        assert!(!was_cut(9_000, 0, 4_096));
    }

    proptest! {
        #[test]
        fn what_is_admitted_fits_and_what_is_refused_fits_nowhere(
            rung in 1_u32..2_000_000,
            most in 1_u32..2_000_000,
            estimated in 0_u64..4_000_000,
            reserve in 0_u64..10_000,
        ) {
            let fit = Fit { rung, most };
            match fit.admit(estimated, reserve) {
                Admission::Fits { num_predict } => {
                    prop_assert!(estimated + u64::from(num_predict.get()) <= u64::from(rung));
                }
                Admission::NeedsLarger(larger) => {
                    prop_assert!(larger > rung && larger <= most);
                    let there = Fit { rung: larger, most };
                    let fits = matches!(there.admit(estimated, reserve), Admission::Fits { .. });
                    prop_assert!(fits);
                }
                Admission::TooLong { most: longest } => {
                    prop_assert!(estimated > u64::from(longest));
                    prop_assert!(estimated + reserve.clamp(1, ANSWER_LEAST) > u64::from(most.max(rung)));
                }
            }
        }
    }
}
