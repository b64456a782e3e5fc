//! What makes a squad the demo's: a file in its data directory, so that it stays one when its
//! server is replaced or it is started again later.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
pub const DEMO_FILE: &str = "demo.json";

/// The squad of `warpsquad demo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoSquad {
    /// Where the simulator listens, `127.0.0.1:PORT`.
    pub simulator: String,
    /// What it serves.
    pub scenario: PathBuf,
    /// The data directory that keeps Aider: it outlives the demo.
    pub aider_home: PathBuf,
}
