//! A simulated Ollama behind a forwarder that times each chat request.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use warpsquad::simulator::{Scenario, serve};

const SCENARIO: &str = include_str!("../../tests/scenarios/quick.toml");
const CHAT: &[u8] = b"POST /api/chat";

/// When a request came, on both clocks; the wall clock in milliseconds.
type Arrival = (Instant, u64);

pub(super) struct Endpoint {
    pub(super) url: String,
    arrivals: RefCell<Receiver<Arrival>>,
}

impl Endpoint {
    pub(super) fn start() -> Self {
        let simulator = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = simulator.local_addr().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let scenario: Scenario = Scenario::parse(SCENARIO, "quick.toml").unwrap();
            let served = serve(simulator, scenario, CancellationToken::new());
            runtime.block_on(served).unwrap();
        });
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", front.local_addr().unwrap());
        let (sender, arrivals) = channel();
        thread::spawn(move || {
            for client in front.incoming() {
                let (client, sender) = (client.unwrap(), sender.clone());
                let server = TcpStream::connect(behind).unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(client, server, Some(&sender)));
                thread::spawn(move || pass(back.0, back.1, None));
            }
        });
        Self {
            url,
            arrivals: RefCell::new(arrivals),
        }
    }

    /// Requests so far do not count.
    pub(super) fn forget(&self) {
        while self.arrivals.borrow().try_recv().is_ok() {}
    }

    /// When the next request comes.
    pub(super) fn next(&self) -> Instant {
        super::take(&self.arrivals.borrow()).0
    }

    /// The same on the wall clock, too.
    pub(super) fn next_with_wall(&self) -> Arrival {
        super::take(&self.arrivals.borrow())
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, arrivals: Option<&Sender<Arrival>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        let is_chat = bytes.windows(CHAT.len()).any(|part| part == CHAT);
        if let Some(arrivals) = arrivals.filter(|_| is_chat) {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let millis = u64::try_from(wall.unwrap().as_millis()).unwrap();
            // Nobody counts any more at the end.
            let _counted = arrivals.send((Instant::now(), millis));
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    // The other side may have ended it already.
    let _ended = to.shutdown(Shutdown::Both);
}
