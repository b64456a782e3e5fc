//! Tests of the wire types: every method survives, every damaged line is refused.

use proptest::prelude::*;

use super::*;

fn round_trip(request: &Request) -> Numbered {
    decode_request(&encode_request(7, request).unwrap()).unwrap()
}

fn spec() -> JobSpec {
    JobSpec {
        id: "agent-1-1".into(),
        argv: vec!["sh".into()],
        env: BTreeMap::from([("A".into(), "b".into())]),
        cwd: "/tmp".into(),
        output: Output::Pty { cols: 80, rows: 24 },
        nice: 3,
        time_limit: Some(Duration::from_millis(1_500)),
        meta: "{}".into(),
        origin: Origin::Program,
        limits: Limits::default(),
    }
}

#[test]
fn every_method_has_a_name_and_survives_the_wire() {
    let id = || "j".to_owned();
    let requests = [
        Request::Hello { epoch: Epoch(3) },
        Request::Spawn(Box::new(spec())),
        Request::Jobs {},
        Request::Attach { id: id() },
        Request::Detach { id: id() },
        Request::Write {
            id: id(),
            bytes: vec![0, 255, 10],
        },
        Request::Deliver {
            id: id(),
            key: "k".into(),
            bytes: b"hello\n".to_vec(),
        },
        Request::Resize {
            id: id(),
            cols: 1,
            rows: 2,
        },
        Request::Signal {
            id: id(),
            signal: JobSignal::Int,
        },
        Request::Stop {
            id: id(),
            signal: JobSignal::Term,
            grace_ms: 5,
        },
        Request::Forget { id: id() },
        Request::SetMeta {
            id: id(),
            meta: "m".into(),
        },
        Request::Gateway {},
        Request::Zygote(Box::new(ZygoteSpec {
            argv: vec!["python3".into(), "zygote.py".into()],
            env: BTreeMap::new(),
            cwd: "/".into(),
            log: "/log".into(),
        })),
        Request::Shutdown {},
        Request::Upgrade {
            program: "/bin/new".into(),
        },
        Request::Ready {},
        Request::Upgraded {},
        Request::Limit(SquadLimits { cpu: 250 }),
    ];
    assert_eq!(requests.len(), Request::METHODS.len());
    for request in requests {
        assert_eq!(round_trip(&request), Numbered { id: 7, request });
    }
}

#[test]
fn requests_of_version_1_are_understood_for_ever() {
    let line = br#"{"id":1,"v":1,"method":"spawn","params":{"id":"a","argv":["sh"],"env":{},
        "cwd":"/","output":{"pty":{"cols":80,"rows":24}},"later":true},"later":1}"#;
    let Ok(Numbered {
        request: Request::Spawn(spec),
        ..
    }) = decode_request(line)
    else {
        panic!("not understood");
    };
    assert_eq!(spec.output, Output::Pty { cols: 80, rows: 24 });
    assert_eq!(spec.time_limit, None);
}

#[test]
fn an_unknown_method_is_refused_under_its_number() {
    let (id, refusal) = decode_request(br#"{"id":9,"v":4,"method":"dance"}"#).unwrap_err();
    assert_eq!((id, refusal.kind), (9, RefusalKind::UnknownMethod));
}

#[test]
fn an_event_of_a_later_version_is_no_error() {
    let decoded = decode_from_keeper(br#"{"event":"eclipse","x":1}"#).unwrap();
    assert_eq!(decoded, FromKeeper::UnknownEvent);
}

#[test]
fn a_refusal_of_a_later_version_keeps_its_words() {
    let line = br#"{"id":2,"error":{"kind":"tired","message":"too tired"}}"#;
    let FromKeeper::Reply {
        result: Err(refusal),
        ..
    } = decode_from_keeper(line).unwrap()
    else {
        panic!("not a refusal");
    };
    assert_eq!(
        (refusal.kind, refusal.message.as_str()),
        (RefusalKind::Other, "too tired")
    );
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_fatal(line in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode_request(&line).is_err());
        prop_assert!(decode_from_keeper(&line).is_err());
    }

    #[test]
    fn a_damaged_request_never_panics(at in 0usize..200, with in any::<u8>()) {
        let mut line = encode_request(1, &Request::Spawn(Box::new(spec()))).unwrap();
        let at = at % line.len();
        line[at] = with;
        // Either it is still a request, or it is refused.
        match decode_request(&line) {
            Ok(numbered) => prop_assert!(matches!(numbered.request, Request::Spawn(_))),
            Err((_, refusal)) => prop_assert!(!refusal.message.is_empty()),
        }
    }

    #[test]
    fn any_bytes_can_be_typed(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let request = Request::Write { id: "j".into(), bytes };
        prop_assert_eq!(round_trip(&request).request, request);
    }
}
