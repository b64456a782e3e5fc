//! A new task being written, and its options.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::super::keymap::Layer;
use super::super::model::{Field, Model};
use super::super::text::{cut, plain};
use super::super::theme::Role;
use super::parts;
use crate::core::task::Autonomy;

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let window = frame.area();
    let size = (
        window.width.min(90),
        window.height.saturating_sub(4).clamp(6, 18),
    );
    let has_options = model.layer() == Layer::Options;
    let title = if has_options {
        "options of the new task"
    } else {
        "new task"
    };
    let inside = parts::popup(frame, model, size, title);
    if has_options {
        return options(frame, inside, model);
    }
    let [text, summary] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(inside);
    parts::editor(frame, text, model, &model.composer.editor);
    if model.composer.editor.text().is_empty() {
        let hint = "What is to be done? Enter submits, Alt-Enter begins a new line.";
        let hint = cut(hint, usize::from(text.width), model.theme.ellipsis());
        frame.render_widget(Span::styled(hint, model.theme.style(Role::Faint)), text);
    }
    frame.render_widget(summary_line(model, summary.width), summary);
}

fn summary_line<'a>(model: &Model, width: u16) -> Line<'a> {
    let values: Vec<String> = Field::ALL
        .iter()
        .map(|field| value(model, *field).0)
        .collect();
    let text = format!("{}  (Ctrl-o)", values.join(model.theme.separator()));
    let text = cut(&text, usize::from(width), model.theme.ellipsis());
    Line::from(Span::styled(text, model.theme.style(Role::Faint)))
}

fn options(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = &model.theme;
    let names = ["mode", "priority", "model", "verify", "autonomy"];
    let selected = Field::ALL
        .iter()
        .position(|field| *field == model.composer.field)
        .unwrap_or(0);
    let top = (selected + 1).saturating_sub(usize::from(area.height));
    let fields = Field::ALL.iter().zip(names).skip(top);
    for (index, (field, name)) in fields.enumerate() {
        let y = area.y + u16::try_from(index).unwrap_or(0);
        if y >= area.bottom() {
            return;
        }
        let is_selected = *field == model.composer.field;
        let cursor = if is_selected { theme.cursor() } else { " " };
        let (value, hint) = value(model, *field);
        let role = if is_selected { Role::Title } else { Role::Text };
        let line = Line::from(vec![
            Span::styled(format!("{cursor} "), theme.style(Role::Active)),
            Span::styled(format!("{name:<10}"), theme.style(Role::Faint)),
            Span::styled(value, theme.style(role)),
            Span::styled(format!("  {hint}"), theme.style(Role::Faint)),
        ]);
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        frame.render_widget(line, row);
        if is_selected && *field == Field::Verify && area.width > 13 {
            let place = Rect {
                x: area.x + 12,
                width: area.width - 12,
                ..row
            };
            frame.render_widget(ratatui::widgets::Clear, place);
            parts::editor(frame, place, model, &model.composer.options.verify);
        }
    }
}

/// The value of an option and what it means.
fn value(model: &Model, field: Field) -> (String, &'static str) {
    let options = &model.composer.options;
    match field {
        Field::Mode => (options.mode.as_str().into(), "code, architect or ask"),
        Field::Priority => (
            options.priority.as_str().into(),
            "which waiting task comes first",
        ),
        Field::Model => match &options.model {
            Some(name) => (model.theme.text(&plain(name)), ""),
            None => ("auto".into(), "the squad chooses"),
        },
        Field::Verify => {
            let command = plain(&options.verify.text());
            if command.is_empty() {
                (
                    "default check".into(),
                    "the configured command; type another one",
                )
            } else {
                (model.theme.text(&command), "")
            }
        }
        Field::Autonomy => match options.autonomy {
            Autonomy::Review => ("review".into(), "stops for you before the merge"),
            Autonomy::Merge => ("merge".into(), "merges by itself when verified"),
        },
    }
}
