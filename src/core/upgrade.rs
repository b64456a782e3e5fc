//! How another program became the server, or why it did not; said by the keeper, shown by all.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The last upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeReport {
    /// The program that was to become the server.
    pub program: PathBuf,
    /// How far it is.
    pub state: UpgradeState,
    /// Why the old program runs again, if so.
    pub why: Option<String>,
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// There was none.
    #[default]
    None,
    /// The new server does not serve yet.
    Trial,
    /// The new server serves.
    Done,
    /// It failed, the old program is the server again.
    Back,
    /// A situation that this build does not know.
    #[serde(other)]
    Other,
}
