//! What a task made: its commits, its diff, its changed files.

use super::{GitError, Repository};

/// One commit of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Full id.
    pub id: String,
    /// First line of the message.
    pub subject: String,
    /// Author's name.
    pub author: String,
    /// Committed at, seconds since 1970.
    pub at: i64,
}

/// A difference as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// One line per file and a sum, as `git diff --stat`.
    pub stat: String,
    /// The patch.
    pub patch: String,
    /// The patch was cut at the wanted size.
    pub is_cut: bool,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Path from the top.
    pub path: String,
    /// Lines added, none for a binary file.
    pub added: Option<u64>,
    /// Lines removed, none for a binary file.
    pub removed: Option<u64>,
}

impl Repository {
    /// Commits of `base..tip`, oldest first.
    pub async fn commits(&self, base: &str, tip: &str) -> Result<Vec<Commit>, GitError> {
        let output = self
            .git
            .read(&self.top)
            .args(["log", "--reverse", "-z", "--format=%H%x09%ct%x09%an%x09%s"])
            .args(["--end-of-options", &format!("{base}..{tip}"), "--"])
            .run()
            .await?;
        Ok(output
            .fields()
            .iter()
            .filter_map(|line| commit(line))
            .collect())
    }

    /// Difference from `base` to `tip`, its patch cut at `max` bytes.
    pub async fn diff(&self, base: &str, tip: &str, max: u64) -> Result<Diff, GitError> {
        let stat = self.diff_call(base, tip, &["--stat=100"]).text().await?;
        let patch = self
            .diff_call(base, tip, &["--patch", "--find-renames"])
            .output_max(max)
            .run()
            .await?;
        Ok(Diff {
            stat,
            patch: String::from_utf8_lossy(&patch.stdout).into_owned(),
            is_cut: patch.is_cut,
        })
    }

    /// Files that differ from `base` to `tip`; a rename is two files.
    pub async fn changed_files(&self, base: &str, tip: &str) -> Result<Vec<ChangedFile>, GitError> {
        let output = self
            .diff_call(base, tip, &["--numstat", "-z", "--no-renames"])
            .run()
            .await?;
        Ok(output
            .fields()
            .iter()
            .filter_map(|line| changed(line))
            .collect())
    }

    fn diff_call(&self, base: &str, tip: &str, options: &[&str]) -> super::command::Call {
        self.git
            .read(&self.top)
            .args(["diff", "--no-ext-diff", "--no-textconv", "--no-color"])
            .args(["--src-prefix=a/", "--dst-prefix=b/"])
            .args(options)
            .args(["--end-of-options", base, tip, "--"])
    }
}

fn commit(line: &str) -> Option<Commit> {
    let mut parts = line.splitn(4, '\t');
    Some(Commit {
        id: parts.next()?.to_owned(),
        at: parts.next()?.parse().ok()?,
        author: parts.next()?.to_owned(),
        subject: parts.next()?.to_owned(),
    })
}

fn changed(line: &str) -> Option<ChangedFile> {
    let mut parts = line.splitn(3, '\t');
    let (added, removed) = (parts.next()?.parse().ok(), parts.next()?.parse().ok());
    Some(ChangedFile {
        path: parts.next()?.to_owned(),
        added,
        removed,
    })
}
