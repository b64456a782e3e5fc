//! The keeper: the small process that owns what must outlive a server.
//!
//! It holds agent and job processes, their terminals and recent output, and the gateway's listening
//! socket; it starts the server and starts it again. It does nothing clever.
//!
//! - [`process`]: the keeper itself
//! - [`protocol`]: what is said over its socket
//! - [`client`], [`attach`]: the server's side
//! - `zygote`, `forks`: the process that forks agents, and its forks as jobs
//! - [`ring`]: recent output in memory that both sides share
//! - [`launch`], [`options`]: starting a keeper
//! - [`shim`]: what every job starts with
//! - `cgroup`: limits that the kernel enforces
//! - [`leftovers`]: processes that a job, or a whole keeper, left behind

mod answer;
pub mod attach;
mod cgroup;
pub mod client;
mod connection;
pub mod fork_wire;
mod forks;
mod frame;
mod job;
pub mod launch;
pub mod leftovers;
pub mod options;
mod place;
mod platform;
pub mod process;
pub mod protocol;
mod restarts;
pub mod ring;
mod server_child;
pub mod shim;
mod state;
mod terminal;
mod upgrade;
mod zygote;

pub use attach::AttachedPty;
pub use client::{ClientError, KeeperClient, KeeperEvent};
pub use launch::{LaunchError, await_end, ensure_running, stop_running};
pub use leftovers::sweep_orphans;
pub use options::{KeeperOptions, KeeperPaths, SERVER_STOP_CODE};
pub use platform::{boot_id, end_when_deaf, resident, time_since_boot};
pub use process::{ExitReason, KeeperError, run};
pub use protocol::{
    Controller, Delivery, JobExit, JobSignal, JobSpec, JobView, Limits, Origin, Output,
    RefusalKind, Spawned, SquadLimits, ZygoteSpec, ZygoteState,
};
