//! What a checkout holds that its commit does not.

use std::collections::BTreeSet;
use std::path::Path;

use super::command::Git;
use super::repository::read_head;
use super::worktree::prepared_paths;
use super::{GitError, Head, Repository};

/// State of one checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where its `HEAD` is.
    pub head: Head,
    /// Tracked files that differ from `HEAD`, staged or not.
    pub changed: Vec<String>,
    /// Files git does not know and does not ignore.
    pub untracked: Vec<String>,
    /// Files with unresolved conflicts.
    pub unmerged: Vec<String>,
    /// Submodules with changes or commits that the commit does not record.
    pub submodules: Vec<String>,
}

impl Status {
    /// Nothing in it would be lost with the checkout.
    pub fn is_clean(&self) -> bool {
        self.changed.is_empty()
            && self.untracked.is_empty()
            && self.unmerged.is_empty()
            && self.submodules.is_empty()
    }
}

impl Repository {
    /// State of `worktree`; files that were put there by preparation do not count.
    pub async fn status(&self, worktree: &Path) -> Result<Status, GitError> {
        let mut status = read(&self.git, worktree).await?;
        let prepared: BTreeSet<String> = prepared_paths(&self.common, worktree);
        status.untracked.retain(|path| !prepared.contains(path));
        Ok(status)
    }
}

/// Reads the state of the checkout at `dir`.
pub(super) async fn read(git: &Git, dir: &Path) -> Result<Status, GitError> {
    let head = read_head(git, dir).await?;
    let output = git
        .read(dir)
        .args(["status", "--porcelain=v2", "-z", "--untracked-files=all"])
        .args(["--no-renames", "--ignore-submodules=none"])
        .run()
        .await?;
    Ok(parse(head, &output.fields()))
}

/// Lines of `git status --porcelain=v2 -z` without renames.
fn parse(head: Head, lines: &[String]) -> Status {
    let mut status = Status {
        head,
        changed: Vec::new(),
        untracked: Vec::new(),
        unmerged: Vec::new(),
        submodules: Vec::new(),
    };
    for line in lines {
        let mut parts = line.splitn(2, ' ');
        let (kind, rest) = (parts.next(), parts.next().unwrap_or_default());
        match kind {
            Some("1") => {
                let path = field(rest, 7);
                if field_word(rest, 1).starts_with('S') {
                    status.submodules.push(path.clone());
                }
                status.changed.push(path);
            }
            Some("u") => status.unmerged.push(field(rest, 9)),
            Some("?") => status.untracked.push(rest.to_owned()),
            _ => {}
        }
    }
    status
}

/// What follows the first `skip` space-separated words.
fn field(line: &str, skip: usize) -> String {
    line.splitn(skip + 1, ' ')
        .nth(skip)
        .unwrap_or_default()
        .to_owned()
}

fn field_word(line: &str, index: usize) -> &str {
    line.split(' ').nth(index).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_spaces_are_read_whole() {
        let head = Head::Detached { commit: "c".into() };
        let lines = [
            "1 .M N... 100644 100644 100644 aa bb a file.txt".to_owned(),
            "1 .M S..U 160000 160000 160000 aa bb my lib".to_owned(),
            "u UU N... 100644 100644 100644 100644 aa bb cc both sides".to_owned(),
            "? new file".to_owned(),
        ];
        let status = parse(head.clone(), &lines);
        assert_eq!(
            status,
            Status {
                head,
                changed: vec!["a file.txt".into(), "my lib".into()],
                untracked: vec!["new file".into()],
                unmerged: vec!["both sides".into()],
                submodules: vec!["my lib".into()],
            }
        );
    }
}
