//! How much GPU memory a model needs with a context and so many slots.
//!
//! No formula is exact: measured over many architectures even good ones err by up to 2 GiB. So what
//! endpoints report after a load is remembered (`table`) and preferred; before the first load the
//! `formula` is used with a margin; `fit` plans with either.
//!
//! Invariant: pure. What a GPU has and what is free in it are arguments.

mod advice;
mod architecture;
mod fit;
mod formula;
mod table;

pub use advice::{Advice, advise, main_model};
pub use architecture::Architecture;
pub use fit::{Fitting, ModelFit, Room, RoomSource, SLOTS, Verdict, fit};
pub use formula::{KvCache, Shape, formula, kv_cache, ollama_predicts};
pub use table::{NeedSource, VramNeed, VramTable};
