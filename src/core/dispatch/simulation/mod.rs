//! Simulation of GPUs on a virtual clock: what a workload costs under one order of service or
//! another, in milliseconds of real time for hours of simulated time.
//!
//! The dispatcher in it is the real one. Beside it stand the orders of service that it has to
//! beat, and the same machine runs them all.
//!
//! What is assumed: a service takes the same time whoever else is served; loading takes as long
//! as the model's loads do on average, unloading the same for all; a client asks again as long
//! after its last answer as it did in the workload; nothing fails. Requests stay on their
//! endpoint and with their model.
//!
//! Invariant: the same workload and strategy give the same outcome.

mod clairvoyant;
mod fifo;
mod machines;
mod outcome;
mod replay;
mod workload;
mod world;

pub use clairvoyant::clairvoyant;
pub use outcome::Outcome;
pub use replay::{Log, Machines};
pub use workload::{Closed, Machine, Random, Script, Since, Step, Workload};
pub use world::{Strategy, run};
