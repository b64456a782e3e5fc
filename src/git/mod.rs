//! Worktrees, diffs and merges through the git command line.
//!
//! The promises kept here: the user's checkout is never touched without an explicit merge; nothing
//! is deleted that is not kept under a ref; a merge happens in one ref transaction, so that
//! recovery asks git and not memory. Refs of ours live under `refs/warpsquad/`:
//!
//! | ref | what it keeps |
//! |---|---|
//! | `base/<task>` | the commit a task started from, when it holds uncommitted work of the user |
//! | `archive/<task>`, `archive/<task>-2`, … | tips of worktrees that were removed |
//! | `merged/<task>` | the commit that a merge of the task made |
//! | `merge/<task>` | what that merge moved from where to where, for undo |
//! | `checkout/<task>` | a merge or undo whose checkout is not brought up to date yet |
//! | `undone/<task>` | the commit of a merge that was undone |

mod archive;
mod base;
mod command;
mod detached;
mod error;
mod history;
mod lfs;
mod merge;
mod prepare;
mod process;
mod propose;
mod prune;
mod refs;
mod repository;
mod reuse;
mod spare;
mod status;
mod submodules;
mod worktree;

pub use archive::Archived;
pub use base::{Base, BaseCommit};
pub use command::Git;
pub use error::GitError;
pub use history::{ChangedFile, Commit, Diff};
pub use lfs::LfsState;
pub use merge::{MergeRefused, MergeRequest, Merged, Trailers};
pub use prepare::{Prepared, prepare};
pub use propose::{Proposals, propose};
pub use prune::{SquadRef, SquadRefKind};
pub use repository::{Head, Identity, Repository};
pub use status::Status;
pub use submodules::SubmoduleState;
pub use worktree::{Worktree, WorktreeEntry, WorktreeRequest, branch_name};
