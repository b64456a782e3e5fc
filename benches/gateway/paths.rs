//! The ways to the endpoint, each with the processes that it costs.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A process that ends with its value.
pub(super) struct Process {
    child: Child,
    pub(super) url: String,
    _dir: Option<TempDir>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A way to the endpoint.
pub(super) struct Path {
    pub(super) name: &'static str,
    base: String,
    route: Route,
    process: Option<Process>,
}

enum Route {
    Direct,
    Agents,
    OpenAi,
}

impl Path {
    pub(super) fn url(&self, number: usize) -> String {
        let base = &self.base;
        match self.route {
            Route::Direct => format!("{base}/api/chat"),
            Route::Agents => format!("{base}/agent/t{number}/api/chat"),
            Route::OpenAi => format!("{base}/v1/chat/completions"),
        }
    }

    /// Processor time of its process so far.
    pub(super) fn busy(&self) -> Duration {
        let Some(process) = &self.process else {
            return Duration::ZERO;
        };
        let tasks = format!("/proc/{}/task", process.child.id());
        let threads = std::fs::read_dir(tasks).unwrap().flatten();
        let nanos = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Waits until it answers at all.
    pub(super) async fn ready(&self, client: &reqwest::Client) {
        for _ in 0..1_200 {
            if client.get(&self.base).send().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} does not come up", self.name);
    }
}

fn own(args: &[&str]) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    Process {
        child,
        url: line.trim().to_owned(),
        _dir: None,
    }
}

pub(super) fn endpoint() -> Process {
    own(&["endpoint"])
}

pub(super) fn direct(endpoint: &Process) -> Path {
    Path {
        name: "direct",
        base: endpoint.url.clone(),
        route: Route::Direct,
        process: None,
    }
}

pub(super) fn gateway(endpoint: &Process) -> Path {
    let process = own(&["gateway", &endpoint.url]);
    Path {
        name: "warpsquad",
        base: process.url.clone(),
        route: Route::Agents,
        process: Some(process),
    }
}

pub(super) fn relay(endpoint: &Process) -> Path {
    let process = own(&["relay", &endpoint.url]);
    Path {
        name: "relay",
        base: process.url.clone(),
        route: Route::Direct,
        process: Some(process),
    }
}

/// A port that is free in this moment.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(command: &mut Command, port: u16, dir: TempDir) -> Option<Process> {
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Process {
        child,
        url: format!("http://127.0.0.1:{port}"),
        _dir: Some(dir),
    })
}

pub(super) fn haproxy(endpoint: &Process) -> Option<Path> {
    let (dir, port) = (TempDir::new().unwrap(), port());
    let address = endpoint.url.trim_start_matches("http://");
    let config = format!(
        "global\n nbthread 1\ndefaults\n mode http\n option http-no-delay\n timeout connect 5s\n \
         timeout client 60s\n timeout server 60s\nfrontend f\n bind 127.0.0.1:{port}\n \
         default_backend b\nbackend b\n server s {address}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let process = start(Command::new("haproxy").arg("-f").arg(&file), port, dir)?;
    Some(Path {
        name: "haproxy",
        base: process.url.clone(),
        route: Route::Direct,
        process: Some(process),
    })
}

pub(super) fn litellm(endpoint: &Process) -> Option<Path> {
    let program = std::env::var_os("BENCH_LITELLM")?;
    let (dir, port) = (TempDir::new().unwrap(), port());
    let config = format!(
        "model_list:\n  - model_name: \"m:latest\"\n    litellm_params:\n      \
         model: ollama_chat/m\n      api_base: {}\ngeneral_settings:\n  \
         master_key: sk-bench-0123456789\n",
        endpoint.url
    );
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&file)
        .args(["--port", &port.to_string(), "--num_workers", "1"])
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let process = start(&mut command, port, dir)?;
    Some(Path {
        name: "litellm",
        base: process.url.clone(),
        route: Route::OpenAi,
        process: Some(process),
    })
}
