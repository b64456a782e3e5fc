//! A repository as the user has it: where it is, what kind it is, who commits in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command::Git;
use super::{GitError, LfsState};

/// A repository that a squad can work in: it has a checkout and at least one commit.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) git: Git,
    pub(super) top: PathBuf,
    pub(super) common: PathBuf,
    is_worktree: bool,
    is_submodule: bool,
    head: Head,
    /// The last answer about a commit: many checkouts of one commit are made in a row.
    lfs: Arc<Mutex<Option<(String, LfsState)>>>,
}

/// Where `HEAD` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// On a branch.
    Branch {
        /// Its name without `refs/heads/`.
        name: String,
        /// Its commit.
        commit: String,
    },
    /// On no branch.
    Detached {
        /// The commit.
        commit: String,
    },
}

impl Head {
    /// The commit checked out.
    pub fn commit(&self) -> &str {
        match self {
            Self::Branch { commit, .. } | Self::Detached { commit } => commit,
        }
    }

    /// The branch checked out, none when detached.
    pub fn branch(&self) -> Option<&str> {
        match self {
            Self::Branch { name, .. } => Some(name),
            Self::Detached { .. } => None,
        }
    }
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user.name`
    pub name: String,
    /// `user.email`
    pub email: String,
}

impl Repository {
    /// Opens the repository that holds `path`, or says why a squad cannot work in it.
    pub async fn open(path: &Path) -> Result<Self, GitError> {
        Self::open_with(Git::default(), path).await
    }

    /// As [`Repository::open`], with an environment of its own.
    pub async fn open_with(git: Git, path: &Path) -> Result<Self, GitError> {
        if !path.is_dir() {
            return Err(GitError::NotARepository {
                path: path.to_owned(),
            });
        }
        check_version(&git, path).await?;
        let [is_bare, inside, common, git_dir, top, parent] = answers(&git, path).await?;
        if is_bare == "true" || inside != "true" {
            return Err(GitError::Bare {
                path: path.to_owned(),
            });
        }
        let [top, common, git_dir] = [top, common, git_dir].map(|it| canonical(it.into()));
        let head = read_head(&git, &top).await?;
        Ok(Self {
            is_worktree: git_dir != common,
            is_submodule: !parent.is_empty(),
            git,
            top,
            common,
            head,
            lfs: Arc::default(),
        })
    }

    /// Top folder of the checkout it was opened through.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The folder that all worktrees share (`.git` of the main one).
    pub fn common_dir(&self) -> &Path {
        &self.common
    }

    /// It was opened through a linked worktree.
    pub fn is_worktree(&self) -> bool {
        self.is_worktree
    }

    /// It is a submodule of another repository.
    pub fn is_submodule(&self) -> bool {
        self.is_submodule
    }

    /// `HEAD` when it was opened.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// `HEAD` now.
    pub async fn head_now(&self) -> Result<Head, GitError> {
        read_head(&self.git, &self.top).await
    }

    /// Who commits here. Aider writes made-up values into the shared configuration when they are
    /// missing, so a missing one is a refusal.
    pub async fn identity(&self) -> Result<Identity, GitError> {
        identity(&self.git, &self.top).await
    }

    /// As [`Repository::identity`], in a checkout that needs not be opened for it.
    pub async fn identity_at(checkout: &Path) -> Result<Identity, GitError> {
        identity(&Git::default(), checkout).await
    }

    /// Whether files of `commit` are kept by git-lfs and whether that works here.
    pub async fn lfs(&self, commit: &str) -> Result<LfsState, GitError> {
        let known = lock(&self.lfs).clone();
        if let Some((_, state)) = known.filter(|(of, _)| of == commit) {
            return Ok(state);
        }
        let state = super::lfs::state(&self.git, &self.top, commit).await?;
        *lock(&self.lfs) = Some((commit.to_owned(), state));
        Ok(state)
    }

    /// The full id of the commit that `revision` names.
    pub async fn resolve(&self, revision: &str) -> Result<String, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{revision}^{{commit}}"))
            .output()
            .await?;
        if output.is_success() {
            return Ok(output.text());
        }
        Err(GitError::BadRevision {
            revision: revision.to_owned(),
        })
    }

    /// Creates `branch` at `commit` unless it exists; its commit.
    pub async fn ensure_branch(&self, branch: &str, commit: &str) -> Result<String, GitError> {
        let name = format!("refs/heads/{branch}");
        if let Some(value) = self.ref_value(&name).await? {
            return Ok(value);
        }
        let create = super::refs::RefChange::Create {
            name,
            new: commit.to_owned(),
        };
        self.change_refs("warpsquad: branch", &[create]).await?;
        Ok(commit.to_owned())
    }
}

/// A cache: a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn identity(git: &Git, dir: &Path) -> Result<Identity, GitError> {
    let output = git
        .read(dir)
        .args(["config", "-z", "--get-regexp", r"^user\.(name|email)$"])
        .output()
        .await?;
    // The last one counts. With nothing found git fails, and with nothing to say.
    let fields = output.fields();
    let value = |key: &str| {
        let mut all = fields.iter().filter_map(|field| field.split_once('\n'));
        let last = all.rfind(|(name, _)| *name == key);
        last.map(|(_, value)| value.to_owned())
            .filter(|value| !value.trim().is_empty())
    };
    let (name, email) = (value("user.name"), value("user.email"));
    let missing: Vec<String> = [("user.name", &name), ("user.email", &email)]
        .into_iter()
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| key.to_owned())
        .collect();
    match (name, email) {
        (Some(name), Some(email)) => Ok(Identity { name, email }),
        _ => Err(GitError::NoIdentity { missing }),
    }
}

/// Reads `HEAD` of the checkout at `top`.
pub(super) async fn read_head(git: &Git, top: &Path) -> Result<Head, GitError> {
    let output = git
        .read(top)
        .args(["rev-parse", "--quiet", "--revs-only", "HEAD^{commit}"])
        .args(["--symbolic-full-name", "HEAD"])
        .output()
        .await?;
    let text = output.text();
    let Some((commit, name)) = text.split_once('\n').filter(|_| output.is_success()) else {
        return Err(GitError::Unborn {
            path: top.to_owned(),
        });
    };
    let commit = commit.to_owned();
    Ok(match name.strip_prefix("refs/heads/") {
        Some(name) => Head::Branch {
            name: name.to_owned(),
            commit,
        },
        None => Head::Detached { commit },
    })
}

/// The path with links resolved, as it is when it does not exist.
pub(super) fn canonical(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

/// Whether the repository is bare, whether `path` is inside a checkout, the common folder, git's
/// own folder, the top folder, and the checkout of which this is a submodule (or nothing): all
/// from one process.
async fn answers(git: &Git, path: &Path) -> Result<[String; 6], GitError> {
    let words = [
        "--path-format=absolute",
        "--is-bare-repository",
        "--is-inside-work-tree",
        "--git-common-dir",
        "--git-dir",
        "--show-toplevel",
        "--show-superproject-working-tree",
    ];
    let text = rev_parse(git, path, &words).await?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() == words.len() - 2 {
        lines.push(String::new());
    }
    lines
        .try_into()
        .map_err(|lines: Vec<String>| GitError::Failed {
            command: "rev-parse".into(),
            code: None,
            stderr: format!(
                "{} lines came instead of six: a folder's name has a line break",
                lines.len()
            ),
        })
}

async fn rev_parse(git: &Git, path: &Path, words: &[&str]) -> Result<String, GitError> {
    let output = git.read(path).arg("rev-parse").args(words).output().await?;
    if output.is_success() {
        return Ok(output.text());
    }
    let path = path.to_owned();
    if output.stderr.contains("dubious ownership") {
        return Err(GitError::ForeignOwner { path });
    }
    if output.stderr.contains("not a git repository") {
        return Err(GitError::NotARepository { path });
    }
    if output.stderr.contains("must be run in a work tree") {
        return Err(GitError::Bare { path });
    }
    Err(GitError::Failed {
        command: format!("rev-parse {}", words.join(" ")),
        code: output.code,
        stderr: output.stderr.trim_end().to_owned(),
    })
}

/// `merge-tree --write-tree` came with 2.38.
async fn check_version(git: &Git, path: &Path) -> Result<(), GitError> {
    let text = git.read(path).arg("version").text().await?;
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    if is_enough(version) {
        return Ok(());
    }
    Err(GitError::GitTooOld {
        version: version.to_owned(),
    })
}

fn is_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let major = parts.next().flatten().unwrap_or(0);
    let minor = parts.next().flatten().unwrap_or(0);
    (major, minor) >= (2, 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_without_write_tree_merges_is_too_old() {
        for (version, enough) in [
            ("2.34.1", false),
            ("2.38.0", true),
            ("2.47.3", true),
            ("3.0", true),
            ("2.39.5.(Apple Git-154)", true),
            ("", false),
        ] {
            assert_eq!(is_enough(version), enough, "{version}");
        }
    }
}
