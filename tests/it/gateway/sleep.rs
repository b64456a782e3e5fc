//! Open requests after the machine has slept: each fails over once. The clocks are data here; the
//! machine that runs these tests stays awake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use warpsquad::core::Timestamp;
use warpsquad::core::clock::Reading;
use warpsquad::core::endpoint::{Endpoint, EndpointHealth};
use warpsquad::gateway::{GatewaySettings, Patience, Upstream};

use super::world::World;

const HOUR: Duration = Duration::from_secs(3_600);
const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const PIECE: &str = "{\"message\":{\"content\":\"ok\"},\"done\":false}\n";
const LAST: &str = "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n";

/// A gateway before one endpoint, on a machine whose nights are counted here.
struct Night {
    world: World,
    nights: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Night {
    /// The endpoint answers chats with these bytes in turn and says no more.
    async fn new(answers: Vec<String>) -> Self {
        // reqwest is built without a provider of its own.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", endpoint.local_addr().unwrap());
        let (nights, asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(endpoint, answers, Arc::clone(&asked)));
        let upstream = upstream(Arc::clone(&nights));
        let settings = GatewaySettings::default();
        let world = World::before(vec![url.clone()], settings, upstream, tasks).await;
        let mut known = Endpoint::new(&url);
        known.health = EndpointHealth::Ok;
        let model = super::world::model("m:latest");
        known.models.insert(model.name.clone(), model);
        let mut catalogue = warpsquad::core::catalogue::Catalogue::default();
        catalogue.endpoints.insert("e0".into(), known);
        world.catalogue.send_replace(Arc::new(catalogue));
        drop(world.agent("t", "m:latest"));
        Self {
            world,
            nights,
            asked,
        }
    }

    async fn post(&self) -> reqwest::Response {
        self.world.chat("t", "m:latest", "hello").await
    }

    /// The machine sleeps for an hour once the endpoint has been asked `times` times.
    async fn sleep_when_asked(&self, times: usize) {
        while self.asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
        self.nights.store(times, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn upstream(nights: Arc<AtomicUsize>) -> Upstream {
    let began = tokio::time::Instant::now();
    let clocks = move || {
        let awake = began.elapsed();
        let slept = HOUR * u32::try_from(nights.load(Ordering::SeqCst)).unwrap();
        Reading {
            // Set back while it slept: no wall clock has a say.
            wall: Timestamp(1),
            awake,
            total: awake + slept,
        }
    };
    let patience = Patience {
        look: Duration::from_millis(5),
        silence: Duration::from_millis(20),
        spread: Duration::from_millis(20),
    };
    Upstream::new(Arc::new(clocks), patience).unwrap()
}

/// Loads and lists at once; chats get their answers in turn.
async fn answer(endpoint: tokio::net::TcpListener, answers: Vec<String>, asked: Arc<AtomicUsize>) {
    let mut answers = answers.into_iter();
    let mut open = Vec::new();
    loop {
        let (mut stream, _) = endpoint.accept().await.unwrap();
        let head = read_request(&mut stream).await;
        // A load has no message.
        if head.starts_with("POST /api/chat") && !head.contains("\"messages\":[]") {
            let answer = answers.next().unwrap_or_default();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
            continue;
        }
        let body = if head.starts_with("GET /api/ps") {
            r#"{"models":[{"name":"m:latest","size":1,"size_vram":1,"context_length":16384}]}"#
        } else {
            r#"{"done":true,"done_reason":"load"}"#
        };
        let length = body.len();
        let text = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

/// The head of a request, whose body has been read.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    loop {
        stream.read_buf(&mut seen).await.unwrap();
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return String::from_utf8_lossy(&seen).into_owned();
        }
    }
}

fn chunk(line: &str) -> String {
    format!("{:x}\r\n{line}\r\n", line.len())
}

fn whole() -> String {
    format!("{HEAD}{}{}0\r\n\r\n", chunk(PIECE), chunk(LAST))
}

fn begun() -> String {
    format!("{HEAD}{}", chunk(PIECE))
}

#[tokio::test]
async fn a_request_without_an_answer_is_sent_again_once_after_a_sleep() {
    let night = Night::new(vec![String::new(), whole()]).await;
    let (response, ()) = tokio::join!(night.post(), night.sleep_when_asked(1));
    let (text, last) = super::world::read(response).await;
    assert_eq!((text.as_str(), &last["done"]), ("ok", &true.into()));
    assert_eq!(night.asked(), 2);
}

#[tokio::test]
async fn a_stream_that_has_begun_is_broken_off_after_a_sleep_and_never_repeated() {
    let night = Night::new(vec![begun(), begun()]).await;
    let mut response = night.post().await;
    assert_eq!(response.chunk().await.unwrap().unwrap(), PIECE);
    night.sleep_when_asked(1).await;
    let last = response.chunk().await.unwrap().unwrap();
    let last = String::from_utf8(last.to_vec()).unwrap();
    assert!(last.contains("\"error\""), "{last}");
    assert_eq!(night.asked(), 1);
}
