//! Brings a task's work onto its branch, as git itself would, in one ref transaction.
//!
//! 1. `compute`: the resulting tree, without any checkout (`git merge-tree --write-tree`).
//! 2. `finish`: the user's hooks and signature on the final commit.
//! 3. `checkout`: would the files of the checkout that has the branch stand in the way?
//! 4. `run`: one transaction moves the branch and records the merge; then that checkout is brought
//!    up to date. A kill after the transaction is finished by `recover_merge`, which asks git.

mod checkout;
mod compute;
mod finish;
mod record;
mod request;
mod run;
mod undo;

pub use request::{MergeRefused, MergeRequest, Merged, Trailers};
