//! Takes a merge back, as long as nothing came after it.

use super::super::Repository;
use super::super::refs::{RefChange, task_ref};
use super::request::MergeRefused;
use super::run::set;
use crate::core::TaskId;

impl Repository {
    /// Moves the branch back to where it was before the merge of `task`; the commit it is at then.
    /// Refused when the branch has moved on or uncommitted files stand in the way. The merge's
    /// commit stays under `refs/warpsquad/undone/<task>`.
    pub async fn undo_merge(&self, task: TaskId) -> Result<String, MergeRefused> {
        let not_merged = || MergeRefused::NotMerged { task };
        let merged = self.recover_merge(task).await?.ok_or_else(not_merged)?;
        let record = self.load_record(&task_ref("merge", task)).await?;
        let record = record.ok_or_else(not_merged)?;
        let moved_on = || MergeRefused::MovedOn {
            target: record.target.clone(),
            commit: merged.clone(),
        };
        if self.branch_commit(&record.target).await?.as_ref() != Some(&merged) {
            return Err(moved_on());
        }
        let back = record.reversed();
        let checkout = self.check_holder(&back).await?;
        let blob = self.store_record(&back).await?;
        let notes = [
            set(task_ref("undone", task), &merged),
            set(task_ref("checkout", task), &blob),
        ];
        self.change_refs("warpsquad: undoing", &notes).await?;
        let changes = [
            back.change(),
            RefChange::Delete {
                name: task_ref("merged", task),
                old: Some(merged.clone()),
            },
        ];
        let dir = checkout.as_deref();
        if !self.move_target(&back, dir, task, &changes).await? {
            return Err(moved_on());
        }
        self.finish_move(task, &back).await?;
        Ok(back.to)
    }
}
