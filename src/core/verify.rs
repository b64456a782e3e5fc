//! What a verify command showed, beside what it showed before any edit.
//!
//! On a red baseline success means "no new failure": the names of failing tests are read from the
//! output of the common test runners and compared. Where no names can be read from a red run the
//! result is `Unclear`, never green.
//!
//! Invariant: pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One run of a verify command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRun {
    /// Exit code; `None` when it was ended by a signal or the time limit.
    pub code: Option<i32>,
    /// Names of the tests that failed, as far as the output tells.
    pub failing: BTreeSet<String>,
    /// The last lines of the output.
    pub tail: String,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// It was stopped by the time limit.
    pub timed_out: bool,
}

impl VerifyRun {
    /// It ended with exit code 0.
    pub fn is_green(&self) -> bool {
        self.code == Some(0)
    }
}

/// What the runs mean for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyOutcome {
    /// No verify command was given.
    NotVerified,
    /// Green.
    Passed,
    /// Red before and after, but no test fails that did not fail before.
    NoNewFailure,
    /// Red, and it was green before or fails in new places.
    Failed,
    /// Red before and after, and the output does not tell which tests failed.
    Unclear,
}

impl VerifyOutcome {
    /// Good enough to merge without a human.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Passed | Self::NoNewFailure)
    }

    /// The words shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotVerified => "not verified",
            Self::Passed => "passed",
            Self::NoNewFailure => "no new failure (red before)",
            Self::Failed => "failed",
            Self::Unclear => "unclear (red before and after)",
        }
    }
}

/// The verification of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The command.
    pub command: String,
    /// What it means.
    pub outcome: VerifyOutcome,
    /// The run on the base commit.
    pub baseline: Option<VerifyRun>,
    /// The run on the result.
    pub run: Option<VerifyRun>,
    /// Where the whole output lies.
    pub log: Option<std::path::PathBuf>,
}

/// Compares the run on the result with the one on the base commit.
pub fn judge(baseline: Option<&VerifyRun>, run: &VerifyRun) -> VerifyOutcome {
    if run.is_green() {
        return VerifyOutcome::Passed;
    }
    let Some(before) = baseline.filter(|before| !before.is_green()) else {
        return VerifyOutcome::Failed;
    };
    if run.timed_out {
        return VerifyOutcome::Failed;
    }
    if run.failing.is_empty() || before.failing.is_empty() {
        return VerifyOutcome::Unclear;
    }
    if run.failing.is_subset(&before.failing) {
        VerifyOutcome::NoNewFailure
    } else {
        VerifyOutcome::Failed
    }
}

/// Names of failing tests in the output of cargo test, nextest, pytest, unittest, go test, jest
/// and TAP.
pub fn failing_tests(output: &str) -> BTreeSet<String> {
    output.lines().filter_map(failing_test).collect()
}

fn failing_test(line: &str) -> Option<String> {
    let line = line.trim_end();
    let trimmed = line.trim_start();
    let name = if let Some(rest) = trimmed.strip_prefix("test ") {
        rest.strip_suffix(" ... FAILED")
    } else if let Some(rest) = trimmed.strip_prefix("FAILED ") {
        Some(rest.split(" - ").next().unwrap_or(rest))
    } else if let Some(rest) = trimmed.strip_prefix("--- FAIL: ") {
        rest.split_whitespace().next()
    } else if let Some(rest) = trimmed
        .strip_prefix("FAIL: ")
        .or_else(|| trimmed.strip_prefix("ERROR: "))
    {
        Some(rest)
    } else if let Some(rest) = trimmed.strip_prefix("not ok ") {
        rest.split_once(" - ").map(|(_, name)| name)
    } else if let Some(rest) = trimmed.strip_prefix("● ") {
        Some(rest)
    } else if let Some(rest) = trimmed.strip_prefix("FAIL [") {
        rest.split_once(']').map(|(_, name)| name.trim())
    } else {
        None
    };
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: i32, output: &str) -> VerifyRun {
        VerifyRun {
            code: Some(code),
            failing: failing_tests(output),
            tail: output.to_owned(),
            millis: 1,
            timed_out: false,
        }
    }

    #[test]
    fn green_is_passed_whatever_it_was_before() {
        let red = run(1, "FAILED tests/test_a.py::test_x - assert");
        assert_eq!(judge(Some(&red), &run(0, "ok")), VerifyOutcome::Passed);
        assert_eq!(judge(None, &run(0, "")), VerifyOutcome::Passed);
    }

    #[test]
    fn red_after_green_or_without_baseline_is_failed() {
        assert_eq!(judge(Some(&run(0, "")), &run(1, "")), VerifyOutcome::Failed);
        assert_eq!(judge(None, &run(1, "")), VerifyOutcome::Failed);
    }

    #[test]
    fn fewer_failures_than_before_are_no_new_failure() {
        let before = run(1, "FAIL: test_a (m.T.test_a)\nFAIL: test_b (m.T.test_b)");
        let after = run(1, "FAIL: test_b (m.T.test_b)");
        assert_eq!(judge(Some(&before), &after), VerifyOutcome::NoNewFailure);
        assert_eq!(judge(Some(&after), &before), VerifyOutcome::Failed);
    }

    #[test]
    fn red_without_names_is_unclear_and_never_success() {
        let outcome = judge(Some(&run(1, "boom")), &run(1, "boom"));
        assert_eq!(outcome, VerifyOutcome::Unclear);
        assert!(!outcome.is_success());
    }

    #[test]
    fn names_are_read_from_the_common_runners() {
        let text = "test a::b ... FAILED\nFAILED t.py::x - assert 1\n--- FAIL: TestQ (0.00s)\n\
                    not ok 3 - third\n  ● suite › case\n        FAIL [   0.012s] crate a::c\nok";
        let names: Vec<String> = failing_tests(text).into_iter().collect();
        assert_eq!(
            names,
            [
                "TestQ",
                "a::b",
                "crate a::c",
                "suite › case",
                "t.py::x",
                "third"
            ]
        );
    }
}
