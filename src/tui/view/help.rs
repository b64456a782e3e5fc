//! All keys, made from the keymap.

use ratatui::Frame;
use ratatui::text::{Line, Span};

use super::super::keymap::{LAYERS, bindings, keys};
use super::super::model::Model;
use super::super::text::wrap;
use super::super::theme::Role;
use super::parts;

/// Columns of the window.
const WIDTH: u16 = 100;

/// Columns of the keys' names, the longest of which is `Enter, Esc, Ctrl-o, Ctrl-c`.
const KEYS: usize = 26;

/// The lines of the help.
pub fn lines<'a>(model: &Model) -> Vec<Line<'a>> {
    let theme = &model.theme;
    // Two for the border, three around the keys.
    let width = usize::from(model.size.columns.min(WIDTH))
        .saturating_sub(KEYS + 5)
        .max(20);
    let mut lines = Vec::new();
    for (layer, title) in LAYERS {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(Span::styled(*title, theme.style(Role::Title))));
        for binding in bindings(*layer) {
            for (row, words) in wrap(binding.help, width).into_iter().enumerate() {
                let names = if row == 0 {
                    keys(binding)
                } else {
                    String::new()
                };
                let names = format!("  {names:<KEYS$} ");
                lines.push(Line::from(vec![
                    Span::styled(names, theme.style(Role::Key)),
                    Span::raw(words),
                ]));
            }
        }
    }
    lines
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let height = frame.area().height.saturating_sub(2);
    let inside = parts::popup(frame, model, (WIDTH, height), "keys");
    parts::lines(frame, inside, lines(model), model.help);
}
