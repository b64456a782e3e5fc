//! The architecture's invariants, checked against the source: who imports whom, what the pure
//! modules never touch, where the platforms differ, how a file opens and how long it may be.
//!
//! When one of these tests fails, either the code or the architecture has changed. If it is the
//! architecture, say so in `docs/adr/` and change the table here in the same commit.

#![expect(
    clippy::unwrap_used,
    reason = "a check that cannot read the source fails"
)]

#[path = "architecture/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// Who may import whom, besides itself. `module::part` allows that part of a module only.
const IMPORTS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("engine", &["core"]),
    ("config", &["core"]),
    ("ollama", &["core"]),
    ("pty", &["core"]),
    ("git", &["core"]),
    ("telemetry", &["core"]),
    ("keeper", &["core", "pty"]),
    ("store", &["core", "engine"]),
    ("alerts", &["core", "engine"]),
    ("simulator", &["core", "ollama"]),
    ("discovery", &["core", "engine", "ollama"]),
    ("gateway", &["core", "engine", "ollama"]),
    ("agents", &["core", "engine", "keeper", "pty", "git"]),
    ("tui", &["core", "engine", "pty", "config"]),
    ("api", &["core", "engine", "pty::snapshot", "tui"]),
    (
        "cli",
        &[
            "core",
            "api",
            "config",
            "keeper",
            "telemetry",
            "discovery",
            "agents::setup",
        ],
    ),
    (
        "server",
        &[
            "core",
            "engine",
            "config",
            "ollama",
            "pty",
            "git",
            "telemetry",
            "keeper",
            "store",
            "alerts",
            "simulator",
            "discovery",
            "gateway",
            "agents",
            "tui",
            "api",
        ],
    ),
    ("demo", &["core", "api", "config", "cli", "keeper"]),
    (
        "programs",
        &["core", "api", "cli", "keeper", "server", "simulator", "tui"],
    ),
    ("main", &["cli", "demo", "programs", "keeper"]),
];

/// Crates that `core` may name besides `std`, its tests apart.
const CORE_CRATES: &[&str] = &["serde", "thiserror"];

/// Modules that are a function of their arguments: no clock, disk, network, process, randomness.
const PURE: &[&str] = &["core", "engine/update", "engine/state"];

/// What a pure module never names, as the end or the beginning of a path.
const IMPURE: &[&str] = &[
    "tokio",
    "rand",
    "getrandom",
    "rustix",
    "fs",
    "net",
    "process",
    "env",
    "thread",
    "SystemTime",
    "Instant",
    "RandomState",
    "HashMap",
    "HashSet",
];

/// The files that may differ between Linux and macOS.
const PLATFORM_FILES: &[&str] = &["keeper/platform.rs"];

/// Lines of code in one file: neither blank nor comment.
const LINES_MAX: usize = 500;

#[test]
fn modules_import_only_what_the_table_allows() {
    let faults = import_faults(&sources("src"), IMPORTS);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    assert_eq!(cycle(IMPORTS), None);
}

#[test]
fn core_names_no_other_crate() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let crates = source::dependencies(&manifest);
    assert!(
        crates.contains("serde_json") && crates.contains("tokio"),
        "{crates:?}"
    );
    let faults = crate_faults(&sources("src"), &crates);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn pure_modules_touch_nothing_outside() {
    let sources = sources("src");
    for pure in PURE {
        assert!(
            sources.iter().any(|source| is_below(source, pure)),
            "{pure} does not exist"
        );
    }
    let faults = purity_faults(&sources);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn platforms_differ_in_one_place() {
    let sources = sources("src");
    let faults: Vec<String> = sources
        .iter()
        .filter(|source| !PLATFORM_FILES.contains(&source.path.as_str()))
        .filter(|source| source.names("target_os"))
        .map(|source| format!("src/{}: `target_os`; see {PLATFORM_FILES:?}", source.path))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_why_it_exists_and_is_short() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(sources);
    let faults: Vec<String> = all.filter_map(|source| form_fault(&source)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn import_faults(sources: &[Source], table: &[(&str, &[&str])]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.path != "lib.rs") {
        let from = source.module();
        let Some(allowed) = table.get(from) else {
            faults.push(format!(
                "src/{}: module `{from}` is not in the table",
                source.path
            ));
            continue;
        };
        for import in source.crate_paths() {
            let to = import.segments.join("::");
            let Some(target) = import
                .segments
                .first()
                .filter(|name| table.contains_key(&***name))
            else {
                continue;
            };
            let starts = |rule: &&str| to == **rule || to.starts_with(&format!("{rule}::"));
            if target != from && !allowed.iter().any(starts) {
                faults.push(format!(
                    "src/{}:{}: {from} imports {to}",
                    source.path, import.line
                ));
            }
        }
    }
    faults
}

/// A module that can reach itself by the table, if there is one.
fn cycle<'a>(table: &[(&'a str, &'a [&'a str])]) -> Option<&'a str> {
    let table: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
    table.keys().copied().find(|start| {
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(module) = open.pop() {
            for rule in table.get(module).copied().unwrap_or_default() {
                let next = rule.split("::").next().unwrap_or(rule);
                if next == *start {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    })
}

fn crate_faults(sources: &[Source], crates: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| is_below(source, "core")) {
        for path in source.paths().iter().filter(|path| !path.test) {
            let head = path.segments[0].as_str();
            if crates.contains(head) && !CORE_CRATES.contains(&head) {
                faults.push(format!(
                    "src/{}:{}: core names {head}",
                    source.path, path.line
                ));
            }
        }
    }
    faults
}

fn purity_faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let pure = |source: &&Source| PURE.iter().any(|pure| is_below(source, pure));
    for source in sources.iter().filter(pure) {
        for path in source.paths().iter().filter(|path| !path.test) {
            let outside = path.segments[0] == "std" || path.segments.len() == 1;
            let named = path.segments.iter().find(|name| {
                let head = path.segments[0] == **name;
                IMPURE.contains(&name.as_str()) && (outside || head)
            });
            // A single lower-case word is a variable or a field, not a module.
            let word = path.segments.len() == 1;
            let variable = word && path.segments[0].starts_with(|c: char| c.is_lowercase());
            if let Some(name) = named.filter(|_| !variable) {
                faults.push(format!(
                    "src/{}:{}: pure, names {name}",
                    source.path, path.line
                ));
            }
        }
    }
    faults
}

fn form_fault(source: &Source) -> Option<String> {
    if !source.text.starts_with("//!") {
        return Some(format!("{}: does not open with `//!`", source.path));
    }
    let lines = source.code_lines();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines of code", source.path))
}

fn is_below(source: &Source, module: &str) -> bool {
    let path = source.path.trim_end_matches(".rs");
    path == module || path.starts_with(&format!("{module}/"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let top = root().join(folder);
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![top.clone()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&top).unwrap().to_str().unwrap();
            found.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The checks themselves, on sources made for them: each must be able to fail.
mod the_checks {
    use super::*;

    const TABLE: &[(&str, &[&str])] = &[
        ("core", &[]),
        ("engine", &["core"]),
        ("api", &["core", "pty::snapshot"]),
        ("pty", &[]),
    ];

    fn faults(path: &str, text: &str) -> Vec<String> {
        import_faults(&[Source::new(path, text)], TABLE)
    }

    #[test]
    fn allow_what_the_table_allows() {
        let text = "use crate::core::{task::{Task, TaskState}, TaskId};\nuse crate::engine::x;";
        assert_eq!(faults("engine/run.rs", text), Vec::<String>::new());
    }

    #[test]
    fn find_a_plain_import() {
        let found = faults("core/task.rs", "//! Doc.\nuse crate::engine::Input;");
        assert_eq!(found, ["src/core/task.rs:2: core imports engine::Input"]);
    }

    #[test]
    fn find_an_import_in_a_group() {
        let found = faults(
            "core/task.rs",
            "use crate::{core::x, engine::{self, run::Y}};",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("core imports engine::self"), "{found:?}");
    }

    #[test]
    fn find_an_inline_path() {
        let found = faults(
            "core/task.rs",
            "fn f() -> u8 { 1 + crate::engine::run::<u8>() }",
        );
        assert_eq!(found, ["src/core/task.rs:1: core imports engine::run"]);
    }

    #[test]
    fn find_a_path_that_climbs_to_the_root() {
        let found = faults("core/a/b.rs", "use super::super::super::engine::X;");
        assert_eq!(found, ["src/core/a/b.rs:1: core imports engine::X"]);
        assert!(faults("core/a/b.rs", "use super::super::engine::X;").is_empty());
        let nested = "mod tests {\n use super::super::super::engine::X;\n}";
        assert_eq!(faults("core/b.rs", nested).len(), 1);
        assert_eq!(faults("core/a/b.rs", nested).len(), 0);
        assert_eq!(faults("core/mod.rs", "pub use super::engine::X;").len(), 1);
    }

    #[test]
    fn find_an_import_behind_a_test_attribute_or_a_macro() {
        let text = "#[cfg(test)]\nmod tests { #[test] fn t() { assert!(crate::engine::ok()); } }";
        assert_eq!(faults("core/task.rs", text).len(), 1);
    }

    #[test]
    fn ignore_comments_strings_and_characters() {
        let text = r##"//! See [`crate::engine`].
            /* crate::engine /* crate::engine */ */
            const A: &str = "crate::engine \" crate::engine";
            const B: &str = r#"crate::engine"#; // crate::engine
            fn f<'a>(c: char) -> bool { c == '"' || c == '\'' || c == 'x' }
            const C: &[u8] = b"crate::engine";"##;
        assert_eq!(faults("core/task.rs", text), Vec::<String>::new());
    }

    #[test]
    fn allow_one_part_of_a_module() {
        assert!(faults("api/mod.rs", "use crate::pty::snapshot::Cell;").is_empty());
        assert_eq!(
            faults("api/mod.rs", "use crate::pty::screen::Cell;").len(),
            1
        );
        assert_eq!(
            faults("api/mod.rs", "use crate::pty::snapshots::Cell;").len(),
            1
        );
    }

    #[test]
    fn find_a_module_that_nobody_planned() {
        let found = faults("utils/mod.rs", "");
        assert_eq!(
            found,
            ["src/utils/mod.rs: module `utils` is not in the table"]
        );
    }

    #[test]
    fn read_main_as_a_user_of_the_library() {
        let table = &[("main", &["cli"][..]), ("cli", &[]), ("core", &[])];
        let main = Source::new("main.rs", "use warpsquad::{cli, core::TaskId};");
        assert_eq!(
            import_faults(&[main], table),
            ["src/main.rs:1: main imports core::TaskId"]
        );
    }

    #[test]
    fn find_a_cycle() {
        assert_eq!(
            cycle(&[("a", &["b::x"]), ("b", &["c"]), ("c", &["a"])]),
            Some("a")
        );
        assert_eq!(cycle(TABLE), None);
    }

    #[test]
    fn find_a_foreign_crate_in_core() {
        let crates = source::dependencies(
            "[dependencies]\nserde = 1\nserde-json = 1\n[dev-dependencies]\ninsta = 1\n",
        );
        let found = |text: &str| crate_faults(&[Source::new("core/x.rs", text)], &crates).len();
        assert_eq!(found("use serde::Serialize; use std::fmt;"), 0);
        assert_eq!(found("fn f() { serde_json::to_string(&1); }"), 1);
        assert_eq!(found("use serde_json::{Value, Map};"), 2);
    }

    #[test]
    fn find_a_clock_a_disk_and_chance() {
        let found = |text: &str| purity_faults(&[Source::new("engine/update/x.rs", text)]);
        assert_eq!(
            found("use std::time::Duration; let process = task.process;"),
            [""; 0]
        );
        for impure in [
            "use std::time::{Duration, Instant};",
            "let now = std::time::SystemTime::now();",
            "use std::{fmt, fs};",
            "let now = Instant::now();",
            "fn f() { tokio::task::yield_now(); }",
            "use rand::Rng;",
            "use std::collections::HashMap;",
        ] {
            assert_eq!(found(impure).len(), 1, "{impure}: {:?}", found(impure));
        }
        let test = "#[cfg(test)]\nmod tests { use std::fs; mod deep { use std::fs; } }";
        assert_eq!(found(test), [""; 0]);
        assert_eq!(found(&format!("{test} use std::fs;")).len(), 1);
        assert_eq!(found("mod tests { use std::fs; }").len(), 1);
        let elsewhere = Source::new("engine/run.rs", "use std::fs;");
        assert!(purity_faults(&[elsewhere]).is_empty());
    }

    #[test]
    fn find_a_file_without_reason_or_end() {
        let fault = |text: &str| form_fault(&Source::new("a.rs", text)).is_some();
        assert!(!fault("//! Why.\n"));
        assert!(fault("use std::fmt;\n"));
        assert!(fault(&format!(
            "//! Why.\n{}",
            "fn f() {}\n".repeat(LINES_MAX + 1)
        )));
        assert!(!fault(&format!(
            "//! Why.\n{}",
            "// why\n\n".repeat(LINES_MAX + 1)
        )));
    }

    #[test]
    fn find_a_platform() {
        assert!(Source::new("a.rs", "#[cfg(target_os = \"linux\")]").names("target_os"));
        assert!(!Source::new("a.rs", "// target_os").names("target_os"));
    }
}
