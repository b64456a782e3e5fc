//! Worktrees, archives and merges with real git in temporary folders.

mod archives;
mod interruptions;
mod merges;
mod preparation;
mod refusals;
mod reuse;
mod sandbox;
mod worktrees;
