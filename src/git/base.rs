//! The commit a task starts from, also when that is the user's uncommitted work.

use std::path::Path;

use super::refs::{RefChange, task_ref};
use super::{GitError, Repository, status};
use crate::core::TaskId;

/// What a task starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The commit checked out.
    Head,
    /// A branch, tag or commit.
    Rev(String),
    /// The user's work as it is: staged, unstaged and untracked.
    Wip,
}

/// A base as a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCommit {
    /// Full id.
    pub commit: String,
    /// The branch checked out at that time, where the task's result belongs.
    pub branch: Option<String>,
}

impl Repository {
    /// The commit for `base`. Touches neither the user's files nor the index; a commit of
    /// uncommitted work is kept under `refs/warpsquad/base/<task>`, and asking again for the same
    /// task gives that one.
    pub async fn base_commit(&self, task: TaskId, base: &Base) -> Result<BaseCommit, GitError> {
        let head = self.head_now().await?;
        let branch = head.branch().map(str::to_owned);
        let commit = match base {
            Base::Head => head.commit().to_owned(),
            Base::Rev(revision) => self.resolve(revision).await?,
            Base::Wip => self.work_in_progress(task, head.commit()).await?,
        };
        Ok(BaseCommit { commit, branch })
    }

    async fn work_in_progress(&self, task: TaskId, head: &str) -> Result<String, GitError> {
        let name = task_ref("base", task);
        if let Some(commit) = self.ref_value(&name).await? {
            return Ok(commit);
        }
        let status = status::read(&self.git, &self.top).await?;
        if !status.unmerged.is_empty() {
            return Err(GitError::Unmerged {
                path: self.top.clone(),
                files: status.unmerged,
            });
        }
        let snapshot = Snapshot::of(self, &self.top, head).await?;
        let tree = self.drop_nested(snapshot).await?;
        if tree == self.tree_of(head).await? {
            return Ok(head.to_owned());
        }
        let identity = self.identity().await?;
        let message = "work in progress\n";
        let commit = self.commit_tree(&tree, &[head], message, &identity).await?;
        let create = RefChange::Create {
            name,
            new: commit.clone(),
        };
        self.change_refs("warpsquad: base", &[create]).await?;
        Ok(commit)
    }

    /// Repositories of the user inside the checkout are not part of the work.
    async fn drop_nested(&self, mut snapshot: Snapshot) -> Result<String, GitError> {
        let nested = std::mem::take(&mut snapshot.nested);
        snapshot.forget(self, &self.top, &nested).await?;
        snapshot.tree(self, &self.top).await
    }

    /// The tree of a commit.
    pub(super) async fn tree_of(&self, commit: &str) -> Result<String, GitError> {
        self.resolve_object(&format!("{commit}^{{tree}}")).await
    }

    pub(super) async fn resolve_object(&self, name: &str) -> Result<String, GitError> {
        self.git
            .read(&self.top)
            .args(["rev-parse", "--verify", "--end-of-options", name])
            .text()
            .await
    }

    /// A commit without hooks and signature.
    pub(super) async fn commit_tree(
        &self,
        tree: &str,
        parents: &[&str],
        message: &str,
        identity: &super::Identity,
    ) -> Result<String, GitError> {
        let mut call = self
            .git
            .write(&self.top)
            .args(["commit-tree", "--no-gpg-sign", tree])
            .env("GIT_AUTHOR_NAME", &identity.name)
            .env("GIT_AUTHOR_EMAIL", &identity.email)
            .env("GIT_COMMITTER_NAME", &identity.name)
            .env("GIT_COMMITTER_EMAIL", &identity.email)
            .stdin(message);
        for parent in parents {
            call = call.args(["-p", parent]);
        }
        call.text().await
    }
}

/// All of a checkout (tracked, changed, untracked, not ignored) in an index of our own: the
/// checkout's own index is only read.
pub(super) struct Snapshot {
    index: tempfile::TempPath,
    /// Repositories inside the checkout that its commit does not know.
    pub(super) nested: Vec<String>,
}

impl Snapshot {
    pub(super) async fn of(
        repository: &Repository,
        dir: &Path,
        head: &str,
    ) -> Result<Self, GitError> {
        let index = copied_index(repository, dir).await?;
        let mut snapshot = Self {
            index,
            nested: Vec::new(),
        };
        let lfs = repository.lfs(head).await?;
        let add = snapshot
            .call(repository, dir)
            .args(["add", "--all", "--", ":/"])
            .limit(super::command::LONG);
        super::lfs::without_filter(add, lfs).run().await?;
        snapshot.nested = snapshot.new_links(repository, dir, head).await?;
        Ok(snapshot)
    }

    /// Takes `paths` out of the snapshot.
    pub(super) async fn forget(
        &self,
        repository: &Repository,
        dir: &Path,
        paths: &[String],
    ) -> Result<(), GitError> {
        if paths.is_empty() {
            return Ok(());
        }
        self.call(repository, dir)
            .args(["update-index", "--force-remove", "-z", "--stdin"])
            .stdin(nul_terminated(paths))
            .run()
            .await?;
        Ok(())
    }

    pub(super) async fn tree(
        &self,
        repository: &Repository,
        dir: &Path,
    ) -> Result<String, GitError> {
        self.call(repository, dir).arg("write-tree").text().await
    }

    fn call(&self, repository: &Repository, dir: &Path) -> super::command::Call {
        repository
            .git
            .write(dir)
            .env("GIT_INDEX_FILE", self.index.as_os_str())
            .set("advice.addEmbeddedRepo=false")
    }

    async fn new_links(
        &self,
        repository: &Repository,
        dir: &Path,
        head: &str,
    ) -> Result<Vec<String>, GitError> {
        let output = self
            .call(repository, dir)
            .args([
                "diff-index",
                "--cached",
                "--raw",
                "-z",
                "--no-renames",
                head,
            ])
            .run()
            .await?;
        let fields = output.fields();
        let new = |pair: &[String]| match pair {
            [what, path] if what.starts_with(":000000 160000") => Some(path.clone()),
            _ => None,
        };
        Ok(fields.chunks(2).filter_map(new).collect())
    }
}

/// A copy of the index of the checkout at `dir`, beside it (a split index needs its shared part).
pub(super) async fn copied_index(
    repository: &Repository,
    dir: &Path,
) -> Result<tempfile::TempPath, GitError> {
    let git_dir = repository
        .git
        .read(dir)
        .args(["rev-parse", "--absolute-git-dir"])
        .text()
        .await?;
    let index = Path::new(&git_dir).join("index");
    let copy = tempfile::Builder::new()
        .prefix("warpsquad-index-")
        .tempfile_in(&git_dir)
        .map_err(GitError::io("write a file in", &git_dir))?
        .into_temp_path();
    if let Ok(meta) = std::fs::metadata(&index) {
        tokio::fs::copy(&index, &copy)
            .await
            .map_err(GitError::io("read", &index))?;
        // Git compares files with their size and time only when they are older than the index: a
        // younger copy would hide a change made in the same second as the index.
        let keep = |time| {
            std::fs::File::options()
                .write(true)
                .open(&copy)?
                .set_modified(time)
        };
        meta.modified()
            .and_then(keep)
            .map_err(GitError::io("write", copy.to_path_buf()))?;
    } else {
        // An empty file is no index; an absent one is an empty index.
        tokio::fs::remove_file(&copy)
            .await
            .map_err(GitError::io("remove", copy.to_path_buf()))?;
    }
    Ok(copy)
}

pub(super) fn nul_terminated(paths: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
    }
    bytes
}
