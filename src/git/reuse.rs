//! A checkout whose work is put away becomes the next spare's: reset instead of removed and made.
//!
//! Unknown is not clean. Anything that git does not keep in a commit stops it (also what is
//! ignored, and what preparation put there), and so does anything that another task would inherit:
//! an operation under way, settings of this one checkout, submodules, files hidden from git.
//!
//! Invariant: a checkout is parked only after its work is under a ref, and it is looked at again
//! before it is used. A kill in between leaves what removing it leaves.

use std::path::Path;

use super::command::LONG;
use super::repository::read_head;
use super::worktree::{REMOVING, prepared_paths};
use super::{GitError, LfsState, Repository};

/// What a room holds while something of git's is under way, or where a checkout is not like others.
const PARTICULAR: [&str; 10] = [
    "BISECT_LOG",
    "CHERRY_PICK_HEAD",
    "MERGE_HEAD",
    "REVERT_HEAD",
    "config.worktree",
    "info",
    "locked",
    "modules",
    "rebase-apply",
    "rebase-merge",
];

impl Repository {
    /// Whether another task would find nothing in the checkout but its commit.
    pub(super) async fn is_spotless(&self, dir: &Path, room: &Path) -> Result<bool, GitError> {
        let is_particular = PARTICULAR.iter().any(|name| room.join(name).exists());
        if is_particular
            || dir.join(".gitmodules").exists()
            || !prepared_paths(&self.common, dir).is_empty()
        {
            return Ok(false);
        }
        let status = self.git.read(dir).args(["status", "--porcelain=v2", "-z"]);
        let status = status
            .args(["--untracked-files=all", "--ignored=matching"])
            .run()
            .await?;
        if !status.fields().is_empty() {
            return Ok(false);
        }
        // Files that git was told not to look at have another letter.
        let files = self.git.read(dir).args(["ls-files", "-v", "-z"]);
        let files = files.run().await?.fields();
        let is_plain = files.iter().all(|line| line.starts_with("H "));
        let head = read_head(&self.git, dir).await?;
        Ok(is_plain && self.lfs(head.commit()).await? == LfsState::Unused)
    }

    /// Moves the checkout at `dir`, whose work is put away and which is spotless, to `parked`.
    pub(super) async fn park(
        &self,
        dir: &Path,
        room: &Path,
        parked: &Path,
    ) -> Result<(), GitError> {
        let git = |words: &[&str]| self.git.write(dir).args(words).limit(LONG).run();
        git(&["checkout", "--quiet", "--detach"]).await?;
        self.delete_archived_branch(room).await?;
        let mark = room.join(REMOVING);
        std::fs::remove_file(&mark).map_err(GitError::io("remove", &mark))?;
        self.move_checkout(dir, parked).await
    }

    /// Makes a parked checkout a spare of `commit` at `dir`; false when it is not what it was.
    pub(super) async fn unpark(
        &self,
        parked: &Path,
        commit: &str,
        dir: &Path,
    ) -> Result<bool, GitError> {
        let room = self.room_of(parked)?;
        self.check_is_worktree(parked, &room).await?;
        if !self.is_spotless(parked, &room).await? {
            return Ok(false);
        }
        self.move_checkout(parked, dir).await?;
        self.git
            .write(dir)
            .args(["checkout", "--quiet", "--detach", commit])
            .limit(LONG)
            .run()
            .await?;
        Ok(true)
    }

    async fn move_checkout(&self, from: &Path, to: &Path) -> Result<(), GitError> {
        let call = self.git.write(&self.top).args(["worktree", "move"]);
        call.arg(from).arg(to).run().await?;
        Ok(())
    }
}
