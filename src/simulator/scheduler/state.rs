//! What is loaded, and what becomes of it: Ollama's bookkeeping without its tasks.
//!
//! Two workers drive it. The pending worker asks for [`State::room`] until it may load. The
//! completion worker is [`State::tick`]: it counts ended requests, unloads, and does nothing else
//! while it waits for the memory of an unloaded runner to come free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::Prompts;
use super::engine::{Engine, Parts};
use super::memory::{Others, PageCache, Placement, place};
use super::{Loaded, Wanted};
use crate::simulator::clock::Clock;
use crate::simulator::fault::Faults;
use crate::simulator::request::{KeepAlive, RunnerOptions};
use crate::simulator::scenario::{FaultKind, ModelSpec, ServerSpec};
use crate::simulator::text::Numbers;

/// Ollama tries again after this time to unload a runner that got a request meanwhile.
const RETRY: Duration = Duration::from_millis(10);
/// Ollama waits so long for memory that a crashed runner gave back before (ollama#11997).
const AFTER_CRASH: Duration = Duration::from_secs(5);
/// What a slow unload takes when the scenario says nothing else.
const SLOW_UNLOAD: Duration = Duration::from_secs(5);
/// Older lists than this are not asked for.
const HISTORY: usize = 256;

/// All runners and what is going on with them.
pub(super) struct State {
    clock: Clock,
    settings: Arc<ServerSpec>,
    faults: Arc<Faults>,
    runners: BTreeMap<String, Runner>,
    recovery: Option<Recovery>,
    happened: VecDeque<Happened>,
    retries: Vec<(Instant, Id)>,
    history: VecDeque<(Instant, Vec<Loaded>)>,
    pages: PageCache,
    dice: Numbers,
    next: u64,
    /// Runners that are gone and whose memory is free, since the start.
    pub(super) unloads: u64,
}

/// One runner: two of the same weights, one after the other, differ in the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    blob: String,
    number: u64,
}

struct Runner {
    number: u64,
    model: Arc<ModelSpec>,
    name: String,
    digest: String,
    options: RunnerOptions,
    session: KeepAlive,
    users: usize,
    timer: Option<Instant>,
    expires_at: jiff::Timestamp,
    placement: Placement,
    engine: Arc<Engine>,
    is_dead: bool,
    stuck: Option<Stuck>,
}

/// An unload that does not end, or not yet.
#[derive(Clone, Copy)]
enum Stuck {
    Until(Instant),
    Forever,
}

/// The memory of a runner that is gone.
struct Recovery {
    until: Instant,
    bytes: u64,
}

enum Happened {
    Finished(Id),
    Expired(Id),
}

/// A request's share in a runner.
pub(super) struct Held {
    pub(super) id: Id,
    pub(super) engine: Arc<Engine>,
}

/// What the pending worker does next.
pub(super) enum Room {
    /// The model is there.
    Granted(Held),
    /// Load it like this.
    Load(Placement),
    /// Something has to be unloaded first.
    Wait,
}

impl State {
    pub(super) fn new(settings: Arc<ServerSpec>, faults: Arc<Faults>, clock: Clock) -> Self {
        // A stream of its own: the odds of faults are drawn from the seed itself.
        let dice = Numbers::new(settings.seed.rotate_left(32));
        Self {
            clock,
            settings,
            faults,
            runners: BTreeMap::new(),
            recovery: None,
            happened: VecDeque::new(),
            retries: Vec::new(),
            history: VecDeque::new(),
            pages: PageCache::default(),
            dice,
            next: 0,
            unloads: 0,
        }
    }

    /// The way past the queue: a loaded model with the same options, also while it is to go.
    /// A keep-alive of the request replaces the one that an eviction has set.
    pub(super) fn grant(&mut self, wanted: &Wanted) -> Option<Held> {
        let runner = self.runners.get_mut(&wanted.blob)?;
        let serves = runner
            .options
            .serves(&wanted.options, runner.placement.batch);
        if runner.is_dead || !serves {
            return None;
        }
        runner.users += 1;
        runner.timer = None;
        if let Some(keep_alive) = wanted.keep_alive {
            runner.session = keep_alive;
        }
        Some(Held {
            id: Id {
                blob: wanted.blob.clone(),
                number: runner.number,
            },
            engine: Arc::clone(&runner.engine),
        })
    }

    /// One step of the pending worker.
    pub(super) fn room(&mut self, wanted: &Wanted) -> Room {
        if let Some(held) = self.grant(wanted) {
            return Room::Granted(held);
        }
        let victim = if self.runners.contains_key(&wanted.blob) {
            Some(wanted.blob.clone())
        } else if self.runners.len() >= self.settings.max_loaded {
            self.victim()
        } else {
            let placed = place(
                &wanted.model,
                &wanted.options,
                &self.settings,
                self.others(),
            );
            if let Some(placement) = placed {
                return Room::Load(placement);
            }
            self.victim()
        };
        if let Some(blob) = victim {
            self.evict(&blob);
        }
        Room::Wait
    }

    /// The shortest keep-alive first, then by name of the weights; the first that is idle, else the
    /// first of all.
    fn victim(&self) -> Option<String> {
        let order = |(blob, runner): &(&String, &Runner)| {
            (runner.users > 0, runner.session, (*blob).clone())
        };
        let first = self.runners.iter().min_by_key(order);
        first.map(|(blob, _)| blob.clone())
    }

    fn others(&self) -> Others {
        let used: u64 = self.runners.values().map(|r| r.placement.size_vram).sum();
        let recovering = self.recovery.as_ref().map_or(0, |recovery| recovery.bytes);
        Others {
            free: self.settings.vram.saturating_sub(used + recovering),
            is_empty: self.runners.is_empty() && self.recovery.is_none(),
        }
    }

    /// It goes as soon as it is idle.
    pub(super) fn evict(&mut self, blob: &str) {
        let now = self.clock.shown();
        let Some(runner) = self.runners.get_mut(blob) else {
            return;
        };
        runner.timer = None;
        if runner.session != KeepAlive::For(Duration::ZERO) {
            runner.session = KeepAlive::For(Duration::ZERO);
            runner.expires_at = now;
        }
        if runner.users == 0 && runner.stuck.is_none() {
            let id = Id {
                blob: blob.to_owned(),
                number: runner.number,
            };
            self.happen(Happened::Expired(id));
        }
    }

    /// All go as soon as they are idle: other models before another try, or a runner out of memory.
    pub(super) fn evict_all(&mut self) {
        let blobs: Vec<String> = self.runners.keys().cloned().collect();
        for blob in blobs {
            self.evict(&blob);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runners.is_empty() && self.recovery.is_none()
    }

    /// A request has ended.
    pub(super) fn finish(&mut self, id: Id) {
        self.happen(Happened::Finished(id));
    }

    /// The runner is dead, and so is all that it did; it stays listed, and the next request loads
    /// it again.
    pub(super) fn kill(&mut self, id: &Id) {
        if let Some(runner) = self.runner(id) {
            runner.is_dead = true;
            runner.engine.die();
        }
    }

    /// The loaded model, already in use.
    pub(super) fn insert(&mut self, wanted: &Wanted, placement: Placement) -> Held {
        let default = KeepAlive::For(self.settings.keep_alive);
        let session = wanted.keep_alive.unwrap_or(default);
        let model = &wanted.model;
        let slots = model.slots(self.settings.num_parallel);
        let bytes_per_char = model.kv_per_token as f64 / model.chars_per_token;
        let engine = Arc::new(Engine::new(Parts {
            slots,
            prompts: Prompts::new(slots, self.settings.cache_ram, bytes_per_char),
            alpha: self.settings.alpha,
            slowdown: placement.slowdown(&self.settings),
            batch: placement.batch,
            context: wanted.options.num_ctx,
        }));
        self.next += 1;
        let runner = Runner {
            number: self.next,
            model: Arc::clone(model),
            name: wanted.name.clone(),
            digest: wanted.digest.clone(),
            options: wanted.options.clone(),
            session,
            users: 1,
            timer: None,
            expires_at: self.expiry(session),
            placement,
            engine: Arc::clone(&engine),
            is_dead: false,
            stuck: None,
        };
        let id = Id {
            blob: wanted.blob.clone(),
            number: runner.number,
        };
        self.runners.insert(wanted.blob.clone(), runner);
        Held { id, engine }
    }

    /// How long this load takes.
    pub(super) fn load_time(&mut self, wanted: &Wanted) -> Duration {
        self.pages.load_time(&wanted.model, &self.settings)
    }

    /// The server starts anew.
    pub(super) fn reset(&mut self) {
        self.runners.clear();
        self.recovery = None;
        self.happened.clear();
        self.retries.clear();
        self.history.clear();
        self.unloads += 1;
    }

    /// What the completion worker does now; when it has something to do again.
    pub(super) fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.recovery.as_ref().is_some_and(|r| r.until <= now) {
            self.recovery = None;
            self.unloads += 1;
        }
        while self.recovery.is_none()
            && let Some(event) = self.happened.pop_front()
        {
            self.handle(event);
        }
        let due: Vec<(Instant, Id)> = self.retries.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, id) in due {
            self.happen(Happened::Expired(id));
        }
        for id in self.timers_due(now) {
            self.happen(Happened::Expired(id));
        }
        self.release_stuck(now);
        self.next_time()
    }

    fn next_time(&self) -> Option<Instant> {
        let recovery = self.recovery.as_ref().map(|recovery| recovery.until);
        let retries = self.retries.iter().map(|(at, _)| *at);
        let stuck = self.runners.values().filter_map(|r| match r.stuck? {
            Stuck::Until(at) => Some(at),
            Stuck::Forever => None,
        });
        let timers = self.runners.values().filter_map(|runner| runner.timer);
        recovery
            .into_iter()
            .chain(retries)
            .chain(stuck)
            .chain(timers)
            .min()
    }

    fn timers_due(&mut self, now: Instant) -> Vec<Id> {
        let mut due = Vec::new();
        for (blob, runner) in &mut self.runners {
            if runner.timer.is_some_and(|at| at <= now) {
                runner.timer = None;
                due.push(Id {
                    blob: blob.clone(),
                    number: runner.number,
                });
            }
        }
        due
    }

    fn release_stuck(&mut self, now: Instant) {
        let mut free = Vec::new();
        for (blob, runner) in &mut self.runners {
            if let Some(Stuck::Until(at)) = runner.stuck
                && at <= now
            {
                runner.stuck = None;
                free.push(blob.clone());
            }
        }
        for blob in free {
            self.unload(&blob, Some(Duration::ZERO));
        }
    }

    /// While memory comes free everything that happens has to wait.
    fn happen(&mut self, event: Happened) {
        if self.recovery.is_some() {
            self.happened.push_back(event);
        } else {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Happened) {
        match event {
            Happened::Finished(id) => self.finished(&id),
            Happened::Expired(id) => self.expired(id),
        }
    }

    fn finished(&mut self, id: &Id) {
        let Some(runner) = self.runner(id) else {
            return;
        };
        runner.users = runner.users.saturating_sub(1);
        if runner.users > 0 {
            return;
        }
        let session = runner.session;
        match session {
            KeepAlive::For(Duration::ZERO) => return self.expired(id.clone()),
            KeepAlive::For(duration) => runner.timer = Instant::now().checked_add(duration),
            KeepAlive::Forever => runner.timer = None,
        }
        let expires_at = self.expiry(session);
        if let Some(runner) = self.runner(id) {
            runner.expires_at = expires_at;
        }
    }

    fn expired(&mut self, id: Id) {
        let Some(runner) = self.runner(&id) else {
            return;
        };
        if runner.users > 0 {
            self.retries.push((Instant::now() + RETRY, id));
            return;
        }
        if runner.stuck.is_some() {
            return;
        }
        let name = runner.name.clone();
        match self.faults.unload(&name) {
            Some(fault) if fault.kind == FaultKind::StuckUnload => {
                let now = self.clock.shown();
                let end = fault.duration.map(|duration| self.clock.real(duration));
                let end = end.and_then(|duration| Instant::now().checked_add(duration));
                if let Some(runner) = self.runner(&id) {
                    runner.stuck = Some(end.map_or(Stuck::Forever, Stuck::Until));
                    runner.expires_at = runner.expires_at.min(now);
                }
            }
            Some(fault) => self.unload(&id.blob, Some(fault.duration.unwrap_or(SLOW_UNLOAD))),
            None => self.unload(&id.blob, None),
        }
    }

    /// The runner is killed and no longer listed; its memory comes free after a while.
    fn unload(&mut self, blob: &str, time: Option<Duration>) {
        let Some(runner) = self.runners.remove(blob) else {
            return;
        };
        let time = time.unwrap_or_else(|| self.evict_time(runner.is_dead));
        if time.is_zero() {
            self.unloads += 1;
            return;
        }
        self.recovery = Some(Recovery {
            until: Instant::now() + self.clock.real(time),
            bytes: if runner.is_dead {
                0
            } else {
                runner.placement.size_vram
            },
        });
    }

    fn evict_time(&mut self, is_dead: bool) -> Duration {
        match self.settings.evict_time {
            Some(time) => time,
            // There is no memory to wait for.
            None if self.settings.vram == 0 => Duration::ZERO,
            None if is_dead => AFTER_CRASH,
            // Killing takes 50 ms, the memory 0.5 to 1.5 s more.
            None => Duration::from_secs_f64(0.55 + self.dice.fraction()),
        }
    }

    fn runner(&mut self, id: &Id) -> Option<&mut Runner> {
        let runner = self.runners.get_mut(&id.blob);
        runner.filter(|runner| runner.number == id.number)
    }

    fn expiry(&self, session: KeepAlive) -> jiff::Timestamp {
        let now = self.clock.shown();
        match session {
            KeepAlive::For(duration) => now.checked_add(duration).unwrap_or(now),
            // Ollama adds the longest duration that Go has: 292 years.
            KeepAlive::Forever => now
                .checked_add(jiff::SignedDuration::from_nanos(i64::MAX))
                .unwrap_or(now),
        }
    }

    /// What `/api/ps` lists, the latest expiry first (by whole seconds, as Ollama sorts).
    pub(super) fn loaded(&self) -> Vec<Loaded> {
        let listed = self.runners.values().map(|runner| Loaded {
            model: Arc::clone(&runner.model),
            name: runner.name.clone(),
            digest: runner.digest.clone(),
            size: runner.placement.size,
            size_vram: runner.placement.size_vram,
            context: runner.options.num_ctx,
            expires_at: runner.expires_at,
        });
        let mut loaded: Vec<Loaded> = listed.collect();
        loaded.sort_by_key(|model| std::cmp::Reverse(model.expires_at.as_second()));
        loaded
    }

    /// What was listed that long ago.
    pub(super) fn loaded_before(&self, lag: Duration) -> Vec<Loaded> {
        let moment = Instant::now().checked_sub(lag);
        let old = moment.and_then(|moment| {
            let mut known = self.history.iter().rev();
            known.find(|(since, _)| *since <= moment)
        });
        old.map(|(_, loaded)| loaded.clone()).unwrap_or_default()
    }

    /// Keeps the list for those who look with a lag.
    pub(super) fn remember(&mut self) {
        let loaded = self.loaded();
        if self.history.back().is_none_or(|(_, last)| *last != loaded) {
            self.history.push_back((Instant::now(), loaded));
        }
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}
