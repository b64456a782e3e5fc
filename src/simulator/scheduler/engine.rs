//! A runner at work: its slots, what they still hold, and how fast they go together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::cache::Prompts;

/// Shared by all requests of one runner.
pub(in crate::simulator) struct Engine {
    places: Arc<Semaphore>,
    prompts: Mutex<Prompts>,
    /// Its process has died.
    died: CancellationToken,
    /// Streams that speak.
    decoding: AtomicUsize,
    /// Prompts that are read.
    prefilling: AtomicUsize,
    alpha: f64,
    /// How many times slower than all on the GPU.
    slowdown: f64,
    /// Tokens of prompt that are read in one go.
    pub(in crate::simulator) batch: u64,
    /// Tokens that each slot holds.
    pub(in crate::simulator) context: u64,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) slots: usize,
    pub(super) prompts: Prompts,
    pub(super) alpha: f64,
    pub(super) slowdown: f64,
    pub(super) batch: u64,
    pub(super) context: u64,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            places: Arc::new(Semaphore::new(parts.slots)),
            prompts: Mutex::new(parts.prompts),
            died: CancellationToken::new(),
            decoding: AtomicUsize::new(0),
            prefilling: AtomicUsize::new(0),
            alpha: parts.alpha,
            slowdown: parts.slowdown,
            batch: parts.batch.max(1),
            context: parts.context,
        }
    }

    /// Waits for a slot, first come first served, without a limit.
    pub(super) async fn slot(self: &Arc<Self>, prompt: &str) -> Option<Slot> {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let taken = self.lock().take(prompt);
        Some(Slot {
            engine: Arc::clone(self),
            index: taken.index,
            cached_chars: taken.cached,
            prompt: prompt.to_owned(),
            read: taken.cached,
            said: String::new(),
            _permit: permit,
        })
    }

    /// The process dies, and all that it does with it.
    pub(super) fn die(&self) {
        self.died.cancel();
    }

    /// Waits for that.
    pub(in crate::simulator) fn death(&self) -> impl Future<Output = ()> + Send + use<> {
        self.died.clone().cancelled_owned()
    }

    /// How many times longer a token takes than alone on the GPU: n streams together make
    /// `n^alpha` times the tokens of one.
    pub(in crate::simulator) fn decode_factor(&self) -> f64 {
        let streams = self.decoding.load(Ordering::Relaxed).max(1);
        self.slowdown * (streams as f64).powf(1.0 - self.alpha)
    }

    /// How many times longer a prompt's batch takes than alone on the GPU: prompts take turns.
    pub(in crate::simulator) fn prefill_factor(&self) -> f64 {
        self.slowdown * self.prefilling.load(Ordering::Relaxed).max(1) as f64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Prompts> {
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One slot of a runner.
pub(in crate::simulator) struct Slot {
    pub(in crate::simulator) engine: Arc<Engine>,
    index: usize,
    /// Characters of the prompt that need no evaluation.
    pub(in crate::simulator) cached_chars: usize,
    prompt: String,
    /// So much of the prompt is read, or just being read.
    read: usize,
    said: String,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// So many more characters of the prompt are read.
    pub(in crate::simulator) fn read(&mut self, chars: usize) {
        self.read = self.read.saturating_add(chars).min(self.prompt.len());
    }

    /// The whole prompt is read.
    pub(in crate::simulator) fn read_all(&mut self) {
        self.read = self.prompt.len();
    }

    /// What was said to it.
    pub(in crate::simulator) fn says(&mut self, text: &str) {
        self.said.push_str(text);
    }

    /// What it will still know afterwards: of a prompt that was given up only what was read.
    fn holds(&mut self) -> String {
        let mut read = self.read;
        while !self.prompt.is_char_boundary(read) {
            read -= 1;
        }
        let mut text = std::mem::take(&mut self.prompt);
        text.truncate(read);
        text.push_str(&self.said);
        text
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let text = self.holds();
        self.engine.lock().give_back(self.index, text);
    }
}

/// Counts one stream, or one prompt, as long as it lives.
pub(in crate::simulator) struct Busy(Arc<Engine>, Work);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulator) enum Work {
    Prefill,
    Decode,
}

impl Busy {
    pub(in crate::simulator) fn new(engine: &Arc<Engine>, work: Work) -> Self {
        let busy = Self(Arc::clone(engine), work);
        busy.count().fetch_add(1, Ordering::Relaxed);
        busy
    }

    fn count(&self) -> &AtomicUsize {
        match self.1 {
            Work::Prefill => &self.0.prefilling,
            Work::Decode => &self.0.decoding,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}
