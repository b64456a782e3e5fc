//! Scenario files: the models, the server's settings, scripted replies and faults, as TOML.
//!
//! The format is documented in `docs/simulator.md`. Unknown keys are errors with their line.

mod builtin;
mod fault;
mod model;
mod server;

pub(super) use fault::{Every, FaultKind, FaultSpec, Stage};
pub(super) use model::{ModelSpec, Template, Voice};
pub(super) use server::ServerSpec;

use std::path::Path;

use serde::Deserialize;

use super::coder::Script;
use crate::core::model::ModelName;
use builtin::BUILTIN;

/// What a simulated server is like.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `[server]`
    #[serde(default)]
    pub(super) server: ServerSpec,
    /// `[[model]]`
    #[serde(default, rename = "model")]
    pub(super) models: Vec<ModelSpec>,
    /// `[[fault]]`
    #[serde(default, rename = "fault")]
    pub(super) faults: Vec<FaultSpec>,
    /// `[[reply]]`
    #[serde(default, rename = "reply")]
    pub(super) replies: Vec<ReplySpec>,
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The text is wrong.
    #[error("{path}:{line}: {message}")]
    Invalid {
        /// File.
        path: String,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No built-in scenario of that name.
    #[error(
        "there is no built-in scenario {name:?}; there are: {}",
        builtin::names()
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// File.
        path: String,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
}

/// `[[reply]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplySpec {
    /// Part of the user's message.
    pub(super) prompt: String,
    /// Only for this model.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// Text or directives.
    pub(super) answer: String,
}

impl Scenario {
    /// Reads a scenario; `path` only appears in errors.
    pub fn parse(text: &str, path: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            ScenarioError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                message: error.message().to_owned(),
            }
        })?;
        scenario.check(text, path)?;
        Ok(scenario)
    }

    /// Reads a scenario file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(source) => Err(ScenarioError::Unreadable { path: name, source }),
        }
    }

    /// A scenario file, or the built-in scenario of that name where there is no such file.
    pub fn find(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.file_name().unwrap_or_default();
        let name = name.to_str().unwrap_or_default();
        let is_builtin = BUILTIN.iter().any(|(known, _)| *known == name);
        if is_builtin && !path.exists() {
            return Self::builtin(name);
        }
        Self::read(path)
    }

    /// A scenario that comes with the program: `default`.
    pub fn builtin(name: &str) -> Result<Self, ScenarioError> {
        let found = BUILTIN.iter().find(|(known, _)| *known == name);
        let Some((_, text)) = found else {
            return Err(ScenarioError::Unknown { name: name.into() });
        };
        Self::parse(text, &format!("{name}.toml"))
    }

    /// The same scenario with more scripted replies, tried before its own.
    #[must_use]
    pub fn with_replies(mut self, replies: impl IntoIterator<Item = (String, String)>) -> Self {
        let more = replies.into_iter().map(|(prompt, answer)| ReplySpec {
            prompt,
            model: None,
            answer,
        });
        self.replies = more.chain(std::mem::take(&mut self.replies)).collect();
        self
    }

    /// The same scenario, in which everything that it gives a time for goes so many times faster.
    #[must_use]
    pub fn with_time_scale(mut self, scale: f64) -> Self {
        if scale.is_finite() && scale > 0.0 {
            self.server.time_scale = scale;
        }
        self
    }

    /// The same scenario with this many slots for each loaded model, at least one.
    #[must_use]
    pub fn with_parallel(mut self, slots: usize) -> Self {
        self.server.num_parallel = slots.max(1);
        self
    }

    pub(super) fn scripts(&self) -> Vec<Script> {
        let scripts = self.replies.iter().map(|reply| Script {
            prompt: reply.prompt.clone(),
            model: reply.model.clone(),
            answer: reply.answer.clone(),
        });
        scripts.collect()
    }

    /// What TOML's types cannot say.
    fn check(&self, text: &str, path: &str) -> Result<(), ScenarioError> {
        let invalid_at = |line: usize, message: String| {
            Err(ScenarioError::Invalid {
                path: path.to_owned(),
                line,
                message,
            })
        };
        let invalid = |message: String, name: &str| {
            let quoted = format!("{name:?}");
            let at = text.lines().position(|line| line.contains(&quoted));
            invalid_at(at.map_or(1, |index| index + 1), message)
        };
        for (index, model) in self.models.iter().enumerate() {
            if self.models.iter().take(index).any(|m| m.name == model.name) {
                return invalid(format!("model {} is there twice", model.name), &model.name);
            }
            for (key, value) in [
                ("rate", model.rate),
                ("prefill", model.prefill),
                ("chars_per_token", model.chars_per_token),
            ] {
                if !(value.is_finite() && value > 0.0) {
                    let message = format!("{key} of {} must be above 0", model.name);
                    return invalid(message, &model.name);
                }
            }
        }
        if let Some(message) = self.server.mistake() {
            return invalid(message, "server");
        }
        for (index, fault) in self.faults.iter().enumerate() {
            if let Some(message) = fault.mistake().or_else(|| self.unknown_model(fault)) {
                return invalid_at(nth_line(text, "[[fault]]", index), message);
            }
        }
        if self.models.is_empty() {
            return invalid_at(1, "there is no model: a scenario needs a [[model]]".into());
        }
        Ok(())
    }

    /// A fault that never happens because its model is not there.
    fn unknown_model(&self, fault: &FaultSpec) -> Option<String> {
        let wanted = fault.model.as_deref()?;
        let is_it =
            |model: &ModelSpec| ModelName::new(&model.name).is_same(&ModelName::new(wanted));
        if self.models.iter().any(is_it) {
            return None;
        }
        let names: Vec<&str> = self.models.iter().map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        Some(format!("there is no model {wanted}; there are: {names}"))
    }
}

/// The line of the nth occurrence of a table, counted from 1.
fn nth_line(text: &str, table: &str, nth: usize) -> usize {
    let lines = text.lines().enumerate();
    let mut tables = lines.filter(|(_, line)| line.trim() == table);
    tables.nth(nth).map_or(1, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_line() {
        let cases = [
            (
                "[server]\nparalel = 2\n",
                "s.toml:2: unknown field `paralel`",
            ),
            (
                "[server]\nvram = \"9 apples\"\n",
                "s.toml:2: \"9 apples\" is not a size",
            ),
            (
                "[server]\nmax_queue = 0\n",
                "s.toml:1: num_parallel, max_loaded",
            ),
            (
                "[[model]]\nname = \"a\"\nsize = 1\nparameters = \"1B\"\nrate = 0.0\n",
                "s.toml:2: rate of a must be above 0",
            ),
            (
                "[[fault]]\nkind = \"flood\"\n",
                "s.toml:2: unknown variant `flood`",
            ),
            (
                "[[fault]]\nkind = \"stall\"\n[[fault]]\nkind = \"removed\"\n",
                "s.toml:3: this kind needs a model",
            ),
            (
                "[[fault]]\nkind = \"stall\"\nfrom = \"9s\"\nuntil = \"3s\"\n",
                "s.toml:1: from must be before until",
            ),
            (
                "[[fault]]\nkind = \"stall\"\nevery = \"soon\"\n",
                "s.toml:3: ",
            ),
            ("[[reply]]\nprompt = 3\n", "s.toml:2: invalid type"),
            (
                "\n[[fault]]\nkind = \"stall\"\nprobability = 7\n",
                "s.toml:2: probability must be from 0 to 1",
            ),
            (
                "[[model]]\nname = \"a:1b\"\nsize = 1\nparameters = \"1B\"\n\
                 [[fault]]\nkind = \"stall\"\nmodel = \"b:1b\"\n",
                "s.toml:5: there is no model b:1b; there are: a:1b",
            ),
            (
                "",
                "s.toml:1: there is no model: a scenario needs a [[model]]",
            ),
        ];
        for (text, expected) in cases {
            let error = Scenario::parse(text, "s.toml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn every_builtin_scenario_is_valid() {
        for (name, _) in BUILTIN {
            let scenario = Scenario::builtin(name).unwrap_or_else(|error| panic!("{error}"));
            assert!(!scenario.models.is_empty(), "{name}");
        }
        let error = Scenario::builtin("none").unwrap_err().to_string();
        let expected = "there is no built-in scenario \"none\"; there are: default, busy";
        assert!(error.starts_with(expected), "{error}");
    }
}
