//! The checkout that has the target branch: may it move, and moving it.
//!
//! Files move as with `git read-tree -m -u old new`: what is dirty or untracked stays as it is and
//! stands in the way only where the merge changes the same path.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::base::{copied_index, nul_terminated};
use super::super::command::LONG;
use super::super::{GitError, Repository, status};
use super::record::Record;
use super::request::MergeRefused;

/// The private git directory of the checkout at `dir`, as its `.git` says; none when it is gone.
fn git_dir(dir: &Path) -> Option<PathBuf> {
    let dot = dir.join(".git");
    if dot.is_dir() {
        return Some(dot);
    }
    let text = std::fs::read_to_string(dot).ok()?;
    let named = text.strip_prefix("gitdir:")?.trim();
    Some(dir.join(named))
}

/// A path that differs between two commits, with what the newer one has there.
struct Change {
    path: String,
    /// Mode and object id; none when the path goes.
    new: Option<(String, String)>,
    is_added: bool,
}

impl Repository {
    /// The checkout that has `target`, if any. Refuses while the user is in the middle of something.
    pub(super) async fn holder(&self, target: &str) -> Result<Option<PathBuf>, MergeRefused> {
        let entries = self.worktrees().await?;
        let mut holder = None;
        for entry in entries.iter().filter(|e| !e.is_bare && !e.is_missing) {
            let holds = entry.branch.as_deref() == Some(target);
            // Worktrees of other tasks are removed meanwhile: one that is gone holds nothing.
            let Some(git_dir) = git_dir(&entry.path) else {
                continue;
            };
            if let Some(operation) = operation(&git_dir, target, holds) {
                return Err(MergeRefused::Busy {
                    target: target.to_owned(),
                    checkout: entry.path.clone(),
                    operation,
                });
            }
            if holds {
                holder = Some(entry.path.clone());
            }
        }
        Ok(holder)
    }

    /// Refuses when files in `checkout` stand in the way of `record`. Changes nothing: it tries on
    /// a copy of the index.
    pub(super) async fn check_files(
        &self,
        checkout: &Path,
        record: &Record,
    ) -> Result<(), MergeRefused> {
        let index = copied_index(self, checkout).await?;
        let refresh = self
            .git
            .write(checkout)
            .args(["update-index", "-q", "--refresh"]);
        let refresh = refresh.env("GIT_INDEX_FILE", index.as_os_str());
        refresh.output().await?;
        let output = self
            .git
            .write(checkout)
            .env("GIT_INDEX_FILE", index.as_os_str())
            .args(["read-tree", "-m", "-u", "--dry-run"])
            .args([&record.from, &record.to])
            .output()
            .await?;
        let changes = self.changes(checkout, record).await?;
        let hidden = self.in_the_way(checkout, &changes).await?;
        if output.is_success() && hidden.is_empty() {
            return Ok(());
        }
        let mut files = self.overlap(checkout, &changes).await?;
        files.extend(hidden);
        if files.is_empty() {
            files.insert(output.said());
        }
        Err(MergeRefused::Overlap {
            checkout: checkout.to_owned(),
            files: files.into_iter().collect(),
        })
    }

    /// Moves the files of `checkout`. Done again after a kill, it goes on where it was.
    pub(super) async fn move_files(
        &self,
        checkout: &Path,
        record: &Record,
    ) -> Result<(), MergeRefused> {
        self.accept_written(checkout, record).await?;
        let refresh = self
            .git
            .write(checkout)
            .args(["update-index", "-q", "--refresh"]);
        refresh.output().await?;
        let output = self
            .git
            .write(checkout)
            .env("GIT_LFS_SKIP_SMUDGE", "0")
            .args(["read-tree", "-m", "-u", &record.from, &record.to])
            .limit(LONG)
            .outlives()
            .output()
            .await?;
        if output.is_success() {
            return Ok(());
        }
        let changes = self.changes(checkout, record).await?;
        let mut files = self.overlap(checkout, &changes).await?;
        if files.is_empty() {
            files.insert(output.said());
        }
        Err(MergeRefused::Overlap {
            checkout: checkout.to_owned(),
            files: files.into_iter().collect(),
        })
    }

    /// Files that a killed move wrote already look like changes of the user; where they are just
    /// what the new commit has, the index is told so.
    async fn accept_written(&self, checkout: &Path, record: &Record) -> Result<(), GitError> {
        let dirty = paths_of(&status::read(&self.git, checkout).await?);
        let mut lines = Vec::new();
        for change in self.changes(checkout, record).await? {
            if !dirty.contains(&change.path) {
                continue;
            }
            let file = checkout.join(&change.path);
            match &change.new {
                None if file.symlink_metadata().is_err() => {
                    lines.push(format!(
                        "0 {} 0\t{}",
                        "0".repeat(record.to.len()),
                        change.path
                    ));
                }
                Some((mode, object))
                    if self.hash(checkout, &change.path, mode).await?.as_ref() == Some(object) =>
                {
                    lines.push(format!("{mode} {object} 0\t{}", change.path));
                }
                _ => {}
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.git
            .write(checkout)
            .args(["update-index", "-z", "--index-info"])
            .stdin(nul_terminated(&lines))
            .run()
            .await?;
        Ok(())
    }

    /// The object id that the file at `path` would have.
    async fn hash(
        &self,
        checkout: &Path,
        path: &str,
        mode: &str,
    ) -> Result<Option<String>, GitError> {
        let file = checkout.join(path);
        let is_link = file.symlink_metadata().map(|meta| meta.is_symlink());
        let call = self.git.read(checkout).arg("hash-object");
        let call = match is_link {
            Ok(true) if mode == "120000" => {
                let target = std::fs::read_link(&file).map_err(GitError::io("read", &file))?;
                let bytes = std::os::unix::ffi::OsStringExt::into_vec(target.into_os_string());
                call.args(["--stdin", "--no-filters"]).stdin(bytes)
            }
            Ok(false) if mode.starts_with("100") && file.is_file() => call.args(["--", path]),
            _ => return Ok(None),
        };
        Ok(Some(call.text().await?))
    }

    async fn changes(&self, checkout: &Path, record: &Record) -> Result<Vec<Change>, GitError> {
        let output = self
            .git
            .read(checkout)
            .args(["diff-tree", "-r", "-z", "--raw", "--no-renames"])
            .args(["--full-index", &record.from, &record.to])
            .run()
            .await?;
        Ok(output.fields().chunks(2).filter_map(change).collect())
    }

    /// New paths where the checkout has a file that git does not track, ignored ones included: git
    /// would overwrite those silently.
    async fn in_the_way(
        &self,
        checkout: &Path,
        changes: &[Change],
    ) -> Result<Vec<String>, GitError> {
        let mut there: Vec<String> = changes
            .iter()
            .filter(|change| change.is_added)
            .filter(|change| checkout.join(&change.path).symlink_metadata().is_ok())
            .map(|change| change.path.clone())
            .collect();
        if !there.is_empty() {
            let tracked = self.git.read(checkout).args(["ls-files", "-z"]);
            let tracked: BTreeSet<String> = tracked.run().await?.fields().into_iter().collect();
            there.retain(|path| !tracked.contains(path));
        }
        Ok(there)
    }

    /// Dirty and untracked files on paths that change.
    async fn overlap(
        &self,
        checkout: &Path,
        changes: &[Change],
    ) -> Result<BTreeSet<String>, GitError> {
        let dirty = paths_of(&status::read(&self.git, checkout).await?);
        Ok(dirty
            .into_iter()
            .filter(|path| {
                changes
                    .iter()
                    .any(|change| is_same_or_below(path, &change.path))
            })
            .collect())
    }
}

fn paths_of(status: &status::Status) -> BTreeSet<String> {
    [&status.changed, &status.untracked, &status.unmerged]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn is_same_or_below(one: &str, other: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

/// One pair of `diff-tree --raw -z`: `:100644 100644 old new M`, path.
fn change(pair: &[String]) -> Option<Change> {
    let [what, path] = pair else {
        return None;
    };
    let mut words = what.trim_start_matches(':').split(' ');
    let (old_mode, new_mode) = (words.next()?, words.next()?);
    let object = words.nth(1)?;
    Some(Change {
        path: path.clone(),
        new: (new_mode != "000000").then(|| (new_mode.to_owned(), object.to_owned())),
        is_added: old_mode == "000000",
    })
}

/// What is going on in a checkout that forbids to move `target` under it.
fn operation(git_dir: &Path, target: &str, holds: bool) -> Option<&'static str> {
    let full = format!("refs/heads/{target}");
    let names = |file: &str| {
        std::fs::read_to_string(git_dir.join(file)).is_ok_and(|text| {
            let name = text.trim();
            name == full || name == target
        })
    };
    if names("rebase-merge/head-name") || names("rebase-apply/head-name") {
        return Some("a rebase");
    }
    if names("BISECT_START") {
        return Some("a bisection");
    }
    if !holds {
        return None;
    }
    let there = |file: &str| git_dir.join(file).exists();
    if there("MERGE_HEAD") {
        return Some("a merge");
    }
    if there("CHERRY_PICK_HEAD") {
        return Some("a cherry-pick");
    }
    there("REVERT_HEAD").then_some("a revert")
}
