//! What can go wrong with git, as situations a user can do something about.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::TaskId;

/// A situation in which git cannot do what was asked. See [`GitError::hint`] for the remedy.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The `git` program was not found.
    #[error("git was not found")]
    GitMissing,
    /// The `git` program is too old.
    #[error("git {version} is too old: 2.38 or newer is needed")]
    GitTooOld {
        /// The version found.
        version: String,
    },
    /// The folder is in no repository.
    #[error("{} is not in a git repository", path.display())]
    NotARepository {
        /// The folder asked about.
        path: PathBuf,
    },
    /// The folder belongs to another user and git refuses to work in it.
    #[error("{} belongs to another user, git refuses to work in it", path.display())]
    ForeignOwner {
        /// The folder asked about.
        path: PathBuf,
    },
    /// The repository has no checkout.
    #[error("{} is a bare repository", path.display())]
    Bare {
        /// The repository.
        path: PathBuf,
    },
    /// The repository has no commit yet.
    #[error("{} has no commit yet", path.display())]
    Unborn {
        /// The repository.
        path: PathBuf,
    },
    /// `user.name` or `user.email` is not configured.
    #[error("git does not know who you are: {} is not set", missing.join(" and "))]
    NoIdentity {
        /// The keys that are missing.
        missing: Vec<String>,
    },
    /// The revision names no commit.
    #[error("{revision} is not a commit of this repository")]
    BadRevision {
        /// What was asked for.
        revision: String,
    },
    /// The checkout has conflicts that are not resolved.
    #[error("{} has unresolved conflicts: {}", path.display(), files.join(", "))]
    Unmerged {
        /// The checkout.
        path: PathBuf,
        /// The files in conflict.
        files: Vec<String>,
    },
    /// Another git process holds a lock, or one that was killed left it.
    #[error("another git process holds a lock: {detail}")]
    Locked {
        /// What git said.
        detail: String,
    },
    /// The folder of a new worktree holds something else.
    #[error("{} exists and is not this task's worktree", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The branch is checked out elsewhere.
    #[error("branch {branch} is checked out at {}", path.display())]
    BranchInUse {
        /// The branch.
        branch: String,
        /// Where it is checked out.
        path: PathBuf,
    },
    /// A worktree cannot be read, so that it is unknown what it holds.
    #[error("{} is not a readable worktree of this repository", path.display())]
    NotAWorktree {
        /// The folder.
        path: PathBuf,
    },
    /// Something in the worktree cannot be kept in a commit.
    #[error("{} holds git repositories of its own that a commit cannot keep: {}", path.display(), nested.join(", "))]
    NestedRepository {
        /// The worktree.
        path: PathBuf,
        /// The nested repositories.
        nested: Vec<String>,
    },
    /// The worktree changed while it was being put away.
    #[error("{} changed while it was being archived", path.display())]
    ChangedMeanwhile {
        /// The worktree.
        path: PathBuf,
    },
    /// There is no archive to restore.
    #[error("task {task} has no archived work")]
    NoArchive {
        /// The task.
        task: TaskId,
    },
    /// A glob of `worktree.copy` or `worktree.link` is malformed.
    #[error("{pattern:?} is not a valid pattern")]
    BadPattern {
        /// The glob.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// A path would leave the worktree.
    #[error("{} leads out of the checkout", path.display())]
    LeavesCheckout {
        /// The path.
        path: PathBuf,
    },
    /// A git command took too long.
    #[error("git {command} did not finish within {} s", after.as_secs())]
    TimedOut {
        /// Its arguments.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// A git command failed in a way that is not foreseen.
    #[error("git {command} failed ({}): {stderr}", code.map_or_else(|| "killed".to_owned(), |c| c.to_string()))]
    Failed {
        /// Its arguments.
        command: String,
        /// Its exit code, none when it was killed.
        code: Option<i32>,
        /// The end of what it said.
        stderr: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried (`read`, `remove`, …).
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl GitError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::GitMissing => "install git 2.38 or newer and put it on PATH".into(),
            Self::GitTooOld { .. } => "install git 2.38 or newer".into(),
            Self::NotARepository { path } => format!(
                "run it inside a repository, or make one: git -C {0} init && git -C {0} add -A && git -C {0} commit -m start",
                quoted(path)
            ),
            Self::ForeignOwner { path } => format!(
                "if you trust it: git config --global --add safe.directory {}",
                quoted(path)
            ),
            Self::Bare { path } => format!(
                "work in a checkout of it: git -C {} worktree add ../work",
                quoted(path)
            ),
            Self::Unborn { path } => format!(
                "make a first commit: git -C {0} add -A && git -C {0} commit -m start",
                quoted(path)
            ),
            Self::NoIdentity { .. } => "git config --global user.name 'Your Name' && git config --global user.email you@example.org".into(),
            Self::BadRevision { .. } => "name a branch, a tag or a commit: git log --oneline --all".into(),
            Self::Unmerged { .. } => "resolve the conflicts, or abort what caused them (git status names the command)".into(),
            Self::Locked { .. } => "wait for the other git process; if none is running, remove the .lock file that is named".into(),
            Self::Occupied { path } => format!("move {} away", quoted(path)),
            Self::BranchInUse { path, .. } => format!(
                "check out another branch there: git -C {} switch -",
                quoted(path)
            ),
            Self::NotAWorktree { path } => format!(
                "nothing was removed; look at {}, try: git worktree repair {0}",
                quoted(path)
            ),
            Self::NestedRepository { .. } => "nothing was removed; push or move the work of the nested repositories, then try again".into(),
            Self::ChangedMeanwhile { .. } => "nothing was removed; stop what is writing there and try again".into(),
            Self::NoArchive { .. } => "git for-each-ref refs/warpsquad lists what is kept".into(),
            Self::BadPattern { .. } => "write it like .env, config/*.local or vendor/**".into(),
            Self::LeavesCheckout { .. } => "name files inside the repository, without ..".into(),
            Self::TimedOut { .. } => "see whether the disk or a network file system is slow, then try again".into(),
            Self::Failed { .. } => "try the same command by hand in the repository".into(),
            Self::Io { .. } => "see the permissions and the free space of the disk".into(),
        }
    }

    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

/// A path as one word of a shell command.
pub(super) fn quoted(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_with_spaces_or_quotes_is_one_word_in_a_hint() {
        assert_eq!(quoted(Path::new("/a/b")), "/a/b");
        assert_eq!(quoted(Path::new("/a b")), "'/a b'");
        assert_eq!(quoted(Path::new("/a'b")), r"'/a'\''b'");
    }
}
