//! The programs that `main` names: each leads from the command line's context to a face or a
//! process that stands beside the command line.

mod attach;
mod serve;
mod simulate;

pub use attach::attach;
pub use serve::server;
pub use simulate::simulator;
