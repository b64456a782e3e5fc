//! Whether the commands that a repository proposes may take effect.
//!
//! The user agrees to exactly what was shown: the agreement is stored in the data directory under
//! the hash of the repository's path, holds the hash of the proposed values, and no longer counts
//! when either changes. A repository cannot agree to itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::mistake::Place;
use super::parse::Assignment;
use super::schema::written;

/// One proposed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The key, `verify.command`.
    pub key: String,
    /// The value as it is written in the file.
    pub value: String,
    /// Its line in the file.
    pub line: usize,
    /// The file, from the repository's root.
    #[serde(default = "repository_file")]
    pub file: String,
}

fn repository_file() -> String {
    super::layers::REPOSITORY_FILE.to_owned()
}

impl Proposal {
    pub(super) fn from_assignment(assignment: &Assignment) -> Self {
        Self {
            key: written(&assignment.path),
            value: assignment.value.to_toml().unwrap_or_default(),
            line: match &assignment.place {
                Place::File { line, .. } => *line,
                Place::Environment(_) | Place::Flag(_) => 1,
            },
            file: repository_file(),
        }
    }
}

/// All that one repository proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposals {
    /// The repository's root.
    pub root: PathBuf,
    /// At least one.
    pub items: Vec<Proposal>,
}

impl Proposals {
    /// SHA-256 over the path, the keys and the values, in the order of the keys.
    pub fn hash(&self) -> String {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by(|a, b| a.key.cmp(&b.key));
        let mut hasher = Sha256::new();
        hash_part(
            &mut hasher,
            canonical(&self.root).as_os_str().as_encoded_bytes(),
        );
        for item in items {
            hash_part(&mut hasher, item.key.as_bytes());
            hash_part(&mut hasher, item.value.as_bytes());
        }
        hex(&hasher.finalize())
    }
}

/// Length first, so that no two lists of parts run into the same bytes.
fn hash_part(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS[usize::from(nibble)];
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What the user has said about a repository's proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustState {
    /// Agreed to, exactly as they are.
    Trusted,
    /// Agreed to earlier; they have changed since.
    Changed,
    /// Never agreed to.
    Unknown,
}

/// What is stored for one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The repository's root.
    pub root: PathBuf,
    /// [`Proposals::hash`] of what was agreed to.
    pub hash: String,
    /// What was agreed to, for people who look.
    pub items: Vec<Proposal>,
}

/// The agreements of one data directory.
#[derive(Debug, Clone)]
pub struct Trust {
    folder: PathBuf,
}

impl Trust {
    /// The agreements in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("trust"),
        }
    }

    fn file(&self, root: &Path) -> PathBuf {
        let path = canonical(root);
        let name = hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
        self.folder.join(format!("{name}.json"))
    }

    /// What was agreed to for the repository at `root`. What cannot be read counts as nothing.
    pub fn agreement(&self, root: &Path) -> Option<Agreement> {
        let text = std::fs::read(self.file(root)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether `proposals` may take effect.
    pub fn state(&self, proposals: &Proposals) -> TrustState {
        match self.agreement(&proposals.root) {
            Some(agreement) if agreement.hash == proposals.hash() => TrustState::Trusted,
            Some(_) => TrustState::Changed,
            None => TrustState::Unknown,
        }
    }

    /// Agrees to `proposals` exactly as they are.
    pub fn agree(&self, proposals: &Proposals) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let agreement = Agreement {
            root: canonical(&proposals.root),
            hash: proposals.hash(),
            items: proposals.items.clone(),
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&serde_json::to_vec_pretty(&agreement)?)?;
        file.as_file().sync_all()?;
        file.persist(self.file(&proposals.root))?;
        Ok(())
    }

    /// Takes an agreement back; says whether there was one.
    pub fn revoke(&self, root: &Path) -> std::io::Result<bool> {
        match std::fs::remove_file(self.file(root)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposals(root: &Path, command: &str) -> Proposals {
        let item = Proposal {
            key: "verify.command".into(),
            value: command.into(),
            line: 3,
            file: repository_file(),
        };
        Proposals {
            root: root.into(),
            items: vec![item],
        }
    }

    #[test]
    fn an_agreement_counts_for_the_same_commands_in_the_same_place_only() {
        let (data, repository, other) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let trust = Trust::new(data.path());
        let tests = proposals(repository.path(), "cargo test");
        assert_eq!(trust.state(&tests), TrustState::Unknown);
        trust.agree(&tests).unwrap();
        assert_eq!(trust.state(&tests), TrustState::Trusted);
        let changed = proposals(repository.path(), "curl x | sh");
        assert_eq!(trust.state(&changed), TrustState::Changed);
        let elsewhere = proposals(other.path(), "cargo test");
        assert_eq!(trust.state(&elsewhere), TrustState::Unknown);
        assert!(trust.revoke(repository.path()).unwrap());
        assert!(!trust.revoke(repository.path()).unwrap());
        assert_eq!(trust.state(&tests), TrustState::Unknown);
    }

    #[test]
    fn a_line_number_alone_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = proposals(folder.path(), "x");
        let mut moved = first.clone();
        moved.items[0].line = 9;
        assert_eq!(first.hash(), moved.hash());
    }
}
