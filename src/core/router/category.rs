//! What kind of work a task is, where nobody says it: by rules on its words, files and mode.
//!
//! The rules are a list and the first that speaks decides. What names the kind of result (a review,
//! a document, a test) comes before what names the kind of change (a fix, a new shape, something
//! new), because "fix the tests" is about tests and "add a section to the docs" about documents.
//! They were written on two thirds of a set of titles from public repositories; the figure on the
//! third that was held out is in `docs/routing.md`.
//!
//! Invariant: pure; a category that was asked for is never changed.

use crate::core::task::{Category, Mode};

/// How much of a prompt is read, characters: what is wanted stands at its head.
const READ_MAX: usize = 1_000;

/// A category and the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// What kind of work it is.
    pub category: Category,
    /// The word, the files or the mode that decided.
    pub because: String,
}

/// Words that decide, in the order in which they are looked for.
const WORDS: [(Category, &[&str]); 6] = [
    (
        Category::Documentation,
        &[
            "readme",
            "changelog",
            "docs",
            "doc",
            "documentation",
            "document",
            "documenting",
            "typo",
            "typos",
            "faq",
            "tutorial",
            "comment",
            "explanation",
            "sentence",
            "sentences",
            "testimonials",
            "reference",
            "sample",
            "example",
            "examples",
            "instructions",
            "note",
            "section",
            "glossary",
            "wiki",
            "wording",
            "philosophy",
        ],
    ),
    (
        Category::Testing,
        &[
            "test",
            "tests",
            "testing",
            "unittest",
            "unittests",
            "spec",
            "specs",
            "coverage",
            "benchmark",
            "benchmarks",
            "fixture",
            "pytest",
            "mock",
            "mocks",
            "testcase",
            "proptest",
            "fuzz",
            "e2e",
        ],
    ),
    (
        Category::Refactoring,
        &[
            "refactor",
            "refactors",
            "refactoring",
            "refactored",
            "rename",
            "renames",
            "renamed",
            "cleanup",
            "clean",
            "tidy",
            "simplify",
            "simplifies",
            "restructure",
            "reorganise",
            "reorganize",
            "modularise",
            "modularize",
            "deduplicate",
            "extract",
            "inline",
            "lint",
            "linting",
            "flake8",
            "pep",
            "style",
            "unused",
            "dead",
            "annotations",
            "speed",
            "faster",
            "performance",
            "optimise",
            "optimize",
            "optimizations",
            "split",
            "eradicate",
            "typehints",
            "ruff",
            "clippy",
            "jshint",
            "eslint",
            "redundant",
            "duplication",
        ],
    ),
    (
        Category::Debugging,
        &[
            "fix",
            "fixes",
            "fixed",
            "fixing",
            "bug",
            "bugs",
            "bugfix",
            "crash",
            "crashes",
            "crashed",
            "panic",
            "panics",
            "broken",
            "regression",
            "wrong",
            "wrongly",
            "incorrect",
            "incorrectly",
            "correct",
            "correctly",
            "leak",
            "leaks",
            "hang",
            "hangs",
            "deadlock",
            "race",
            "fails",
            "failing",
            "failure",
            "traceback",
            "segfault",
            "vulnerability",
            "cve",
            "avoid",
            "prevent",
            "should",
            "debug",
            "typeerrors",
            "exception",
            "flickering",
            "handling",
            "doesn't",
            "cannot",
            "undesired",
            "unexpected",
            "backport",
            "honor",
            "strip",
        ],
    ),
    (
        Category::Refactoring,
        &[
            "move",
            "moves",
            "replace",
            "replaces",
            "convert",
            "migrate",
            "remove",
            "removes",
            "merge",
            "unify",
            "reduce",
            "centralize",
            "consolidate",
            "change",
            "typing",
        ],
    ),
    (
        Category::Coding,
        &[
            "add",
            "adds",
            "added",
            "adding",
            "implement",
            "implements",
            "implementing",
            "support",
            "supports",
            "feature",
            "feat",
            "allow",
            "allows",
            "introduce",
            "create",
            "creates",
            "new",
            "accept",
            "accepts",
            "enable",
            "expose",
            "build",
            "write",
            "make",
            "let",
            "provide",
            "extend",
            "option",
            "flag",
            "suggest",
            "display",
            "show",
            "only",
            "generate",
            "abort",
            "customize",
            "checker",
            "normalization",
        ],
    ),
];

/// What the marker of a conventional commit says (`docs: …`, `fix(parser): …`).
const MARKERS: [(&str, Option<Category>); 24] = [
    ("docs", Some(Category::Documentation)),
    ("doc", Some(Category::Documentation)),
    ("readme", Some(Category::Documentation)),
    ("changelog", Some(Category::Documentation)),
    ("test", Some(Category::Testing)),
    ("tests", Some(Category::Testing)),
    ("refactor", Some(Category::Refactoring)),
    ("refactoring", Some(Category::Refactoring)),
    ("style", Some(Category::Refactoring)),
    ("perf", Some(Category::Refactoring)),
    ("feat", Some(Category::Coding)),
    ("feature", Some(Category::Coding)),
    ("bug", Some(Category::Debugging)),
    ("sec", Some(Category::Debugging)),
    ("crash", Some(Category::Debugging)),
    ("build", Some(Category::General)),
    ("ci", Some(Category::General)),
    ("deps", Some(Category::General)),
    ("mod", Some(Category::General)),
    ("pkg", Some(Category::General)),
    ("release", Some(Category::General)),
    ("nix", Some(Category::General)),
    // These say little: what follows decides.
    ("chore", None),
    ("fix", None),
];

/// Housekeeping: dependencies, releases, continuous integration, packages.
const UPKEEP: [&str; 24] = [
    "bump",
    "bumps",
    "dependency",
    "dependencies",
    "deps",
    "upgrade",
    "dependabot",
    "ci",
    "workflow",
    "workflows",
    "travis",
    "appveyor",
    "codecov",
    "tox",
    "pipeline",
    "dockerfile",
    "release",
    "packaging",
    "setup",
    "license",
    "job",
    "gosec",
    "aur",
    "homebrew",
];

/// The category of a task that names none.
pub fn classify(prompt: &str, files: &[String], mode: Mode) -> Classified {
    let head: String = prompt.chars().take(READ_MAX).collect();
    let head = head.to_lowercase();
    let mut lines = head.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    by_words(first)
        .filter(|found| found.category != Category::Coding || files.is_empty())
        .or_else(|| by_files(files))
        .or_else(|| by_words(first))
        .or_else(|| by_words(&rest.join(" ")))
        .unwrap_or_else(|| by_mode(mode))
}

fn by_mode(mode: Mode) -> Classified {
    let category = match mode {
        Mode::Ask => Category::Review,
        Mode::Code | Mode::Architect => Category::General,
    };
    found(category, format!("{} mode", mode.as_str()))
}

fn found(category: Category, because: impl Into<String>) -> Classified {
    let because = because.into();
    Classified { category, because }
}

/// Files of one kind only: tests or documents.
fn by_files(files: &[String]) -> Option<Classified> {
    let all = |is: fn(&str) -> bool| !files.is_empty() && files.iter().all(|file| is(file));
    if all(is_test) {
        return Some(found(Category::Testing, "its files are tests"));
    }
    all(is_document).then(|| found(Category::Documentation, "its files are documents"))
}

fn is_test(file: &str) -> bool {
    let mut parts = file.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    parts.any(|part| matches!(part, "test" | "tests" | "spec" | "__tests__"))
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || name.contains(".test.")
        || name.contains(".spec.")
}

fn is_document(file: &str) -> bool {
    let ending = file.rsplit('.').next().unwrap_or_default();
    file.starts_with("docs/") || matches!(ending, "md" | "rst" | "adoc" | "txt")
}

fn by_words(text: &str) -> Option<Classified> {
    let words: Vec<&str> = words(text).collect();
    if words.is_empty() {
        return None;
    }
    let has = |sought: &[&str]| {
        let mut each = words.iter().copied();
        each.find(|word| sought.contains(word))
    };
    if let Some(word) = review(&words, text) {
        return Some(found(Category::Review, format!("the word {word:?}")));
    }
    if let Some(decided) = by_marker(text) {
        return Some(decided);
    }
    if let Some(word) = has(&UPKEEP).or_else(|| version(&words)) {
        return Some(found(Category::General, format!("the word {word:?}")));
    }
    if words.iter().any(|word| is_named_document(word)) {
        return Some(found(Category::Documentation, "a document is named"));
    }
    WORDS
        .iter()
        .find_map(|(category, sought)| Some((category, has(sought)?)))
        .map(|(category, word)| found(*category, format!("the word {word:?}")))
}

/// Letters and digits that stand together, as far as they are words and not names of options,
/// files or functions.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';' | '!' | '?' | '[' | ']'))
        .map(|word| word.trim_matches(|c: char| matches!(c, '.' | '"' | '\'' | '*')))
        .filter(|word| !word.starts_with('-') && !word.starts_with('`') && !word.starts_with('$'))
        .flat_map(|word| word.split(['-', '/', '(', ')']))
        .filter(|word| !word.is_empty())
}

/// `guide.md`, but not the ending `.md` alone.
fn is_named_document(word: &str) -> bool {
    let stem = word
        .strip_suffix(".md")
        .or_else(|| word.strip_suffix(".rst"));
    stem.is_some_and(|stem| !stem.is_empty())
}

fn version<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["set", "version", ..] | ["version", ..] => Some("version"),
        ["drop", "support", ..] => Some("drop"),
        ["update", rest @ ..] => rest
            .iter()
            .copied()
            .find(|word| matches!(*word, "version" | "versions" | "packages" | "crates")),
        _ => None,
    }
}

/// Judging code: an audit, a review that is asked for; not one that is to be built.
fn review<'a>(words: &[&'a str], text: &str) -> Option<&'a str> {
    let about_documents = text.contains("readme") || text.contains("docs");
    let judged = |word: &&str| {
        matches!(
            *word,
            "audit" | "audited" | "audits" | "reviewed" | "assess" | "evaluate"
        ) || matches!(*word, "critique" | "analysis" | "consider")
    };
    let asked = match words {
        [first, ..] if first.starts_with("review") => Some(*first),
        _ => {
            let mut pairs = words.windows(2).filter_map(|pair| match pair {
                [_, word @ "review"] => Some(*word),
                _ => None,
            });
            pairs.next()
        }
    };
    asked
        .or_else(|| words.iter().copied().find(|word| judged(word)))
        .filter(|_| !about_documents)
}

fn by_marker(text: &str) -> Option<Classified> {
    let (head, _) = text.split_once(':')?;
    let marker = head.split(['(', '!']).next()?.trim();
    let (word, category) = MARKERS.iter().find(|(word, _)| *word == marker)?;
    Some(found((*category)?, format!("it begins with {word:?}")))
}

#[cfg(test)]
#[path = "category_tests.rs"]
mod tests;
