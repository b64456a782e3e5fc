//! Configuration: what every key means, where its value came from, and what is wrong with it.
//!
//! Layers, each over the one before: default < system (`/etc/warpsquad/config.toml`) < user (or
//! `--config`) < repository (`.warpsquad.toml`) < environment < flags. [`schema`] is the one
//! table of keys; [`parse`] turns a file into assignments with lines; [`layers`] puts them
//! together and remembers the origin of every value; [`trust`] decides about the commands that a
//! repository proposes; [`templates`] are the roles that a task can be given; [`paths`] says where
//! things lie.
//!
//! Invariant: nothing here runs a command, opens a connection or changes the environment.

pub mod environment;
pub mod example;
pub mod layers;
pub mod mistake;
pub mod parse;
pub mod paths;
pub mod schema;
pub mod templates;
pub mod trust;
pub mod url;
pub mod value;

mod keys;

pub use environment::Environment;
pub use example::example;
pub use layers::{Loaded, Origin, Sources, load};
pub use mistake::{ConfigError, Mistake, Place};
pub use paths::{Overrides, Places};
pub use trust::{Proposal, Proposals, Trust, TrustState};
