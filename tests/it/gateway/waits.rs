//! What requests wait for, and what they do not wait for: busy endpoints, endpoints that are down,
//! clients that do not read, endpoints that do not finish.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use warpsquad::core::runners::BreakerState;
use warpsquad::core::served::Outcome;
use warpsquad::core::traffic::Bond;
use warpsquad::gateway::{Accepted, GatewaySettings, Patience};

use super::world::{LIMIT, World, chat, read, upstream};

/// One endpoint that does this to every chat.
fn always(fault: &str) -> String {
    format!("[[fault]]\nprompt = \"@sim\"\n{fault}\n")
}

#[tokio::test]
async fn a_busy_endpoint_is_left_alone_and_another_one_asked() {
    let busy = always("kind = \"status\"\nstatus = 429\nretry_after = 86400");
    let mut world = World::new(&[&busy, ""]).await;
    drop(world.agent("t", "coder:7b"));
    for tries in [2, 1, 1] {
        let (text, last) = read(world.chat("t", "coder:7b", "@sim say hello").await).await;
        assert!(text.contains("hello"), "{last}");
        let record = world.record().await;
        assert_eq!((record.endpoint.as_str(), record.tries), ("e1", tries));
    }
}

#[tokio::test]
async fn an_endpoint_that_stays_busy_is_waited_for_as_long_as_is_configured() {
    let busy = always("kind = \"busy\"");
    let settings = GatewaySettings {
        patience: Duration::from_secs(3),
        ..GatewaySettings::default()
    };
    let mut world = World::with(&[&busy], settings, Patience::default()).await;
    drop(world.agent("t", "coder:7b"));
    let answer = world.chat("t", "coder:7b", "@sim say hello").await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains("endpoint e0 is busy"), "{text}");
    // At once, a second later, and two seconds after that.
    assert_eq!(world.record().await.tries, 3);
    let report = world.gateway.report().borrow().clone();
    assert_eq!(report.endpoints[&"e0".into()].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_a_verdict_after_three_loads() {
    let mut world =
        World::new(&["[[fault]]\nkind = \"load-error\"\nmessage = \"bad weights\""]).await;
    drop(world.agent("t", "coder:7b"));
    let answer = world.chat("t", "coder:7b", "@sim say hello").await;
    assert_eq!(answer.status(), 502);
    let text = answer.text().await.unwrap();
    assert!(text.contains("bad weights"), "{text}");
    let record = world.record().await;
    assert!(
        matches!(record.outcome, Outcome::Failed { .. }),
        "{record:?}"
    );
    let report = world.gateway.report().borrow().clone();
    assert_eq!(report.endpoints[&"e0".into()].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_clients_own_mistake_says_nothing_about_the_endpoint() {
    let wrong = "[[fault]]\nprompt = \"WRONG\"\nkind = \"status\"\nstatus = 500\n\
                 message = 'option \"temperature\" must be of type float32'\n";
    let mut world = World::new(&[wrong]).await;
    drop(world.agent("t", "coder:7b"));
    for number in 0..4 {
        let answer = world
            .chat("t", "coder:7b", &format!("WRONG {number}"))
            .await;
        assert_eq!(answer.status(), 400);
        assert_eq!(world.record().await.tries, 1);
    }
    let (text, _) = read(world.chat("t", "coder:7b", "@sim say hello").await).await;
    assert!(text.contains("hello"));
    assert_eq!(world.record().await.queue_us / 1_000_000, 0);
}

#[tokio::test]
async fn a_prompt_that_the_endpoint_counts_as_too_long_gets_a_larger_context() {
    let long = "[[fault]]\nkind = \"status\"\nprompt = \"@sim\"\ntimes = 1\nstatus = 400\nmessage = \
        '{\"error\":{\"code\":400,\"message\":\"exceeds the available context size\",\
        \"n_prompt_tokens\":20009,\"n_ctx\":16384,\"type\":\"exceed_context_size_error\"}}'\n";
    let mut world = World::new(&[long]).await;
    drop(world.agent("t", "coder:7b"));
    let (text, last) = read(world.chat("t", "coder:7b", "@sim say hello").await).await;
    assert!(text.contains("hello"), "{last}");
    let record = world.record().await;
    assert_eq!((record.context, record.tries), (32_768, 2));
}

/// Endpoints that nobody listens at, known to have the models of `world`.
async fn down(world: &World) -> World {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    instead(world, url).await
}

/// A gateway before another address, which is taken for an endpoint with the models of `world`.
async fn instead(world: &World, url: String) -> World {
    let other = World::before(
        vec![url],
        GatewaySettings::default(),
        upstream(Patience::default()),
        JoinSet::new(),
    )
    .await;
    let catalogue = super::world::look(&world.endpoints).await;
    other.catalogue.send_replace(Arc::new(catalogue));
    other
}

#[tokio::test]
async fn requests_that_wait_for_an_endpoint_do_not_wake_each_other() {
    let world = World::new(&[""]).await;
    let down = Arc::new(down(&world).await);
    let mut asking = JoinSet::new();
    for token in ["t", "u", "v"] {
        drop(down.agent(token, "coder:7b"));
        let down = Arc::clone(&down);
        asking.spawn(async move { down.chat(token, "coder:7b", "@sim say hello").await });
    }
    let open = |report: &warpsquad::core::runners::GatewayReport| {
        let mut breakers = report.endpoints.values().map(|it| &it.breaker);
        breakers.any(|it| matches!(it, BreakerState::Open { .. }))
    };
    let mut report = down.gateway.report();
    let waited = tokio::time::timeout(LIMIT, report.wait_for(open)).await;
    drop(waited.unwrap().unwrap());
    // The breaker stays open for four seconds at least; each waiter looks again once or twice.
    let before = down.gateway.decisions();
    let second = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let decisions = down.gateway.decisions() - before;
    assert!(decisions < 60, "{decisions} in {:?}", second.elapsed());
}

#[tokio::test]
async fn a_refusal_that_does_not_end_holds_nobody() {
    // Ollama's models of a world, and an endpoint of our own in its place for chats.
    let world = World::new(&[""]).await;
    let stuck = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stuck.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in stuck.incoming().flatten() {
            std::thread::spawn(move || refuse_for_ever(stream));
        }
    });
    let mut slow = instead(&world, url).await;
    drop(slow.agent("t", "coder:7b"));
    let answer = slow.chat("t", "coder:7b", "@sim say hello").await;
    assert_eq!(answer.status(), 400);
    assert!(matches!(
        slow.record().await.outcome,
        Outcome::Failed { .. }
    ));
}

/// Loads well, and answers chats with the head of a refusal.
fn refuse_for_ever(mut stream: std::net::TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let is_chat = text.contains("@sim");
        let answer = if is_chat {
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 1000\r\n\r\n{\"error\":\"no".to_owned()
        } else {
            let body = "{\"models\":[],\"done\":true}";
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_does_not_read_loses_its_slot() {
    // Far more than all buffers in between hold: some hundred bytes for each of a million tokens.
    let endless = "[[model]]\nname = \"endless:1b\"\nsize = \"1GiB\"\nparameters = \"1B\"\n\
                   rate = 1000000\nload_time = \"20ms\"\nvoice = \"endless\"\ncontext = 2097152\n";
    let deaf_for = Duration::from_secs(1);
    let settings = GatewaySettings {
        accepted: Some(Accepted(Arc::new(move |socket| {
            warpsquad::keeper::end_when_deaf(socket, deaf_for).unwrap();
        }))),
        ..GatewaySettings::default()
    };
    let mut world = World::with(&[endless], settings, Patience::default()).await;
    let bond = Bond {
        client: "agent-t".into(),
        endpoint: "e0".into(),
        model: "endless:1b".into(),
        context: 2_097_152,
        thinks: false,
    };
    drop(world.gateway.grants().admit("t", bond));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = world.base.trim_start_matches("http://").parse().unwrap();
    let mut deaf = socket.connect(address).await.unwrap();
    let mut body = chat("endless:1b", "talk");
    body["options"] = json!({"num_predict": 1_000_000});
    let body = body.to_string();
    let head = format!(
        "POST /agent/t/api/chat HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    deaf.write_all(head.as_bytes()).await.unwrap();
    deaf.write_all(body.as_bytes()).await.unwrap();
    // It reads the beginning and nothing after it, and stays.
    let mut beginning = [0; 64];
    deaf.read_exact(&mut beginning).await.unwrap();
    let record = world.record().await;
    assert_eq!(record.outcome, Outcome::Cancelled);
    drop(deaf);
}
