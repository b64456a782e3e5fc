//! What the machine is doing: GPUs through NVML, processor and memory through the system.
//!
//! A figure that cannot be read is `None`: unknown, never zero.

pub mod gpu;
pub mod host;

pub use gpu::{Gpu, Gpus, NoGpus};
pub use host::{Host, HostSampler};
