//! `[server]` of a scenario.

use std::time::Duration;

use serde::Deserialize;

use crate::simulator::units::{
    bytes, duration, optional_bytes, optional_duration, optional_moment,
};

/// `[server]`: what Ollama takes from its environment, and what the machine is like.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::simulator) struct ServerSpec {
    pub(in crate::simulator) version: String,
    /// `OLLAMA_NUM_PARALLEL`
    pub(in crate::simulator) num_parallel: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`
    pub(in crate::simulator) max_loaded: usize,
    /// `OLLAMA_MAX_QUEUE`
    pub(in crate::simulator) max_queue: usize,
    /// `OLLAMA_KEEP_ALIVE`
    #[serde(deserialize_with = "duration")]
    pub(in crate::simulator) keep_alive: Duration,
    /// `OLLAMA_CONTEXT_LENGTH`; 0 chooses by GPU memory, as Ollama does.
    pub(in crate::simulator) context_length: u64,
    /// `OLLAMA_LOAD_TIMEOUT`
    #[serde(deserialize_with = "duration")]
    pub(in crate::simulator) load_timeout: Duration,
    /// Bytes of GPU memory; 0 is a machine without a GPU.
    #[serde(deserialize_with = "bytes")]
    pub(in crate::simulator) vram: u64,
    /// From the end of a runner until its memory is free; drawn when missing.
    #[serde(deserialize_with = "optional_duration")]
    pub(in crate::simulator) evict_time: Option<Duration>,
    /// n streams together make `rate * n^alpha` tokens per second.
    pub(in crate::simulator) alpha: f64,
    /// Largest deviation of a token's time, as a share of it.
    pub(in crate::simulator) jitter: f64,
    /// How many times slower a processor is than the GPU.
    pub(in crate::simulator) cpu_slowdown: f64,
    /// Bytes of prompts that each runner keeps in the machine's memory.
    #[serde(deserialize_with = "bytes")]
    pub(in crate::simulator) cache_ram: u64,
    /// Bytes per second of the disk that models are read from.
    #[serde(deserialize_with = "optional_bytes")]
    pub(in crate::simulator) disk: Option<u64>,
    /// Bytes of memory that hold files read before.
    #[serde(deserialize_with = "bytes")]
    pub(in crate::simulator) page_cache: u64,
    /// Bytes per second from there.
    #[serde(deserialize_with = "bytes")]
    pub(in crate::simulator) page_cache_rate: u64,
    /// From the start of a runner until it begins to read.
    #[serde(deserialize_with = "duration")]
    pub(in crate::simulator) spawn: Duration,
    /// How many times faster than life everything goes that the scenario gives a time for.
    pub(in crate::simulator) time_scale: f64,
    /// The moment that is shown at the start; the real one when missing.
    #[serde(deserialize_with = "optional_moment")]
    pub(in crate::simulator) started_at: Option<jiff::Timestamp>,
    /// Seed of everything that is drawn.
    pub(in crate::simulator) seed: u64,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            version: "0.32.15".into(),
            num_parallel: 1,
            max_loaded: 3,
            max_queue: 512,
            keep_alive: Duration::from_secs(300),
            context_length: 4_096,
            load_timeout: Duration::from_secs(300),
            vram: 0,
            evict_time: None,
            alpha: 0.7,
            jitter: 0.1,
            cpu_slowdown: 10.0,
            // llama-server's own default for --cache-ram, 8192 MiB.
            cache_ram: 8 << 30,
            disk: None,
            page_cache: 32 << 30,
            page_cache_rate: 4_000_000_000,
            spawn: Duration::from_millis(500),
            time_scale: 1.0,
            started_at: None,
            seed: 1,
        }
    }
}

impl ServerSpec {
    /// `num_ctx` of a request that names none, for a model that names none.
    pub(in crate::simulator) fn default_context(&self) -> u64 {
        const GIB: u64 = 1 << 30;
        match self.context_length {
            // Ollama's envconfig: by the memory of all GPUs.
            0 if self.vram >= 47 * GIB => 262_144,
            0 if self.vram >= 23 * GIB => 32_768,
            0 => 4_096,
            length => length,
        }
    }

    /// Whether Ollama chooses the context itself, and may choose less when memory runs out.
    pub(in crate::simulator) fn chooses_context(&self) -> bool {
        self.context_length == 0
    }

    /// What is wrong with the figures.
    pub(super) fn mistake(&self) -> Option<String> {
        if self.num_parallel == 0 || self.max_loaded == 0 || self.max_queue == 0 {
            return Some("num_parallel, max_loaded and max_queue must be at least 1".into());
        }
        for (key, value) in [
            ("cpu_slowdown", self.cpu_slowdown),
            ("time_scale", self.time_scale),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Some(format!("{key} must be above 0"));
            }
        }
        for (key, value) in [("alpha", self.alpha), ("jitter", self.jitter)] {
            if !(0.0..=1.0).contains(&value) {
                return Some(format!("{key} must be from 0 to 1"));
            }
        }
        if self.disk == Some(0) || self.page_cache_rate == 0 {
            return Some("disk and page_cache_rate must be above 0".into());
        }
        None
    }
}
