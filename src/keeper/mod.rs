//! The keeper: the small process that owns what must outlive a server.
//!
//! It holds agent and job processes, their terminals and recent output, and the gateway's listening
//! socket; it starts the server and starts it again. It does nothing clever.
//!
//! - [`protocol`]: what is said over its socket
//! - [`client`], [`attach`]: the server's side
//! - [`ring`]: recent output in memory that both sides share
//! - [`launch`], [`options`]: starting a keeper
//! - [`shim`]: what every job starts with
//! - [`leftovers`]: processes that a job, or a whole keeper, left behind
#![allow(dead_code, reason = "the process itself is the next commit")]

pub mod attach;
pub mod client;
mod frame;
pub mod launch;
pub mod leftovers;
pub mod options;
mod platform;
pub mod protocol;
pub mod ring;
pub mod shim;

pub use attach::AttachedPty;
pub use client::{ClientError, KeeperClient, KeeperEvent};
pub use launch::{LaunchError, ensure_running};
pub use leftovers::sweep_orphans;
pub use options::{KeeperOptions, KeeperPaths, SERVER_STOP_CODE};
pub use protocol::{Delivery, JobExit, JobSignal, JobSpec, JobView, Output, RefusalKind, Spawned};
