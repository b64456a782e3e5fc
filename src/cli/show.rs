//! Tasks, agents, models and events in words and tables.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::output::{Output, bytes};
use crate::api::wire::{AgentView, Event, SquadEvent, TaskEvent, What};
use crate::core::pool::{Forking, PoolReport};
use crate::core::quota::Usage;
use crate::core::router::Routing;
use crate::core::task::{Task, TaskSpec};
use crate::core::verify::VerifyReport;
use crate::core::{TaskId, Timestamp};

/// This moment.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// `42s`, `3m`, `2h 5m`, `4d`.
pub fn age(since: Duration) -> String {
    let seconds = since.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `14:03:22`, in local time; the date too when it is not today's.
pub fn moment(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    let local = |at: Timestamp| {
        let millis = i64::try_from(at.0).ok()?;
        let stamp = jiff::Timestamp::from_millisecond(millis).ok()?;
        Some(stamp.to_zoned(zone.clone()))
    };
    match (local(at), local(now())) {
        (Some(then), Some(today)) if then.date() == today.date() => {
            then.strftime("%H:%M:%S").to_string()
        }
        (Some(then), _) => then.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        (None, _) => "?".into(),
    }
}

pub(super) fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// The rows of a list of tasks.
///
/// `waiting` says why a queued task is not assigned.
pub(super) fn tasks(tasks: &[Task], waiting: &BTreeMap<TaskId, String>) -> Vec<Vec<String>> {
    let now = now();
    let mut rows = vec![words(&["TASK", "STATE", "AGE", "MODEL", "TITLE", "WHY"])];
    rows.extend(tasks.iter().map(|task| {
        vec![
            task.id.to_string(),
            task.state.to_string(),
            age(now.since(task.created)),
            model_of(task),
            task.spec.title(),
            task.why
                .as_ref()
                .or_else(|| waiting.get(&task.id))
                .cloned()
                .unwrap_or_default(),
        ]
    }));
    rows
}

fn model_of(task: &Task) -> String {
    match (task.attempts.last(), &task.spec.model) {
        (Some(attempt), _) => attempt.model.clone(),
        (None, Some(model)) => model.clone(),
        (None, None) => "auto".into(),
    }
}

fn verification(report: &VerifyReport) -> String {
    match report.command.as_str() {
        "" => report.outcome.as_str().to_owned(),
        command => format!("{} ({command})", report.outcome.as_str()),
    }
}

/// All that is known of a task.
pub(super) fn task(out: &mut Output, task: &Task) {
    out.line(&format!(
        "task {} · {} · {}",
        task.id,
        task.state_label(),
        task.spec.title()
    ));
    out.table(&facts(task));
    for attempt in &task.attempts {
        let ended = match (&attempt.failure, attempt.settled) {
            (Some(failure), _) => failure.clone(),
            (None, Some(_)) => "settled".into(),
            (None, None) => "under way".into(),
        };
        let usage = attempt.usage.as_ref().map(|usage| {
            let seconds = usage.cpu_ms as f64 / 1000.0;
            let peak = bytes(usage.peak_kib << 10);
            format!(
                " · {} after {seconds:.1} s of processor, at most {peak}",
                usage.exit
            )
        });
        out.line(&format!(
            "  attempt {} · {} · agent {} · {} · {ended}{}",
            attempt.number,
            moment(attempt.started),
            attempt.slot,
            attempt.model,
            usage.unwrap_or_default()
        ));
        for line in attempt.routing.iter().flat_map(|it| routing(it)) {
            out.line(&line);
        }
    }
    for (name, text) in [
        ("asked", task.spec.asked.as_ref()),
        ("prompt", Some(&task.spec.prompt)),
        ("answer", task.answer.as_ref()),
    ] {
        if let Some(text) = text {
            out.line(&format!("\n{name}:\n{text}"));
        }
    }
}

/// What is known of a task, one row each; what is not known has none.
fn facts(task: &Task) -> Vec<Vec<String>> {
    let spec = &task.spec;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            rows.push(vec![format!("  {name}"), value]);
        }
    };
    row("why", task.why.clone());
    row("lease", lease(task));
    row("repository", Some(spec.repo.display().to_string()));
    row("template", spec.template.clone());
    row("mode", Some(spec.mode.as_str().into()));
    row("category", Some(category(spec)));
    row("priority", Some(spec.priority.as_str().into()));
    row("tags", Some(spec.tags.join(", ")));
    let after: Vec<_> = spec.after.iter().map(ToString::to_string).collect();
    row("after", Some(after.join(", ")));
    row("model", Some(model_of(task)));
    row("target", Some(spec.target.clone()));
    row("submitted", Some(moment(task.created)));
    row("changed", Some(moment(task.updated)));
    row(
        "worktree",
        task.workplace
            .as_ref()
            .map(|place| place.dir.display().to_string()),
    );
    row(
        "branch",
        task.workplace.as_ref().map(|place| place.branch.clone()),
    );
    row(
        "commits",
        (task.commits > 0).then(|| task.commits.to_string()),
    );
    row("verify", task.verify.as_ref().map(verification));
    row("merged as", task.merged.clone());
    row(
        "tokens",
        (task.tokens.requests > 0).then(|| {
            let tokens = task.tokens;
            format!(
                "{} sent, {} received, {} requests",
                tokens.sent, tokens.received, tokens.requests
            )
        }),
    );
    rows
}

/// `testing`, and where a rule said so, which.
fn category(spec: &TaskSpec) -> String {
    let word = spec.category.as_str();
    match &spec.category_because {
        Some(because) => format!("{word} ({because})"),
        None => word.to_owned(),
    }
}

/// Why an attempt got its model, one line each: the choice, what else there was, what could not be.
fn routing(routing: &Routing) -> Vec<String> {
    let mut lines = vec![format!("    {}: {}", routing.reason(), routing.chosen)];
    if let Some(format) = &routing.edit_format {
        lines.push(format!("    edits: {format}"));
    }
    lines.extend(
        routing
            .others
            .iter()
            .map(|it| format!("    rather than {it}")),
    );
    let rejected = routing.rejected.iter();
    lines.extend(rejected.map(|it| format!("    not {} on {}: {}", it.model, it.endpoint, it.why)));
    if routing.rejected_more > 0 {
        lines.push(format!(
            "    and {} more could not be used",
            routing.rejected_more
        ));
    }
    lines
}

/// Who holds the task now: the attempt is the fencing token of everything done for it.
fn lease(task: &Task) -> Option<String> {
    let slot = task.slot()?;
    let attempt = task.attempt()?;
    Some(format!(
        "attempt {}, agent {slot}, since {} ({})",
        attempt.number,
        moment(attempt.started),
        age(now().since(attempt.started))
    ))
}

/// The rows of a list of agents.
pub(super) fn agents(agents: &[AgentView]) -> Vec<Vec<String>> {
    let now = now();
    let mut rows = vec![words(&[
        "AGENT", "STATE", "HEALTH", "SINCE", "MODEL", "TASK", "WHY",
    ])];
    rows.extend(agents.iter().map(|agent| {
        let held = agent.task.map(|_| agent.report.health.word());
        vec![
            agent.slot.to_string(),
            agent.report.state.to_string(),
            held.unwrap_or_default().to_owned(),
            agent
                .since
                .map(|since| age(now.since(since)))
                .unwrap_or_default(),
            agent.model.clone(),
            agent
                .task
                .map(|task| format!("{task} {}", agent.title))
                .unwrap_or_default(),
            why(agent),
        ]
    }));
    rows
}

/// What an agent waits for or does.
pub(super) fn why(agent: &AgentView) -> String {
    if let Some(question) = &agent.report.question {
        return format!("asks: {}", question.text);
    }
    if agent.task.is_some() {
        let why = agent.report.why.to_string();
        return match agent.report.health.why() {
            Some(ill) => format!("{why}; {ill}"),
            None => why,
        };
    }
    agent.report.note.clone().unwrap_or_default()
}

/// `312.0 MiB, 12 s of processor time, 3 processes`
pub(super) fn usage(usage: Usage) -> String {
    let seconds = usage.cpu_ms / 1000;
    let processes = usize::try_from(usage.processes).unwrap_or(usize::MAX);
    let processes = match processes {
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    };
    let disk = usage
        .disk
        .map(|disk| format!(", {} in its worktree", bytes(disk)));
    format!(
        "{}, {seconds} s of processor time, {processes}{}",
        bytes(usage.memory),
        disk.unwrap_or_default()
    )
}

/// One line of a task's history.
pub(super) fn event(event: &Event) -> String {
    let text = match &event.what {
        What::Task { task, event } => {
            let detail = detail(event);
            let gap = if detail.is_empty() { "" } else { ": " };
            format!("task {task} {}{gap}{detail}", event.name())
        }
        What::Squad { event } => squad_event(event),
    };
    let by = match event.by.name.as_str() {
        "" => word(event.by.kind),
        name => name.to_owned(),
    };
    format!("{}  {text}  ({by})", moment(event.at))
}

/// The treatments among the events of a task, one line each.
pub(super) fn treatments(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match &event.what {
        What::Task {
            event: TaskEvent::Treated { what, why },
            ..
        } => Some(format!("{}  {}: {why}", moment(event.at), what.as_str())),
        What::Task { .. } | What::Squad { .. } => None,
    };
    events.iter().filter_map(line).collect()
}

/// A word of the protocol as it is written there.
fn word(value: impl serde::Serialize) -> String {
    let written = serde_json::to_value(value).unwrap_or_default();
    written.as_str().unwrap_or("unknown").to_owned()
}

/// How agents come to their tasks.
pub(super) fn pool(pool: &PoolReport) -> String {
    let forking = match &pool.forking {
        Forking::Off => "agents are started one by one".to_owned(),
        Forking::Starting => "the zygote imports Aider".to_owned(),
        Forking::On { pid, .. } => format!("agents are forked from process {pid}"),
        Forking::Failed { why } => format!("agents start cold: {why}"),
    };
    let ready = pool.spares.iter().filter(|spare| spare.is_ready).count();
    let hits = pool.hit_rate().map(|rate| {
        let percent = rate * 100.0;
        format!(
            " · {percent:.0} % of {} tasks found one",
            pool.hits + pool.misses
        )
    });
    let enforced = match pool.enforced.as_slice() {
        [] => String::new(),
        names => format!(" · the kernel enforces quotas ({})", names.join(", ")),
    };
    format!(
        "{forking} · {ready} ready ahead{}{enforced}",
        hits.unwrap_or_default()
    )
}

fn squad_event(event: &SquadEvent) -> String {
    match event {
        SquadEvent::ServerStarted { epoch, adopted } => {
            format!("server started, epoch {epoch}: {adopted}")
        }
        SquadEvent::Paused => "queue paused".into(),
        SquadEvent::Resumed => "queue resumed".into(),
        SquadEvent::CatalogueChanged { what } => format!("models: {what}"),
        SquadEvent::ForkingFailed { why } => format!("agents start cold: {why}"),
        SquadEvent::LimitChanged { before, limit, why } => {
            format!("{limit} agents may work instead of {before}: {why}")
        }
        SquadEvent::SleepNotInhibited { why } => format!("the machine may fall asleep: {why}"),
        SquadEvent::ForkingResumed => "agents are forked again".into(),
        SquadEvent::KeeperLost { what } => format!("keeper replaced: {what}"),
        SquadEvent::Warned { why } => format!("squad near a quota: {why}"),
        SquadEvent::HeldBack { why } => format!("nothing new is begun: {why}"),
        SquadEvent::RoomAgain => "the disk has room again".into(),
        SquadEvent::Cleaned { what } => format!("cleaned: {what}"),
        SquadEvent::Jumped { jump } => SquadEvent::jumped(*jump),
        SquadEvent::Unknown => "something that only a later version knows".into(),
    }
}

fn detail(event: &TaskEvent) -> String {
    match event {
        TaskEvent::Assigned {
            slot,
            model,
            endpoint,
            reason,
            ..
        } => {
            format!("agent {slot}, {model} on {endpoint} ({reason})")
        }
        TaskEvent::Prepared { workplace, .. } => workplace.dir.display().to_string(),
        TaskEvent::Held { why, .. }
        | TaskEvent::Treated { why, .. }
        | TaskEvent::AttemptFailed { why, .. }
        | TaskEvent::MergeRefused { why }
        | TaskEvent::ArchiveFailed { why } => why.clone(),
        TaskEvent::AgentLost { why, kept } => format!("{why} ({kept})"),
        TaskEvent::Settled { commits, .. } => {
            super::config::counted(usize::try_from(*commits).unwrap_or(usize::MAX), "commit")
        }
        TaskEvent::Verified { report } => report.outcome.as_str().into(),
        TaskEvent::Merged { commit } => commit.clone().unwrap_or_default(),
        TaskEvent::Revised { comment } => comment.clone(),
        TaskEvent::QuestionAsked { text } => text.clone(),
        TaskEvent::QuestionAnswered { text, answer } => format!("{text} → {answer}"),
        TaskEvent::AgentEnded {
            how,
            cpu_ms,
            peak_kib,
            ..
        } => {
            let seconds = *cpu_ms as f64 / 1000.0;
            let peak = bytes(peak_kib << 10);
            format!("the agent {how}, {seconds:.1} s of processor, at most {peak}")
        }
        TaskEvent::Malformed { count } => format!("{count} answers could not be applied"),
        TaskEvent::Used { tokens } => format!("{} + {} tokens", tokens.sent, tokens.received),
        TaskEvent::Postponed { by_ms } => format!("deadlines moved by {} s", by_ms / 1_000),
        TaskEvent::Unknown
        | TaskEvent::Submitted
        | TaskEvent::Unblocked
        | TaskEvent::Delivered
        | TaskEvent::Requeued
        | TaskEvent::MergeStarted
        | TaskEvent::Discarded
        | TaskEvent::Restored { .. }
        | TaskEvent::Cancelled
        | TaskEvent::Retried
        | TaskEvent::Expired
        | TaskEvent::Archived
        | TaskEvent::Seen => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let age = |seconds| age(Duration::from_secs(seconds));
        assert_eq!((age(5).as_str(), age(61).as_str()), ("5s", "1m"));
        assert_eq!(
            (age(7_500).as_str(), age(200_000).as_str()),
            ("2h 5m", "2d")
        );
    }
}
