//! Puts a worktree away without losing anything, and brings it back.
//!
//! Unknown is not clean: whatever cannot be read, committed or kept under a ref stops the removal.

use std::path::{Path, PathBuf};

use super::base::Snapshot;
use super::refs::{RefChange, Transaction, task_ref, transaction};
use super::repository::read_head;
use super::worktree::{READY, REMOVING, prepared_paths, read_mark};
use super::{GitError, Identity, Repository, Worktree, WorktreeRequest, status};
use crate::core::TaskId;

/// Work that was put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The ref that keeps it.
    pub reference: String,
    /// Its tip.
    pub commit: String,
}

impl Repository {
    /// Commits everything in `worktree` that is not committed, without hooks and signature; none
    /// when there is nothing. Files put there by preparation are left out.
    pub async fn commit_all(
        &self,
        worktree: &Path,
        message: &str,
        identity: &Identity,
    ) -> Result<Option<String>, GitError> {
        let head = read_head(&self.git, worktree).await?.commit().to_owned();
        let snapshot = Snapshot::of(self, worktree, &head).await?;
        let mut nested = snapshot.nested.clone();
        nested.extend(status::read(&self.git, worktree).await?.submodules);
        if !nested.is_empty() {
            return Err(GitError::NestedRepository {
                path: worktree.to_owned(),
                nested,
            });
        }
        let prepared = self.prepared_and_unknown(worktree, &head).await?;
        snapshot.forget(self, worktree, &prepared).await?;
        let tree = snapshot.tree(self, worktree).await?;
        if tree == self.tree_of(&head).await? {
            return Ok(None);
        }
        let commit = self.commit_tree(&tree, &[&head], message, identity).await?;
        let change = [RefChange::Set {
            name: "HEAD".into(),
            new: commit.clone(),
            old: Some(head),
        }];
        let moved = transaction(&self.git, worktree, "warpsquad: keep work", &change, None);
        if let Transaction::Refused(_) = moved.await? {
            return Err(GitError::ChangedMeanwhile {
                path: worktree.to_owned(),
            });
        }
        // Only the worktree's own index; the commit above does not depend on it.
        self.git
            .write(worktree)
            .args(["reset", "--quiet"])
            .impatient()
            .output()
            .await
            .ok();
        Ok(Some(commit))
    }

    /// Keeps all work of `worktree` under `refs/warpsquad/archive/<task>` and removes the worktree
    /// and its branch. None when there was nothing to put away. Asking again after a kill goes on.
    pub async fn archive(
        &self,
        task: TaskId,
        worktree: &Path,
    ) -> Result<Option<Archived>, GitError> {
        let (archived, room) = self.put_away(task, worktree).await?;
        if let Some(room) = room {
            self.remove_checkout(worktree, &room).await?;
        }
        Ok(archived)
    }

    /// As [`Repository::archive`], but keeps the checkout at `parked` for the next spare where
    /// nothing of the task is left in it; whether it did.
    pub async fn archive_and_park(
        &self,
        task: TaskId,
        worktree: &Path,
        parked: &Path,
    ) -> Result<bool, GitError> {
        let (_, room) = self.put_away(task, worktree).await?;
        let Some(room) = room else {
            return Ok(false);
        };
        let is_spotless = read_mark(&room, REMOVING).is_some()
            && worktree.exists()
            && self.is_spotless(worktree, &room).await.unwrap_or(false);
        if is_spotless && self.park(worktree, &room, parked).await.is_ok() {
            return Ok(true);
        }
        self.remove_checkout(worktree, &room).await?;
        Ok(false)
    }

    /// Keeps all work of `worktree`; the room of a checkout that holds nothing more.
    async fn put_away(
        &self,
        task: TaskId,
        worktree: &Path,
    ) -> Result<(Option<Archived>, Option<PathBuf>), GitError> {
        let Some(room) = self.find_room(worktree)? else {
            if worktree.exists() {
                return Err(GitError::NotAWorktree {
                    path: worktree.to_owned(),
                });
            }
            return Ok((self.latest_archive(task).await?, None));
        };
        let Some(branch) = read_mark(&room, READY) else {
            return Ok((self.latest_archive(task).await?, Some(room)));
        };
        let head = self.settle(worktree, &room, task).await?;
        // The human may have checked out something else: both are kept.
        let tip = self.ref_value(&format!("refs/heads/{branch}")).await?;
        let mut archived = None;
        for commit in [&tip, &head].into_iter().flatten() {
            archived = Some(self.keep(task, commit).await?);
        }
        begin_removal(&room, &branch, tip.as_deref().unwrap_or_default())?;
        Ok((archived, Some(room)))
    }

    /// Brings the last archived work of `request.task` back as a worktree on its branch; the
    /// request's base is not used.
    pub async fn restore(&self, request: &WorktreeRequest) -> Result<Worktree, GitError> {
        let Some(archived) = self.latest_archive(request.task).await? else {
            return Err(GitError::NoArchive { task: request.task });
        };
        let request = WorktreeRequest {
            base: archived.commit,
            ..request.clone()
        };
        self.add_worktree(&request).await
    }

    /// The last work put away for `task`.
    pub async fn latest_archive(&self, task: TaskId) -> Result<Option<Archived>, GitError> {
        Ok(self.archives(task).await?.pop())
    }

    /// Commits what is left in `worktree` and returns its `HEAD`, none when the folder is gone.
    async fn settle(
        &self,
        worktree: &Path,
        room: &Path,
        task: TaskId,
    ) -> Result<Option<String>, GitError> {
        if !worktree.exists() {
            return Ok(None);
        }
        self.check_is_worktree(worktree, room).await?;
        let identity = self.identity().await?;
        let message = format!("task {task}: uncommitted work\n");
        self.commit_all(worktree, &message, &identity).await?;
        let changed = self.commit_all(worktree, &message, &identity).await?;
        if changed.is_some() {
            return Err(GitError::ChangedMeanwhile {
                path: worktree.to_owned(),
            });
        }
        let head = read_head(&self.git, worktree).await?;
        Ok(Some(head.commit().to_owned()))
    }

    /// Makes sure that the last archive ref of `task` points to `commit`.
    async fn keep(&self, task: TaskId, commit: &str) -> Result<Archived, GitError> {
        let known = self.archives(task).await?;
        if let Some(last) = known.last().filter(|last| last.commit == commit) {
            return Ok(last.clone());
        }
        let reference = archive_name(task, known.last().map_or(1, |last| number(last) + 1));
        let create = RefChange::Create {
            name: reference.clone(),
            new: commit.to_owned(),
        };
        self.change_refs("warpsquad: archive", &[create]).await?;
        Ok(Archived {
            reference,
            commit: commit.to_owned(),
        })
    }

    /// Archive refs of `task`, oldest first.
    async fn archives(&self, task: TaskId) -> Result<Vec<Archived>, GitError> {
        let first = archive_name(task, 1);
        let output = self
            .git
            .read(&self.top)
            .args(["for-each-ref", "--format=%(objectname) %(refname)"])
            .args([&first, &format!("{first}-*")])
            .run()
            .await?;
        let mut list: Vec<Archived> = output
            .text()
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(commit, reference)| Archived {
                reference: reference.to_owned(),
                commit: commit.to_owned(),
            })
            .collect();
        list.sort_by_key(number);
        Ok(list)
    }

    /// Prepared paths that the task did not take into a commit of its own.
    async fn prepared_and_unknown(
        &self,
        worktree: &Path,
        head: &str,
    ) -> Result<Vec<String>, GitError> {
        let mut prepared = prepared_paths(&self.common, worktree);
        if !prepared.is_empty() {
            let tracked = self
                .git
                .read(worktree)
                .args(["ls-tree", "-r", "-z", "--name-only", "--full-tree", head])
                .run()
                .await?;
            for path in tracked.fields() {
                prepared.remove(&path);
            }
        }
        Ok(prepared.into_iter().collect())
    }
}

fn archive_name(task: TaskId, number: u64) -> String {
    let first = task_ref("archive", task);
    if number < 2 {
        return first;
    }
    format!("{first}-{number}")
}

fn number(archived: &Archived) -> u64 {
    let suffix = archived.reference.rsplit_once('-').map(|(_, n)| n.parse());
    match suffix {
        Some(Ok(number)) => number,
        _ => 1,
    }
}

/// From here on the checkout holds nothing that is not archived.
fn begin_removal(room: &Path, branch: &str, tip: &str) -> Result<(), GitError> {
    let removing = room.join(REMOVING);
    std::fs::write(&removing, format!("{branch}\n{tip}"))
        .map_err(GitError::io("write", &removing))?;
    let ready = room.join(READY);
    std::fs::remove_file(&ready).map_err(GitError::io("remove", &ready))
}
