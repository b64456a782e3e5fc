//! Figures of NVIDIA GPUs, read through NVML, the driver's own library.
//!
//! The library is loaded when it is asked for, so that a machine without it only gets a note.

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

/// One GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its number on this machine.
    pub index: u32,
    /// What it is called.
    pub name: String,
    /// Bytes of memory.
    pub memory_total: Option<u64>,
    /// Bytes in use by anybody.
    pub memory_used: Option<u64>,
    /// Share of the last sample period in which it computed, percent.
    pub busy: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// Processes that compute on it.
    pub processes: Vec<GpuProcess>,
}

/// A process that computes on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// The process.
    pub pid: u32,
    /// Bytes of GPU memory, where the driver tells.
    pub memory: Option<u64>,
}

/// Why no GPU can be read.
#[derive(Debug, thiserror::Error)]
pub enum NoGpus {
    /// The machine has no NVIDIA driver.
    #[error("there is no NVIDIA driver")]
    NoDriver,
    /// The driver is there and refuses.
    #[error("the NVIDIA driver does not answer")]
    Refused(#[source] NvmlError),
}

/// The GPUs of this machine.
pub struct Gpus {
    nvml: Nvml,
}

impl Gpus {
    /// Loads the driver's library. Slow (some hundred milliseconds): keep what it returns.
    pub fn open() -> Result<Self, NoGpus> {
        match Nvml::init() {
            Ok(nvml) => Ok(Self { nvml }),
            Err(
                NvmlError::LibloadingError(_)
                | NvmlError::LibraryNotFound
                | NvmlError::DriverNotLoaded
                | NvmlError::FailedToLoadSymbol(_),
            ) => Err(NoGpus::NoDriver),
            Err(error) => Err(NoGpus::Refused(error)),
        }
    }

    /// The driver's version.
    pub fn driver(&self) -> Option<String> {
        self.nvml.sys_driver_version().ok()
    }

    /// All GPUs that answer.
    pub fn read(&self) -> Vec<Gpu> {
        let count = self.nvml.device_count().unwrap_or(0);
        (0..count)
            .filter_map(|index| {
                let device = self.nvml.device_by_index(index).ok()?;
                Some(read(index, &device))
            })
            .collect()
    }
}

fn read(index: u32, device: &Device<'_>) -> Gpu {
    let memory = device.memory_info().ok();
    let processes = device.running_compute_processes().unwrap_or_default();
    Gpu {
        index,
        name: device.name().unwrap_or_else(|_| "unknown".into()),
        memory_total: memory.as_ref().map(|memory| memory.total),
        memory_used: memory.as_ref().map(|memory| memory.used),
        busy: device.utilization_rates().ok().map(|rates| rates.gpu),
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
        power: device.power_usage().ok(),
        processes: processes
            .into_iter()
            .map(|process| GpuProcess {
                pid: process.pid,
                memory: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_says_so_and_one_with_a_driver_names_its_gpus() {
        match Gpus::open() {
            Err(NoGpus::NoDriver) => {
                assert!(!std::path::Path::new("/proc/driver/nvidia/version").exists());
            }
            Err(NoGpus::Refused(error)) => panic!("refused: {error}"),
            Ok(gpus) => {
                for gpu in gpus.read() {
                    assert!(!gpu.name.is_empty());
                    assert!(
                        gpu.memory_total
                            .is_none_or(|total| Some(total) >= gpu.memory_used)
                    );
                }
            }
        }
    }
}
