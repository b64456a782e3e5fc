//! How the gateway reaches endpoints, also after the machine has slept.
//!
//! A suspend may leave a connection that nobody answers on any more. A request that was open then
//! fails over once: if nothing of its answer was passed on it is sent again on a new connection,
//! otherwise its stream is cut, which Aider takes as a reason to ask again by itself. Requests that
//! wake up together are spread, so that an endpoint does not get all of them in one moment.
//!
//! Connections are kept for the next request, but not through a sleep.
//!
//! Without a sleep nothing is ever sent twice: a slow model is no dead one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;

use super::http::{Connection, Http, IDLE_MAX, NoAnswer};
use super::limit::{Limit, TooLong};
use crate::core::clock::Reading;

/// How long to wait for signs of life after a sleep.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Between two looks at the clocks while a request is open.
    pub look: Duration,
    /// An endpoint that has said nothing for this long after a sleep is given up.
    pub silence: Duration,
    /// Requests that are sent again are spread over this.
    pub spread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            silence: Duration::from_secs(10),
            spread: Duration::from_secs(5),
        }
    }
}

/// Reads the machine's clocks.
pub type Clocks = Arc<dyn Fn() -> Reading + Send + Sync>;

/// The way to all endpoints. Clones share it.
#[derive(Clone)]
pub struct Upstream {
    http: Http,
    clocks: Clocks,
    patience: Patience,
    wake: Arc<Mutex<Wake>>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A request to generate as it goes on; it can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Passing {
    pub(super) url: String,
    pub(super) body: Bytes,
}

/// An answer whose first bytes are here.
pub(super) struct Answer<S> {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: S,
}

impl Upstream {
    /// A way to endpoints on which nothing has been asked.
    ///
    /// # Errors
    /// The certificates that this machine trusts cannot be read.
    pub fn new(clocks: Clocks, patience: Patience) -> io::Result<Self> {
        let wake = Wake::at(clocks());
        Ok(Self {
            http: Http::new()?,
            clocks,
            patience,
            wake: Arc::new(Mutex::new(wake)),
        })
    }

    /// The connection for a request that begins now. Those that were open while the machine slept
    /// may lead nowhere: they are not used until the last of them is closed.
    fn connection(&self) -> Connection {
        let now = (self.clocks)();
        if lock(&self.wake).is_recent(now) {
            Connection::Fresh
        } else {
            Connection::Kept
        }
    }

    /// Asks for something that is answered within `limit`, and not by a model.
    pub(super) async fn whole(
        &self,
        what: (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        self.http.whole(self.connection(), what, body, limit).await
    }

    /// Asks the endpoint; once more, if the machine slept meanwhile and the connection is dead.
    pub(super) async fn ask(
        &self,
        passing: Passing,
    ) -> Result<Answer<impl Stream<Item = io::Result<Bytes>> + Send + use<>>, NoAnswer> {
        let mut vigil = Vigil::begin((self.clocks)(), self.patience.silence);
        match self.ask_once(passing.clone(), &mut vigil).await {
            Ok(answer) => Ok(self.streamed(answer, vigil)),
            Err(error) if vigil.has_slept((self.clocks)()) => {
                tracing::info!(url = %passing.url, %error, "asked again after a sleep");
                tokio::time::sleep(spread(self.patience.spread)).await;
                let mut vigil = Vigil::begin((self.clocks)(), self.patience.silence);
                let answer = self.ask_once(passing, &mut vigil).await?;
                Ok(self.streamed(answer, vigil))
            }
            Err(error) => Err(error),
        }
    }

    /// Up to the first bytes of the body: until then nothing was passed on.
    async fn ask_once(&self, passing: Passing, vigil: &mut Vigil) -> Result<Begun, NoAnswer> {
        let mut looks = Limit::new();
        let what = (Method::POST, passing.url.as_str());
        let sent = self.http.send(self.connection(), what, passing.body);
        let (head, body) = self.alive(vigil, &mut looks, sent).await??.into_parts();
        let mut rest = BodyDataStream::new(body);
        let first = self.alive(vigil, &mut looks, rest.next()).await?;
        let first = first
            .transpose()
            .map_err(|error| NoAnswer::Body(error.into()))?;
        Ok(Begun {
            status: head.status,
            headers: head.headers,
            first,
            rest,
            looks,
        })
    }

    /// Waits for `event` unless the endpoint turns out to be dead.
    async fn alive<T>(
        &self,
        vigil: &mut Vigil,
        looks: &mut Limit,
        event: impl Future<Output = T>,
    ) -> Result<T, NoAnswer> {
        tokio::pin!(event);
        loop {
            match looks.within(self.patience.look, &mut event).await {
                Ok(happened) => {
                    vigil.heard((self.clocks)());
                    return Ok(happened);
                }
                Err(TooLong) => {
                    if vigil.look((self.clocks)()) == Sign::Dead {
                        return Err(NoAnswer::Silent);
                    }
                }
            }
        }
    }

    /// What has begun and what follows.
    fn streamed(
        &self,
        begun: Begun,
        vigil: Vigil,
    ) -> Answer<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let more = begun.first.is_some();
        let first = futures_util::stream::iter(begun.first.map(Ok));
        let state = (self.clone(), begun.rest, vigil, begun.looks, more);
        let rest = futures_util::stream::unfold(
            state,
            |(upstream, mut rest, mut vigil, mut looks, more)| async move {
                if !more {
                    return None;
                }
                let (item, more) = match upstream.alive(&mut vigil, &mut looks, rest.next()).await {
                    Ok(None) => return None,
                    Ok(Some(Ok(bytes))) => (Ok(bytes), true),
                    Ok(Some(Err(error))) => (Err(io::Error::other(error)), false),
                    Err(error) => (Err(io::Error::other(error)), false),
                };
                Some((item, (upstream, rest, vigil, looks, more)))
            },
        );
        Answer {
            status: begun.status,
            headers: begun.headers,
            body: first.chain(rest),
        }
    }
}

struct Begun {
    status: StatusCode,
    headers: HeaderMap,
    first: Option<Bytes>,
    rest: BodyDataStream<Incoming>,
    looks: Limit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A random part of `most`.
fn spread(most: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or_default();
    most.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// When the machine has last woken up. Readings come in as data.
#[derive(Debug)]
struct Wake {
    last: Reading,
    woken: Option<Reading>,
}

impl Wake {
    fn at(now: Reading) -> Self {
        Self {
            last: now,
            woken: None,
        }
    }

    /// Whether a connection may still be kept that is older than the machine's last sleep.
    fn is_recent(&mut self, now: Reading) -> bool {
        if !now.asleep_since(&self.last).is_zero() {
            self.woken = Some(now);
        }
        self.last = now;
        let since = self
            .woken
            .map(|woken| now.awake.saturating_sub(woken.awake));
        let is_recent = since.is_some_and(|since| since <= 2 * IDLE_MAX);
        if !is_recent {
            self.woken = None;
        }
        is_recent
    }
}

/// Watches one open request through the machine's sleep. Readings come in as data.
#[derive(Debug)]
struct Vigil {
    begun: Reading,
    last: Reading,
    /// When the machine woke up, as long as nothing was heard since.
    woken: Option<Reading>,
    silence: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It may be alive.
    Unknown,
    /// It is given up.
    Dead,
}

impl Vigil {
    fn begin(now: Reading, silence: Duration) -> Self {
        Self {
            begun: now,
            last: now,
            woken: None,
            silence,
        }
    }

    fn heard(&mut self, now: Reading) {
        self.last = now;
        self.woken = None;
    }

    fn look(&mut self, now: Reading) -> Sign {
        if !now.asleep_since(&self.last).is_zero() {
            self.woken = Some(now);
        }
        self.last = now;
        match self.woken {
            Some(woken) if now.awake.saturating_sub(woken.awake) >= self.silence => Sign::Dead,
            Some(_) | None => Sign::Unknown,
        }
    }

    fn has_slept(&self, now: Reading) -> bool {
        !now.asleep_since(&self.begun).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;

    const SILENCE: Duration = Duration::from_secs(10);

    /// `awake` and `asleep` seconds after the beginning; the wall clock says what it likes.
    fn at(awake: u64, asleep: u64, wall: u64) -> Reading {
        Reading {
            wall: Timestamp(wall),
            awake: Duration::from_secs(awake),
            total: Duration::from_secs(awake + asleep),
        }
    }

    #[test]
    fn a_slow_model_is_never_given_up_however_the_wall_clock_jumps() {
        let mut vigil = Vigil::begin(at(0, 0, 5_000), SILENCE);
        for (awake, wall) in [(600, 9_000_000), (3_600, 1), (90_000, u64::MAX)] {
            assert_eq!(vigil.look(at(awake, 0, wall)), Sign::Unknown);
        }
        assert!(!vigil.has_slept(at(90_000, 0, 0)));
    }

    #[test]
    fn silence_after_a_sleep_is_a_dead_connection() {
        let mut vigil = Vigil::begin(at(0, 0, 0), SILENCE);
        assert_eq!(vigil.look(at(5, 0, 0)), Sign::Unknown);
        assert_eq!(vigil.look(at(8, 3_600, 0)), Sign::Unknown);
        assert_eq!(vigil.look(at(17, 3_600, 0)), Sign::Unknown);
        assert_eq!(vigil.look(at(18, 3_600, 0)), Sign::Dead);
        assert!(vigil.has_slept(at(18, 3_600, 0)));
    }

    #[test]
    fn kept_connections_are_left_alone_for_a_while_after_a_sleep() {
        let mut wake = Wake::at(at(0, 0, 0));
        assert!(!wake.is_recent(at(1_000, 0, 7)));
        assert!(wake.is_recent(at(1_001, 60, 8)));
        assert!(wake.is_recent(at(1_031, 60, 9)));
        assert!(!wake.is_recent(at(1_032, 60, 10)));
        // Asleep in the meantime, however long ago.
        assert!(wake.is_recent(at(9_000, 120, 11)));
    }

    #[test]
    fn a_sign_of_life_after_a_sleep_is_enough() {
        let mut vigil = Vigil::begin(at(0, 0, 0), SILENCE);
        vigil.look(at(1, 3_600, 0));
        vigil.heard(at(2, 3_600, 0));
        assert_eq!(vigil.look(at(500, 3_600, 0)), Sign::Unknown);
        // Bytes that come before the sleep is noticed are a sign as well.
        vigil.heard(at(501, 7_200, 0));
        assert_eq!(vigil.look(at(900, 7_200, 0)), Sign::Unknown);
    }
}
