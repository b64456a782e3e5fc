//! What the table of observations promises: sources, lines through what was seen, bounds.

use proptest::prelude::*;

use super::super::formula::tests::llama;
use super::*;
use crate::core::model::ModelName;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(in crate::core::vram) fn model(architecture: Option<super::super::Architecture>) -> Model {
    Model {
        name: ModelName::new("llama3.1:8b"),
        digest: "d".into(),
        size: 4_340 * MIB,
        parameters: None,
        parameter_size: "8.0B".into(),
        quantisation: "Q4_0".into(),
        family: "llama".into(),
        context_length: Some(131_072),
        capabilities: std::collections::BTreeSet::new(),
        remote: false,
        architecture,
        shown: None,
    }
}

fn called(digest: &str) -> Model {
    Model {
        digest: digest.into(),
        ..model(None)
    }
}

fn shape(context: u32, slots: u16) -> Shape {
    Shape {
        context,
        slots,
        kv_cache: KvCache::F16,
    }
}

fn local() -> EndpointName {
    "local".into()
}

#[test]
fn before_the_first_load_the_formula_has_a_margin_of_15_percent() {
    let need = VramTable::default().need(&local(), &model(Some(llama())), shape(32_768, 1));
    let exact = 4_340 * MIB + 4 * GIB + 271_056_896 + 457 * MIB;
    assert_eq!(need.source, NeedSource::Formula);
    assert_eq!(need.size, exact * 115 / 100);
}

#[test]
fn a_model_whose_build_is_unknown_is_guessed_from_its_file() {
    let need = VramTable::default().need(&local(), &model(None), shape(32_768, 1));
    assert_eq!(need.source, NeedSource::FileSize);
    assert_eq!(need.size, 2 * 4_340 * MIB);
}

#[test]
fn what_was_observed_is_taken_as_it_is_on_that_endpoint_only() {
    let mut table = VramTable::default();
    assert!(table.observe(&local(), &called("d"), shape(8_192, 2), 7 * GIB));
    assert!(!table.observe(&local(), &called("d"), shape(8_192, 2), 7 * GIB));
    let one = model(Some(llama()));
    let need = table.need(&local(), &one, shape(8_192, 2));
    assert_eq!((need.size, need.source), (7 * GIB, NeedSource::Observed));
    // As many tokens in one slot take as much.
    assert_eq!(table.need(&local(), &one, shape(16_384, 1)).size, 7 * GIB);
    let elsewhere = table.need(&"other".into(), &one, shape(8_192, 2));
    assert_eq!(elsewhere.source, NeedSource::Formula);
}

#[test]
fn one_observation_shifts_the_formula_and_two_replace_it() {
    let mut table = VramTable::default();
    let one = model(Some(llama()));
    table.observe(&local(), &called("d"), shape(8_192, 1), 6 * GIB);
    // The formula's slope with its margin: 1.15 × 128 KiB a token, so 1.15 GiB for 8,192 more.
    let need = table.need(&local(), &one, shape(16_384, 1));
    assert_eq!(need.source, NeedSource::Fitted);
    assert!(
        need.size.abs_diff(6 * GIB + GIB * 115 / 100) < MIB,
        "{}",
        need.size
    );
    table.observe(&local(), &called("d"), shape(32_768, 1), 9 * GIB);
    // 3 GiB for 24,576 tokens: 1 GiB for 8,192.
    assert_eq!(table.need(&local(), &one, shape(16_384, 1)).size, 7 * GIB);
    assert_eq!(table.need(&local(), &one, shape(65_536, 1)).size, 13 * GIB);
}

#[test]
fn one_observation_below_the_formula_bends_the_formula() {
    // 6,340 MiB for 65,536 tokens: at most 2,000 MiB are context, whatever the build says.
    let mut table = VramTable::default();
    let one = model(Some(llama()));
    table.observe(&local(), &one, shape(65_536, 1), 6_340 * MIB);
    let need = |context| table.need(&local(), &one, shape(context, 1)).size;
    assert_eq!(need(32_768), 5_340 * MIB);
    assert_eq!(need(131_072), 8_340 * MIB);
}

#[test]
fn a_report_below_that_of_a_smaller_context_is_not_believed() {
    let mut table = VramTable::default();
    table.observe(&local(), &called("d"), shape(8_192, 1), 6 * GIB);
    table.observe(&local(), &called("d"), shape(131_072, 1), 3 * GIB);
    let need = table.need(&local(), &model(Some(llama())), shape(131_072, 1));
    assert_eq!(need.size, 6 * GIB);
}

#[test]
fn the_table_is_read_back_as_it_was_written() {
    let mut table = VramTable::default();
    table.observe(&local(), &called("d"), shape(8_192, 1), 6 * GIB);
    table.observe(
        &"other".into(),
        &called("e"),
        Shape {
            kv_cache: KvCache::Q8_0,
            ..shape(4_096, 4)
        },
        GIB,
    );
    let text = serde_json::to_string(&table).unwrap();
    let again: VramTable = serde_json::from_str(&text).unwrap();
    assert_eq!(again, table);
}

#[test]
fn models_seen_long_ago_are_forgotten() {
    let mut table = VramTable::default();
    for number in 0..=MODELS_MAX {
        table.observe(&local(), &called(&number.to_string()), shape(8_192, 1), GIB);
    }
    assert!(!table.knows(&local(), "0"));
    assert!(table.knows(&local(), "1"));
    assert_eq!(table.models.len(), MODELS_MAX);
}

#[test]
fn the_same_bytes_with_other_slots_say_nothing_about_what_a_slot_takes() {
    let mut table = VramTable::default();
    let one = model(Some(llama()));
    table.observe(&local(), &one, shape(16_384, 1), 7 * GIB);
    let expected = table.need(&local(), &one, shape(16_384, 4));
    assert!(expected.size > 8 * GIB, "three more slots: {expected:?}");
    // Somebody took it for two slots meanwhile; the last word counts.
    table.observe(&local(), &one, shape(16_384, 2), 7 * GIB);
    table.observe(&local(), &one, shape(16_384, 1), 7 * GIB);
    assert_eq!(table.need(&local(), &one, shape(16_384, 4)), expected);
}

#[test]
fn stored_rows_of_one_load_with_several_slots_are_read_as_the_one_with_the_fewest() {
    let row = |context: u32, slots: u16, size: u64| {
        serde_json::json!({
            "endpoint": "local", "digest": "d", "size": size,
            "shape": {"context": context, "slots": slots, "kv_cache": "f16"},
        })
    };
    let read = |rows: Vec<serde_json::Value>| -> VramTable {
        serde_json::from_value(serde_json::Value::Array(rows)).unwrap()
    };
    let probed = vec![
        row(16_384, 1, 7 * GIB),
        row(16_384, 2, 7 * GIB),
        row(16_384, 4, 7 * GIB),
        row(32_768, 1, 9 * GIB),
    ];
    let told = vec![row(16_384, 1, 7 * GIB), row(32_768, 1, 9 * GIB)];
    let one = model(Some(llama()));
    for slots in [1, 2, 4] {
        let need = |table: &VramTable| table.need(&local(), &one, shape(32_768, slots));
        assert_eq!(
            need(&read(probed.clone())),
            need(&read(told.clone())),
            "{slots}"
        );
    }
    let differing = vec![row(16_384, 1, 7 * GIB), row(16_384, 2, 9 * GIB)];
    let need = read(differing).need(&local(), &one, shape(16_384, 2));
    assert_eq!((need.size, need.source), (9 * GIB, NeedSource::Observed));
}

proptest! {
    #[test]
    fn whatever_was_reported_more_tokens_never_need_less(
        reports in prop_oneof![
            proptest::collection::vec((1_u32..300_000, 1_u16..9, 1_u64..1 << 37), 0..3),
            proptest::collection::vec((1_u32..300_000, 1_u16..9, 1_u64..1 << 37), 0..40),
        ],
        (context, more) in (1_u32..300_000, 0_u32..300_000),
        (slots, more_slots) in (1_u16..9, 0_u16..9),
        is_known: bool,
        window in proptest::option::of(1_u32..100_000),
    ) {
        let mut table = VramTable::default();
        for (context, slots, size) in reports {
            table.observe(&local(), &called("d"), shape(context, slots), size);
        }
        let build = super::super::Architecture { window, window_layers: Some(30), ..llama() };
        let one = model(is_known.then_some(build));
        let need = |context, slots| table.need(&local(), &one, shape(context, slots)).size;
        let small = need(context, slots);
        prop_assert!(small <= need(context + more, slots));
        prop_assert!(small <= need(context, slots + more_slots));
        let shapes: Vec<_> = table.models.values().map(|model| model.sizes.len()).collect();
        prop_assert!(shapes.iter().all(|count| *count <= SHAPES_MAX));
    }
}
