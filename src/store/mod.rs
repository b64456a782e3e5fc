//! Where tasks and events are kept: the engine's journal on SQLite, and in memory.
//!
//! Both hold the same contract (`contract.rs` runs one suite against both). Only the engine's
//! thread writes; a batch is one transaction, so a busy squad pays for one `fsync`, not for many.
//!
//! Architecture invariant: nothing here decides anything about a task; a stored task is what the
//! engine said it is.

mod back;
#[cfg(test)]
mod contract;
mod memory;
mod migrations;
mod query;
mod sqlite;

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
