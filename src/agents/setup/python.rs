//! Finds the Pythons that can run Aider: 3.10, 3.11 and 3.12.
//!
//! Names on PATH are only candidates (a pyenv shim may answer "not found"): each is asked for its
//! version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::run;

/// A Python that can run Aider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program itself, not a shim.
    pub path: PathBuf,
    /// Its version.
    pub version: (u32, u32, u32),
}

/// What was found: usable ones, best first, and the others in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interpreters {
    /// Best first.
    pub usable: Vec<Interpreter>,
    /// Version and path of those that Aider does not support.
    pub others: Vec<String>,
}

const NAMES: &[&str] = &[
    "python3.12",
    "python3.11",
    "python3.10",
    "python3",
    "python",
];

/// Directories that are worth a look even when PATH does not name them.
const DIRECTORIES: &[&str] = &["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"];

const PROBE: &str = "import json, sys; print(json.dumps({'version': list(sys.version_info[:3]), \
     'path': sys.executable, 'implementation': sys.implementation.name}))";

#[derive(Deserialize)]
struct Answer {
    version: (u32, u32, u32),
    path: PathBuf,
    implementation: String,
}

/// Asks every candidate; newest version first, and among equals in the order of PATH.
pub fn find_interpreters(environment: &BTreeMap<String, String>) -> Interpreters {
    let mut found = Interpreters::default();
    let mut seen = Vec::new();
    for candidate in candidates(environment) {
        let Some(answer) = probe(&candidate, environment) else {
            continue;
        };
        if seen.contains(&answer.path) {
            continue;
        }
        seen.push(answer.path.clone());
        let (major, minor, patch) = answer.version;
        let fits = major == 3 && (10..=12).contains(&minor) && answer.implementation == "cpython";
        if fits {
            found.usable.push(Interpreter {
                path: answer.path,
                version: answer.version,
            });
        } else {
            let path = answer.path.display();
            found
                .others
                .push(format!("{major}.{minor}.{patch} ({path})"));
        }
    }
    found
        .usable
        .sort_by_key(|it| std::cmp::Reverse(it.version.1));
    found
}

fn candidates(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let path = environment
        .get("PATH")
        .map(String::as_str)
        .unwrap_or_default();
    let on_path = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    let mut directories: Vec<PathBuf> = on_path.collect();
    directories.extend(DIRECTORIES.iter().map(PathBuf::from));
    let mut candidates: Vec<PathBuf> = NAMES
        .iter()
        .flat_map(|name| directories.iter().map(move |dir| dir.join(name)))
        .collect();
    let home = environment.get("HOME").map(PathBuf::from);
    let pyenv = environment.get("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| home.as_ref().map(|home| home.join(".pyenv")));
    candidates.extend(
        pyenv
            .iter()
            .flat_map(|root| versions(&root.join("versions"))),
    );
    let uv = home.map(|home| home.join(".local/share/uv/python"));
    candidates.extend(uv.iter().flat_map(|root| versions(root)));
    candidates.retain(|candidate| candidate.is_file());
    candidates
}

/// `<root>/<any version>/bin/python3`
fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path().join("bin/python3"))
        .collect();
    paths.sort();
    paths
}

fn probe(candidate: &Path, environment: &BTreeMap<String, String>) -> Option<Answer> {
    let mut command = run::command(candidate, environment, Path::new("/"));
    command.args(["-I", "-c", PROBE]);
    let output = command.output().ok()?;
    if !output.status.success() {
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}

/// The first program of this name on PATH.
pub(super) fn on_path(name: &str, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    std::env::split_paths(environment.get("PATH")?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fake(dir: &Path, name: &str, version: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        let script = format!(
            "#!/bin/sh\n[ -n '{version}' ] || exit 127\n\
             echo '{{\"version\": [{version}], \"path\": \"{}\", \"implementation\": \"cpython\"}}'\n",
            path.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn pythons_are_found_on_path_and_in_pyenv_newest_first() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let old = fake(&bin, "python3.11", "3, 11, 7");
        let shim = fake(&bin, "python3.12", "");
        let unfit = fake(&bin, "python3", "3, 13, 0");
        let versions = root.path().join("home/.pyenv/versions");
        let new = fake(&versions.join("3.12.1/bin"), "python3", "3, 12, 1");
        fake(&versions.join("2.7.18/bin"), "python3", "2, 7, 18");
        let environment = BTreeMap::from([
            ("PATH".to_owned(), format!("{}:relative", bin.display())),
            (
                "HOME".to_owned(),
                root.path().join("home").display().to_string(),
            ),
        ]);
        let found = find_interpreters(&environment);
        let mine: Vec<&Path> = found
            .usable
            .iter()
            .map(|it| it.path.as_path())
            .filter(|path| path.starts_with(root.path()))
            .collect();
        assert_eq!(mine, [new, old]);
        assert!(!mine.contains(&shim.as_path()));
        assert!(
            found
                .others
                .contains(&format!("3.13.0 ({})", unfit.display()))
        );
    }
}
