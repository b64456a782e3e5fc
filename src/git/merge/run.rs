//! The merge itself: everything is decided first, then one transaction, then the files.

use std::path::{Path, PathBuf};

use super::super::Repository;
use super::super::refs::{RefChange, Transaction, task_ref, transaction};
use super::record::Record;
use super::request::{MergeRefused, MergeRequest, Merged};
use crate::core::TaskId;

/// Times a merge is computed again because the branch moved meanwhile.
const TRIES: u32 = 3;

impl Repository {
    /// Merges a task's work. On refusal nothing has changed. A task merges once: asking again
    /// gives the same commit.
    pub async fn merge(&self, request: &MergeRequest) -> Result<Merged, MergeRefused> {
        self.finish_pending().await?;
        if let Some(commit) = self.recover_merge(request.task).await? {
            let checkout = self.holder(&request.target).await?;
            return Ok(Merged { commit, checkout });
        }
        for _ in 0..TRIES {
            let prepared = self.prepare_merge(request).await?;
            if self.move_refs(request.task, &prepared).await? {
                return self.update_checkout(request.task, prepared).await;
            }
        }
        Err(MergeRefused::Moving {
            target: request.target.clone(),
        })
    }

    /// Makes the final commit and checks that it may arrive. Moves nothing.
    async fn prepare_merge(&self, request: &MergeRequest) -> Result<PreparedMerge, MergeRefused> {
        let not_a_branch = || MergeRefused::NotABranch {
            target: request.target.clone(),
        };
        let from = self.branch_commit(&request.target).await?;
        let from = from.ok_or_else(not_a_branch)?;
        let plan = self.plan_merge(request, &from).await?;
        // Before the hooks, which may take minutes, and again after them.
        let computed = Record {
            target: request.target.clone(),
            from: from.clone(),
            to: plan.tree.clone(),
        };
        self.check_holder(&computed).await?;
        let to = self.make_commits(request, plan).await?;
        let record = Record { to, ..computed };
        let checkout = self.check_holder(&record).await?;
        Ok(PreparedMerge { record, checkout })
    }

    /// Notes what will move, then moves it in one transaction. False when the branch has moved
    /// since.
    async fn move_refs(
        &self,
        task: TaskId,
        prepared: &PreparedMerge,
    ) -> Result<bool, MergeRefused> {
        let record = &prepared.record;
        let blob = self.store_record(record).await?;
        let notes = [
            set(task_ref("merge", task), &blob),
            set(task_ref("checkout", task), &blob),
        ];
        self.change_refs("warpsquad: merging", &notes).await?;
        let changes = [
            record.change(),
            RefChange::Create {
                name: task_ref("merged", task),
                new: record.to.clone(),
            },
        ];
        self.move_target(record, prepared.checkout.as_deref(), task, &changes)
            .await
    }

    /// Applies `changes`; false when the target is not where `record` starts.
    pub(super) async fn move_target(
        &self,
        record: &Record,
        checkout: Option<&Path>,
        task: TaskId,
        changes: &[RefChange],
    ) -> Result<bool, MergeRefused> {
        let reason = format!("warpsquad: task {task}");
        let hooks = self.hooks_dir().await?;
        let dir = checkout.unwrap_or(&self.top);
        let moved = transaction(&self.git, dir, &reason, changes, Some(&hooks)).await?;
        let Transaction::Refused(output) = moved else {
            return Ok(true);
        };
        self.drop_note("checkout", task).await?;
        let now = self.branch_commit(&record.target).await?;
        if now.as_deref() != Some(&record.from) {
            return Ok(false);
        }
        Err(MergeRefused::Hook {
            hook: "reference-transaction".into(),
            output,
        })
    }

    /// Brings the checkout up to date; when its files came into the way in this very moment, the
    /// merge is taken back.
    async fn update_checkout(
        &self,
        task: TaskId,
        prepared: PreparedMerge,
    ) -> Result<Merged, MergeRefused> {
        let PreparedMerge { record, checkout } = prepared;
        let Err(refused) = self.finish_move(task, &record).await else {
            return Ok(Merged {
                commit: record.to,
                checkout,
            });
        };
        let back = [
            record.reversed().change(),
            RefChange::Delete {
                name: task_ref("merged", task),
                old: Some(record.to.clone()),
            },
        ];
        self.change_refs("warpsquad: merge taken back", &back)
            .await?;
        self.drop_note("checkout", task).await?;
        Err(refused)
    }

    /// The checkout that has the target, after making sure that its files may move.
    pub(super) async fn check_holder(
        &self,
        record: &Record,
    ) -> Result<Option<PathBuf>, MergeRefused> {
        let holder = self.holder(&record.target).await?;
        if let Some(checkout) = &holder {
            self.check_files(checkout, record).await?;
        }
        Ok(holder)
    }
}

/// A merge of which everything is decided and nothing has moved.
#[derive(Debug, Clone)]
struct PreparedMerge {
    record: Record,
    checkout: Option<PathBuf>,
}

impl Record {
    /// The move of the branch, with its old value checked.
    pub(super) fn change(&self) -> RefChange {
        RefChange::Set {
            name: format!("refs/heads/{}", self.target),
            new: self.to.clone(),
            old: Some(self.from.clone()),
        }
    }

    pub(super) fn reversed(&self) -> Self {
        Self {
            target: self.target.clone(),
            from: self.to.clone(),
            to: self.from.clone(),
        }
    }
}

pub(super) fn set(name: String, new: &str) -> RefChange {
    RefChange::Set {
        name,
        new: new.to_owned(),
        old: None,
    }
}
