//! The terminal of the selected agent, as cells; nothing of it can act on the user's terminal.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::super::keymap::Layer;
use super::super::layout::{first_row, inner};
use super::super::model::Model;
use super::super::text::{is_unsafe, plain, wrap};
use super::super::theme::{Role, Theme};
use super::{list, parts};
use crate::engine::view::AgentView;
use crate::pty::{Cell, CellFlags, Snapshot};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    let (title, role) = title(model);
    parts::heading(frame, area, model, &title, role);
    let area = inner(area);
    let shown = match &model.terminal.past {
        Some(past) if model.is_open(Layer::Scroll) => Some(past),
        _ => model.terminal.screen.as_ref(),
    };
    let Some(screen) = shown else {
        return parts::lines(frame, area, empty(model, area.width), 0);
    };
    let area = with_question(frame, area, model);
    let top = first_row(screen, area.height);
    cells(frame.buffer_mut(), area, screen, top, model.theme);
    if model.layer() == Layer::Focus
        && let Some(cursor) = screen.cursor
        && cursor.row >= top
        && cursor.row - top < area.height
        && cursor.column < area.width
    {
        frame.set_cursor_position((area.x + cursor.column, area.y + cursor.row - top));
    }
}

fn title(model: &Model) -> (String, Role) {
    let separator = model.theme.separator();
    let Some(agent) = model.agent() else {
        return ("terminal".into(), Role::Faint);
    };
    let mut parts = vec![format!("agent {}", agent.slot)];
    if !agent.model.is_empty() {
        parts.push(agent.model.clone());
    }
    parts.push(list::activity(agent));
    if let Some(note) = &agent.report.note {
        parts.push(note.clone());
    }
    let role = match model.layer() {
        Layer::Focus => {
            parts.insert(0, "typing into".into());
            Role::Active
        }
        Layer::Scroll => {
            let past = model.terminal.past.as_ref();
            let back = past.map_or(0, |past| past.offset);
            parts.insert(0, format!("{back} lines back"));
            Role::Active
        }
        _ => Role::Title,
    };
    (plain(&parts.join(separator)), role)
}

/// What to do when there is no terminal.
fn empty<'a>(model: &Model, width: u16) -> Vec<Line<'a>> {
    let theme = &model.theme;
    let text = match model.agent() {
        Some(agent) if agent.task.is_some() => waiting_text(agent),
        _ if model.view.tasks.is_empty() => {
            "No task yet.\n\nPress n to write one, ? for all keys.".to_owned()
        }
        _ => "This agent is free.\n\nPress n to write a task, w for the next that needs you."
            .to_owned(),
    };
    wrap(&text, usize::from(width))
        .into_iter()
        .map(|line| Line::from(Span::styled(theme.text(&line), theme.style(Role::Faint))))
        .collect()
}

fn waiting_text(agent: &AgentView) -> String {
    format!(
        "{}\n\nIts terminal appears here: {}.",
        agent.title,
        list::activity(agent)
    )
}

/// Draws the agent's question above its terminal; returns what is left.
fn with_question(frame: &mut Frame<'_>, area: Rect, model: &Model) -> Rect {
    let Some(question) = model
        .agent()
        .and_then(|agent| agent.report.question.as_ref())
    else {
        return area;
    };
    if area.height < 4 || model.is_open(Layer::Focus) {
        return area;
    }
    let theme = &model.theme;
    let text = super::super::text::cut(
        &theme.text(&plain(&question.text)),
        usize::from(area.width).saturating_sub(12),
        theme.ellipsis(),
    );
    let line = Line::from(vec![
        Span::styled("? ", theme.style(Role::Attention)),
        Span::styled(text, theme.style(Role::Attention)),
        Span::raw("  "),
        Span::styled("a", theme.style(Role::Key)),
        Span::raw(" answer"),
    ]);
    frame.render_widget(line, Rect { height: 1, ..area });
    inner(area)
}

fn cells(buffer: &mut Buffer, area: Rect, screen: &Snapshot, top: u16, theme: Theme) {
    for (y, row) in screen
        .rows
        .iter()
        .skip(usize::from(top))
        .take(usize::from(area.height))
        .enumerate()
    {
        for (x, cell) in row.iter().take(usize::from(area.width)).enumerate() {
            let position = (
                area.x + u16::try_from(x).unwrap_or(0),
                area.y + u16::try_from(y).unwrap_or(0),
            );
            if cell.flags.has(CellFlags::SPACER) && x > 0 {
                continue;
            }
            let is_cut = cell.flags.has(CellFlags::WIDE) && x + 1 >= usize::from(area.width);
            if let Some(target) = buffer.cell_mut(position) {
                let symbol = if is_cut {
                    " ".to_owned()
                } else {
                    symbol(cell, theme)
                };
                target.set_symbol(&symbol).set_style(theme.cell(cell));
            }
        }
    }
}

/// The text of a cell; only what takes exactly the columns that the emulator gave it.
fn symbol(cell: &Cell, theme: Theme) -> String {
    let width = if cell.flags.has(CellFlags::WIDE) {
        2
    } else {
        1
    };
    if let Some(cluster) = &cell.cluster {
        let text: String = cluster.chars().filter(|c| !is_unsafe(*c)).collect();
        if text.width() == width {
            return theme.text(&text);
        }
    }
    let character = cell.character;
    if is_unsafe(character) || character.width() != Some(width) {
        return " ".repeat(width);
    }
    theme.cell_text(character, width)
}
