//! What endpoints do wrong, and what a client sees of it: nothing where it can be helped, never half
//! an answer for a whole one, and no request twice after its first byte.

use std::sync::Arc;

use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::runners::BreakerState;
use warpsquad::core::served::Outcome;
use warpsquad::gateway::{GatewaySettings, Patience};

use super::world::{World, chat, read};

/// What tells Aider not to ask again.
const FINAL: &str = "Invalid response object from API";

/// One endpoint that does this to every chat.
fn always(fault: &str) -> String {
    format!("[[fault]]\nprompt = \"@sim\"\n{fault}\n")
}

/// One endpoint that does this to its first chat.
fn once(fault: &str) -> String {
    format!("[[fault]]\nprompt = \"@sim\"\ntimes = 1\n{fault}\n")
}

#[tokio::test]
async fn a_fault_before_the_first_byte_is_nobodys_business_but_ours() {
    for fault in [
        "kind = \"status\"\nstatus = 500\nmessage = \"llama-server process has terminated\"",
        "kind = \"status\"\nstatus = 503\nmessage = \"server busy, please try again.\"",
        "kind = \"refuse\"",
        "kind = \"empty\"",
        "kind = \"error-line\"\nafter = 0",
        "kind = \"cut\"\nafter = 0",
    ] {
        let mut world = World::new(&[&once(fault)]).await;
        drop(world.agent("t", "coder:7b"));
        let answer = world.chat("t", "coder:7b", "@sim say hello").await;
        assert_eq!(answer.status(), 200, "{fault}");
        let (text, last) = read(answer).await;
        assert!(text.contains("hello"), "{fault}: {last}");
        let record = world.record().await;
        assert_eq!(
            (record.outcome, record.tries),
            (Outcome::Done, 2),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn another_endpoint_serves_what_the_first_one_fails() {
    let broken = always("kind = \"status\"\nstatus = 500\nmessage = \"CUDA error\"");
    let mut world = World::new(&[&broken, ""]).await;
    drop(world.agent("t", "coder:7b"));
    for _ in 0..4 {
        let (text, last) = read(world.chat("t", "coder:7b", "@sim say hello").await).await;
        assert!(text.contains("hello"), "{last}");
        assert_eq!(world.record().await.endpoint.as_str(), "e1");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so_and_is_not_asked_again() {
    for (fault, said) in [
        ("kind = \"cut\"\nafter = 2", ""),
        ("kind = \"no-done\"\nafter = 2", ""),
        (
            "kind = \"error-line\"\nafter = 2\nmessage = \"boom\"",
            "boom",
        ),
        ("kind = \"runner-killed\"\nafter = 2", "unexpected EOF"),
    ] {
        let mut world = World::new(&[&once(fault)]).await;
        drop(world.agent("t", "coder:7b"));
        let answer = world
            .chat("t", "coder:7b", "@sim say one two three four five six")
            .await;
        let (text, last) = read(answer).await;
        assert!(!text.is_empty(), "{fault}");
        let error = last["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty() && error.contains(said), "{fault}: {last}");
        assert!(!error.contains(FINAL), "Aider may ask again: {error}");
        let record = world.record().await;
        assert_eq!(record.tries, 1, "{fault}");
        assert!(matches!(record.outcome, Outcome::Broken { .. }), "{fault}");
    }
}

#[tokio::test]
async fn a_final_verdict_is_given_again_without_asking_the_endpoint() {
    let broken = always("kind = \"status\"\nstatus = 400\nmessage = \"bad options\"");
    let mut world = World::new(&[&broken]).await;
    drop(world.agent("t", "coder:7b"));
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        let answer = world.chat("t", "coder:7b", "@sim say hello").await;
        assert!(answer.status().is_client_error() || answer.status().is_server_error());
        verdicts.push(answer.text().await.unwrap());
    }
    assert!(verdicts[0].contains(FINAL) && verdicts[0].contains("bad options"));
    assert!(verdicts.iter().all(|it| *it == verdicts[0]));
    assert_eq!(world.record().await.tries, 1);
    assert!(
        world.records.try_recv().is_err(),
        "the others did not go on"
    );
}

#[tokio::test]
async fn a_model_that_is_gone_is_a_verdict_and_no_fault_of_the_endpoint() {
    let missing = always("kind = \"status\"\nstatus = 404\nmessage = \"model 'x' not found\"");
    let mut world = World::new(&[&missing]).await;
    drop(world.agent("t", "coder:7b"));
    let answer = world.chat("t", "coder:7b", "@sim say hello").await;
    let text = answer.text().await.unwrap();
    assert!(text.contains(FINAL) && text.contains("not found"), "{text}");
    let record = world.record().await;
    assert_eq!(record.tries, 1);
    drop(world.agent("u", "talker:3b"));
    let report = world.gateway.report().borrow().clone();
    assert!(
        report
            .endpoints
            .values()
            .all(|it| it.breaker == BreakerState::Closed)
    );
}

#[tokio::test]
async fn a_prompt_that_fits_no_context_is_refused_before_it_is_sent() {
    let mut world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    // The model was trained for 32,768 tokens; this is about 75,000.
    let long = "word ".repeat(60_000);
    let answer = world.chat("t", "coder:7b", &long).await;
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(
        text.contains(FINAL) && text.contains("exceeds the context length"),
        "{text}"
    );
    let record = world.record().await;
    assert_eq!(record.tries, 0);
    assert!(matches!(record.outcome, Outcome::Refused { .. }));
}

#[tokio::test]
async fn a_prompt_that_needs_more_context_gets_a_larger_rung() {
    let mut world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    let long = format!("@sim say hello\n{}", "word ".repeat(16_000));
    let (text, last) = read(world.chat("t", "coder:7b", &long).await).await;
    assert!(text.contains("hello"), "{last}");
    let record = world.record().await;
    assert_eq!((record.context, record.cut), (32_768, false));
    // What is small goes on in the larger context: nothing is loaded again.
    drop(read(world.chat("t", "coder:7b", "@sim say hi").await).await);
    let small = world.record().await;
    assert_eq!((small.context, small.epoch), (32_768, record.epoch));
}

#[tokio::test]
async fn after_a_start_a_request_waits_until_its_endpoint_was_looked_at() {
    let mut world = World::new(&[""]).await;
    let traffic = world.agent("t", "coder:7b");
    let known = world.catalogue.send_replace(Arc::new(Catalogue::default()));
    let looking = async {
        let mut traffic = traffic.clone();
        let waits = traffic.wait_for(|it| it.trouble.is_some());
        let why = waits.await.unwrap().trouble.clone().unwrap();
        assert!(why.contains("has not answered yet"), "{why}");
        world.catalogue.send_replace(known);
    };
    let (answer, ()) = tokio::join!(world.chat("t", "coder:7b", "@sim say hello"), looking);
    assert!(read(answer).await.0.contains("hello"));
    assert_eq!(world.record().await.outcome, Outcome::Done);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_waited_for() {
    let world = World::new(&[""]).await;
    drop(world.agent("t", "coder:7b"));
    // A second gateway before an address at which nobody listens yet.
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let catalogue = super::world::look(&world.endpoints).await;
    let mut late = World::before(
        vec![url.clone()],
        GatewaySettings::default(),
        super::world::upstream(Patience::default()),
        tokio::task::JoinSet::new(),
    )
    .await;
    late.catalogue.send_replace(Arc::new(catalogue));
    drop(late.agent("t", "coder:7b"));
    let body = chat("coder:7b", "@sim say hello");
    let asking = late.post("/agent/t/api/chat", &body);
    let coming = async {
        let refused = late.gateway.report();
        // It has been tried and its breaker is open before it comes.
        let mut refused = refused;
        tokio::time::timeout(
            super::world::LIMIT,
            refused.wait_for(|report| {
                let breakers = report.endpoints.values().map(|it| &it.breaker);
                breakers.into_iter().any(|it| *it != BreakerState::Closed)
            }),
        )
        .await
        .unwrap()
        .unwrap();
        let address = url.trim_start_matches("http://").to_owned();
        let listener = std::net::TcpListener::bind(address).unwrap();
        let text = super::world::MODELS;
        let scenario = warpsquad::simulator::Scenario::parse(text, "t.toml").unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        warpsquad::simulator::serve(listener, scenario, stop)
            .await
            .unwrap();
    };
    let (text, _) = tokio::select! {
        read = async { read(asking.await).await } => read,
        () = coming => panic!("the endpoint has ended"),
    };
    assert!(text.contains("hello"));
    assert_eq!(late.record().await.outcome, Outcome::Done);
}

#[tokio::test]
async fn an_answer_of_nothing_after_a_fault_of_the_endpoint_is_no_verdict_on_the_model() {
    let fault = |rest: &str| format!("[[fault]]\nprompt = \"@sim\"\n{rest}\n");
    let broken = fault("nth = 1\nkind = \"status\"\nstatus = 500\nmessage = \"CUDA error\"");
    let nothing = fault("kind = \"empty\"");
    for (scenario, why) in [
        (format!("{broken}{nothing}"), "CUDA error"),
        (nothing.clone(), "the model answered nothing"),
    ] {
        let mut world = World::new(&[&scenario]).await;
        drop(world.agent("t", "coder:7b"));
        let answer = world.chat("t", "coder:7b", "@sim say hello").await;
        let text = answer.text().await.unwrap();
        assert!(text.contains(FINAL) && text.contains(why), "{text}");
        assert_eq!(world.record().await.tries, 3);
    }
}
