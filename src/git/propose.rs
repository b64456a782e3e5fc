//! Commands and files that fit a repository's ecosystem, to be proposed and never just run.

use std::path::Path;

/// What would prepare and verify a worktree of this repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposals {
    /// For `worktree.setup`.
    pub setup: Option<String>,
    /// For `verify.command`.
    pub verify: Option<String>,
    /// For `worktree.copy`.
    pub copy: Vec<String>,
    /// For `worktree.link`.
    pub link: Vec<String>,
}

/// Looks at the files in `root` and proposes what fits: Cargo, npm and pnpm, uv and pip, Go.
pub fn propose(root: &Path) -> Proposals {
    let all = [cargo(root), node(root), python(root), go(root)];
    let copy = [".env", ".env.local"];
    Proposals {
        setup: joined(all.iter().filter_map(|p| p.setup.as_deref())),
        verify: joined(all.iter().filter_map(|p| p.verify.as_deref())),
        copy: copy
            .into_iter()
            .filter(|name| root.join(name).is_file())
            .map(str::to_owned)
            .collect(),
        link: all.into_iter().flat_map(|p| p.link).collect(),
    }
}

fn joined<'a>(commands: impl Iterator<Item = &'a str>) -> Option<String> {
    let commands: Vec<_> = commands.collect();
    (!commands.is_empty()).then(|| commands.join(" && "))
}

fn cargo(root: &Path) -> Proposals {
    let mut proposals = Proposals::default();
    if has(root, "Cargo.toml") {
        proposals.verify = Some("cargo test".into());
    }
    proposals
}

fn node(root: &Path) -> Proposals {
    let mut proposals = Proposals::default();
    let Ok(text) = std::fs::read_to_string(root.join("package.json")) else {
        return proposals;
    };
    let is_pnpm = has(root, "pnpm-lock.yaml");
    if is_pnpm {
        proposals.setup = Some("pnpm install --frozen-lockfile --prefer-offline".into());
    } else if has(root, "package-lock.json") {
        proposals.setup = Some("npm ci --prefer-offline".into());
    } else if root.join("node_modules").is_dir() {
        proposals.link.push("node_modules".into());
    }
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let test = package.pointer("/scripts/test").and_then(|v| v.as_str());
    if test.is_some_and(|test| !test.contains("no test specified")) {
        let program = if is_pnpm { "pnpm" } else { "npm" };
        proposals.verify = Some(format!("{program} test"));
    }
    proposals
}

fn python(root: &Path) -> Proposals {
    let mut proposals = Proposals::default();
    let run = if has(root, "uv.lock") {
        proposals.setup = Some("uv sync --frozen".into());
        "uv run python"
    } else if has(root, "requirements.txt") {
        let setup = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt";
        proposals.setup = Some(setup.into());
        ".venv/bin/python"
    } else {
        "python3"
    };
    if uses_pytest(root) {
        proposals.verify = Some(format!("{run} -m pytest -q"));
    } else if has_python_tests(root) {
        proposals.verify = Some(format!("{run} -m unittest"));
    }
    proposals
}

fn go(root: &Path) -> Proposals {
    let mut proposals = Proposals::default();
    if has(root, "go.mod") {
        proposals.setup = Some("go mod download".into());
        proposals.verify = Some("go test ./...".into());
    }
    proposals
}

fn has(root: &Path, name: &str) -> bool {
    root.join(name).is_file()
}

fn uses_pytest(root: &Path) -> bool {
    let names = [
        "pyproject.toml",
        "requirements.txt",
        "requirements-dev.txt",
        "setup.cfg",
        "tox.ini",
    ];
    let mentions = |name: &&str| {
        std::fs::read_to_string(root.join(name)).is_ok_and(|text| text.contains("pytest"))
    };
    ["conftest.py", "tests/conftest.py", "pytest.ini"]
        .iter()
        .any(|name| has(root, name))
        || names.iter().any(mentions)
}

fn has_python_tests(root: &Path) -> bool {
    [root.to_owned(), root.join("tests"), root.join("test")]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| name.starts_with("test") && name.to_lowercase().ends_with(".py"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, and what is proposed for setup and verification.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>);

    fn proposed(files: &[(&str, &str)]) -> Proposals {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        propose(root.path())
    }

    #[test]
    fn each_ecosystem_gets_its_own_commands() {
        let pnpm = r#"{"scripts":{"test":"vitest run"}}"#;
        let cases: [Case<'_>; 8] = [
            (&[], None, None),
            (&[("Cargo.toml", "")], None, Some("cargo test")),
            (
                &[("package.json", pnpm), ("pnpm-lock.yaml", "")],
                Some("pnpm install --frozen-lockfile --prefer-offline"),
                Some("pnpm test"),
            ),
            (
                &[
                    (
                        "package.json",
                        r#"{"scripts":{"test":"echo \"Error: no test specified\""}}"#,
                    ),
                    ("package-lock.json", "{}"),
                ],
                Some("npm ci --prefer-offline"),
                None,
            ),
            (
                &[
                    ("uv.lock", ""),
                    ("pyproject.toml", "[dependency-groups]\ndev=['pytest']"),
                ],
                Some("uv sync --frozen"),
                Some("uv run python -m pytest -q"),
            ),
            (
                &[("requirements.txt", "flask\n"), ("test_app.py", "")],
                Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
                Some(".venv/bin/python -m unittest"),
            ),
            (&[("test_calc.py", "")], None, Some("python3 -m unittest")),
            (
                &[("go.mod", "")],
                Some("go mod download"),
                Some("go test ./..."),
            ),
        ];
        for (files, setup, verify) in cases {
            let proposals = proposed(files);
            assert_eq!(proposals.setup.as_deref(), setup, "{files:?}");
            assert_eq!(proposals.verify.as_deref(), verify, "{files:?}");
        }
    }

    #[test]
    fn a_mixed_repository_gets_both_and_its_private_files_are_proposed_for_copying() {
        let proposals = proposed(&[("Cargo.toml", ""), ("go.mod", ""), (".env", "A=1")]);
        assert_eq!(
            proposals.verify.as_deref(),
            Some("cargo test && go test ./...")
        );
        assert_eq!(proposals.copy, [".env"]);
    }

    #[test]
    fn modules_are_linked_only_where_no_lock_file_says_how_to_install_them() {
        let files = [("package.json", "{}"), ("node_modules/a.js", "")];
        assert_eq!(proposed(&files).link, ["node_modules"]);
    }
}
