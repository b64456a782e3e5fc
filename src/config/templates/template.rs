//! A template, complete: what its own file and those it extends say together.

use std::fmt;
use std::path::PathBuf;

use super::survey::Sign;
use crate::core::task::{Category, Mode};

/// A template, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name: that of its file.
    pub name: String,
    /// A few words for lists.
    pub title: String,
    /// One sentence: what it is for.
    pub summary: String,
    /// The template that it extends.
    pub extends: Option<String>,
    /// How Aider works.
    pub mode: Mode,
    /// What kind of work it is.
    pub category: Category,
    /// The frame; `{task}`, `{notes}` and `{verify}` stand for what is put in.
    pub prompt: String,
    /// Know-how that stands where the frame says `{notes}`.
    pub notes: String,
    /// The check of tasks for which nobody names one.
    pub check: Option<Check>,
    /// How the model writes its edits where the settings say nothing about the model.
    pub edit_format: Option<String>,
    /// Files to read where they exist, as globs from the top of the repository.
    pub read: Vec<String>,
    /// It fits a repository that shows one of these; empty fits every repository.
    pub when: Vec<Sign>,
    /// Where it comes from.
    pub shelf: Shelf,
}

/// The check of tasks for which nobody names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The command.
    pub command: String,
    /// What the repository must show for it; all of them.
    pub needs: Vec<Sign>,
    /// A repository proposes it: it needs trust.
    pub is_proposed: bool,
}

/// Where a template comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shelf {
    /// Part of this program.
    BuiltIn,
    /// The user's file.
    User(PathBuf),
    /// A file of the repository.
    Repository(PathBuf),
}

impl Shelf {
    /// The word used in tables and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::User(_) => "user",
            Self::Repository(_) => "repository",
        }
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str(self.as_str()),
            Self::User(file) | Self::Repository(file) => file.display().fmt(f),
        }
    }
}
