//! Every built-in template, checked for what makes it usable; and what is offered where.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Sources;
use crate::core::task::Mode;

const ROLES: usize = 20;
const ALL: usize = 54;

fn library() -> Library {
    let library = Library::open(None, None);
    assert_eq!(library.mistakes(), []);
    library
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/templates")
}

#[test]
fn every_file_of_the_folder_is_built_in_and_only_these() {
    let names: BTreeSet<&str> = built_in::FILES.iter().map(|(name, _)| *name).collect();
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = names.iter().map(|name| format!("{name}.toml")).collect();
    assert_eq!(files, expected);
    assert_eq!(built_in::FILES.len(), ALL);
}

#[test]
fn there_are_twenty_roles_and_every_variant_extends_one() {
    let library = library();
    let (roles, variants) = library.all().split_at(ROLES);
    for role in roles {
        assert!(
            role.extends.is_none() && role.when.is_empty(),
            "{}",
            role.name
        );
        assert!(
            role.notes.is_empty() && role.check.is_none(),
            "{}",
            role.name
        );
    }
    for variant in variants {
        let role = variant.extends.as_deref().unwrap_or_default();
        assert!(roles.iter().any(|it| it.name == role), "{}", variant.name);
        assert!(!variant.when.is_empty(), "{} fits nothing", variant.name);
        let rules = variant.notes.lines().filter(|line| !line.is_empty());
        assert!(rules.count() >= 4, "{} knows too little", variant.name);
    }
}

#[test]
fn the_reference_names_each_with_what_it_is_for() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/templates.md");
    let reference = std::fs::read_to_string(file).unwrap();
    for template in library().all() {
        let second = match &template.extends {
            Some(role) => format!("`{role}`"),
            None => template.mode.as_str().to_owned(),
        };
        let row = format!("| `{}` | {second} | {} |", template.name, template.summary);
        assert!(reference.lines().any(|line| line == row), "{row}");
    }
}

#[test]
fn titles_summaries_and_know_how_are_told_apart() {
    let library = library();
    for (what, of) in [
        ("title", (|it| it.title.clone()) as fn(&Template) -> String),
        ("summary", |it| it.summary.clone()),
        ("prompt and notes", |it| {
            format!("{}{}", it.prompt, it.notes)
        }),
    ] {
        let all: BTreeSet<String> = library.all().iter().map(of).collect();
        assert_eq!(all.len(), ALL, "one {what} is used twice");
    }
    for template in library.all() {
        let (name, summary) = (&template.name, &template.summary);
        assert!(summary.ends_with('.') && summary.len() <= 100, "{name}");
        assert!((3..=40).contains(&template.title.len()), "{name}");
    }
}

#[test]
fn a_frame_fits_a_small_model_and_leaves_the_task_on_lines_of_its_own() {
    for template in library().all() {
        let name = &template.name;
        assert!(template.prompt.contains("\n{task}\n"), "{name}");
        assert!(template.prompt.contains("\n{notes}"), "{name}");
        let framed = frame::frame(template, "TASK", None);
        let words = framed.split_whitespace().count();
        assert!((120..=480).contains(&words), "{name}: {words} words");
        assert!(!framed.starts_with(['/', '!', '{']), "{name}");
    }
}

/// Aider puts every file into the chat that a prompt names.
#[test]
fn a_frame_names_no_file_by_accident() {
    let endings = [
        ".toml", ".json", ".md", ".yml", ".yaml", ".txt", ".lock", ".xml", ".cfg",
    ];
    for template in library().all() {
        let framed = frame::frame(template, "", Some("make"));
        let named: Vec<&str> = framed
            .split_whitespace()
            .filter(|word| endings.iter().any(|ending| word.contains(ending)))
            .collect();
        let expected: &[&str] = match template.name.as_str() {
            "release-writer" => &["CHANGELOG.md"],
            _ => &[],
        };
        assert_eq!(named, expected, "{}", template.name);
    }
}

#[test]
fn only_what_edits_has_a_check() {
    for template in library().all() {
        let name = &template.name;
        let framed = frame::frame(template, "x", Some("CHECK"));
        if template.mode == Mode::Ask {
            assert!(template.check.is_none(), "{name}");
            assert!(template.edit_format.is_none(), "{name}");
            assert!(!framed.contains("CHECK"), "{name}");
        }
        if let Some(check) = &template.check {
            assert!(!check.needs.is_empty(), "{name}");
            assert!(framed.contains("`CHECK`"), "{name}");
            assert!(!check.command.contains(['\n', ';']), "{name}");
        }
    }
}

#[test]
fn what_only_judges_does_not_edit() {
    let library = library();
    for name in [
        "reviewer",
        "security-reviewer",
        "explainer",
        "planner",
        "rust-reviewer",
    ] {
        assert_eq!(library.get(name).unwrap().mode, Mode::Ask, "{name}");
    }
    for name in ["architect", "api-designer"] {
        assert_eq!(library.get(name).unwrap().mode, Mode::Architect, "{name}");
    }
}

fn best(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let sources = Sources {
        repository: Some(folder.path().to_owned()),
        ..Sources::default()
    };
    let offers = best_offers(&sources, "");
    offers
        .into_iter()
        .map(|offer| offer.template.name)
        .collect()
}

#[test]
fn an_unknown_repository_gets_the_eight_roles_that_are_wanted_most() {
    let expected: Vec<&str> = built_in::FILES
        .iter()
        .map(|(name, _)| *name)
        .take(8)
        .collect();
    assert_eq!(best(&[]), expected);
}

#[test]
fn a_cargo_workspace_gets_rust_first_and_the_roles_that_rust_has_no_variant_of() {
    let found = best(&[
        ("Cargo.toml", "[workspace]\n"),
        ("crates/a/src/lib.rs", ""),
        ("crates/b/src/lib.rs", ""),
        ("scripts/release.sh", ""),
    ]);
    assert_eq!(
        found,
        [
            "rust-implementer",
            "rust-test-writer",
            "rust-reviewer",
            "shell-implementer",
            "debugger",
            "refactorer",
            "documenter",
            "explainer",
        ]
    );
}

#[test]
fn a_framework_comes_before_its_language() {
    let first = |files: &[(&str, &str)], count: usize| best(files)[..count].join(" ");
    let django = [("manage.py", "import django\n"), ("shop/models.py", "")];
    assert_eq!(
        first(&django, 3),
        "django-implementer django-migrator python-implementer"
    );
    let fastapi = [
        ("app/main.py", ""),
        ("requirements.txt", "FastAPI==0.115\n"),
    ];
    assert_eq!(first(&fastapi, 2), "fastapi-implementer python-implementer");
    let react = [
        ("package.json", "{\"dependencies\": {\"react\": \"19\"}}"),
        ("tsconfig.json", "{}"),
        ("src/App.tsx", ""),
    ];
    assert_eq!(first(&react, 2), "react-implementer react-test-writer");
    let tokio = [("Cargo.toml", "tokio = \"1\"\n"), ("src/main.rs", "")];
    assert_eq!(first(&tokio, 2), "rust-async rust-implementer");
}

#[test]
fn every_variant_is_offered_first_somewhere() {
    let places: &[(&str, &[(&str, &str)])] = &[
        (
            "typescript-implementer",
            &[("tsconfig.json", ""), ("a.ts", "")],
        ),
        (
            "vue-implementer",
            &[("a.vue", ""), ("package.json", "{\"vue\": 1}")],
        ),
        (
            "nextjs-implementer",
            &[("a.tsx", ""), ("package.json", "{\"next\": 1}")],
        ),
        (
            "express-implementer",
            &[("a.js", ""), ("package.json", "{\"express\": 1}")],
        ),
        ("go-implementer", &[("go.mod", ""), ("a.go", "")]),
        ("java-implementer", &[("pom.xml", ""), ("A.java", "")]),
        (
            "spring-implementer",
            &[("pom.xml", "spring-boot"), ("A.java", "")],
        ),
        ("cpp-implementer", &[("CMakeLists.txt", ""), ("a.cpp", "")]),
        ("csharp-implementer", &[("a.csproj", ""), ("A.cs", "")]),
        (
            "rails-implementer",
            &[("Gemfile", "gem 'rails'"), ("a.rb", "")],
        ),
        (
            "laravel-implementer",
            &[("composer.json", "laravel/framework"), ("a.php", "")],
        ),
        ("sql-migrator", &[("migrations/1.sql", "")]),
        ("docker-implementer", &[("Dockerfile", "")]),
        ("terraform-implementer", &[("main.tf", "")]),
        ("github-actions", &[(".github/workflows/ci.yml", "")]),
        ("shell-implementer", &[("a.sh", "")]),
        ("python-implementer", &[("a.py", "")]),
    ];
    for (name, files) in places {
        let found = best(files);
        assert_eq!(found.len(), rank::BEST, "{name}");
        assert_eq!(&found[0], name, "{found:?}");
    }
}
