//! Brings a task's work onto its branch, as git itself would, in one ref transaction.
//!
//! 1. `compute`: the resulting tree, without any checkout (`git merge-tree --write-tree`).
//! 2. `finish`: the user's hooks and signature on the final commit.
//! 3. `checkout`: would the files of the checkout that has the branch stand in the way?
//! 4. `run`: what will move is noted; one transaction moves the branch and records the merge; then
//!    that checkout is brought up to date.
//! 5. `recover`: finishes that after a kill at any point, asking git. (Git renames the refs of a
//!    transaction one after the other, so even between them there is a point.)

mod checkout;
mod compute;
mod finish;
mod record;
mod recover;
mod request;
mod run;
mod undo;

pub use request::{MergeRefused, MergeRequest, Merged, Trailers};
