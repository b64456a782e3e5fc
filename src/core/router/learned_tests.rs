//! What outcomes do to beliefs.

use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Values;

use super::*;
use crate::core::router::reward::{Ending, reward};
use crate::core::verify::VerifyOutcome;

fn lesson(model: &ModelName, ending: Ending) -> Lesson<'_> {
    Lesson {
        category: Category::Coding,
        model,
        reward: reward(ending, Rounds::default()),
        seconds: None,
        strategies: &[],
        cost: 0.0,
    }
}

const GREEN: Ending = Ending::Verified(VerifyOutcome::Passed);

fn mean(learned: &Learned, category: Category, model: &ModelName) -> f64 {
    let (good, bad) = learned.belief(category, model, 0.5);
    good / (good + bad)
}

#[test]
fn success_in_one_category_says_a_little_about_the_others() {
    let (model, mut learned) = (ModelName::from("a:1b"), Learned::default());
    for _ in 0..10 {
        learned.learn(&lesson(&model, GREEN));
    }
    let here = mean(&learned, Category::Coding, &model);
    let there = mean(&learned, Category::Testing, &model);
    assert!(here > there && there > 0.55, "{here} {there}");
}

#[test]
fn a_model_that_got_worse_is_noticed_within_fifty_outcomes() {
    let (model, mut learned) = (ModelName::from("a:1b"), Learned::default());
    for _ in 0..500 {
        learned.learn(&lesson(&model, GREEN));
    }
    for _ in 0..50 {
        learned.learn(&lesson(&model, Ending::Failed));
    }
    assert!(mean(&learned, Category::Coding, &model) < 0.5);
}

#[test]
fn sizes_are_believed_as_the_leaderboard_has_them() {
    let model = |parameters: u64| Model {
        name: "m:1".into(),
        digest: String::new(),
        size: 1,
        parameters: Some(parameters),
        parameter_size: String::new(),
        quantisation: String::new(),
        family: String::new(),
        context_length: None,
        capabilities: [].into(),
        remote: false,
        architecture: None,
        shown: None,
    };
    let table = [
        (500, 14),
        (1_500, 32),
        (3_000, 39),
        (7_000, 58),
        (14_000, 69),
        (32_000, 73),
    ];
    for (millions, percent) in table {
        let mean = prior_mean(&model(millions * 1_000_000)) * 100.0;
        assert!((mean - f64::from(percent)).abs() < 8.0, "{millions} {mean}");
    }
}

fn any_ending() -> impl Values<Value = Ending> {
    prop_oneof![
        Just(GREEN),
        Just(Ending::Verified(VerifyOutcome::Failed)),
        Just(Ending::Failed),
        Just(Ending::Kept),
        Just(Ending::Discarded),
    ]
}

proptest! {
    #[test]
    fn what_is_remembered_is_bounded_and_survives_the_store(
        outcomes in proptest::collection::vec((0_u32..200, any_ending()), 0..400)
    ) {
        let mut learned = Learned::default();
        for (number, ending) in outcomes {
            let model = ModelName::from(format!("m{number}:1b").as_str());
            learned.learn(&lesson(&model, ending));
        }
        prop_assert!(learned.models.len() <= MODELS_MAX);
        for cells in learned.categories.values() {
            prop_assert!(cells.len() <= MODELS_MAX);
            for tally in cells.values() {
                prop_assert!(tally.good >= 0.0 && tally.bad >= 0.0);
                // The sum of 3 × 0.98^n: no memory grows without limit.
                prop_assert!(tally.mass() <= 150.0);
            }
        }
        let text = serde_json::to_string(&learned).unwrap();
        prop_assert!(text.len() < 64 << 10, "{}", text.len());
        let again: Learned = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(again.models.len(), learned.models.len());
    }
}
