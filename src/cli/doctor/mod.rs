//! `warpsquad doctor`: everything a squad needs, each finding with its remedy.
//!
//! [`finding`] is what a check says, [`machine`] looks at this machine, [`ollama`] at the
//! configured endpoints, [`settings`] at what Ollama's own settings allow and [`fit`] at what
//! their GPUs hold. [`measure`] measures instead, when that is asked for.

mod checks;
mod finding;
mod fit;
mod machine;
mod measure;
mod ollama;
mod settings;

pub(super) use checks::run;
