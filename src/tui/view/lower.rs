//! The lower tabs: what waits, endpoints and models, what happened last.
//!
//! What does not fit is never gone without a mark: the last line says how much more there is, and
//! the tab can be scrolled.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::keymap::{Action, Layer, key_of};
use super::super::layout::{areas, inner};
use super::super::model::{Model, Tab};
use super::super::text::{clock, cut, plain_lines};
use super::super::theme::Role;
use super::{parts, runners, task};
use crate::core::event::{Event, SquadEvent, TaskEvent, What};
use crate::core::task::{Task, TaskState};

/// Lines below those that stay on top, at least: in a small window they are worth more.
const BODY_LEAST: usize = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    heading(frame, area, model);
    let area = inner(area);
    let height = usize::from(area.height);
    let mut lines = head(model, height);
    let height = height - lines.len();
    lines.extend(window(body(model), height, model));
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

/// What stays on top, where it leaves room for some lines.
fn head(model: &Model, height: usize) -> Vec<(String, Role)> {
    let head = match model.tab {
        Tab::Models => runners::head(model),
        Tab::Queue | Tab::Events => Vec::new(),
    };
    if head.len() + BODY_LEAST > height {
        return Vec::new();
    }
    head
}

/// What is scrolled.
fn body(model: &Model) -> Vec<(String, Role)> {
    match model.tab {
        Tab::Queue => queue(model),
        Tab::Models => runners::lines(model),
        Tab::Events => events(model),
    }
}

/// Lines of the chosen tab that are shown at a time, beside the one that tells of more, and the
/// last one that may be the first of them.
pub fn extent(model: &Model) -> (usize, usize) {
    let height = usize::from(inner(areas(model).lower).height);
    let page = height.saturating_sub(head(model, height).len() + 1);
    (page, body(model).len().saturating_sub(page))
}

/// As many lines as fit, from where it is scrolled to; if not all do, the last says so.
fn window(lines: Vec<(String, Role)>, height: usize, model: &Model) -> Vec<(String, Role)> {
    let page = height.saturating_sub(1);
    if lines.len() <= height || page == 0 {
        return lines;
    }
    let above = model.tab_top.min(lines.len() - page);
    let below = lines.len() - page - above;
    let mut shown: Vec<_> = lines.into_iter().skip(above).take(page).collect();
    let parts = [
        told(above, "before", Action::TabUp),
        told(below, "more", Action::TabDown),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let mark = format!("{} {}", model.theme.ellipsis(), parts.join(", "));
    shown.push((mark, Role::Faint));
    shown
}

/// How many lines are not shown, and the key that brings them.
fn told(lines: usize, word: &str, action: Action) -> Option<String> {
    let key = key_of(Layer::Overview, action).unwrap_or_default();
    (lines > 0).then(|| format!("{lines} {word} ({key})"))
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
fn events(model: &Model) -> Vec<(String, Role)> {
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
