//! Submodules of a worktree, made from what the user's clone already has: no network.

use std::path::{Path, PathBuf};

use super::command::LONG;
use super::{GitError, Repository};

/// How one submodule of a worktree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmoduleState {
    /// Its path from the top.
    pub path: String,
    /// Why its folder is empty; none when it is checked out.
    pub missing: Option<String>,
}

/// A submodule as `.gitmodules` names it.
struct Submodule {
    name: String,
    path: String,
}

/// Checks out the submodules of the worktree at `dir` as far as that is possible.
pub(super) async fn fill(
    repository: &Repository,
    dir: &Path,
) -> Result<Vec<SubmoduleState>, GitError> {
    let modules = repository.common.join("modules");
    let mut states = Vec::new();
    let mut waiting = vec![(dir.to_owned(), modules, String::new())];
    while let Some((at, store, prefix)) = waiting.pop() {
        for submodule in listed(repository, &at).await? {
            let source = store.join(&submodule.name);
            let missing =
                fill_one(repository, &at, &submodule, &source, !prefix.is_empty()).await?;
            let path = format!("{prefix}{}", submodule.path);
            if missing.is_none() {
                let below = at.join(&submodule.path);
                waiting.push((below, source.join("modules"), format!("{path}/")));
            }
            states.push(SubmoduleState { path, missing });
        }
    }
    Ok(states)
}

/// How the submodules of the worktree at `dir` are.
pub(super) async fn states(
    repository: &Repository,
    dir: &Path,
) -> Result<Vec<SubmoduleState>, GitError> {
    let submodules = listed(repository, dir).await?;
    Ok(submodules
        .into_iter()
        .map(|submodule| SubmoduleState {
            missing: (!dir.join(&submodule.path).join(".git").exists())
                .then(|| "it is not checked out".to_owned()),
            path: submodule.path,
        })
        .collect())
}

async fn fill_one(
    repository: &Repository,
    dir: &Path,
    submodule: &Submodule,
    source: &PathBuf,
    is_nested: bool,
) -> Result<Option<String>, GitError> {
    if !source.is_dir() {
        let remedy = "it is not in the clone; run: git submodule update --init --recursive";
        return Ok(Some(remedy.into()));
    }
    let mut url = std::ffi::OsString::from(format!("submodule.{}.url=", submodule.name));
    url.push(source);
    let mut update = repository
        .git
        .write(dir)
        .set(url)
        .set(format!("submodule.{}.active=true", submodule.name))
        .set(format!("submodule.{}.update=checkout", submodule.name))
        .set("protocol.file.allow=always")
        .args(["submodule", "--quiet", "update"])
        .limit(LONG);
    if is_nested {
        // The outer one is a fresh clone of ours; the user's own settings are never written.
        update = update.arg("--init");
    }
    let output = update.arg("--").arg(&submodule.path).output().await?;
    if output.is_success() {
        return Ok(None);
    }
    Ok(Some(output.said()))
}

/// The submodules that the commit checked out at `dir` really has.
async fn listed(repository: &Repository, dir: &Path) -> Result<Vec<Submodule>, GitError> {
    if !dir.join(".gitmodules").is_file() {
        return Ok(Vec::new());
    }
    let output = repository
        .git
        .read(dir)
        .args(["config", "--file", ".gitmodules", "-z", "--get-regexp"])
        .arg(r"^submodule\..*\.path$")
        .output()
        .await?;
    let mut found = Vec::new();
    for field in output.fields() {
        let Some((key, path)) = field.split_once('\n') else {
            continue;
        };
        let name = key
            .strip_prefix("submodule.")
            .and_then(|rest| rest.strip_suffix(".path"));
        let Some(name) = name.filter(|name| is_safe(name) && is_safe(path)) else {
            continue;
        };
        if is_link(repository, dir, path).await? {
            found.push(Submodule {
                name: name.to_owned(),
                path: path.to_owned(),
            });
        }
    }
    Ok(found)
}

async fn is_link(repository: &Repository, dir: &Path, path: &str) -> Result<bool, GitError> {
    let output = repository
        .git
        .read(dir)
        .args(["ls-files", "--stage", "--", path])
        .output()
        .await?;
    Ok(output.text().starts_with("160000 "))
}

/// Names and paths come from a file of the repository: they must not lead out of it.
fn is_safe(path: &str) -> bool {
    use std::path::Component;
    !path.is_empty()
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}
