//! What the gateway adds to a streamed request: time to the first token and processor time, beside
//! no gateway at all, a bare relay of bytes, haproxy and `LiteLLM`, in turns in one run.
//!
//! The endpoint takes 5 ms to its first token and speaks 20 chunks, 5 ms apart. Each path runs in a
//! process of its own, so that its processor time can be read. haproxy is taken when it is on the
//! `PATH`; `BENCH_LITELLM=/path/to/litellm` names the proxy of `LiteLLM` (`pip install 'litellm[proxy]'`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a harness that prints and fails loudly"
)]

#[path = "gateway/paths.rs"]
mod paths;
#[path = "gateway/servers.rs"]
mod servers;

use std::time::Duration;

use futures_util::StreamExt as _;
use paths::Path;
use serde_json::json;
use tokio::time::Instant;

/// Requests of each row in one round, and rounds.
const REQUESTS: usize = 60;
const ROUNDS: usize = 5;
const CONCURRENCIES: [usize; 2] = [1, 10];
/// About 1.2 KB.
const PROMPT: &str = "Refactor the parser so that nested lists keep their indentation. ";

fn main() {
    let mut args = std::env::args().skip(1);
    // Processes of a path are this program again.
    match (args.next().as_deref(), args.next()) {
        (Some("endpoint"), _) => return servers::endpoint(),
        (Some("gateway"), Some(url)) => return servers::gateway(&url),
        (Some("relay"), Some(url)) => return servers::relay(&url),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compare());
}

async fn compare() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .build()
        .unwrap();
    let endpoint = paths::endpoint();
    let mut paths = vec![
        paths::direct(&endpoint),
        paths::gateway(&endpoint),
        paths::relay(&endpoint),
    ];
    paths.extend(paths::haproxy(&endpoint));
    paths.extend(paths::litellm(&endpoint));
    for path in &paths {
        path.ready(&client).await;
        row(&client, path, 1, 10).await;
    }
    println!("{REQUESTS} requests x {ROUNDS} rounds in turns; 20 chunks each\n");
    println!(
        "{:<10}{:>3}{:>12}{:>12}{:>12}{:>12}{:>14}",
        "path", "c", "first p50", "first p99", "+p50", "+p99", "CPU ms/request"
    );
    for concurrency in CONCURRENCIES {
        let mut rows: Vec<Row> = paths.iter().map(|_| Row::default()).collect();
        for _ in 0..ROUNDS {
            for (path, seen) in paths.iter().zip(&mut rows) {
                seen.add(row(&client, path, concurrency, REQUESTS).await);
            }
        }
        print(&paths, &mut rows, concurrency);
    }
}

#[derive(Default)]
struct Row {
    first: Vec<Duration>,
    busy: Duration,
}

impl Row {
    fn add(&mut self, other: Self) {
        self.first.extend(other.first);
        self.busy += other.busy;
    }

    fn quantile(&mut self, share: f64) -> f64 {
        self.first.sort_unstable();
        let last = self.first.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = (last as f64 * share).round() as usize;
        self.first[at].as_secs_f64() * 1_000.0
    }
}

fn print(paths: &[Path], rows: &mut [Row], concurrency: usize) {
    let (base_50, base_99) = (rows[0].quantile(0.5), rows[0].quantile(0.99));
    for (path, row) in paths.iter().zip(rows) {
        let (p50, p99) = (row.quantile(0.5), row.quantile(0.99));
        let each = row.busy.as_secs_f64() * 1_000.0 / row.first.len() as f64;
        println!(
            "{:<10}{concurrency:>3}{p50:>9.2} ms{p99:>9.2} ms{:>9.2} ms{:>9.2} ms{each:>14.3}",
            path.name,
            p50 - base_50,
            p99 - base_99,
        );
    }
}

/// So many requests over a path, `concurrency` at a time.
async fn row(client: &reqwest::Client, path: &Path, concurrency: usize, requests: usize) -> Row {
    let before = path.busy();
    let asked = (0..requests).map(|number| ask(client, path, number % 10));
    let first = futures_util::stream::iter(asked)
        .buffer_unordered(concurrency)
        .collect()
        .await;
    Row {
        first,
        busy: path.busy().saturating_sub(before),
    }
}

/// Time to the first token of one request; its answer is read to the end.
async fn ask(client: &reqwest::Client, path: &Path, number: usize) -> Duration {
    let body = json!({
        "model": "m:latest", "stream": true,
        "messages": [{"role": "user", "content": PROMPT.repeat(18)}],
    });
    let began = Instant::now();
    let answer = client
        .post(path.url(number))
        .bearer_auth("sk-bench-0123456789")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}: {answer:?}", path.name);
    let mut chunks = answer.bytes_stream();
    let mut first = None;
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        first.get_or_insert_with(|| began.elapsed());
        bytes += chunk.unwrap().len();
    }
    assert!(bytes > 20 * 20, "{}: a short answer", path.name);
    first.unwrap()
}
