//! A task that no agent holds: what was asked, how it went, what to do next.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::layout::inner;
use super::super::model::Model;
use super::super::text::wrap;
use super::super::theme::Role;
use super::parts;
use crate::core::task::{Task, TaskState};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(task) = model.task().filter(|_| !area.is_empty()) else {
        return;
    };
    let title = format!(
        "task {}{}{}",
        task.id,
        model.theme.separator(),
        task.state_label()
    );
    parts::heading(frame, area, model, &title, Role::Title);
    let area = inner(area);
    parts::lines(frame, area, lines(model, task, usize::from(area.width)), 0);
}

fn lines<'a>(model: &Model, task: &Task, width: usize) -> Vec<Line<'a>> {
    let theme = &model.theme;
    let styled = |text: &str, role| {
        wrap(text, width)
            .into_iter()
            .map(|line| Line::from(Span::styled(theme.text(&line), theme.style(role))))
            .collect::<Vec<_>>()
    };
    let mut lines = styled(next_step(task), Role::Key);
    if let Some(why) = reason(model, task) {
        lines.extend(styled(&why, Role::Attention));
    }
    lines.extend(
        facts(task)
            .iter()
            .flat_map(|fact| styled(fact, Role::Faint)),
    );
    lines.push(Line::default());
    let prompt = wrap(&task.spec.prompt, width);
    let cut_off = prompt.len() > 12;
    lines.extend(
        prompt
            .into_iter()
            .take(12)
            .map(|line| Line::from(theme.text(&line))),
    );
    if cut_off {
        lines.push(Line::from(theme.ellipsis().to_string()));
    }
    if let Some(answer) = &task.answer {
        lines.push(Line::default());
        lines.extend(styled(answer, Role::Good));
    }
    if let Some(run) = task.verify.as_ref().and_then(|report| report.run.as_ref())
        && !run.tail.trim().is_empty()
    {
        lines.push(Line::default());
        let role = if run.is_green() {
            Role::Faint
        } else {
            Role::Removed
        };
        lines.extend(styled(run.tail.trim_end(), role));
    }
    lines
}

/// What can be done now.
fn next_step(task: &Task) -> &'static str {
    match task.state {
        TaskState::Review => "d diff  m merge  c send back  D discard",
        TaskState::Discarded | TaskState::Cancelled => "u restore",
        TaskState::Dead => "r retry  u restore",
        TaskState::Expired => "r retry",
        TaskState::Merged => "done",
        TaskState::Blocked
        | TaskState::Queued
        | TaskState::Assigned
        | TaskState::Running
        | TaskState::Verifying
        | TaskState::Merging
        | TaskState::Failed => "x stop",
    }
}

/// Why it stands where it stands.
pub(super) fn reason(model: &Model, task: &Task) -> Option<String> {
    let failure = || task.attempt().and_then(|attempt| attempt.failure.clone());
    task.why
        .clone()
        .or_else(|| model.view.waiting.get(&task.id).cloned())
        .or_else(failure)
}

fn facts(task: &Task) -> Vec<String> {
    let mut facts = Vec::new();
    let mut asked = vec![
        task.spec.mode.as_str().to_owned(),
        task.spec.category.as_str().to_owned(),
        format!("{} priority", task.spec.priority.as_str()),
    ];
    if !task.spec.target.is_empty() {
        asked.push(format!("for {}", task.spec.target));
    }
    facts.push(asked.join(", "));
    if let Some(attempt) = task.attempt() {
        let commits = match task.commits {
            1 => "1 commit".to_owned(),
            count => format!("{count} commits"),
        };
        facts.push(format!(
            "attempt {} with {} on {}: {commits}",
            attempt.number, attempt.model, attempt.endpoint
        ));
    }
    if let Some(routing) = task.attempt().and_then(|attempt| attempt.routing.as_ref()) {
        facts.push(routing.summary());
    }
    if let Some(report) = &task.verify {
        let outcome = report.outcome.as_str();
        facts.push(if report.command.is_empty() {
            outcome.to_owned()
        } else {
            format!("verified with '{}': {outcome}", report.command)
        });
    }
    if let Some(commit) = &task.merged {
        let short: String = commit.chars().take(12).collect();
        facts.push(format!("merged as {short}"));
    }
    facts
}
