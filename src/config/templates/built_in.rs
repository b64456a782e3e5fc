//! The templates that are part of this program: twenty roles in the order in which they are most
//! often wanted, then their variants for languages and frameworks.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_str!(concat!("../../../assets/templates/", $name, ".toml")),
        )),*]
    };
}

/// Name and text of each.
pub(super) const FILES: &[(&str, &str)] = files![
    "implementer",
    "debugger",
    "test-writer",
    "refactorer",
    "reviewer",
    "documenter",
    "explainer",
    "planner",
    "architect",
    "security-reviewer",
    "performance-tuner",
    "migrator",
    "api-designer",
    "hardener",
    "cleaner",
    "type-annotator",
    "reproducer",
    "instrumenter",
    "updater",
    "release-writer",
    "rust-implementer",
    "rust-test-writer",
    "rust-reviewer",
    "rust-async",
    "python-implementer",
    "python-test-writer",
    "python-type-annotator",
    "django-implementer",
    "django-migrator",
    "fastapi-implementer",
    "typescript-implementer",
    "typescript-test-writer",
    "typescript-type-annotator",
    "react-implementer",
    "react-test-writer",
    "vue-implementer",
    "nextjs-implementer",
    "express-implementer",
    "go-implementer",
    "go-test-writer",
    "go-concurrency",
    "java-implementer",
    "java-test-writer",
    "spring-implementer",
    "cpp-implementer",
    "cpp-debugger",
    "csharp-implementer",
    "rails-implementer",
    "laravel-implementer",
    "sql-migrator",
    "docker-implementer",
    "terraform-implementer",
    "github-actions",
    "shell-implementer",
];
