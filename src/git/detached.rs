//! Checkouts of one commit without a branch: nothing is ever committed there, so they hold no work
//! and may be removed whenever they are not needed.

use std::path::Path;

use super::command::LONG;
use super::lfs;
use super::{GitError, Repository, SquadRefKind};
use crate::core::TaskId;

impl Repository {
    /// Checks `commit` out at `dir`, in place of whatever a killed process left there.
    pub async fn add_detached(&self, commit: &str, dir: &Path) -> Result<(), GitError> {
        self.remove_detached(dir).await?;
        let state = self.lfs(commit).await?;
        let add = self
            .git
            .write(&self.top)
            .args(["worktree", "add", "--quiet", "--detach", "--force"])
            .arg(dir)
            .arg(commit)
            .limit(LONG);
        lfs::without_filter(add, state).run().await?;
        Ok(())
    }

    /// Removes such a checkout.
    pub async fn remove_detached(&self, dir: &Path) -> Result<(), GitError> {
        match self.find_room(dir)? {
            Some(room) => self.remove_checkout(dir, &room).await,
            None => match tokio::fs::remove_dir_all(dir).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(GitError::io("remove", dir)(error))
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    /// Forgets merges that an earlier squad recorded under the number of a task that is new.
    pub async fn forget_merges(&self, task: TaskId) -> Result<(), GitError> {
        let stale: Vec<_> = self
            .squad_refs()
            .await?
            .into_iter()
            .filter(|squad_ref| squad_ref.task == task)
            .filter(|squad_ref| {
                !matches!(squad_ref.kind, SquadRefKind::Archive | SquadRefKind::Base)
            })
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        self.delete_squad_refs(&stale).await
    }
}
