//! What one check of the doctor says.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// A squad cannot work like this.
    Error,
    /// It could not be found out.
    Unknown,
}

impl Status {
    /// The word in the first column.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at; stable, for scripts.
    pub(super) name: String,
    /// How bad it is.
    pub(super) status: Status,
    /// What was found.
    pub(super) what: String,
    /// What to do; may have several lines.
    pub(super) remedy: Option<String>,
}

impl Finding {
    fn new(name: impl Into<String>, status: Status, what: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            what: what.into(),
            remedy: None,
        }
    }

    pub(super) fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, what)
    }

    pub(super) fn warning(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, what)
    }

    pub(super) fn error(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, Status::Error, what)
    }

    pub(super) fn unknown(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(name, Status::Unknown, what)
    }

    /// Adds what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
