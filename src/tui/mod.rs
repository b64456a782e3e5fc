//! The dashboard: drawn in the server, once for each attached client.
//!
//! [`attach`] runs one client: its events and new views become a [`message::Message`],
//! [`update`](fn@update::update) changes the [`model`] and says what is wanted of the server,
//! [`view`] draws it when [`frames`] says so, [`wire`] carries the bytes. [`client`] is the other
//! end, in the user's terminal.

pub mod attach;
pub mod backend;
pub mod client;
pub mod editor;
#[cfg(test)]
mod fixture;
pub mod frames;
pub mod keymap;
pub mod layout;
pub mod message;
pub mod model;
mod sink;
pub mod text;
pub mod theme;
pub mod update;
pub mod view;
pub mod wire;

pub use attach::{Ask, Desk, run_client};
pub use wire::{ClientHello, ExitReason};
