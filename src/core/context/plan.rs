//! Which rung a model gets: the smallest that held 95 of the last 100 requests and fits.
//!
//! A rung only grows while the model is resident, because shrinking would load it again and free
//! memory that nobody has asked for. When it grows is the caller's affair: between batches.

use serde::{Deserialize, Serialize};

use super::ladder::{CONTEXT_DEFAULT, LADDER, rung_for};
use crate::core::context::ANSWER_RESERVE;
use crate::core::served::Served;

/// Needs remembered at their full weight; older ones fade by halves.
const REMEMBERED: u32 = 512;
/// Needs seen before the plan dares to go below the default: growing back is a load.
const TRUSTED: u32 = 20;
/// Share of the needs that the rung must hold, percent.
const HELD: u64 = 95;

/// What a model needed so far, and the context it is loaded with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContextPlan {
    /// Needs by rung of the [`LADDER`].
    needs: [u32; LADDER.len()],
    /// Context it is loaded with, tokens.
    #[serde(skip)]
    resident: Option<u32>,
}

impl ContextPlan {
    /// A request needed `tokens`: its prompt and its answer.
    pub fn observe_need(&mut self, tokens: u64) {
        let rung = rung_for(tokens);
        for (count, of) in self.needs.iter_mut().zip(LADDER) {
            *count += u32::from(of == rung);
        }
        if self.seen() > REMEMBERED {
            for count in &mut self.needs {
                *count /= 2;
            }
        }
    }

    /// The model is loaded with `context`, or (`None`) not loaded any more.
    pub fn loaded_with(&mut self, context: Option<u32>) {
        self.resident = context;
    }

    /// The rung that holds 95 % of what was needed; none before the first need.
    pub fn needed(&self) -> Option<u32> {
        let seen = u64::from(self.seen());
        let mut held = 0;
        let rungs = self.needs.iter().zip(LADDER);
        let enough = |(count, rung): (&u32, u32)| {
            held += u64::from(*count);
            (held > 0 && held * 100 >= seen * HELD).then_some(rung)
        };
        rungs.into_iter().find_map(enough)
    }

    /// The context to load the model with, tokens.
    ///
    /// What is `configured` wins; nothing exceeds the `trained` context. `fits` says whether a
    /// context fits the GPU with all its slots; where that is unknown it is assumed, because a
    /// prompt that is cut is a certain loss and a spill is seen after the load. When the rung that
    /// is needed does not fit, the highest one below that does is taken, else the lowest.
    pub fn choose(
        &self,
        configured: Option<u32>,
        trained: Option<u32>,
        fits: impl Fn(u32) -> Option<bool>,
    ) -> u32 {
        let trained = trained.filter(|most| *most > 0).unwrap_or(u32::MAX);
        if let Some(configured) = configured {
            return configured.min(trained);
        }
        let wanted = self.wanted().min(trained);
        let fitting = |context: &u32| fits(*context) != Some(false);
        let below = || LADDER.into_iter().rev().filter(|rung| *rung < wanted);
        let chosen = std::iter::once(wanted)
            .chain(below())
            .find(fitting)
            .unwrap_or_else(|| wanted.min(LADDER[0]));
        self.resident
            .map_or(chosen, |resident| chosen.max(resident))
            .min(trained)
    }

    fn wanted(&self) -> u32 {
        let Some(needed) = self.needed() else {
            return CONTEXT_DEFAULT;
        };
        if self.seen() < TRUSTED {
            return needed.max(CONTEXT_DEFAULT);
        }
        needed
    }

    fn seen(&self) -> u32 {
        self.needs.iter().sum()
    }
}

/// What a request needed, tokens: its prompt (as estimated when it was cut) and its answer.
pub fn need_of(served: &Served) -> u64 {
    let prompt = if served.cut {
        served.estimated_tokens.max(served.prompt_tokens)
    } else {
        served.prompt_tokens
    };
    prompt.saturating_add(served.output_tokens.max(ANSWER_RESERVE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unknown(_: u32) -> Option<bool> {
        None
    }

    fn after(needs: &[u64]) -> ContextPlan {
        let mut plan = ContextPlan::default();
        for tokens in needs {
            plan.observe_need(*tokens);
        }
        plan
    }

    #[test]
    fn before_anything_is_known_the_default_is_used_capped_at_the_trained_context() {
        let plan = ContextPlan::default();
        assert_eq!(plan.choose(None, None, unknown), 16_384);
        assert_eq!(plan.choose(None, Some(4_096), unknown), 4_096);
    }

    #[test]
    fn what_is_configured_wins_even_where_it_does_not_fit() {
        let plan = after(&[60_000; 50]);
        assert_eq!(
            plan.choose(Some(10_000), Some(32_768), |_| Some(false)),
            10_000
        );
        assert_eq!(plan.choose(Some(65_536), Some(32_768), unknown), 32_768);
    }

    #[test]
    fn one_large_request_in_a_hundred_does_not_raise_the_rung() {
        let mut needs = vec![5_000; 99];
        needs.push(60_000);
        assert_eq!(after(&needs).choose(None, None, unknown), 8_192);
        needs.extend([60_000; 10]);
        assert_eq!(after(&needs).choose(None, None, unknown), 65_536);
    }

    #[test]
    fn a_few_small_requests_do_not_shrink_the_default_and_a_large_one_grows_it_at_once() {
        assert_eq!(after(&[100; 19]).choose(None, None, unknown), 16_384);
        assert_eq!(after(&[100; 20]).choose(None, None, unknown), 8_192);
        assert_eq!(after(&[20_000]).choose(None, None, unknown), 32_768);
    }

    #[test]
    fn a_rung_that_does_not_fit_gives_way_to_the_highest_that_does() {
        let plan = after(&[100_000; 30]);
        let up_to = |most: u32| move |context: u32| Some(context <= most);
        assert_eq!(plan.choose(None, None, up_to(40_000)), 32_768);
        assert_eq!(plan.choose(None, None, up_to(0)), 8_192);
    }

    #[test]
    fn a_resident_model_keeps_its_context_until_it_is_unloaded() {
        let mut plan = after(&[100; 40]);
        plan.loaded_with(Some(32_768));
        assert_eq!(plan.choose(None, None, unknown), 32_768);
        plan.loaded_with(None);
        assert_eq!(plan.choose(None, None, unknown), 8_192);
    }

    #[test]
    fn what_was_needed_long_ago_is_forgotten() {
        let mut plan = after(&[60_000; 500]);
        for _ in 0..3_000 {
            plan.observe_need(1_000);
        }
        assert_eq!(plan.choose(None, None, unknown), 8_192);
    }

    proptest! {
        #[test]
        fn more_need_never_means_a_smaller_context(
            needs in proptest::collection::vec(0_u64..2_000_000, 1..200),
            more in 1_u64..8,
            room in 0_u32..2_000_000,
            trained in proptest::option::of(1_u32..2_000_000),
        ) {
            let larger: Vec<u64> = needs.iter().map(|tokens| tokens * more).collect();
            let fits = |context: u32| Some(context <= room);
            let (few, many) = (after(&needs), after(&larger));
            let chosen = few.choose(None, trained, fits);
            prop_assert!(chosen <= many.choose(None, trained, fits));
            prop_assert!(chosen > 0 && chosen <= trained.unwrap_or(u32::MAX));
        }
    }
}
