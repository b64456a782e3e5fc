//! The changes of a task, over the whole window.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use super::super::layout::{areas, inner};
use super::super::model::{DiffContent, Model};
use super::super::text::{cut, wrap};
use super::super::theme::Role;
use super::parts;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let Some(diff) = &model.diff else { return };
    let areas = areas(model);
    let window = frame.area();
    let area = Rect {
        y: areas.header.bottom(),
        height: window
            .height
            .saturating_sub(areas.header.bottom() + areas.footer.height),
        ..window
    };
    frame.render_widget(Clear, area);
    let title = model.view.task(diff.task).map_or_else(String::new, |task| {
        let outcome = task
            .verify
            .as_ref()
            .map_or("not verified", |report| report.outcome.as_str());
        let separator = model.theme.separator();
        format!("{separator}{}{separator}{outcome}", task.spec.title())
    });
    let position = match &diff.content {
        DiffContent::Lines(lines) if !lines.is_empty() => {
            let separator = model.theme.separator();
            format!("{separator}line {} of {}", diff.top + 1, lines.len())
        }
        _ => String::new(),
    };
    let title = format!("changes of task {}{title}{position}", diff.task);
    parts::heading(frame, area, model, &title, Role::Active);
    let area = inner(area);
    let theme = &model.theme;
    let width = usize::from(area.width);
    let lines = match &diff.content {
        DiffContent::Loading => vec![plain_line("looking …", Role::Faint, model)],
        DiffContent::Failed(why) => wrap(why, width)
            .iter()
            .map(|line| plain_line(line, Role::Bad, model))
            .collect(),
        DiffContent::Lines(lines) if lines.is_empty() => {
            vec![plain_line(
                "No changes. c sends the task back, D discards it.",
                Role::Faint,
                model,
            )]
        }
        DiffContent::Lines(lines) => lines
            .iter()
            .skip(diff.top)
            .take(usize::from(area.height))
            .map(|line| plain_line(&cut(line, width, theme.ellipsis()), role(line), model))
            .collect(),
    };
    parts::lines(frame, area, lines, 0);
}

fn plain_line<'a>(text: &str, role: Role, model: &Model) -> Line<'a> {
    Line::from(Span::styled(
        model.theme.text(text),
        model.theme.style(role),
    ))
}

fn role(line: &str) -> Role {
    const HEADS: [&str; 5] = ["diff --git", "index ", "--- ", "+++ ", "rename "];
    if HEADS.iter().any(|head| line.starts_with(head)) {
        Role::Title
    } else if line.starts_with("@@") {
        Role::Hunk
    } else if line.starts_with('+') {
        Role::Added
    } else if line.starts_with('-') {
        Role::Removed
    } else {
        Role::Text
    }
}
