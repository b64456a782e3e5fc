//! `warpsquad doctor`: everything a squad needs, each finding with its remedy.
//!
//! [`finding`] is what a check says, [`machine`] looks at this machine, [`ollama`] at the
//! configured endpoints, [`settings`] at what Ollama's own settings allow and [`fit`] at what
//! their GPUs hold.

mod checks;
mod finding;
mod fit;
mod machine;
mod ollama;
mod settings;

pub(super) use checks::run;
