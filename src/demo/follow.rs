//! Progress lines: what changes, when, until nothing is under way any more.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::api::wire::{Installation, View};
use crate::cli::client::{CallError, Client, Watch};
use crate::cli::output::Output;
use crate::cli::progress::{Standing, standing};
use crate::cli::start::{AWAY, PAUSE};
use crate::cli::{Report, args::Until, show};
use crate::core::TaskId;
use crate::core::task::{Task, TaskState};

/// Without any change for so long something hangs; a task of the demo takes seconds.
const STUCK: Duration = Duration::from_secs(300);

/// What is told while the demo runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Every change.
    Shown,
    /// Nothing: one document follows at the end.
    Hidden,
}

/// Follows tasks; a server that is replaced meanwhile is waited for.
pub(super) struct Follow<'a> {
    client: &'a Client,
    out: &'a mut Output,
    lines: Lines,
    started: Instant,
    changed: Instant,
    seen: BTreeMap<TaskId, (TaskState, Option<String>)>,
    installation: Installation,
    server: Option<u32>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(client: &'a Client, out: &'a mut Output, lines: Lines) -> Self {
        Self {
            client,
            out,
            lines,
            started: Instant::now(),
            changed: Instant::now(),
            seen: BTreeMap::new(),
            installation: Installation::Unknown,
            server: None,
        }
    }

    /// Returns when no task is under way; why some still are, if nothing moves any more.
    pub(super) async fn until_settled(
        mut self,
        tasks: &[TaskId],
    ) -> Result<Option<String>, Report> {
        let mut stream: Option<Watch> = None;
        loop {
            let left = STUCK.saturating_sub(self.changed.elapsed());
            let Ok(view) = timeout(left, self.next(&mut stream)).await else {
                let why = format!("nothing has changed for {}", show::age(STUCK));
                return Ok(Some(why));
            };
            let view = view?;
            self.squad(&view);
            if let Installation::Failed { why } = &view.installation {
                return Ok(Some(format!("Aider cannot be used: {why}")));
            }
            let mut open = 0;
            for id in tasks {
                // A blocked task moves only after another one.
                let (standing, state) = self.task(&view, *id).await?;
                if standing == Standing::UnderWay && state != TaskState::Blocked {
                    open += 1;
                }
            }
            if open == 0 {
                return Ok(None);
            }
        }
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

    fn squad(&mut self, view: &View) {
        if self
            .server
            .replace(view.pid)
            .is_some_and(|pid| pid != view.pid)
        {
            self.line("server", &format!("a new one runs (process {})", view.pid));
        }
        if self.installation == view.installation {
            return;
        }
        self.installation.clone_from(&view.installation);
        let text = match &view.installation {
            Installation::Unknown => return,
            Installation::Installing { message } => format!("being installed: {message}"),
            Installation::Ready { version } => format!("{version} is ready"),
            Installation::Failed { why } => format!("cannot be used: {why}"),
        };
        self.line("Aider", &text);
    }

    async fn task(&mut self, view: &View, id: TaskId) -> Result<(Standing, TaskState), Report> {
        let fetched;
        let task = if let Some(task) = view.task(id) {
            task.as_ref()
        } else {
            fetched = self.client.get::<Task>(&format!("/v1/tasks/{id}")).await?;
            &fetched
        };
        let now = (task.state, task.why.clone());
        if self.seen.get(&id) != Some(&now) {
            self.seen.insert(id, now);
            let waiting = view.waiting.get(&id).cloned();
            let text = format!("{:<18} {}", task.spec.title(), detail(task, waiting));
            self.line(task.state_label(), text.trim_end());
        }
        Ok((standing(task, Until::Merged), task.state))
    }

    fn line(&mut self, what: &str, text: &str) {
        self.changed = Instant::now();
        if self.lines == Lines::Hidden {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let at = show::moment(show::now());
        self.out
            .line(&format!("{at} {seconds:6.1}s  {what:<9}  {text}"));
    }
}

/// What is worth knowing of a task in its state.
fn detail(task: &Task, waiting: Option<String>) -> String {
    let agent = task.attempt().map_or_else(String::new, |attempt| {
        format!("agent {:<2} {}", attempt.slot.to_string(), attempt.model)
    });
    let verified = task
        .verify
        .as_ref()
        .map_or("", |report| report.outcome.as_str());
    match task.state {
        TaskState::Assigned | TaskState::Running => agent,
        TaskState::Verifying => task.spec.verify.clone().unwrap_or_default(),
        TaskState::Merged | TaskState::Review | TaskState::Merging => {
            task.why.clone().unwrap_or_else(|| verified.to_owned())
        }
        TaskState::Blocked
        | TaskState::Queued
        | TaskState::Discarded
        | TaskState::Failed
        | TaskState::Dead
        | TaskState::Cancelled
        | TaskState::Expired => task.why.clone().or(waiting).unwrap_or_default(),
    }
}
