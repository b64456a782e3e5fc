//! All commands by name.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::{Line, Span};

use super::super::keymap::keys;
use super::super::model::Model;
use super::super::theme::Role;
use super::super::update::matches;
use super::parts;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let height = frame.area().height.saturating_sub(4).clamp(5, 20);
    let inside = parts::popup(frame, model, (76, height), "commands");
    let [input, found] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
    let theme = &model.theme;
    let matches = matches(&model.palette);
    let lines: Vec<Line<'_>> = matches
        .iter()
        .enumerate()
        .map(|(index, binding)| {
            let is_selected = index == model.palette.index;
            let cursor = if is_selected { theme.cursor() } else { " " };
            let role = if is_selected { Role::Title } else { Role::Text };
            Line::from(vec![
                Span::styled(format!("{cursor} "), theme.style(Role::Active)),
                Span::styled(binding.help, theme.style(role)),
                Span::styled(format!("  {}", keys(binding)), theme.style(Role::Key)),
            ])
        })
        .collect();
    let top = (model.palette.index + 1).saturating_sub(usize::from(found.height));
    parts::lines(frame, found, lines, top);
    parts::editor(frame, input, model, &model.palette.editor);
}
