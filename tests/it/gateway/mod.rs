//! The gateway before simulated endpoints.

mod faults;
mod proxy;
mod sleep;
mod world;
