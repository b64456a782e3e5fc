//! What an outcome says about the model that had the attempt: 0 (of no use) to 1 (all one wants).
//!
//! Only what was verified counts: the verify command, the form of the edits, and what a human did
//! with the result. A human's word outweighs green tests, in both directions.
//!
//! Invariant: pure.

use crate::core::verify::VerifyOutcome;

/// Weight of a discard: three attempts' worth. One verified success and one discard leave a mean
/// below a quarter, so a discard outweighs green tests.
const DISCARD_WEIGHT: f64 = 3.0;
/// Weight of a result that nothing verified, or whose verification says nothing.
const UNVERIFIED_WEIGHT: f64 = 0.5;

/// How an attempt, or the task it had worked on, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is a result, and this is what the verify command said.
    Verified(VerifyOutcome),
    /// The attempt failed by its own fault: no result, out of time, over a quota.
    Failed,
    /// It was merged.
    Kept,
    /// A human sent it back.
    SentBack,
    /// A human threw it away.
    Discarded,
}

/// How the edits were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Answers whose edits could not be applied.
    pub malformed: u32,
}

/// A reward and how much it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reward {
    /// 0 to 1.
    pub value: f64,
    /// In attempts.
    pub weight: f64,
}

/// The reward of an ending.
///
/// 0.5 verified, 0.2 edits applied at once, 0.1 without corrections, 0.1 kept, 0.1 in time. What
/// becomes of a result is not known when it is verified: half of that part is given, and the merge
/// or discard counts by itself.
pub fn reward(ending: Ending, rounds: Rounds) -> Reward {
    let (value, weight) = match ending {
        Ending::Verified(outcome) => verified(outcome, rounds),
        Ending::Failed | Ending::SentBack => (0.0, 1.0),
        Ending::Kept => (1.0, 1.0),
        Ending::Discarded => (0.0, DISCARD_WEIGHT),
    };
    Reward { value, weight }
}

fn verified(outcome: VerifyOutcome, rounds: Rounds) -> (f64, f64) {
    let first_time = if rounds.malformed == 0 { 0.2 } else { 0.0 };
    let corrections = if rounds.malformed == 0 { 0.1 } else { 0.0 };
    let in_time = 0.1;
    let form = first_time + corrections + in_time + 0.05;
    match outcome {
        VerifyOutcome::NotVerified | VerifyOutcome::Unclear => (0.25 + form, UNVERIFIED_WEIGHT),
        VerifyOutcome::Passed | VerifyOutcome::NoNewFailure => (0.5 + form, 1.0),
        VerifyOutcome::Failed => (form - 0.05, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(ending: Ending, malformed: u32) -> f64 {
        reward(ending, Rounds { malformed }).value
    }

    #[test]
    fn tests_that_pass_are_worth_more_than_any_form() {
        let passed = value(Ending::Verified(VerifyOutcome::Passed), 3);
        let failed = value(Ending::Verified(VerifyOutcome::Failed), 0);
        assert!(passed > failed, "{passed} {failed}");
        assert!(value(Ending::Verified(VerifyOutcome::Passed), 0) > passed);
        assert!((value(Ending::Failed, 0)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_discard_outweighs_green_tests() {
        let green = reward(Ending::Verified(VerifyOutcome::Passed), Rounds::default());
        let discard = reward(Ending::Discarded, Rounds::default());
        let good = green.value * green.weight + discard.value * discard.weight;
        assert!(good / (green.weight + discard.weight) < 0.25);
    }
}
