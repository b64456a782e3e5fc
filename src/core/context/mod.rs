//! The context that a model is loaded with (`num_ctx`), chosen once and written into every request.
//!
//! Ollama loads a model again whenever `num_ctx` differs from the one it is loaded with, and Aider
//! asks for another on every message. So one rung of a ladder is pinned for each model:
//! `ladder` holds the rungs, `plan` chooses one by what was needed, `chars` learns how many
//! tokens a text has, and `admit` says whether a request fits and notices prompts that were cut.
//!
//! Invariant: pure. No VRAM is known here; whether a rung fits is an argument.

mod admit;
mod chars;
mod ladder;
mod plan;

pub use admit::{ANSWER_LEAST, ANSWER_RESERVE, Admission, Fit, capped, was_cut};
pub use chars::CharsPerToken;
pub use ladder::{CONTEXT_DEFAULT, LADDER, rung_below, rung_for};
pub use plan::{ContextPlan, need_of};
