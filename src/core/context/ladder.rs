//! The rungs: few enough that models rarely change between them, each twice the one below.

/// The contexts that are chosen by themselves, tokens.
pub const LADDER: [u32; 8] = [
    8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576,
];

/// The context before anything is known, tokens: Aider's own prompts (system, repository map,
/// a file or two) rarely need more, and an 8B model still fits an 8 GiB card with it.
pub const CONTEXT_DEFAULT: u32 = 16_384;

/// The smallest rung that holds `tokens`; the highest when none does.
pub fn rung_for(tokens: u64) -> u32 {
    let holds = |rung: &u32| u64::from(*rung) >= tokens;
    LADDER.into_iter().find(holds).unwrap_or(TOP)
}

/// The next rung below `context`; none below the lowest.
pub fn rung_below(context: u32) -> Option<u32> {
    LADDER.into_iter().rev().find(|rung| *rung < context)
}

const TOP: u32 = LADDER[LADDER.len() - 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_is_the_smallest_that_holds_what_is_needed() {
        let cases = [
            (0, 8_192),
            (8_192, 8_192),
            (8_193, 16_384),
            (100_000, 131_072),
            (u64::MAX, 1_048_576),
        ];
        for (tokens, rung) in cases {
            assert_eq!(rung_for(tokens), rung, "{tokens}");
        }
    }

    #[test]
    fn the_rung_below_is_smaller_and_the_lowest_has_none() {
        assert_eq!(rung_below(16_384), Some(8_192));
        assert_eq!(rung_below(20_000), Some(16_384));
        assert_eq!(rung_below(8_192), None);
    }
}
