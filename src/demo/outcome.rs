//! What came out of a demo: figures, reasons, and where everything lies.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::Stage;
use super::tasks::AGENTS;
use crate::cli::args::Until;
use crate::cli::output::Output;
use crate::cli::progress::{Standing, standing};
use crate::core::runners::GatewayReport;
use crate::core::task::{Task, Tokens};

/// The tests of the repository after the merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tests {
    /// Whether they pass.
    pub(super) passed: bool,
    /// Their last words.
    pub(super) said: String,
}

/// Everything that is summed up.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The tasks as they are now.
    pub(super) tasks: Vec<Task>,
    /// What the gateway says of the requests since its server started.
    pub(super) gateway: GatewayReport,
    /// From the start of the demo.
    pub(super) wall: Duration,
    /// Absent when they were not run.
    pub(super) tests: Option<Tests>,
    /// Reasons beside those of single tasks.
    pub(super) problems: Vec<String>,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) merged: usize,
    pub(super) answered: usize,
    pub(super) in_review: usize,
    pub(super) under_way: usize,
    pub(super) failed: usize,
}

impl Outcome {
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for task in &self.tasks {
            match standing(task, Until::Merged) {
                Standing::Reached if task.merged.is_some() => counts.merged += 1,
                Standing::Reached => counts.answered += 1,
                Standing::Mergeable => counts.in_review += 1,
                Standing::UnderWay => counts.under_way += 1,
                Standing::Missed(_) => counts.failed += 1,
            }
        }
        counts
    }

    /// Why the demo did not reach its goal; empty when it did.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = self.problems.clone();
        for task in &self.tasks {
            let title = task.spec.title();
            match standing(task, Until::Merged) {
                Standing::Missed(why) => reasons.push(format!("{title}: {why}")),
                Standing::UnderWay => reasons.push(format!("{title} is still {}", task.state)),
                Standing::Reached | Standing::Mergeable => {}
            }
        }
        if let Some(tests) = self.tests.as_ref().filter(|tests| !tests.passed) {
            reasons.push(format!(
                "the repository's tests do not pass: {}",
                tests.said
            ));
        }
        reasons
    }

    /// The share of the agents' time that was spent on tasks, between the first and the last.
    fn utilisation(&self) -> Option<f64> {
        let attempts = || self.tasks.iter().flat_map(|task| &task.attempts);
        let first = attempts().map(|attempt| attempt.started).min()?;
        let last = attempts().filter_map(|attempt| attempt.settled).max()?;
        let busy: Duration = attempts()
            .filter_map(|attempt| Some(attempt.settled?.since(attempt.started)))
            .sum();
        let all = last.since(first).as_secs_f64() * f64::from(AGENTS);
        (all > 0.0).then(|| busy.as_secs_f64() / all)
    }

    fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        for task in &self.tasks {
            tokens.add(task.tokens);
        }
        tokens
    }

    /// The summary as lines of text.
    pub(super) fn print(&self, out: &mut Output) {
        let counts = self.counts();
        let tokens = self.tokens();
        let percent = self.utilisation().map_or_else(
            || "unknown".to_owned(),
            |share| format!("{:.0} % of {AGENTS} agents", share * 100.0),
        );
        out.line("");
        out.line(&format!(
            "tasks        {}: {} merged, {} answered, {} waiting for you, {} under way, {} failed",
            self.tasks.len(),
            counts.merged,
            counts.answered,
            counts.in_review,
            counts.under_way,
            counts.failed
        ));
        if let Some(tests) = &self.tests {
            out.line(&format!("tests        {}", tests.said));
        }
        out.line(&format!("wall time    {:.1} s", self.wall.as_secs_f64()));
        out.line(&format!(
            "utilisation  {percent}, from the first start to the last result"
        ));
        out.line(&format!(
            "tokens       {} sent, {} received, {} requests (simulated)",
            tokens.sent, tokens.received, tokens.requests
        ));
        out.line(&format!("models       {}", self.gateway.swaps_in_words()));
        for reason in self.reasons() {
            out.line(&format!("not reached  {reason}"));
        }
    }

    /// The same as one document.
    pub(super) fn json(&self, stage: &Stage) -> Value {
        let counts = self.counts();
        let tokens = self.tokens();
        let reasons = self.reasons();
        json!({
            "reached": reasons.is_empty(),
            "reasons": reasons,
            "tasks": self.tasks.len(),
            "merged": counts.merged,
            "answered": counts.answered,
            "in_review": counts.in_review,
            "under_way": counts.under_way,
            "failed": counts.failed,
            "tests": self.tests.as_ref().map(|tests| json!({
                "passed": tests.passed,
                "said": tests.said,
            })),
            "wall_seconds": self.wall.as_secs_f64(),
            "agents": AGENTS,
            "agent_utilisation": self.utilisation(),
            "tokens": {
                "sent": tokens.sent,
                "received": tokens.received,
                "requests": tokens.requests,
                "simulated": true,
            },
            "swaps": {
                "made": self.gateway.swaps,
                "ms": self.gateway.swap_ms,
                "avoided": self.gateway.swaps_avoided,
                "avoided_ms": self.gateway.avoided_ms,
            },
            "by_task": self.tasks.iter().map(task).collect::<Vec<_>>(),
            "folder": stage.folder,
            "repository": stage.repository,
            "data_dir": stage.data,
            "config": stage.config,
        })
    }
}

fn task(task: &Task) -> Value {
    json!({
        "task": task.id,
        "name": task.spec.title(),
        "state": task.state_label(),
        "mode": task.spec.mode,
        "category": task.spec.category,
        "priority": task.spec.priority,
        "model": task.attempt().map(|attempt| &attempt.model),
        "attempts": task.attempts.len(),
        "verified": task.verify.as_ref().map(|report| report.outcome),
        "why": task.why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::task::{Attempt, Blocked, TaskSpec, TaskState};
    use crate::core::{AgentSlot, TaskId, Timestamp};

    fn task(state: TaskState, merged: Option<&str>, time: (u64, u64)) -> Task {
        let mut task = Task::new(TaskId(1), TaskSpec::default(), Blocked::No, Timestamp(0));
        task.state = state;
        task.merged = merged.map(str::to_owned);
        task.attempts = vec![Attempt {
            number: 1,
            slot: AgentSlot(1),
            model: "m".into(),
            endpoint: "e".into(),
            started: Timestamp(time.0),
            delivered: None,
            settled: Some(Timestamp(time.1)),
            head: None,
            failure: None,
            job: None,
            usage: None,
            uncounted_ms: 0,
            routing: None,
            fault: None,
            malformed: 0,
        }];
        task
    }

    fn outcome(tasks: Vec<Task>) -> Outcome {
        Outcome {
            tasks,
            gateway: GatewayReport::default(),
            wall: Duration::ZERO,
            tests: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn an_agents_time_counts_between_the_first_start_and_the_last_result() {
        let tasks = vec![
            task(TaskState::Merged, Some("c"), (1_000, 6_000)),
            task(TaskState::Merged, None, (1_000, 11_000)),
        ];
        let share = outcome(tasks).utilisation().unwrap();
        assert!((share - 0.15).abs() < 1e-9, "{share}");
        assert_eq!(outcome(Vec::new()).utilisation(), None);
    }

    #[test]
    fn merged_and_answered_differ_and_whatever_ended_badly_is_a_reason() {
        let good = vec![
            task(TaskState::Merged, Some("c"), (0, 1)),
            task(TaskState::Merged, None, (0, 1)),
            task(TaskState::Review, None, (0, 1)),
        ];
        let good = outcome(good);
        let counts = good.counts();
        assert_eq!(
            (counts.merged, counts.answered, counts.in_review),
            (1, 1, 1)
        );
        assert_eq!(good.reasons(), Vec::<String>::new());
        for state in [TaskState::Dead, TaskState::Queued, TaskState::Cancelled] {
            let bad = outcome(vec![task(state, None, (0, 1))]);
            assert_eq!(bad.reasons().len(), 1, "{state}");
        }
    }

    #[test]
    fn red_tests_are_a_reason() {
        let mut red = outcome(Vec::new());
        red.tests = Some(Tests {
            passed: false,
            said: "FAILED (errors=1)".into(),
        });
        assert!(red.reasons()[0].contains("FAILED (errors=1)"));
    }
}
