//! The task's own checkout: made, found again, repaired.
//!
//! Git keeps a folder of its own for each worktree (`<common>/worktrees/<id>`, here called its
//! *room*). Two files of ours in it say how far we are: `warpsquad-ready` (made completely; holds
//! the branch) and `warpsquad-removing` (its work is archived; the rest may go). A room with
//! neither is half-made: nobody has worked in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::command::LONG;
use super::refs::RefChange;
use super::repository::{canonical, read_head};
use super::{GitError, LfsState, Repository, SubmoduleState, lfs, submodules};
use crate::core::TaskId;

pub(super) const READY: &str = "warpsquad-ready";
pub(super) const REMOVING: &str = "warpsquad-removing";
const PREPARED: &str = "warpsquad-prepared";
/// Longest slug in a branch name, in characters.
const SLUG_MAX: usize = 40;

/// A worktree that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorktreeRequest {
    /// The task.
    pub task: TaskId,
    /// Its attempt, counted from 1.
    pub attempt: u32,
    /// A few words of the task for the branch name.
    pub slug: String,
    /// The commit to start from.
    pub base: String,
    /// Where.
    pub dir: PathBuf,
}

/// A worktree that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    /// Its top folder.
    pub path: PathBuf,
    /// The branch made for it.
    pub branch: String,
    /// The commit it is at.
    pub commit: String,
    /// How files kept by git-lfs are.
    pub lfs: LfsState,
    /// How each submodule is.
    pub submodules: Vec<SubmoduleState>,
}

/// One line of `git worktree list`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorktreeEntry {
    /// Its top folder.
    pub path: PathBuf,
    /// The commit checked out, none in an empty repository.
    pub commit: Option<String>,
    /// The branch checked out, none when detached.
    pub branch: Option<String>,
    /// It is the bare repository itself.
    pub is_bare: bool,
    /// Its folder is gone.
    pub is_missing: bool,
}

/// The branch of an attempt: `squad/<task>-<slug>`, with `-a<attempt>` from the second on.
pub fn branch_name(task: TaskId, attempt: u32, slug: &str) -> String {
    let plain: String = slug
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let short: String = words.join("-").chars().take(SLUG_MAX).collect();
    let slug = match short.trim_end_matches('-') {
        "" => "task",
        slug => slug,
    };
    if attempt < 2 {
        return format!("squad/{task}-{slug}");
    }
    format!("squad/{task}-{slug}-a{attempt}")
}

impl Repository {
    /// Makes the worktree, or finds it when it is there already; repairs a half-made one. When the
    /// branch's name is taken by other work, the name gets a number.
    pub async fn add_worktree(&self, request: &WorktreeRequest) -> Result<Worktree, GitError> {
        let branch = match self.find_made(&request.dir).await? {
            Made::Ready(worktree) => return Ok(worktree),
            Made::Lost { branch } => branch,
            Made::Nothing => self.free_branch(request).await?,
        };
        self.ensure_branch(&branch, &request.base).await?;
        self.exclude_aider().await?;
        let state = self.lfs(&branch).await?;
        self.check_out(&request.dir, &branch, state).await?;
        let room = self.room_of(&request.dir)?;
        let lfs = lfs::fill(&self.git, &request.dir, state).await?;
        let submodules = submodules::fill(self, &request.dir).await?;
        let ready = room.join(READY);
        tokio::fs::write(&ready, &branch)
            .await
            .map_err(GitError::io("write", &ready))?;
        let commit = read_head(&self.git, &request.dir)
            .await?
            .commit()
            .to_owned();
        Ok(Worktree {
            path: request.dir.clone(),
            branch,
            commit,
            lfs,
            submodules,
        })
    }

    /// All checkouts of the repository, the main one first.
    pub async fn worktrees(&self) -> Result<Vec<WorktreeEntry>, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["worktree", "list", "--porcelain", "-z"])
            .run()
            .await?;
        Ok(parse_list(&output.fields()))
    }

    /// The first name that is free, or at the base and checked out nowhere: a killed try of ours.
    pub(super) async fn free_branch(&self, request: &WorktreeRequest) -> Result<String, GitError> {
        let first = branch_name(request.task, request.attempt, &request.slug);
        let mut name = first.clone();
        let mut number = 1;
        loop {
            let taken = self.ref_value(&format!("refs/heads/{name}")).await?;
            let is_ours = match taken {
                None => true,
                Some(tip) if tip == request.base => !self.is_checked_out(&name).await?,
                Some(_) => false,
            };
            if is_ours {
                return Ok(name);
            }
            number += 1;
            name = format!("{first}-{number}");
        }
    }

    async fn is_checked_out(&self, branch: &str) -> Result<bool, GitError> {
        let all = self.worktrees().await?;
        Ok(all
            .iter()
            .any(|entry| entry.branch.as_deref() == Some(branch)))
    }

    /// What an earlier call made at `dir`. What a killed process left half-made is removed.
    async fn find_made(&self, dir: &Path) -> Result<Made, GitError> {
        let Some(room) = self.find_room(dir)? else {
            if is_occupied(dir) {
                return Err(GitError::Occupied { path: dir.into() });
            }
            return Ok(Made::Nothing);
        };
        let Some(branch) = read_mark(&room, READY) else {
            self.remove_checkout(dir, &room).await?;
            return Ok(Made::Nothing);
        };
        if !dir.exists() {
            remove_all(&room).await?;
            return Ok(Made::Lost { branch });
        }
        self.check_is_worktree(dir, &room).await?;
        let head = read_head(&self.git, dir).await?;
        let state = self.lfs(head.commit()).await?;
        Ok(Made::Ready(Worktree {
            path: dir.to_owned(),
            branch,
            commit: head.commit().to_owned(),
            lfs: state,
            submodules: submodules::states(self, dir).await?,
        }))
    }

    async fn check_out(&self, dir: &Path, branch: &str, state: LfsState) -> Result<(), GitError> {
        let add = self
            .git
            .write(&self.top)
            .args(["worktree", "add", "--quiet"])
            .arg(dir)
            .arg(branch)
            .limit(LONG);
        let output = lfs::without_filter(add.clone(), state).output().await?;
        if output.is_success() {
            return Ok(());
        }
        let elsewhere = self.worktrees().await?.into_iter();
        let in_use = elsewhere
            .filter(|entry| entry.path != canonical(dir.to_owned()))
            .find(|entry| entry.branch.as_deref() == Some(branch));
        Err(match in_use {
            Some(entry) => GitError::BranchInUse {
                branch: branch.to_owned(),
                path: entry.path,
            },
            None => GitError::Failed {
                command: format!("worktree add {}", dir.display()),
                code: output.code,
                stderr: output.stderr.trim_end().to_owned(),
            },
        })
    }

    /// Fails unless `dir` is a checkout whose room is `room`.
    pub(super) async fn check_is_worktree(&self, dir: &Path, room: &Path) -> Result<(), GitError> {
        let output = self
            .git
            .read(dir)
            .args(["rev-parse", "--absolute-git-dir"])
            .output()
            .await;
        match output {
            Ok(output)
                if output.is_success()
                    && canonical(output.text().into()) == canonical(room.to_owned()) =>
            {
                Ok(())
            }
            _ => Err(GitError::NotAWorktree { path: dir.into() }),
        }
    }

    /// The room of the worktree at `dir`.
    pub(super) fn room_of(&self, dir: &Path) -> Result<PathBuf, GitError> {
        self.find_room(dir)?
            .ok_or_else(|| GitError::NotAWorktree { path: dir.into() })
    }

    pub(super) fn find_room(&self, dir: &Path) -> Result<Option<PathBuf>, GitError> {
        find_room(&self.common, dir)
    }

    /// Removes the folder, the branch named in the room's removal mark, then the room: at every
    /// point in between, asking again goes on from there.
    pub(super) async fn remove_checkout(&self, dir: &Path, room: &Path) -> Result<(), GitError> {
        remove_all(dir).await?;
        self.delete_archived_branch(room).await?;
        remove_all(room).await
    }

    /// Deletes the branch named in the room's removal mark, unless somebody moved it.
    pub(super) async fn delete_archived_branch(&self, room: &Path) -> Result<(), GitError> {
        let Some(mark) = read_mark(room, REMOVING) else {
            return Ok(());
        };
        let Some((branch, tip)) = mark.split_once('\n') else {
            return Ok(());
        };
        let name = format!("refs/heads/{branch}");
        if self.ref_value(&name).await?.as_deref() != Some(tip) {
            return Ok(());
        }
        let delete = RefChange::Delete {
            name,
            old: Some(tip.to_owned()),
        };
        self.change_refs("warpsquad: archived", &[delete]).await
    }

    /// Aider's own files are never work. Written once, where git keeps what only this clone ignores.
    pub(super) async fn exclude_aider(&self) -> Result<(), GitError> {
        let file = self.common.join("info").join("exclude");
        let text = match tokio::fs::read_to_string(&file).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(GitError::io("read", &file)(error)),
        };
        if text.lines().any(|line| line.trim() == ".aider*") {
            return Ok(());
        }
        let gap = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        replace_file(&file, &format!("{text}{gap}.aider*\n")).map_err(GitError::io("write", &file))
    }
}

/// What an earlier call left.
enum Made {
    /// All of it.
    Ready(Worktree),
    /// It was complete; its folder was deleted by somebody and its branch is still there.
    Lost { branch: String },
    /// Nothing.
    Nothing,
}

/// Writes beside `file` and renames, so that a reader sees the old text or the new one.
fn replace_file(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    if let Ok(meta) = std::fs::metadata(file) {
        new.as_file().set_permissions(meta.permissions())?;
    }
    new.persist(file)?;
    Ok(())
}

/// The room whose worktree is at `dir`, also when that folder is gone.
fn find_room(common: &Path, dir: &Path) -> Result<Option<PathBuf>, GitError> {
    let rooms = common.join("worktrees");
    let entries = match std::fs::read_dir(&rooms) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(GitError::io("read", &rooms)(error)),
    };
    let wanted = resolved(dir);
    for entry in entries {
        let room = entry.map_err(GitError::io("read", &rooms))?.path();
        let Ok(text) = std::fs::read_to_string(room.join("gitdir")) else {
            continue;
        };
        let link = room.join(text.trim_end_matches(['\n', '\r']));
        if link.parent().is_some_and(|path| resolved(path) == wanted) {
            return Ok(Some(room));
        }
    }
    Ok(None)
}

/// `path` with the links of its parent resolved: it may itself be gone.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Paths that preparation put into the worktree.
pub(super) fn prepared_paths(common: &Path, worktree: &Path) -> BTreeSet<String> {
    let Ok(Some(room)) = find_room(common, worktree) else {
        return BTreeSet::new();
    };
    let text = std::fs::read_to_string(room.join(PREPARED)).unwrap_or_default();
    text.split('\0')
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Remembers paths that preparation is about to put into the worktree.
pub(super) fn remember_prepared(
    common: &Path,
    worktree: &Path,
    paths: impl IntoIterator<Item = String>,
) -> Result<(), GitError> {
    let Some(room) = find_room(common, worktree)? else {
        return Err(GitError::NotAWorktree {
            path: worktree.to_owned(),
        });
    };
    let mut all = prepared_paths(common, worktree);
    all.extend(paths);
    let text = all.into_iter().collect::<Vec<_>>().join("\0");
    let file = room.join(PREPARED);
    replace_file(&file, &text).map_err(GitError::io("write", &file))
}

pub(super) fn read_mark(room: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(room.join(name)).ok()
}

fn is_occupied(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

async fn remove_all(dir: &Path) -> Result<(), GitError> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(GitError::io("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

fn parse_list(fields: &[String]) -> Vec<WorktreeEntry> {
    let mut list: Vec<WorktreeEntry> = Vec::new();
    for field in fields {
        let (key, value) = field.split_once(' ').unwrap_or((field, ""));
        if key == "worktree" {
            list.push(WorktreeEntry {
                path: value.into(),
                ..WorktreeEntry::default()
            });
            continue;
        }
        let Some(entry) = list.last_mut() else {
            continue;
        };
        match key {
            "HEAD" => entry.commit = Some(value.to_owned()),
            "branch" => entry.branch = value.strip_prefix("refs/heads/").map(str::to_owned),
            "bare" => entry.is_bare = true,
            "prunable" => entry.is_missing = true,
            _ => {}
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_name_is_always_valid() {
        let name = |attempt, slug: &str| branch_name(TaskId(7), attempt, slug);
        assert_eq!(name(1, "Add retry, please!"), "squad/7-add-retry-please");
        assert_eq!(name(2, "x"), "squad/7-x-a2");
        assert_eq!(name(1, "…"), "squad/7-task");
        assert_eq!(name(1, "a..b~^:?*[\\.lock"), "squad/7-a-b-lock");
        assert_eq!(
            name(1, &"abc ".repeat(100)).len(),
            "squad/7-".len() + 40 - 1
        );
    }
}
