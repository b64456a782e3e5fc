//! A new task being written, and its options.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

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
    let names = [
        "template", "mode", "priority", "model", "verify", "autonomy",
    ];
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
    if model.composer.field == Field::Template {
        let used = u16::try_from(Field::ALL.len() - top + 1).unwrap_or(u16::MAX);
        let rest = Rect {
            y: area.y.saturating_add(used),
            height: area.height.saturating_sub(used),
            ..area
        };
        templates(frame, rest, model);
    }
}

/// The templates that can be chosen, scrolled so that the chosen one is seen.
fn templates(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = &model.theme;
    let composer = &model.composer;
    let none = ("none".to_owned(), "your words alone".to_owned());
    let names = composer.offers.iter().map(|it| it.template.name.width());
    let width = names.max().unwrap_or_default().clamp(4, 26);
    let offers = composer.offers.iter().map(|offer| {
        let template = &offer.template;
        (template.name.clone(), template.summary.clone())
    });
    let top = (composer.chosen() + 1).saturating_sub(usize::from(area.height));
    let lines = std::iter::once(none).chain(offers).enumerate();
    let lines: Vec<Line<'_>> = lines
        .map(|(number, (name, summary))| {
            let is_chosen = number == composer.chosen();
            let role = if is_chosen { Role::Title } else { Role::Text };
            let cursor = if is_chosen { theme.cursor() } else { " " };
            let head = format!("{number} {:<width$}", theme.text(&plain(&name)));
            let room = usize::from(area.width).saturating_sub(width + 6);
            let words = cut(&theme.text(&plain(&summary)), room, theme.ellipsis());
            Line::from(vec![
                Span::styled(format!("{cursor} "), theme.style(Role::Active)),
                Span::styled(head, theme.style(role)),
                Span::styled(format!("  {words}"), theme.style(Role::Faint)),
            ])
        })
        .collect();
    parts::lines(frame, area, lines, top);
}

/// The value of an option and what it means.
fn value(model: &Model, field: Field) -> (String, &'static str) {
    let options = &model.composer.options;
    match field {
        Field::Template => match model.composer.offer() {
            Some(offer) => {
                let name = model.theme.text(&plain(&offer.template.name));
                (name, "frames the task; a digit chooses")
            }
            None => ("no template".into(), "a digit chooses a role below"),
        },
        Field::Mode => (
            model.composer.mode().as_str().into(),
            "code, architect or ask",
        ),
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
            let default = model.composer.offer().and_then(|it| it.verify.as_deref());
            match (command.as_str(), default) {
                ("", None) => (
                    "default check".into(),
                    "the configured command; type another one",
                ),
                ("", Some(default)) => {
                    let text = model.theme.text(&plain(default));
                    (text, "by default; type another one")
                }
                (command, _) => (model.theme.text(command), ""),
            }
        }
        Field::Autonomy => match options.autonomy {
            Autonomy::Review => ("review".into(), "stops for you before the merge"),
            Autonomy::Merge => ("merge".into(), "merges by itself when verified"),
        },
    }
}
