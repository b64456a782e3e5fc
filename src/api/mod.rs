//! The squad's local HTTP face: commands, views, streams and the attaching of dashboards.

mod listen;
mod routes;
mod services;
pub mod wire;

pub use listen::{ListenError, bind, serve};
pub use services::{Attached, Call, Pending, Services, call};
