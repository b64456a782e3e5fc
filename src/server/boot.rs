//! Whether the machine was restarted since the last server of this squad ran.
//!
//! A lost agent says why it is gone; "the machine was restarted" is another answer than "its keeper
//! died". The id of the machine's run lies in the data directory and is written once everything
//! that depends on it was said.

use std::path::{Path, PathBuf};

use super::adopt::Found;

/// The machine's run, now and as the last server saw it.
#[derive(Debug)]
pub(super) struct Boot {
    file: PathBuf,
    before: Option<String>,
    now: Option<String>,
}

impl Boot {
    /// Reads what the last server left; `now` is `None` where the platform cannot tell.
    pub(super) fn look(data: &Path, now: Option<String>) -> Self {
        let file = data.join("boot-id");
        let before = std::fs::read_to_string(&file).ok();
        let before = before
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
        Self { file, before, now }
    }

    /// Both are known and differ.
    pub(super) fn was_restarted(&self) -> bool {
        matches!((&self.before, &self.now), (Some(before), Some(now)) if before != now)
    }

    /// In the words of an interrupted task.
    pub(super) fn why_agents_are_gone(&self) -> &'static str {
        if self.was_restarted() {
            "the machine was restarted"
        } else {
            "the agent ended with its keeper"
        }
    }

    /// In the words of a started server.
    pub(super) fn said(&self, found: &Found) -> String {
        if self.was_restarted() {
            format!("the machine was restarted, {found}")
        } else {
            found.to_string()
        }
    }

    /// The next server compares with this run.
    pub(super) fn remember(&self) {
        let Some(now) = self
            .now
            .as_ref()
            .filter(|now| self.before.as_ref() != Some(*now))
        else {
            return;
        };
        if let Err(error) = std::fs::write(&self.file, format!("{now}\n")) {
            tracing::warn!(%error, "a restart of the machine will not be told from a lost keeper");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_of_the_machine_is_told_once() {
        let data = tempfile::tempdir().unwrap();
        let look = |id: Option<&str>| Boot::look(data.path(), id.map(str::to_owned));
        let first = look(Some("a"));
        assert!(!first.was_restarted());
        first.remember();
        assert!(!look(Some("a")).was_restarted());
        assert!(!look(None).was_restarted());
        let after = look(Some("b"));
        assert_eq!(after.why_agents_are_gone(), "the machine was restarted");
        after.remember();
        let later = look(Some("b"));
        assert_eq!(
            later.why_agents_are_gone(),
            "the agent ended with its keeper"
        );
    }
}
