//! The selection rule and the differences, as tables.

use std::collections::BTreeSet;

use super::CatalogueChange as Change;
use super::*;
use crate::core::Timestamp;
use crate::core::model::Capability;

fn model(name: &str, billions: u64, context: u32) -> Model {
    Model {
        name: name.into(),
        digest: format!("digest of {name}"),
        size: billions * 600_000_000,
        parameters: Some(billions * 1_000_000_000),
        parameter_size: format!("{billions}B"),
        quantisation: "Q4_K_M".into(),
        family: "llama".into(),
        context_length: Some(context),
        capabilities: BTreeSet::from([Capability::Completion]),
        remote: false,
        architecture: None,
        shown: None,
    }
}

fn embedding(name: &str) -> Model {
    Model {
        capabilities: BTreeSet::from([Capability::Embedding]),
        ..model(name, 99, 1 << 20)
    }
}

fn residency(context: u32, expires_at: u64) -> Residency {
    Residency {
        size: 5,
        size_vram: 5,
        context_length: Some(context),
        expires_at: Some(Timestamp(expires_at)),
    }
}

fn endpoint(models: &[Model], resident: &[(&str, u32)]) -> Endpoint {
    Endpoint {
        health: EndpointHealth::Ok,
        models: models.iter().map(|m| (m.name.clone(), m.clone())).collect(),
        resident: resident
            .iter()
            .map(|(name, context)| ((*name).into(), residency(*context, 1)))
            .collect(),
        ..Endpoint::new("http://127.0.0.1:1")
    }
}

fn catalogue(endpoints: Vec<(&str, Endpoint)>) -> Catalogue {
    Catalogue {
        endpoints: endpoints.into_iter().map(|(n, e)| (n.into(), e)).collect(),
    }
}

fn pick(
    catalogue: &Catalogue,
    wanted: Option<&str>,
    default: Option<&str>,
    need: u32,
) -> Result<String, NoModel> {
    let (wanted, default) = (wanted.map(ModelName::from), default.map(ModelName::from));
    pick_model(catalogue, wanted.as_ref(), default.as_ref(), need)
        .map(|(endpoint, model)| format!("{endpoint}/{model}"))
}

fn two_endpoints() -> Catalogue {
    let small = model("small:1b", 1, 8_192);
    let large = model("large:70b", 70, 32_768);
    catalogue(vec![
        (
            "a",
            endpoint(&[small.clone(), large.clone(), embedding("e:1b")], &[]),
        ),
        ("b", endpoint(&[small, large], &[("small:1b", 4_096)])),
    ])
}

#[test]
fn the_rule_is_applied_in_order() {
    let squad = two_endpoints();
    let cases = [
        (Some("large:70b"), Some("small:1b"), 0, "a/large:70b"),
        (Some("SMALL:1b"), None, 0, "b/small:1b"),
        (None, Some("large:70b"), 0, "b/small:1b"),
        (None, Some("large:70b"), 16_384, "a/large:70b"),
        (None, Some("gone:1b"), 16_384, "a/large:70b"),
        (None, None, 16_384, "a/large:70b"),
    ];
    for (wanted, default, need, expected) in cases {
        let picked = pick(&squad, wanted, default, need);
        assert_eq!(
            picked.as_deref(),
            Ok(expected),
            "{wanted:?} {default:?} {need}"
        );
    }
}

#[test]
fn a_resident_model_with_room_goes_before_a_larger_one_without() {
    let models = [model("small:1b", 1, 65_536), model("large:70b", 70, 65_536)];
    let resident = [("small:1b", 16_384), ("large:70b", 4_096)];
    let squad = catalogue(vec![("a", endpoint(&models, &resident))]);
    assert_eq!(pick(&squad, None, None, 16_384).unwrap(), "a/small:1b");
    assert_eq!(pick(&squad, None, None, 4_096).unwrap(), "a/large:70b");
}

#[test]
fn a_model_that_runs_elsewhere_is_used_only_when_named() {
    let remote = Model {
        remote: true,
        ..model("huge:cloud", 700, 1 << 17)
    };
    let squad = catalogue(vec![(
        "a",
        endpoint(&[remote, model("own:1b", 1, 8_192)], &[]),
    )]);
    assert_eq!(pick(&squad, None, None, 0).unwrap(), "a/own:1b");
    assert_eq!(
        pick(&squad, Some("huge:cloud"), None, 0).unwrap(),
        "a/huge:cloud"
    );
}

#[test]
fn every_way_to_have_no_model_says_why() {
    let unknown = |why: &str| Endpoint {
        health: EndpointHealth::Unknown { why: why.into() },
        ..endpoint(&[model("m:1b", 1, 8_192)], &[("m:1b", 4_096)])
    };
    let none_answers = catalogue(vec![("a", unknown("refused")), ("b", unknown("timed out"))]);
    let only_embeddings = catalogue(vec![("a", endpoint(&[embedding("e:1b")], &[]))]);
    let squad = two_endpoints();
    let cases = [
        (&Catalogue::default(), None, 0, "no endpoint is configured"),
        (
            &none_answers,
            None,
            0,
            "no endpoint answers: a: refused; b: timed out",
        ),
        (
            &only_embeddings,
            None,
            0,
            "no endpoint has a model that can chat",
        ),
        (&only_embeddings, Some("e:1b"), 0, "model e:1b cannot chat"),
        (
            &squad,
            Some("no"),
            0,
            "model no:latest is not installed on any endpoint that answers",
        ),
        (
            &squad,
            Some("small:1b"),
            9_000,
            "model small:1b was trained for 8192 tokens of context, 9000 are needed",
        ),
        (
            &squad,
            None,
            99_000,
            "no installed model was trained for 99000 tokens of context",
        ),
    ];
    for (squad, wanted, need, expected) in cases {
        assert_eq!(
            pick(squad, wanted, None, need).unwrap_err().to_string(),
            expected
        );
    }
}

#[test]
fn an_endpoint_that_is_unknown_is_passed_over() {
    let mut squad = two_endpoints();
    let resident = squad.endpoints.get_mut(&"b".into()).unwrap();
    resident.health = EndpointHealth::not_asked();
    assert_eq!(
        pick(&squad, Some("small:1b"), None, 0).unwrap(),
        "a/small:1b"
    );
}

#[test]
fn nothing_differs_when_only_the_expiry_moved() {
    let old = two_endpoints();
    let mut new = old.clone();
    let moved = new.endpoints.get_mut(&"b".into()).unwrap();
    moved
        .resident
        .insert("small:1b".into(), residency(4_096, 99));
    assert_eq!(diff(&old, &new), []);
}

#[test]
fn each_kind_of_difference_is_told_once() {
    let (here, gone, fresh) = ("a", "b", "c");
    let old = catalogue(vec![
        (
            here,
            endpoint(
                &[model("x:1b", 1, 1), model("y:1b", 1, 1)],
                &[("x:1b", 1), ("y:1b", 1)],
            ),
        ),
        (gone, endpoint(&[], &[])),
    ]);
    let renewed = Model {
        digest: "other".into(),
        ..model("x:1b", 1, 1)
    };
    let after = Endpoint {
        health: EndpointHealth::Unknown {
            why: "refused".into(),
        },
        ..endpoint(&[renewed, model("z:1b", 1, 1)], &[("x:1b", 2)])
    };
    let new = catalogue(vec![(here, after), (fresh, endpoint(&[], &[]))]);
    let on_a = |name: &str| (EndpointName::from(here), ModelName::from(name));
    let ((e1, y), (e2, x), (e3, z)) = (on_a("y:1b"), on_a("x:1b"), on_a("z:1b"));
    let expected = vec![
        Change::EndpointRemoved {
            endpoint: gone.into(),
        },
        Change::EndpointUnknown {
            endpoint: here.into(),
            why: "refused".into(),
        },
        Change::ModelRemoved {
            endpoint: e1.clone(),
            model: y.clone(),
        },
        Change::ModelChanged {
            endpoint: e2.clone(),
            model: x.clone(),
        },
        Change::ModelAdded {
            endpoint: e3,
            model: z,
        },
        Change::ModelEvicted {
            endpoint: e1,
            model: y,
        },
        Change::ModelResident {
            endpoint: e2,
            model: x,
        },
        Change::EndpointAdded {
            endpoint: fresh.into(),
        },
        Change::EndpointReachable {
            endpoint: fresh.into(),
        },
    ];
    assert_eq!(diff(&old, &new), expected);
}
