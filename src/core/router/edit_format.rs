//! How a model is to write its edits: whole files while they are small, differences when that is
//! cheaper, counting the answers that will not apply.
//!
//! The expected number of tokens until an edit is applied decides. A whole file costs its length; a
//! difference costs a few hundred tokens, and each answer that does not keep to the format another
//! round. How often that happens is learned for each model and size of file.
//!
//! Invariant: pure.

use super::learned::{Learned, Tally};
use crate::core::model::{Model, parse_parameter_size};

/// Bytes a token; source code lies between 3 and 4.
const BYTES_PER_TOKEN: f64 = 3.5;
/// Tokens of a difference: three search and replace blocks.
const DIFFERENCE_TOKENS: f64 = 500.0;
/// Tokens that a round more costs: the complaint, the same files read again, another try.
const ROUND_TOKENS: f64 = 1_500.0;
/// Share of whole files that apply (Aider's leaderboard: 97 to 100 %).
const WHOLE_APPLIES: f64 = 0.98;
/// Mass of what is assumed, in answers.
const MASS: f64 = 10.0;
/// Files up to this many bytes are small: 200 lines.
const SMALL: u64 = 8_192;

/// The cheaper format for files of which the largest has `largest` bytes; none where no file is
/// known: Aider then decides by the model.
pub fn edit_format(model: &Model, largest: Option<u64>, learned: &Learned) -> Option<&'static str> {
    let largest = largest?;
    let record = learned.models.get(&model.name);
    let applies = |format: &str, prior: f64| {
        let seen = record.and_then(|record| record.formats.get(&format_key(format, largest)));
        seen.copied()
            .unwrap_or_else(Tally::default)
            .mean(prior, MASS)
    };
    let cost = |tokens: f64, applies: f64| (tokens + (1.0 - applies) * ROUND_TOKENS) / applies;
    let whole = cost(
        largest as f64 / BYTES_PER_TOKEN,
        applies("whole", WHOLE_APPLIES),
    );
    let difference = cost(DIFFERENCE_TOKENS, applies("diff", differences_apply(model)));
    Some(if difference < whole { "diff" } else { "whole" })
}

/// Under which name the form of edits is remembered.
pub fn format_key(format: &str, largest: u64) -> String {
    let size = if largest <= SMALL { "small" } else { "large" };
    format!("{format}/{size}")
}

/// Share of differences that apply, by size: 0.35 + 0.12 × log₂(billions).
///
/// Aider's leaderboard has 95 % for a 32B model that is good at it and 74 to 89 % for 70B models
/// that are not; smaller ones are listed with whole files because they fail at differences.
fn differences_apply(model: &Model) -> f64 {
    let counted = model.parameters;
    let parameters = counted.or_else(|| parse_parameter_size(&model.parameter_size));
    let billions = parameters.map_or(7.0, |count| count as f64 / 1e9).max(0.1);
    (0.35 + 0.12 * billions.log2()).clamp(0.2, 0.95)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::router::learned::FormatUse;
    use crate::core::router::reward::Rounds;

    fn model(billions: u64) -> Model {
        Model {
            name: "m:1".into(),
            digest: String::new(),
            size: 1,
            parameters: Some(billions * 1_000_000_000),
            parameter_size: String::new(),
            quantisation: String::new(),
            family: String::new(),
            context_length: None,
            capabilities: [].into(),
            remote: false,
            architecture: None,
            shown: None,
        }
    }

    fn format(billions: u64, largest: u64) -> &'static str {
        edit_format(&model(billions), Some(largest), &Learned::default()).unwrap()
    }

    #[test]
    fn small_files_are_written_whole_and_large_ones_by_difference() {
        assert_eq!((format(7, 1_000), format(7, 40_000)), ("whole", "diff"));
        assert_eq!((format(32, 1_000), format(32, 8_000)), ("whole", "diff"));
        assert_eq!(format(1, 8_000), "whole");
        assert_eq!(edit_format(&model(7), None, &Learned::default()), None);
    }

    #[test]
    fn a_model_that_cannot_write_differences_writes_whole_files() {
        let mut learned = Learned::default();
        let largest = 10_000;
        assert_eq!(
            edit_format(&model(7), Some(largest), &learned),
            Some("diff")
        );
        for _ in 0..10 {
            learned.formed(&FormatUse {
                model: &"m:1".into(),
                key: format_key("diff", largest),
                rounds: Rounds { malformed: 3 },
            });
        }
        assert_eq!(
            edit_format(&model(7), Some(largest), &learned),
            Some("whole")
        );
        assert_eq!(
            edit_format(&model(7), Some(1 << 20), &learned),
            Some("diff")
        );
    }
}
