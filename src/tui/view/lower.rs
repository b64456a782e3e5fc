//! The lower tabs: what waits, endpoints and models, what happened last.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::layout::inner;
use super::super::model::{Model, Tab};
use super::super::text::{clock, cut, plain_lines};
use super::super::theme::Role;
use super::{parts, runners, task};
use crate::core::event::{Event, SquadEvent, TaskEvent, What};
use crate::core::task::{Task, TaskState};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    heading(frame, area, model);
    let area = inner(area);
    let lines = match model.tab {
        Tab::Queue => queue(model),
        Tab::Models => runners::lines(model),
        Tab::Events => events(model, usize::from(area.height)),
    };
    let width = usize::from(area.width);
    let theme = &model.theme;
    let lines = lines
        .into_iter()
        .map(|(text, role)| {
            let text = cut(
                &theme.text(&plain_lines(&text).join(" ")),
                width,
                theme.ellipsis(),
            );
            Line::from(Span::styled(text, theme.style(role)))
        })
        .collect();
    parts::lines(frame, area, lines, 0);
}

fn heading(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = &model.theme;
    let rule = theme.border().horizontal_top;
    let mut spans = vec![Span::styled(rule, theme.style(Role::Faint))];
    let mut used = 1;
    for tab in Tab::ALL {
        let role = if tab == model.tab {
            Role::Selected
        } else {
            Role::Faint
        };
        let text = format!(" {} ", tab.title());
        used += text.width();
        spans.push(Span::styled(text, theme.style(role)));
    }
    let left = usize::from(area.width).saturating_sub(used);
    spans.push(Span::styled(rule.repeat(left), theme.style(Role::Faint)));
    frame.render_widget(Line::from(spans), Rect { height: 1, ..area });
}

fn queue(model: &Model) -> Vec<(String, Role)> {
    let mut waiting: Vec<&Task> = model
        .view
        .tasks
        .iter()
        .map(AsRef::as_ref)
        .filter(|task| {
            matches!(
                task.state,
                TaskState::Blocked | TaskState::Queued | TaskState::Failed
            )
        })
        .collect();
    waiting.sort_by_key(|task| {
        (
            task.state == TaskState::Blocked,
            task.spec.priority,
            task.id,
        )
    });
    if waiting.is_empty() {
        return vec![(
            "nothing waits for an agent; n writes a task".into(),
            Role::Faint,
        )];
    }
    waiting
        .into_iter()
        .map(|task| {
            let why = task::reason(model, task).map_or_else(String::new, |why| format!(": {why}"));
            let text = format!(
                "t{:<4} {:<10} {:<8} {}{why}",
                task.id.to_string(),
                task.spec.priority.as_str(),
                task.state.as_str(),
                task.spec.title()
            );
            let role = if task.state == TaskState::Failed {
                Role::Attention
            } else {
                Role::Text
            };
            (text, role)
        })
        .collect()
}

/// The newest first.
fn events(model: &Model, height: usize) -> Vec<(String, Role)> {
    if model.view.events.is_empty() {
        return vec![(
            "nothing has happened yet; n writes a task".into(),
            Role::Faint,
        )];
    }
    model
        .view
        .events
        .iter()
        .rev()
        .take(height)
        .map(|event| {
            let ago = clock(model.now.since(event.at));
            (format!("{ago:>6} ago  {}", words(event)), Role::Text)
        })
        .collect()
}

fn words(event: &Event) -> String {
    match &event.what {
        What::Task {
            task,
            event: TaskEvent::Treated { what, why },
        } => format!("task {task} {}: {why}", what.as_str()),
        What::Task {
            task,
            event: TaskEvent::AgentLost { why, kept },
        } => format!("task {task} interrupted: {why} ({kept})"),
        What::Task { task, event } => format!("task {task} {}", event.name()),
        What::Squad { event } => match event {
            SquadEvent::ServerStarted { epoch, adopted } => {
                format!("server {epoch} started: {adopted}")
            }
            SquadEvent::Paused => "the queue was paused".into(),
            SquadEvent::Resumed => "the queue goes on".into(),
            SquadEvent::ForkingFailed { why } => format!("agents start cold: {why}"),
            SquadEvent::LimitChanged { before, limit, why } => {
                format!("{limit} agents may work instead of {before}: {why}")
            }
            SquadEvent::SleepNotInhibited { why } => format!("the machine may fall asleep: {why}"),
            SquadEvent::ForkingResumed => "agents are forked again".into(),
            SquadEvent::CatalogueChanged { what } | SquadEvent::KeeperLost { what } => what.clone(),
            SquadEvent::Warned { why } => format!("the squad is {why}"),
            SquadEvent::HeldBack { why } => format!("nothing new is begun: {why}"),
            SquadEvent::RoomAgain => "the disk has room again".into(),
            SquadEvent::Cleaned { what } => format!("cleaned: {what}"),
            SquadEvent::Jumped { jump } => SquadEvent::jumped(*jump),
            SquadEvent::Unknown => "something that only a later version knows".into(),
        },
    }
}
