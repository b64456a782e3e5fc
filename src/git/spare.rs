//! Checkouts made ahead for tasks that are not known yet.
//!
//! A spare is detached at some commit and holds no work. It becomes a task's worktree by a branch
//! of that task, made at the task's base and checked out in place: one process of git, and as much
//! of the disk as the two commits differ.

use std::path::Path;

use super::command::LONG;
use super::repository::read_head;
use super::worktree::{READY, branch_name, read_mark};
use super::{GitError, LfsState, Repository, Worktree, WorktreeRequest, lfs, submodules};
use crate::core::TaskId;

impl Repository {
    /// Makes a spare of `commit` at `dir`, in place of whatever a killed process left there.
    pub async fn add_spare(&self, commit: &str, dir: &Path) -> Result<(), GitError> {
        self.exclude_aider().await?;
        self.add_detached(commit, dir).await?;
        let state = self.lfs(commit).await?;
        lfs::fill(&self.git, dir, state).await?;
        submodules::fill(self, dir).await?;
        Ok(())
    }

    /// As [`Repository::add_spare`], from a checkout that was parked; one that is not what it was
    /// is removed and the spare made anew.
    pub async fn add_spare_from(
        &self,
        parked: &Path,
        commit: &str,
        dir: &Path,
    ) -> Result<(), GitError> {
        self.remove_detached(dir).await?;
        if !self.unpark(parked, commit, dir).await.unwrap_or(false) {
            self.remove_detached(parked).await?;
            return self.add_spare(commit, dir).await;
        }
        let state = self.lfs(commit).await?;
        lfs::fill(&self.git, dir, state).await?;
        submodules::fill(self, dir).await?;
        Ok(())
    }

    /// Makes the spare at `request.dir`, which is at `commit`, the worktree of the request's task.
    /// Asking again after a kill goes on.
    pub async fn take_spare(
        &self,
        request: &WorktreeRequest,
        commit: &str,
    ) -> Result<Worktree, GitError> {
        let room = self.room_of(&request.dir)?;
        let branch = match read_mark(&room, READY) {
            Some(branch) => branch,
            None => self.switch(request, commit).await?,
        };
        let ready = room.join(READY);
        tokio::fs::write(&ready, &branch)
            .await
            .map_err(GitError::io("write", &ready))?;
        Ok(Worktree {
            path: request.dir.clone(),
            branch,
            commit: request.base.clone(),
            lfs: LfsState::Unused,
            submodules: Vec::new(),
        })
    }

    /// Removes a spare that nobody knows any more. Where a task had begun to take it, its branch and
    /// tip are put away as any work.
    pub async fn discard_spare(&self, dir: &Path) -> Result<(), GitError> {
        let room = self.room_of(dir)?;
        let branch = read_mark(&room, READY).unwrap_or_default();
        let number = branch
            .strip_prefix("squad/")
            .and_then(|rest| rest.split('-').next()?.parse().ok());
        match number {
            Some(number) => self.archive(TaskId(number), dir).await.map(drop),
            None => self.remove_detached(dir).await,
        }
    }

    /// Checks a new branch of the task out; its name.
    async fn switch(&self, request: &WorktreeRequest, commit: &str) -> Result<String, GitError> {
        let name = branch_name(request.task, request.attempt, &request.slug);
        if self
            .check_out_new(&request.dir, &name, &request.base)
            .await?
        {
            return self.switched(request, name, commit).await;
        }
        // A killed try of ours, or other work that has the name.
        let head = read_head(&self.git, &request.dir).await?;
        let ours = head.branch().filter(|branch| branch.starts_with(&name));
        if let Some(branch) = ours.map(str::to_owned) {
            return self.switched(request, branch, commit).await;
        }
        let name = self.free_branch(request).await?;
        self.ensure_branch(&name, &request.base).await?;
        self.git
            .write(&request.dir)
            .args(["checkout", "--quiet", &name])
            .limit(LONG)
            .run()
            .await?;
        self.switched(request, name, commit).await
    }

    /// What the other commit needs besides its files.
    async fn switched(
        &self,
        request: &WorktreeRequest,
        branch: String,
        commit: &str,
    ) -> Result<String, GitError> {
        if request.base != commit {
            let state = self.lfs(&request.base).await?;
            lfs::fill(&self.git, &request.dir, state).await?;
            if request.dir.join(".gitmodules").exists() {
                submodules::fill(self, &request.dir).await?;
            }
        }
        Ok(branch)
    }

    /// False when the branch exists.
    async fn check_out_new(&self, dir: &Path, name: &str, base: &str) -> Result<bool, GitError> {
        let output = self
            .git
            .write(dir)
            .args(["checkout", "--quiet", "--no-track", "-b", name, base])
            .limit(LONG)
            .output()
            .await?;
        if output.is_success() {
            return Ok(true);
        }
        if self
            .ref_value(&format!("refs/heads/{name}"))
            .await?
            .is_some()
        {
            return Ok(false);
        }
        Err(GitError::Failed {
            command: format!("checkout -b {name}"),
            code: output.code,
            stderr: output.stderr.trim_end().to_owned(),
        })
    }
}
