//! Untracked files of the user's checkout that a worktree needs: copied or linked.
//!
//! Nothing is written outside the worktree and nothing is read outside the checkout: no `..`, no
//! symbolic link is followed out of either. What exists already is left as it is.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::worktree::remember_prepared;
use super::{GitError, Repository};

/// What preparation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Files copied, from the top.
    pub copied: Vec<String>,
    /// Files and folders linked, from the top.
    pub linked: Vec<String>,
    /// What matched and was left out, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Copies and links untracked files (ignored ones too) that match the globs from the repository's
/// checkout into `worktree`. A glob that matches a folder means all of it.
pub async fn prepare(
    repository: &Repository,
    worktree: &Path,
    copy: &[String],
    link: &[String],
) -> Result<Prepared, GitError> {
    let (copy, link) = (globs(copy)?, globs(link)?);
    if copy.is_empty() && link.is_empty() {
        return Ok(Prepared::default());
    }
    let listing = Listing::of(repository).await?;
    let plan = listing.plan(&copy, &link);
    let all = plan.links.iter().chain(&plan.copies).cloned();
    remember_prepared(&repository.common, worktree, all)?;
    let (from, to) = (repository.top.clone(), worktree.to_owned());
    let work = tokio::task::spawn_blocking(move || carry_out(&plan, &from, &to));
    match work.await {
        Ok(result) => result,
        Err(error) => Err(GitError::io("prepare", worktree)(std::io::Error::other(
            error,
        ))),
    }
}

/// What the checkout holds beside its commit.
struct Listing {
    untracked: Vec<String>,
    tracked_folders: BTreeSet<String>,
}

/// What is to be done, as paths from the top.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    copies: BTreeSet<String>,
    links: BTreeSet<String>,
    skipped: Vec<(String, String)>,
}

impl Listing {
    async fn of(repository: &Repository) -> Result<Self, GitError> {
        let list = |options: &'static [&'static str]| {
            let call = repository.git.read(&repository.top);
            call.args(["ls-files", "-z"]).args(options).run()
        };
        let untracked = list(&["--others"]).await?.fields();
        let tracked = list(&["--cached"]).await?.fields();
        Ok(Self {
            untracked,
            tracked_folders: tracked.iter().flat_map(|path| ancestors(path)).collect(),
        })
    }

    fn plan(&self, copy: &GlobSet, link: &GlobSet) -> Plan {
        let mut plan = Plan::default();
        for entry in &self.untracked {
            let path = entry.trim_end_matches('/');
            let mut whole = ancestors(path);
            whole.push(path.to_owned());
            let free = |p: &&String| !self.tracked_folders.contains(*p);
            if let Some(top) = whole.iter().filter(free).find(|p| link.is_match(p)) {
                plan.links.insert(top.clone());
            } else if whole.iter().any(|p| copy.is_match(p)) {
                if entry.ends_with('/') {
                    let reason = "it is a repository of its own";
                    plan.skipped.push((path.to_owned(), reason.to_owned()));
                } else {
                    plan.copies.insert(path.to_owned());
                }
            }
        }
        plan
    }
}

/// The folders above `path`, outermost first.
fn ancestors(path: &str) -> Vec<String> {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(..at))
        .map(str::to_owned)
        .collect()
}

fn globs(patterns: &[String]) -> Result<GlobSet, GitError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let plain = pattern.trim_start_matches("./").trim_end_matches('/');
        let path = Path::new(plain);
        let stays = path.components().all(|c| matches!(c, Component::Normal(_)));
        if plain.is_empty() || !stays {
            return Err(GitError::LeavesCheckout {
                path: pattern.into(),
            });
        }
        let glob = GlobBuilder::new(plain).literal_separator(true).build();
        set.add(glob.map_err(bad(pattern))?);
    }
    set.build().map_err(bad(&patterns.join(" ")))
}

fn bad(pattern: &str) -> impl FnOnce(globset::Error) -> GitError {
    let pattern = pattern.to_owned();
    move |source| GitError::BadPattern { pattern, source }
}

fn carry_out(plan: &Plan, from: &Path, to: &Path) -> Result<Prepared, GitError> {
    let to = to.canonicalize().map_err(GitError::io("read", to))?;
    let from = from.canonicalize().map_err(GitError::io("read", from))?;
    let mut done = Prepared {
        skipped: plan.skipped.clone(),
        ..Prepared::default()
    };
    for path in &plan.links {
        let made = place(&from, &to, path, &|source, target| {
            std::os::unix::fs::symlink(source, target)
        })?;
        note(made, path, &mut done.linked, &mut done.skipped);
    }
    for path in &plan.copies {
        let made = place(&from, &to, path, &copy_file)?;
        note(made, path, &mut done.copied, &mut done.skipped);
    }
    Ok(done)
}

fn note(
    made: Option<&str>,
    path: &str,
    done: &mut Vec<String>,
    skipped: &mut Vec<(String, String)>,
) {
    match made {
        None => done.push(path.to_owned()),
        Some(reason) => skipped.push((path.to_owned(), reason.to_owned())),
    }
}

type Make<'a> = &'a dyn Fn(&Path, &Path) -> std::io::Result<()>;

/// Makes `to/path` out of `from/path`; the reason when it must not be.
fn place(
    from: &Path,
    to: &Path,
    path: &str,
    make: Make<'_>,
) -> Result<Option<&'static str>, GitError> {
    let (source, target) = (from.join(path), to.join(path));
    let Ok(real) = source.canonicalize() else {
        return Ok(Some("it is a link to nothing"));
    };
    if !real.starts_with(from) {
        return Ok(Some("it leads out of the checkout"));
    }
    if target.symlink_metadata().is_ok() {
        return Ok(Some("it is there already"));
    }
    let folder = target.parent().unwrap_or(to);
    if leaves(to, folder) {
        return Ok(Some("its folder leads out of the worktree"));
    }
    std::fs::create_dir_all(folder).map_err(GitError::io("make", folder))?;
    make(&source, &target).map_err(GitError::io("write", &target))?;
    Ok(None)
}

/// True when a part of `folder` below `top` is something else than a real folder.
fn leaves(top: &Path, folder: &Path) -> bool {
    let mut at: PathBuf = top.to_owned();
    let Ok(below) = folder.strip_prefix(top) else {
        return true;
    };
    for part in below.components() {
        at.push(part);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Copies beside the target and renames: a kill leaves no half file under the real name.
fn copy_file(source: &Path, target: &Path) -> std::io::Result<()> {
    if source.metadata()?.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    let new = tempfile::Builder::new()
        .prefix(".aider-copy-")
        .tempfile_in(folder)?;
    std::fs::copy(source, new.path())?;
    new.persist(target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(copy: &[&str], link: &[&str]) -> Plan {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let listing = Listing {
            untracked: owned(&[".env", "web/node_modules/a/b.js", "web/local.json", "lib/"]),
            tracked_folders: BTreeSet::from(["web".to_owned()]),
        };
        listing.plan(&globs(&owned(copy)).unwrap(), &globs(&owned(link)).unwrap())
    }

    #[test]
    fn a_folder_is_linked_as_one_and_never_a_tracked_one() {
        let plan = plan(&[], &["web", "web/node_modules/"]);
        assert_eq!(plan.links, BTreeSet::from(["web/node_modules".to_owned()]));
    }

    #[test]
    fn a_folder_is_copied_file_by_file() {
        let plan = plan(&["web/node_modules", ".env*"], &[]);
        let expected = [".env".to_owned(), "web/node_modules/a/b.js".to_owned()];
        assert_eq!(plan.copies, BTreeSet::from(expected));
    }

    #[test]
    fn a_star_does_not_cross_folders_and_a_repository_is_not_copied() {
        let plan = plan(&["*"], &[]);
        assert!(plan.copies.contains(".env"));
        assert_eq!(plan.skipped.len(), 1);
    }

    #[test]
    fn a_pattern_that_leaves_the_checkout_is_refused() {
        for pattern in ["../x", "/etc/passwd", "a/../../b", ""] {
            let refused = globs(&[pattern.to_owned()]);
            assert!(
                matches!(refused, Err(GitError::LeavesCheckout { .. })),
                "{pattern}"
            );
        }
        assert!(matches!(
            globs(&["a[".to_owned()]),
            Err(GitError::BadPattern { .. })
        ));
    }
}
