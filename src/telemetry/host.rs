//! Figures of this machine: processors, memory, load.

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The machine at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Logical processors.
    pub processors: usize,
    /// Share of all processors in use since the sample before, percent; unknown in the first.
    pub busy: Option<f32>,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes that can still be had.
    pub memory_available: u64,
    /// Load average over one minute.
    pub load: f64,
}

/// Takes samples; the share of processors needs two.
pub struct HostSampler {
    system: System,
    is_first: bool,
}

impl Default for HostSampler {
    fn default() -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self {
            system: System::new_with_specifics(kinds),
            is_first: true,
        }
    }
}

impl HostSampler {
    /// The machine now.
    pub fn sample(&mut self) -> Host {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let is_first = std::mem::replace(&mut self.is_first, false);
        Host {
            processors: self.system.cpus().len(),
            busy: (!is_first).then(|| self.system.global_cpu_usage()),
            memory_total: self.system.total_memory(),
            memory_available: self.system.available_memory(),
            load: System::load_average().one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_processors_and_memory() {
        let mut sampler = HostSampler::default();
        let first = sampler.sample();
        assert!(first.processors > 0);
        assert!(first.memory_available <= first.memory_total);
        assert_eq!(first.busy, None);
        let second = sampler.sample().busy.unwrap();
        assert!((0.0..=100.5).contains(&second), "{second}");
    }
}
