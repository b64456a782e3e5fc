//! What a merge or an undo moved, kept in the repository itself: recovery asks git, not memory.
//!
//! It is a small blob behind a ref, so that it appears in the same transaction as the move.

use super::super::{GitError, Repository};

/// A branch that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) target: String,
    pub(super) from: String,
    pub(super) to: String,
}

impl Record {
    fn text(&self) -> String {
        format!(
            "target {}\nfrom {}\nto {}\n",
            self.target, self.from, self.to
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            target: lines.next()?.strip_prefix("target ")?.to_owned(),
            from: lines.next()?.strip_prefix("from ")?.to_owned(),
            to: lines.next()?.strip_prefix("to ")?.to_owned(),
        })
    }
}

impl Repository {
    /// Stores `record` as a blob; its id.
    pub(super) async fn store_record(&self, record: &Record) -> Result<String, GitError> {
        self.git
            .write(&self.top)
            .args(["hash-object", "-w", "--stdin"])
            .stdin(record.text())
            .text()
            .await
    }

    /// The record behind the ref `name`.
    pub(super) async fn load_record(&self, name: &str) -> Result<Option<Record>, GitError> {
        let Some(blob) = self.ref_value(name).await? else {
            return Ok(None);
        };
        let text = self
            .git
            .read(&self.top)
            .args(["cat-file", "blob", &blob])
            .text()
            .await?;
        match Record::parse(&text) {
            Some(record) => Ok(Some(record)),
            None => Err(GitError::Failed {
                command: format!("cat-file blob {blob}"),
                code: Some(0),
                stderr: format!("{name} does not hold a record of a merge"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            target: "topic/ü x".into(),
            from: "a".into(),
            to: "b".into(),
        };
        assert_eq!(Record::parse(&record.text()), Some(record));
        assert_eq!(Record::parse("target x\n"), None);
    }
}
