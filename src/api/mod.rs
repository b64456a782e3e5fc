//! The squad's local HTTP face: commands, views, streams and the attaching of dashboards.

pub mod wire;
