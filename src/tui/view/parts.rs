//! Pieces that several panels are made of.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};
use unicode_width::UnicodeWidthStr;

use super::super::editor::Editor;
use super::super::model::Model;
use super::super::text::{cut, plain};
use super::super::theme::{Role, Theme};

/// A heading line: a rule with a title on it.
pub(super) fn heading(frame: &mut Frame<'_>, area: Rect, model: &Model, title: &str, role: Role) {
    let line = Rect {
        height: area.height.min(1),
        ..area
    };
    let theme = &model.theme;
    let rule = theme.border().horizontal_top;
    let width = usize::from(area.width);
    let title = cut(
        &theme.text(&plain(title)),
        width.saturating_sub(4),
        theme.ellipsis(),
    );
    let used = title.width() + 4;
    let spans = Line::from(vec![
        Span::styled(rule, theme.style(Role::Faint)),
        Span::styled(format!(" {title} "), theme.style(role)),
        Span::styled(
            rule.repeat(width.saturating_sub(used.saturating_sub(1))),
            theme.style(Role::Faint),
        ),
    ]);
    frame.render_widget(spans, line);
}

/// An empty box in the middle of the window, at most as large as asked for; returns its inside.
pub(super) fn popup(
    frame: &mut Frame<'_>,
    model: &Model,
    (width, height): (u16, u16),
    title: &str,
) -> Rect {
    let window = frame.area();
    let (width, height) = (width.min(window.width), height.min(window.height));
    let area = Rect {
        x: (window.width - width) / 2,
        y: (window.height - height) / 2,
        width,
        height,
    };
    let theme = &model.theme;
    let block = Block::bordered()
        .border_set(theme.border())
        .border_style(theme.style(Role::Active))
        .title(format!(" {} ", theme.text(&plain(title))));
    let inside = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inside
}

/// A text being written, with the cursor; scrolled so that the cursor is seen.
pub(super) fn editor(frame: &mut Frame<'_>, area: Rect, model: &Model, editor: &Editor) {
    if area.is_empty() {
        return;
    }
    let (lines, (column, row)) = editor.wrapped(usize::from(area.width));
    let height = usize::from(area.height);
    let top = (row + 1).saturating_sub(height);
    let shown: Vec<Line<'_>> = lines
        .iter()
        .skip(top)
        .take(height)
        .map(|line| Line::from(model.theme.text(line)))
        .collect();
    frame.render_widget(Paragraph::new(shown), area);
    let offset = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
    frame.set_cursor_position((
        (area.x + offset(column)).min(area.right().saturating_sub(1)),
        area.y + offset(row - top),
    ));
}

/// `key words` pairs as a line, as many as fit.
pub(super) fn keys<'a>(theme: Theme, pairs: &[(String, &str)], width: u16) -> Line<'a> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, words) in pairs {
        let length = key.width() + words.width() + 3;
        if used + length > usize::from(width) + 2 {
            break;
        }
        used += length;
        spans.push(Span::styled(key.clone(), theme.style(Role::Key)));
        spans.push(Span::raw(format!(" {words}  ")));
    }
    Line::from(spans)
}

/// Lines from `top` on, in `area`.
pub(super) fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>, top: usize) {
    let shown: Vec<Line<'_>> = lines
        .into_iter()
        .skip(top)
        .take(usize::from(area.height))
        .collect();
    frame.render_widget(Paragraph::new(shown), area);
}
