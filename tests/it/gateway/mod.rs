//! The gateway before simulated endpoints.

mod faults;
mod memory;
mod proxy;
mod sleep;
mod world;
