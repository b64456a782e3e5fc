//! How a command ends badly: what went wrong, whose fault it is, what to do, and the exit code.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::{ConfigError, paths::PlacesError};
use crate::core::command::{Refusal, RefusalKind};

/// Whose fault it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bug, or a system that does what it should not.
    Internal,
    /// Wrong use, or a task that failed.
    User,
    /// A mistake in the configuration.
    Config,
    /// Something needed is not there.
    Unavailable,
}

impl Kind {
    /// The exit code, a contract with scripts.
    pub fn code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::User => 2,
            Self::Config => 3,
            Self::Unavailable => 4,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose fault it is.
    pub kind: Kind,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of one problem.
    pub fn new(kind: Kind, error: impl Into<String>) -> Self {
        let problem = Problem {
            error: error.into(),
            hints: Vec::new(),
        };
        Self {
            kind,
            problems: vec![problem],
        }
    }

    /// A bug or a failing system.
    pub fn internal(error: impl Into<String>) -> Self {
        Self::new(Kind::Internal, error)
    }

    /// Wrong use.
    pub fn user(error: impl Into<String>) -> Self {
        Self::new(Kind::User, error)
    }

    /// Something needed is not there.
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, error)
    }

    /// Adds a remedy to the last problem.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.hints.push(hint.into());
        }
        self
    }

    /// Says where the problems are.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        for problem in &mut self.problems {
            problem.error = format!("{place}: {}", problem.error);
        }
        self
    }

    /// Prints the report on standard error and gives the exit code.
    pub fn finish(&self) -> ExitCode {
        let text = self.to_string();
        // There is nobody left to tell when standard error is closed.
        let _unwritten = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self.kind {
            Kind::Internal => "internal error",
            Kind::User | Kind::Config | Kind::Unavailable => "error",
        };
        for problem in &self.problems {
            writeln!(f, "{head}: {}", problem.error)?;
            for hint in &problem.hints {
                writeln!(f, "hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// The error and what caused it, `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        let problems = error.mistakes.into_iter().map(|mistake| Problem {
            error: format!("{}: {}", mistake.place, mistake.text),
            hints: mistake.hint.into_iter().collect(),
        });
        Self {
            kind: Kind::Config,
            problems: problems.collect(),
        }
    }
}

impl From<PlacesError> for Report {
    fn from(error: PlacesError) -> Self {
        let report = Self::new(Kind::Config, chain(&error));
        match error {
            PlacesError::NoHome => report.hint("set HOME, or use --data-dir and --config"),
            PlacesError::SocketTooLong(_) => report.hint("choose a shorter --socket"),
            PlacesError::Create(..) => report.hint("choose another folder with --data-dir"),
            PlacesError::NotOurs(folder) => report.hint(format!(
                "remove {} or make it yours alone (chmod 700)",
                folder.display()
            )),
        }
    }
}

impl From<Refusal> for Report {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::Internal => Kind::Internal,
            RefusalKind::User => Kind::User,
            RefusalKind::Unavailable => Kind::Unavailable,
        };
        let problem = Problem {
            error: refusal.message,
            hints: refusal.hints,
        };
        Self {
            kind,
            problems: vec![problem],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_followed_by_its_own_hints() {
        let mut report = Report::unavailable("no server")
            .hint("start it")
            .hint("or not");
        report.problems.push(Problem {
            error: "second".into(),
            hints: vec![],
        });
        let expected = "error: no server\nhint: start it\nhint: or not\nerror: second\n";
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.kind.code(), 4);
        assert!(
            Report::internal("x")
                .to_string()
                .starts_with("internal error: x")
        );
    }
}
