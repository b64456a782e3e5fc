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
        self.finish_checkout(task).await?;
        let not_merged = || MergeRefused::NotMerged { task };
        let merged = self.merged_commit(task).await?.ok_or_else(not_merged)?;
        let record = self.load_record(&task_ref("merge", task)).await?;
        let record = record.ok_or_else(not_merged)?;
        let moved_on = || MergeRefused::MovedOn {
            target: record.target.clone(),
            commit: merged.clone(),
        };
        let now = self
            .ref_value(&format!("refs/heads/{}", record.target))
            .await?;
        if now.as_deref() != Some(&merged) {
            return Err(moved_on());
        }
        let back = record.reversed();
        let checkout = self.check_holder(&back).await?;
        let blob = self.store_record(&back).await?;
        let changes = [
            back.change(),
            RefChange::Delete {
                name: task_ref("merged", task),
                old: Some(merged.clone()),
            },
            set(task_ref("undone", task), &merged),
            set(task_ref("checkout", task), &blob),
        ];
        if !self
            .move_target(&back, checkout.as_deref(), task, &changes)
            .await?
        {
            return Err(moved_on());
        }
        self.finish_checkout(task).await?;
        Ok(back.to)
    }
}
