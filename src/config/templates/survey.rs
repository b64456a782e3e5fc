//! What a repository shows at a short look: the paths of its files, and texts in a few of them.
//!
//! A look is bounded in depth, files and bytes, so that it is quick in any repository.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSetBuilder};

/// Folders are entered so deep.
const DEPTH: usize = 6;

/// So many files are looked at.
const FILES: usize = 4_000;

/// So many files of one pattern are read to find a text.
const READ: usize = 20;

/// Longer files are not read to find a text.
const LONGEST: u64 = 256 * 1024;

/// Folders that others fill.
const SKIPPED: [&str; 9] = [
    "__pycache__",
    "bower_components",
    "build",
    "dist",
    "node_modules",
    "target",
    "third_party",
    "vendor",
    "venv",
];

/// A file that is there, `GLOB`, or one that holds a text, `GLOB: TEXT`. The case of the text does
/// not matter; `*` stays in its folder, `**` crosses folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sign {
    /// Which files.
    pub pattern: String,
    /// What one of them holds.
    pub text: Option<String>,
}

impl Sign {
    /// Reads a sign as it is written.
    ///
    /// # Errors
    /// Why the pattern is none.
    pub fn parse(text: &str) -> Result<Self, globset::Error> {
        let (pattern, text) = match text.split_once(": ") {
            Some((pattern, text)) => (pattern, Some(text.trim().to_lowercase())),
            None => (text, None),
        };
        let sign = Self {
            pattern: pattern.trim().to_owned(),
            text,
        };
        glob(&sign.pattern).map(|_glob| sign)
    }
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {text}", self.pattern),
            None => f.write_str(&self.pattern),
        }
    }
}

fn glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// The files of a repository.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    root: PathBuf,
    paths: Vec<String>,
}

/// How often each sign was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings(BTreeMap<Sign, usize>);

impl Sightings {
    /// How many files show it; a text counts once.
    pub fn count(&self, sign: &Sign) -> usize {
        self.0.get(sign).copied().unwrap_or_default()
    }
}

impl Survey {
    /// Looks at the files below `root`, folder by folder from the top.
    pub fn of(root: &Path) -> Self {
        let mut survey = Self {
            root: root.to_owned(),
            paths: Vec::new(),
        };
        let mut folders = VecDeque::from([(String::new(), 0)]);
        while let Some((folder, depth)) = folders.pop_front() {
            let mut names: Vec<_> = std::fs::read_dir(root.join(&folder))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)))
                .collect();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            for (name, entry) in names {
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let path = format!("{folder}{name}");
                if kind.is_dir() && depth < DEPTH && is_entered(&name) {
                    folders.push_back((format!("{path}/"), depth + 1));
                } else if kind.is_file() {
                    survey.paths.push(path);
                }
                if survey.paths.len() >= FILES {
                    return survey;
                }
            }
        }
        survey
    }

    /// Looks for all of `signs` at once.
    pub fn find<'a>(&self, signs: impl IntoIterator<Item = &'a Sign>) -> Sightings {
        let signs: BTreeSet<&Sign> = signs.into_iter().collect();
        let patterns: Vec<&str> = signs.iter().map(|sign| sign.pattern.as_str()).collect();
        let found = self.matching(&patterns);
        let count = |sign: &Sign, paths: &[&str]| match &sign.text {
            None => paths.len(),
            Some(text) => usize::from(paths.iter().take(READ).any(|path| self.holds(path, text))),
        };
        Sightings(
            signs
                .into_iter()
                .zip(found)
                .map(|(sign, paths)| (sign.clone(), count(sign, &paths)))
                .collect(),
        )
    }

    /// For each pattern, the paths that match it.
    pub fn matching(&self, patterns: &[&str]) -> Vec<Vec<&str>> {
        let mut found = vec![Vec::new(); patterns.len()];
        let mut set = GlobSetBuilder::new();
        for glob in patterns.iter().map(|pattern| glob(pattern)) {
            match glob {
                Ok(glob) => set.add(glob),
                // Signs are parsed, so that all patterns are good ones.
                Err(_) => return found,
            };
        }
        let Ok(set) = set.build() else {
            return found;
        };
        for path in &self.paths {
            for index in set.matches(path) {
                if let Some(paths) = found.get_mut(index) {
                    paths.push(path.as_str());
                }
            }
        }
        found
    }

    fn holds(&self, path: &str, text: &str) -> bool {
        let file = self.root.join(path);
        let is_short = std::fs::metadata(&file).is_ok_and(|it| it.len() <= LONGEST);
        is_short
            && std::fs::read(&file).is_ok_and(|bytes| {
                String::from_utf8_lossy(&bytes)
                    .to_lowercase()
                    .contains(text)
            })
    }
}

/// Hidden folders hold tools' own files, all but `.github`.
fn is_entered(name: &str) -> bool {
    !SKIPPED.contains(&name) && (!name.starts_with('.') || name == ".github")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(files: &[(&str, &str)]) -> (tempfile::TempDir, Survey) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let survey = Survey::of(folder.path());
        (folder, survey)
    }

    #[test]
    fn files_are_found_by_pattern_and_by_what_they_hold() {
        let (_folder, survey) = survey(&[
            ("Cargo.toml", "[dependencies]\nTokio = \"1\"\n"),
            ("src/a.rs", ""),
            ("src/b/c.rs", ""),
            ("target/d.rs", ""),
            (".git/e.rs", ""),
            (".github/workflows/ci.yml", ""),
        ]);
        let count = |text: &str| {
            let sign = Sign::parse(text).unwrap();
            survey.find([&sign]).count(&sign)
        };
        assert_eq!(count("**/*.rs"), 2);
        assert_eq!(count("src/*.rs"), 1);
        assert_eq!(count(".github/workflows/*.yml"), 1);
        assert_eq!(count("Cargo.toml: tokio ="), 1);
        assert_eq!(count("Cargo.toml: serde"), 0);
        assert_eq!(count("go.mod"), 0);
    }

    #[test]
    fn a_huge_repository_is_looked_at_from_the_top_and_only_so_far() {
        let files: Vec<String> = (0..FILES + 9).map(|n| format!("deep/{n}.txt")).collect();
        let mut all: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "")).collect();
        all.push(("Cargo.toml", ""));
        let (_folder, survey) = survey(&all);
        assert_eq!(survey.paths.len(), FILES);
        assert_eq!(survey.paths[0], "Cargo.toml");
    }
}
