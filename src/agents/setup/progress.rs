//! What a setup reports while it runs: one line each, also as JSON between processes.

use serde::{Deserialize, Serialize};

/// A step of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Another setup runs; it is waited for.
    Waiting,
    /// Interpreters are looked for.
    FindingPython,
    /// The environment is made.
    MakingEnvironment,
    /// Aider and what it needs are downloaded and unpacked.
    Installing,
    /// The launcher is tried with it.
    Checking,
    /// Ready.
    Done,
}

/// One line of progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The step.
    pub phase: Phase,
    /// About how far, 0…100; never goes back.
    pub percent: u8,
    /// For people.
    pub message: String,
}

impl Progress {
    pub(super) fn new(phase: Phase, percent: u8, message: impl Into<String>) -> Self {
        Self {
            phase,
            percent,
            message: message.into(),
        }
    }
}

/// Packages that Aider 0.86.2 brings, itself included.
const PACKAGES: usize = 109;

/// Turns the lines of pip or uv into percentages between 10 and 90.
#[derive(Debug, Default)]
pub(super) struct Meter {
    collected: usize,
    percent: u8,
}

impl Meter {
    /// Progress that this line means, if any.
    pub(super) fn take(&mut self, line: &str) -> Option<Progress> {
        let line = line.trim();
        let word = line.split_whitespace().next().unwrap_or_default();
        let percent = match word {
            "Collecting" => {
                self.collected += 1;
                10 + u8::try_from(self.collected.min(PACKAGES) * 50 / PACKAGES).unwrap_or(50)
            }
            "Resolved" => 20,
            "Prepared" => 60,
            "Installing" => 65,
            "Installed" => 80,
            "Bytecode" => 88,
            "Successfully" => 90,
            _ => return None,
        };
        self.percent = self.percent.max(percent);
        let message: String = match word {
            "Installing" => "Installing the packages".into(),
            "Successfully" => "The packages are installed".into(),
            _ => line.chars().take(80).collect(),
        };
        Some(Progress::new(Phase::Installing, self.percent, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_only_grows() {
        let mut meter = Meter::default();
        let lines = "Collecting a==1\nSuccessfully installed a\nCollecting b\n  noise\n";
        let percents: Vec<u8> = lines
            .lines()
            .filter_map(|line| meter.take(line))
            .map(|progress| progress.percent)
            .collect();
        assert_eq!(percents, [10, 90, 90]);
    }
}
