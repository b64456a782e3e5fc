//! What the machine is doing: GPUs through NVML, processor, memory, disk and process trees through
//! the system.
//!
//! A figure that cannot be read is `None`: unknown, never zero.

pub mod disk;
pub mod gpu;
pub mod histograms;
pub mod host;
pub mod processes;
pub mod recorder;
pub mod room;

pub use gpu::{Gpu, Gpus, NoGpus};
pub use histograms::Measurements;
pub use host::{Host, HostSampler};
pub use recorder::Recorder;
