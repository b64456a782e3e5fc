//! What a place is predicted to take, by what the gateway tells and what was promised.

use super::*;
use crate::core::runners::Ahead;

#[test]
fn what_the_gateway_tells_of_a_place_is_counted_once() {
    let mut squad = squad(&[("a", &[("m:7b", 7)])]);
    let load = squad.load("a", "m:7b");
    load.predicted_wait_ms = 5_000;
    load.load_ms = Some(6_000);
    load.ahead = Some(Ahead {
        queue_ms: 1_000,
        load_ms: 4_000,
        evict_ms: 500,
    });
    let choice = choose(&ask(Strategy::LeastLoaded), &squad.world(), &squad.learned).unwrap();
    let chosen = choice.routing.chosen;
    assert_eq!((chosen.wait_ms, chosen.load_ms), (1_000, 4_500));
}

#[test]
fn a_model_that_nobody_has_asked_for_goes_where_there_is_room_beside_the_others() {
    let mut squad = squad(&[("a", &[("m:7b", 7)]), ("b", &[("m:7b", 7)])]);
    let mut endpoint = |name: &str, free| {
        let load = squad.gateway.endpoints.entry(name.into()).or_default();
        load.free = free;
        load.stranger = Some(Ahead {
            queue_ms: 9_000,
            load_ms: 0,
            evict_ms: 2_000,
        });
    };
    endpoint("a", Some(4_100_000_000));
    endpoint("b", Some(4_300_000_000));
    let choice = choose(&ask(Strategy::LeastLoaded), &squad.world(), &squad.learned).unwrap();
    // 4.2 GB at 1 GB/s.
    let times = |it: &Considered| (it.endpoint.clone(), it.wait_ms, it.load_ms);
    assert_eq!(times(&choice.routing.chosen), ("b".into(), 0, 4_200));
    assert_eq!(times(&choice.routing.others[0]), ("a".into(), 9_000, 6_200));
}

fn times_of(choice: &Choice, endpoint: &str, model: &str) -> (u64, u64) {
    let routing = &choice.routing;
    let mut all = std::iter::once(&routing.chosen).chain(&routing.others);
    let it = all.find(|it| it.endpoint == endpoint && it.model == model);
    it.map(|it| (it.wait_ms, it.load_ms)).unwrap()
}

/// A model of 7 billion parameters has 4.2 GB here: 4,200 ms to load, 10.5 ms to write a token and a
/// tenth to read one, so one request takes 6,000 × 1.05 + 800 × 10.5 = 14,700 ms.
#[test]
fn what_was_promised_is_waited_for_and_its_load_is_caused_once() {
    let mut squad = squad(&[("a", &[("m:7b", 7), ("n:7b", 7)]), ("b", &[("m:7b", 7)])]);
    let promise = |endpoint: &str, model: &str| Promise {
        endpoint: endpoint.into(),
        model: model.into(),
    };
    let choose = |squad: &Squad, promised: &[Promise]| {
        let ask = ask(Strategy::LeastLoaded);
        choose_after(&ask, &squad.world(), squad.known(promised)).unwrap()
    };
    let one = [promise("a", "m:7b")];
    let choice = choose(&squad, &one);
    assert_eq!(times_of(&choice, "a", "m:7b"), (4_200 + 14_700, 0));
    assert_eq!(
        times_of(&choice, "a", "n:7b"),
        (4_200 + 14_700, 4_200),
        "no room beside"
    );
    assert_eq!(choice.endpoint, "b".into());
    let both = [
        promise("a", "m:7b"),
        promise("b", "m:7b"),
        promise("a", "m:7b"),
    ];
    let choice = choose(&squad, &both);
    assert_eq!(times_of(&choice, "a", "m:7b"), (4_200 + 2 * 14_700, 0));
    assert_eq!(times_of(&choice, "b", "m:7b"), (4_200 + 14_700, 0));

    squad.load("a", "m:7b").slots = 2;
    let choice = choose(&squad, &one);
    assert_eq!(times_of(&choice, "a", "m:7b"), (4_200, 0), "a slot is left");
    squad.gateway.endpoints.get_mut(&"a".into()).unwrap().free = Some(8_400_000_000);
    let choice = choose(&squad, &one);
    assert_eq!(times_of(&choice, "a", "n:7b"), (0, 4_200), "both have room");
}
