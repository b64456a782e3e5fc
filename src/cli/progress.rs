//! Following tasks until each has reached its goal or cannot: `run` and `task wait`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::args::{Run, TaskWait, Until};
use super::client::{CallError, Client, Watch, block_on};
use super::config::counted;
use super::context::Context;
use super::dispatch::Exit;
use super::output::Output;
use super::report::Report;
use super::start::{AWAY, PAUSE, ensure, submit};
use super::{show, submission};
use crate::api::wire::{Command, View};
use crate::core::TaskId;
use crate::core::task::{Autonomy, Task, TaskState};
use crate::core::verify::VerifyOutcome;

/// Without a limit of its own a wait may last this long.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Where a task stands on its way to the goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not there yet.
    UnderWay,
    /// It waits for somebody to merge it.
    Mergeable,
    /// It is there.
    Reached,
    /// It will not get there by itself.
    Missed(String),
}

/// Where `task` stands on its way to `until`.
pub fn standing(task: &Task, until: Until) -> Standing {
    let outcome = task
        .verify
        .as_ref()
        .map_or(VerifyOutcome::NotVerified, |v| v.outcome);
    let is_red = !outcome.is_success() && outcome != VerifyOutcome::NotVerified;
    let merges_itself = outcome.is_success() && task.spec.autonomy == Autonomy::Merge;
    match task.state {
        TaskState::Merged => Standing::Reached,
        TaskState::Dead | TaskState::Discarded | TaskState::Cancelled | TaskState::Expired => {
            let why = task.why.clone();
            Standing::Missed(why.unwrap_or_else(|| task.state.to_string()))
        }
        TaskState::Review if is_red => {
            Standing::Missed(format!("verification: {}", outcome.as_str()))
        }
        TaskState::Review => match until {
            Until::Review => Standing::Reached,
            // It came back from a merge that was refused.
            Until::Merged if merges_itself => match task.why.clone() {
                Some(why) => Standing::Missed(why),
                None => Standing::UnderWay,
            },
            Until::Merged => Standing::Mergeable,
        },
        TaskState::Blocked
        | TaskState::Queued
        | TaskState::Assigned
        | TaskState::Running
        | TaskState::Verifying
        | TaskState::Merging
        | TaskState::Failed => Standing::UnderWay,
    }
}

/// Who merges a task that waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merging {
    /// `run --until merged` was asked to.
    Ourselves,
    /// `task wait` only looks.
    SomebodyElse,
}

pub(super) fn run(context: &mut Context, options: &Run) -> Result<Exit, Report> {
    let tasks = submission::tasks(context, options.file.as_deref(), &options.task)?;
    let places = context.places()?;
    let global = context.global.clone();
    let out = &mut context.out;
    block_on(async {
        let client = ensure(&places, &global).await?;
        let numbers = submit(&client, tasks).await?;
        let follow = Follow {
            client,
            until: options.until,
            json: options.json,
            merging: Merging::Ourselves,
            seen: BTreeMap::new(),
            missed: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        follow
            .all(out, numbers, options.timeout.unwrap_or(FOREVER))
            .await
    })
}

pub(super) fn wait(context: &mut Context, options: &TaskWait) -> Result<Exit, Report> {
    let client = super::task::client(context)?;
    let out = &mut context.out;
    block_on(async {
        let numbers = if options.tasks.is_empty() {
            unfinished(&client).await?
        } else {
            options.tasks.iter().copied().map(TaskId).collect()
        };
        let follow = Follow {
            client,
            until: options.until,
            json: options.json,
            merging: Merging::SomebodyElse,
            seen: BTreeMap::new(),
            missed: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        follow
            .all(out, numbers, options.timeout.unwrap_or(FOREVER))
            .await
    })
}

async fn unfinished(client: &Client) -> Result<Vec<TaskId>, Report> {
    let view = client.view().await?;
    let open = view.tasks.iter().filter(|task| !task.state.is_final());
    Ok(open.map(|task| task.id).collect())
}

struct Follow {
    client: Client,
    until: Until,
    json: bool,
    merging: Merging,
    /// The last state of each task that was printed.
    seen: BTreeMap<TaskId, (TaskState, Option<String>)>,
    missed: BTreeMap<TaskId, String>,
    /// Tasks whose merge was asked for.
    asked: BTreeSet<TaskId>,
}

impl Follow {
    /// Follows the tasks to the end; a server that restarts meanwhile is waited for.
    async fn all(
        mut self,
        out: &mut Output,
        tasks: Vec<TaskId>,
        limit: Duration,
    ) -> Result<Exit, Report> {
        let started = Instant::now();
        let deadline = started + limit;
        let mut open: BTreeSet<TaskId> = tasks.iter().copied().collect();
        let mut stream: Option<Watch> = None;
        while !open.is_empty() {
            let next = self.next(&mut stream);
            let Ok(view) = timeout_at(deadline, next).await else {
                let count = counted(open.len(), "task");
                return Err(Report::user(format!("not done in time: {count}"))
                    .hint("they go on: 'warpsquad task list' shows them"));
            };
            let view = view?;
            for id in open.clone() {
                if self.look(out, &view, id).await? {
                    open.remove(&id);
                }
            }
            if out.is_closed() {
                return Ok(Exit::Done);
            }
        }
        self.summary(out, &tasks, started.elapsed());
        Ok(if self.missed.is_empty() {
            Exit::Done
        } else {
            Exit::TaskFailed
        })
    }

    async fn next(&self, stream: &mut Option<Watch>) -> Result<View, CallError> {
        let deadline = Instant::now() + AWAY;
        loop {
            let view = match stream.as_mut() {
                Some(open) => open.next().await,
                None => match self.client.watch().await {
                    Ok(open) => stream.insert(open).next().await,
                    Err(error) => Err(error),
                },
            };
            match view {
                Err(error) if error.is_passing() && Instant::now() < deadline => {
                    *stream = None;
                    sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    /// Looks at one task; true when nothing more is to be waited for.
    async fn look(&mut self, out: &mut Output, view: &View, id: TaskId) -> Result<bool, Report> {
        let fetched;
        let task = if let Some(task) = view.task(id) {
            task.as_ref()
        } else {
            fetched = self.client.get::<Task>(&format!("/v1/tasks/{id}")).await?;
            &fetched
        };
        let waiting = view.waiting.get(&id).cloned();
        self.print(out, task, waiting);
        match standing(task, self.until) {
            Standing::UnderWay => Ok(false),
            Standing::Reached => Ok(true),
            Standing::Missed(why) => {
                self.missed.insert(id, why);
                Ok(true)
            }
            Standing::Mergeable => self.merge(task).await,
        }
    }

    /// Asks for the merge once; true when it was refused.
    async fn merge(&mut self, task: &Task) -> Result<bool, Report> {
        if self.merging == Merging::SomebodyElse {
            return Ok(false);
        }
        let id = task.id;
        if !self.asked.insert(id) {
            // Asked before, and back in review: it was refused while nobody listened.
            let Some(why) = task.why.clone() else {
                return Ok(false);
            };
            self.missed.insert(id, why);
            return Ok(true);
        }
        let command = Command::Merge {
            task: id,
            strategy: None,
        };
        match self.client.command(command).await {
            Ok(_) => Ok(false),
            Err(CallError::Refused(refusal)) => {
                self.missed.insert(id, refusal.message);
                Ok(true)
            }
            Err(error) if error.is_passing() => {
                self.asked.remove(&id);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn print(&mut self, out: &mut Output, task: &Task, waiting: Option<String>) {
        let why = task.why.clone().or(waiting);
        let now = (task.state, why.clone());
        if self.seen.get(&task.id) == Some(&now) {
            return;
        }
        self.seen.insert(task.id, now);
        if self.json {
            out.json_line(&json!({
                "event": "task",
                "task": task.id,
                "state": task.state,
                "why": why,
                "title": task.spec.title(),
                "model": task.attempts.last().map(|attempt| &attempt.model),
                "agent": task.attempts.last().map(|attempt| attempt.slot),
            }));
            return;
        }
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let title = task.spec.title();
        out.line(&format!(
            "{}  task {} {}{why}  {title}",
            show::moment(task.updated),
            task.id,
            task.state
        ));
    }

    fn summary(&self, out: &mut Output, tasks: &[TaskId], elapsed: Duration) {
        let reached = tasks
            .iter()
            .filter(|id| !self.missed.contains_key(id))
            .count();
        if self.json {
            let missed: BTreeMap<_, _> = self
                .missed
                .iter()
                .map(|(id, why)| (id.to_string(), why))
                .collect();
            out.json_line(&json!({
                "event": "end",
                "tasks": tasks.len(),
                "reached": reached,
                "missed": missed,
                "seconds": elapsed.as_secs_f64(),
            }));
            return;
        }
        for (id, why) in &self.missed {
            out.line(&format!("task {id} did not reach its goal: {why}"));
        }
        let goal = match self.until {
            Until::Review => "ready for review",
            Until::Merged => "merged",
        };
        let time = show::age(elapsed);
        out.line(&format!(
            "{reached} of {} tasks {goal} after {time}",
            tasks.len()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::core::task::{Blocked, TaskSpec};
    use crate::core::verify::VerifyReport;

    fn task(state: TaskState, outcome: Option<VerifyOutcome>, autonomy: Autonomy) -> Task {
        let spec = TaskSpec {
            autonomy,
            ..TaskSpec::default()
        };
        let mut task = Task::new(TaskId(1), spec, Blocked::No, Timestamp(0));
        task.state = state;
        task.verify = outcome.map(|outcome| VerifyReport {
            command: "t".into(),
            outcome,
            baseline: None,
            run: None,
            log: None,
        });
        task
    }

    #[test]
    fn a_review_is_the_goal_only_when_nothing_is_red() {
        let at =
            |outcome, until| standing(&task(TaskState::Review, outcome, Autonomy::Review), until);
        assert_eq!(at(None, Until::Review), Standing::Reached);
        assert_eq!(
            at(Some(VerifyOutcome::Passed), Until::Review),
            Standing::Reached
        );
        assert_eq!(
            at(Some(VerifyOutcome::Passed), Until::Merged),
            Standing::Mergeable
        );
        let red = at(Some(VerifyOutcome::Failed), Until::Review);
        assert!(matches!(red, Standing::Missed(_)));
        let unclear = at(Some(VerifyOutcome::Unclear), Until::Merged);
        assert!(matches!(unclear, Standing::Missed(_)));
    }

    #[test]
    fn a_task_that_merges_itself_is_left_to_do_so() {
        let own = task(
            TaskState::Review,
            Some(VerifyOutcome::Passed),
            Autonomy::Merge,
        );
        assert_eq!(standing(&own, Until::Merged), Standing::UnderWay);
        let unverified = task(TaskState::Review, None, Autonomy::Merge);
        assert_eq!(standing(&unverified, Until::Merged), Standing::Mergeable);
    }

    #[test]
    fn every_bad_end_is_an_end() {
        for state in TaskState::ALL {
            let found = standing(&task(state, None, Autonomy::Review), Until::Merged);
            let bad = state.is_final() && state != TaskState::Merged;
            assert_eq!(matches!(found, Standing::Missed(_)), bad, "{state}");
        }
    }
}
