//! A line or comment being written, and a question before something that cannot be undone.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::super::model::Model;
use super::super::text::{plain, wrap};
use super::super::theme::Role;
use super::parts;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let Some(line) = &model.line else { return };
    let width = frame.area().width.min(80);
    let question = wrap(&line.question, usize::from(width.saturating_sub(2)));
    let asked = u16::try_from(question.len().min(4)).unwrap_or(4);
    let inside = parts::popup(frame, model, (width, 6 + asked), &line.title);
    let theme = &model.theme;
    let lines: Vec<Line<'_>> = question
        .iter()
        .take(usize::from(asked))
        .map(|text| Line::from(Span::styled(theme.text(text), theme.style(Role::Attention))))
        .collect();
    let asked = asked.min(inside.height.saturating_sub(1));
    let head = Rect {
        height: asked,
        ..inside
    };
    frame.render_widget(Paragraph::new(lines), head);
    let text = Rect {
        y: inside.y + asked,
        height: inside.height - asked,
        ..inside
    };
    parts::editor(frame, text, model, &line.editor);
}

pub(super) fn confirm(frame: &mut Frame<'_>, model: &Model) {
    let Some(confirm) = &model.confirm else {
        return;
    };
    let theme = &model.theme;
    let inside = parts::popup(frame, model, (64, 6), "sure? y/n");
    let lines = vec![
        Line::from(theme.text(&plain(&confirm.question))),
        Line::from(vec![
            Span::styled("y", theme.style(Role::Key)),
            Span::raw(" yes   "),
            Span::styled("n", theme.style(Role::Key)),
            Span::raw(" no"),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), inside);
}
