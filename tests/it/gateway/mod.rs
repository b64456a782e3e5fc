//! The gateway before simulated endpoints.

mod connections;
mod faults;
mod memory;
mod proxy;
mod sleep;
mod waits;
mod world;
