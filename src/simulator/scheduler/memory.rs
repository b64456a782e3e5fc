//! How much memory a model takes, what of it fits the GPU, how long it takes to read.
//!
//! Ollama predicts weights plus f16 cache, adds what the batch takes, and calls it a fit up to 80 %
//! of what is free; with nothing else loaded it takes what there is and leaves the rest to the
//! processor.
//!
//! Invariant: pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulator::request::RunnerOptions;
use crate::simulator::scenario::{ModelSpec, ServerSpec};

const MIB: u64 = 1 << 20;

/// Share of the free memory that a model may take beside others.
const FIT: f64 = 0.80;

/// Where a model will lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placement {
    /// Bytes in all.
    pub(super) size: u64,
    /// Bytes on the GPU.
    pub(super) size_vram: u64,
    /// Tokens of prompt that are read in one go.
    pub(super) batch: u64,
    /// More than there is, though it was predicted to fit.
    pub(super) is_too_big: bool,
}

/// What must be known of the other models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Others {
    /// Bytes of GPU memory that nobody has.
    pub(super) free: u64,
    /// Whether none is loaded: then the model may lie partly in the machine's memory.
    pub(super) is_empty: bool,
}

/// Where the model goes, or `None`: another one has to go first.
pub(super) fn place(
    model: &ModelSpec,
    options: &RunnerOptions,
    server: &ServerSpec,
    others: Others,
) -> Option<Placement> {
    let slots = u64::try_from(model.slots(server.num_parallel)).unwrap_or(1);
    let predicted = model.size + model.kv_per_token * options.num_ctx * slots;
    let size = predicted + model.overhead;
    let batch = batch(options, predicted, others.free);
    let placement = |size_vram: u64| Placement {
        size,
        size_vram: size_vram.min(size),
        batch,
        is_too_big: false,
    };
    if server.vram == 0 {
        return Some(placement(0));
    }
    let layers = model.blocks + 1;
    if let Some(on_gpu) = options.gpu_layers().filter(|layers_on| *layers_on < layers) {
        let share = on_gpu as f64 / layers as f64;
        return Some(placement(share_of(size, share)));
    }
    let fits = (predicted + surcharge(batch)) as f64 <= others.free as f64 * FIT;
    if fits || others.is_empty && predicted <= others.free {
        return Some(Placement {
            is_too_big: size > others.free,
            ..placement(size)
        });
    }
    others.is_empty.then(|| placement(others.free))
}

fn share_of(size: u64, share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a size is not negative and not larger"
    )]
    let bytes = (size as f64 * share) as u64;
    bytes
}

/// The batch that was asked for, or Ollama's choice where there is room.
fn batch(options: &RunnerOptions, predicted: u64, free: u64) -> u64 {
    let share = predicted as f64 / free.max(1) as f64;
    match options.batch() {
        Some(batch) => batch,
        None if options.num_ctx > 32_768 && share <= 0.60 => 2_048,
        None if options.num_ctx > 4_096 && share <= 0.75 => 1_024,
        None => 512,
    }
}

/// What Ollama adds for a batch.
fn surcharge(batch: u64) -> u64 {
    match batch {
        0..=512 => 0,
        513..=1_024 => 768 * MIB,
        _ => 2_048 * MIB,
    }
}

impl Placement {
    /// How many times slower than all on the GPU, when the processor is so many times slower.
    pub(super) fn slowdown(&self, server: &ServerSpec) -> f64 {
        if server.vram == 0 {
            // The rates of the scenario are those of this machine.
            return 1.0;
        }
        let on_cpu = 1.0 - self.size_vram as f64 / self.size.max(1) as f64;
        1.0 - on_cpu + on_cpu * server.cpu_slowdown
    }
}

/// Files that were read before and are still in the machine's memory, the oldest first.
#[derive(Debug, Default)]
pub(super) struct PageCache(VecDeque<(String, u64)>);

impl PageCache {
    /// How long a load of these weights takes.
    pub(super) fn load_time(&mut self, model: &ModelSpec, server: &ServerSpec) -> Duration {
        if let Some(time) = model.load_time {
            return time;
        }
        let Some(disk) = server.disk else {
            return server.spawn;
        };
        let is_cached = self.read(model.weights(), model.size, server.page_cache);
        let pace = if is_cached {
            server.page_cache_rate
        } else {
            disk
        };
        server.spawn + Duration::from_secs_f64(model.size as f64 / pace.max(1) as f64)
    }

    /// Whether the file was there; afterwards it is, if it fits.
    fn read(&mut self, file: &str, size: u64, room: u64) -> bool {
        let known = self.0.iter().position(|(name, _)| name == file);
        if let Some(entry) = known.and_then(|at| self.0.remove(at)) {
            self.0.push_back(entry);
            return true;
        }
        if size > room {
            return false;
        }
        self.0.push_back((file.to_owned(), size));
        let mut total: u64 = self.0.iter().map(|(_, size)| size).sum();
        while total > room {
            let Some((_, size)) = self.0.pop_front() else {
                break;
            };
            total -= size;
        }
        false
    }
}
