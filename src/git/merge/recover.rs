//! Finishes a merge or an undo that a kill interrupted: git is asked, not memory.

use super::super::refs::{RefChange, task_ref};
use super::super::{GitError, Repository, SquadRefKind};
use super::record::Record;
use super::request::MergeRefused;
use crate::core::TaskId;

impl Repository {
    /// The commit that the merge of `task` made, if it happened; its checkout is brought up to date
    /// first where a kill prevented that.
    pub async fn recover_merge(&self, task: TaskId) -> Result<Option<String>, MergeRefused> {
        self.complete_refs(task).await?;
        if let Some(pending) = self.load_record(&task_ref("checkout", task)).await? {
            self.finish_move(task, &pending).await?;
        }
        Ok(self.merged_commit(task).await?)
    }

    /// Finishes what a killed server left of any task, before anything else moves.
    pub(super) async fn finish_pending(&self) -> Result<(), MergeRefused> {
        for squad in self.squad_refs().await? {
            if squad.kind != SquadRefKind::Checkout {
                continue;
            }
            let Some(pending) = self.load_record(&squad.name).await? else {
                continue;
            };
            // Where the branch is elsewhere, that merge may be about to happen.
            if self.branch_commit(&pending.target).await?.as_ref() == Some(&pending.to) {
                self.recover_merge(squad.task).await?;
            }
        }
        Ok(())
    }

    /// Brings the checkout that has the branch up to date.
    pub(super) async fn finish_move(
        &self,
        task: TaskId,
        record: &Record,
    ) -> Result<(), MergeRefused> {
        let target = self.branch_commit(&record.target).await?;
        // When the branch has moved on, whoever moved it has dealt with the files.
        if target.as_deref() == Some(&record.to)
            && let Some(checkout) = self.holder(&record.target).await?
        {
            self.move_files(&checkout, record).await?;
        }
        Ok(self.drop_note("checkout", task).await?)
    }

    /// Where the branch has moved and the merged ref has not followed, it follows now.
    async fn complete_refs(&self, task: TaskId) -> Result<(), GitError> {
        let Some(record) = self.load_record(&task_ref("merge", task)).await? else {
            return Ok(());
        };
        let Some(target) = self.branch_commit(&record.target).await? else {
            return Ok(());
        };
        let name = task_ref("merged", task);
        let merged = self.ref_value(&name).await?;
        let change = match merged {
            None if self.is_ancestor(&record.to, &target).await? => RefChange::Create {
                name,
                new: record.to,
            },
            Some(merged) if self.is_undone(task, &record, &target).await? => RefChange::Delete {
                name,
                old: Some(merged),
            },
            _ => return Ok(()),
        };
        self.change_refs("warpsquad: recovered", &[change]).await
    }

    /// An undo of `merge` was begun and the branch is back.
    async fn is_undone(
        &self,
        task: TaskId,
        merge: &Record,
        target: &str,
    ) -> Result<bool, GitError> {
        let pending = self.load_record(&task_ref("checkout", task)).await?;
        Ok(pending == Some(merge.reversed()) && target == merge.from)
    }

    pub(super) async fn drop_note(&self, kind: &str, task: TaskId) -> Result<(), GitError> {
        let name = task_ref(kind, task);
        if self.ref_value(&name).await?.is_none() {
            return Ok(());
        }
        let delete = RefChange::Delete { name, old: None };
        self.change_refs("warpsquad: done", &[delete]).await
    }

    pub(super) async fn merged_commit(&self, task: TaskId) -> Result<Option<String>, GitError> {
        self.ref_value(&task_ref("merged", task)).await
    }

    /// The commit a branch points to.
    pub(super) async fn branch_commit(&self, branch: &str) -> Result<Option<String>, GitError> {
        self.ref_value(&format!("refs/heads/{branch}")).await
    }
}
