//! Open requests after the machine has slept: each fails over once. The clocks are data here; the
//! machine that runs these tests stays awake.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warpsquad::core::Timestamp;
use warpsquad::core::clock::Reading;
use warpsquad::gateway::{Grants, Patience, Upstream, serve};

const HOUR: Duration = Duration::from_secs(3_600);
const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A gateway before one endpoint, on a machine whose nights are counted here.
struct World {
    url: String,
    nights: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl World {
    /// The endpoint answers its requests with these parts in turn and says no more.
    async fn new(answers: &'static [&'static str]) -> Self {
        // reqwest is built without a provider of its own.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", endpoint.local_addr().unwrap());
        let (nights, asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(endpoint, answers, Arc::clone(&asked)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/agent/t/api/chat", listener.local_addr().unwrap());
        let grants = Grants::default();
        drop(grants.admit("t", &target));
        let upstream = upstream(Arc::clone(&nights));
        tasks.spawn(async move {
            serve(listener, grants, upstream, CancellationToken::new())
                .await
                .unwrap();
        });
        Self {
            url,
            nights,
            asked,
            _tasks: tasks,
        }
    }

    async fn post(&self) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(&self.url).body("{}").send().await.unwrap()
    }

    /// The machine sleeps for an hour once the endpoint has been asked `times` times.
    async fn sleep_when_asked(&self, times: usize) {
        while self.asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
        self.nights.store(times, Ordering::SeqCst);
    }
}

fn upstream(nights: Arc<AtomicUsize>) -> Upstream {
    let began = tokio::time::Instant::now();
    Upstream {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        clocks: Arc::new(move || {
            let awake = began.elapsed();
            let slept = HOUR * u32::try_from(nights.load(Ordering::SeqCst)).unwrap();
            Reading {
                // Set back while it slept: no wall clock has a say.
                wall: Timestamp(1),
                awake,
                total: awake + slept,
            }
        }),
        patience: Patience {
            look: Duration::from_millis(5),
            silence: Duration::from_millis(20),
            spread: Duration::from_millis(20),
        },
    }
}

async fn answer(
    endpoint: tokio::net::TcpListener,
    answers: &'static [&'static str],
    asked: Arc<AtomicUsize>,
) {
    let mut open = Vec::new();
    for answer in answers {
        let (mut stream, _) = endpoint.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        open.push(stream);
    }
    std::future::pending::<()>().await;
}

async fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"{}") {
        stream.read_buf(&mut seen).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_without_an_answer_is_sent_again_once_after_a_sleep() {
    let answer: &'static str = format!("{HEAD}2\r\nok\r\n0\r\n\r\n").leak();
    let world = World::new(vec!["", answer].leak()).await;
    let (response, ()) = tokio::join!(world.post(), world.sleep_when_asked(1));
    assert_eq!(response.text().await.unwrap(), "ok");
    assert_eq!(world.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stream_that_has_begun_is_cut_after_a_sleep_and_never_repeated() {
    let begun: &'static str = format!("{HEAD}2\r\nok\r\n").leak();
    let world = World::new(vec![begun, begun].leak()).await;
    let mut response = world.post().await;
    assert_eq!(response.chunk().await.unwrap().unwrap(), "ok");
    world.sleep_when_asked(1).await;
    response.chunk().await.unwrap_err();
    assert_eq!(world.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_endpoint_that_stays_dead_is_asked_no_third_time() {
    let world = World::new(&["", "", ""]).await;
    let nights = async {
        world.sleep_when_asked(1).await;
        world.sleep_when_asked(2).await;
    };
    let (response, ()) = tokio::join!(world.post(), nights);
    assert_eq!(response.status(), 502);
    let text = response.text().await.unwrap();
    assert!(
        text.contains("says nothing since the machine woke up"),
        "{text}"
    );
    assert_eq!(world.asked.load(Ordering::SeqCst), 2);
}
