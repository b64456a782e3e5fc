//! Task templates: roles that frame a prompt and bring mode, category, check and files along.
//!
//! A template is one TOML file, named like the template. Fifty-four are built in; the user's
//! (`templates/` beside the configuration file) and a repository's (`.warpsquad/templates/`)
//! override them by name. [`mod@file`] reads one file, [`library`] puts the three places together and
//! resolves `extends`, [`survey`] looks at a repository, [`rank`] finds the best eight for it,
//! [`offer`] says what a template means there, [`frame`] makes the prompt.
//!
//! Invariant: a command that a repository's template proposes takes effect only after
//! `warpsquad trust`; its files to read lie inside the repository.

pub mod file;
pub mod frame;
pub mod library;
pub mod offer;
pub mod rank;
pub mod survey;
pub mod template;

mod built_in;

pub use library::{Library, Missing, proposals};
pub use offer::{CheckState, Offer, Place, best_offers};
pub use survey::{Sightings, Sign, Survey};
pub use template::{Check, Shelf, Template};

#[cfg(test)]
#[path = "built_in_tests.rs"]
mod built_in_tests;
