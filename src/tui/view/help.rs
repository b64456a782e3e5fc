//! All keys, made from the keymap.

use ratatui::Frame;
use ratatui::text::{Line, Span};

use super::super::keymap::{LAYERS, bindings, keys};
use super::super::model::Model;
use super::super::theme::Role;
use super::parts;

/// The lines of the help.
pub fn lines<'a>(model: &Model) -> Vec<Line<'a>> {
    let theme = &model.theme;
    let mut lines = Vec::new();
    for (layer, title) in LAYERS {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(Span::styled(*title, theme.style(Role::Title))));
        for binding in bindings(*layer) {
            lines.push(Line::from(vec![
                Span::styled(format!("  {:<27}", keys(binding)), theme.style(Role::Key)),
                Span::raw(format!(" {}", binding.help)),
            ]));
        }
    }
    lines
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let height = frame.area().height.saturating_sub(2);
    let inside = parts::popup(frame, model, (100, height), "keys");
    parts::lines(frame, inside, lines(model), model.help);
}
