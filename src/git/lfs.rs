//! git-lfs: whether a commit needs it and what can be done without the network.
//!
//! A checkout is always made with pointers; objects that are here already are then put in place
//! by `git lfs checkout`, which never downloads.

use std::path::Path;

use super::GitError;
use super::command::{Call, Git, LONG};

/// How files kept by git-lfs are in a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LfsState {
    /// No file of the commit is kept by git-lfs.
    Unused,
    /// There are such files, but git-lfs is not installed: they are pointers.
    NotInstalled,
    /// They are in place as far as their objects are here.
    Installed {
        /// Files left as pointers because the object is not here.
        pointers: usize,
    },
}

/// Whether `commit` uses git-lfs and git-lfs is installed; counts nothing yet.
pub(super) async fn state(git: &Git, dir: &Path, commit: &str) -> Result<LfsState, GitError> {
    let found = git
        .read(dir)
        .args(["grep", "--quiet", "-e", "filter=lfs"])
        .args([commit, "--", ":(glob,top)**/.gitattributes"])
        .output()
        .await?;
    if !found.is_success() {
        return Ok(LfsState::Unused);
    }
    let installed = git.read(dir).args(["lfs", "version"]).output().await?;
    if installed.is_success() {
        return Ok(LfsState::Installed { pointers: 0 });
    }
    Ok(LfsState::NotInstalled)
}

/// Makes `call` work where files are marked for git-lfs and it is not installed: a configured but
/// missing filter would fail the checkout.
pub(super) fn without_filter(call: Call, state: LfsState) -> Call {
    if state != LfsState::NotInstalled {
        return call;
    }
    call.set("filter.lfs.process=")
        .set("filter.lfs.smudge=")
        .set("filter.lfs.clean=")
        .set("filter.lfs.required=false")
}

/// Puts the objects that are here into the checkout at `dir`.
pub(super) async fn fill(git: &Git, dir: &Path, state: LfsState) -> Result<LfsState, GitError> {
    if !matches!(state, LfsState::Installed { .. }) {
        return Ok(state);
    }
    git.write(dir)
        .args(["lfs", "checkout"])
        .limit(LONG)
        .output()
        .await?;
    let files = git.read(dir).args(["lfs", "ls-files"]).output().await?;
    let pointers = files
        .text()
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some("-"))
        .count();
    Ok(LfsState::Installed { pointers })
}
