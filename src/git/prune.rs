//! What `clean` may look at: our worktrees and our refs.

use std::path::{Path, PathBuf};

use super::refs::{ROOT, RefChange};
use super::repository::canonical;
use super::{GitError, Repository};
use crate::core::TaskId;

/// What a ref of ours keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SquadRefKind {
    /// The user's uncommitted work that a task started from.
    Base,
    /// A removed worktree.
    Archive,
    /// The commit a merge made.
    Merged,
    /// What a merge moved, for undo.
    Merge,
    /// A merge whose checkout is not up to date yet.
    Checkout,
    /// A merge that was undone.
    Undone,
}

/// One ref of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SquadRef {
    /// Its full name.
    pub name: String,
    /// What it keeps.
    pub kind: SquadRefKind,
    /// Whose it is.
    pub task: TaskId,
    /// What it points to.
    pub object: String,
}

impl Repository {
    /// All refs of ours, by name.
    pub async fn squad_refs(&self) -> Result<Vec<SquadRef>, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["for-each-ref", "--format=%(refname) %(objectname)", ROOT])
            .run()
            .await?;
        Ok(output.text().lines().filter_map(parse).collect())
    }

    /// Deletes refs of ours, all or none; one that points elsewhere by now stops it.
    pub async fn delete_squad_refs(&self, refs: &[SquadRef]) -> Result<(), GitError> {
        if refs.is_empty() {
            return Ok(());
        }
        let changes: Vec<RefChange> = refs
            .iter()
            .map(|squad| RefChange::Delete {
                name: squad.name.clone(),
                old: Some(squad.object.clone()),
            })
            .collect();
        self.change_refs("warpsquad: clean", &changes).await
    }

    /// A branch, local or remote, from which `commit` can be reached, if there is one. What is not
    /// a commit is on no branch.
    pub async fn branch_with(&self, commit: &str) -> Result<Option<String>, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["for-each-ref", "--count=1", "--format=%(refname:short)"])
            .args([
                &format!("--contains={commit}"),
                "refs/heads",
                "refs/remotes",
            ])
            .output()
            .await?;
        let found = output.is_success().then(|| output.text());
        Ok(found.filter(|name| !name.trim().is_empty()))
    }

    /// Folders of `worktree` that git ignores and that say of themselves, by a `CACHEDIR.TAG`, that
    /// what they hold can be made again: cargo's `target`, caches of test and lint programs.
    pub async fn cache_folders(&self, worktree: &Path) -> Result<Vec<PathBuf>, GitError> {
        let output = self
            .git
            .read(worktree)
            .args(["ls-files", "--others", "--ignored", "--exclude-standard"])
            .args(["--directory", "-z"])
            .run()
            .await?;
        let folders = output.fields();
        let folders = folders.iter().filter_map(|name| name.strip_suffix('/'));
        Ok(folders
            .map(|name| worktree.join(name))
            .filter(|folder| is_cache(folder))
            .collect())
    }

    /// Folders of worktrees of this repository under `data_dir`, there or gone.
    pub async fn worktrees_under(&self, data_dir: &Path) -> Result<Vec<PathBuf>, GitError> {
        let data_dir = canonical(data_dir.to_owned());
        let all = self.worktrees().await?;
        Ok(all
            .into_iter()
            .map(|entry| entry.path)
            .filter(|path| path.starts_with(&data_dir))
            .collect())
    }
}

/// The signature that <https://bford.info/cachedir/> asks for.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

fn is_cache(folder: &Path) -> bool {
    let is_folder = folder.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let tag = std::fs::read(folder.join("CACHEDIR.TAG"));
    is_folder && tag.is_ok_and(|tag| tag.starts_with(CACHE_SIGNATURE))
}

fn parse(line: &str) -> Option<SquadRef> {
    let (name, object) = line.split_once(' ')?;
    let (kind, task) = name.strip_prefix(ROOT)?.split_once('/')?;
    let kind = match kind {
        "base" => SquadRefKind::Base,
        "archive" => SquadRefKind::Archive,
        "merged" => SquadRefKind::Merged,
        "merge" => SquadRefKind::Merge,
        "checkout" => SquadRefKind::Checkout,
        "undone" => SquadRefKind::Undone,
        _ => return None,
    };
    let task = task.split('-').next()?.parse().ok()?;
    Some(SquadRef {
        name: name.to_owned(),
        kind,
        task: TaskId(task),
        object: object.to_owned(),
    })
}
