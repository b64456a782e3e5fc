//! The first line, the banner and the last line.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::keymap::{Action, Layer, key_of};
use super::super::layout;
use super::super::model::{Model, Tone};
use super::super::text::{cut, plain};
use super::super::theme::Role;
use super::parts;
use crate::core::task::TaskState;

/// What counts: waiting for the user, the state of the queue, who works.
pub(super) fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let theme = &model.theme;
    let mut items: Vec<(String, Role)> = Vec::new();
    if area.width >= 60 {
        let name = if model.view.demo {
            "squad demo"
        } else {
            "squad"
        };
        items.push((name.into(), Role::Title));
    }
    items.extend(counts(model));
    let mut spans = Vec::new();
    let mut left = usize::from(area.width);
    for (text, role) in items {
        if !spans.is_empty() {
            spans.push(Span::styled(theme.separator(), theme.style(Role::Faint)));
            left = left.saturating_sub(3);
        }
        let text = cut(&text, left, theme.ellipsis());
        left = left.saturating_sub(text.width());
        spans.push(Span::styled(text, theme.style(role)));
    }
    frame.render_widget(Line::from(spans), area);
}

fn counts(model: &Model) -> Vec<(String, Role)> {
    let view = &model.view;
    let waiting = model.waiting_count();
    let mut items = vec![if waiting > 0 {
        (format!("waiting for you {waiting}"), Role::Attention)
    } else {
        ("nothing waits for you".into(), Role::Faint)
    }];
    let dead = view.count(TaskState::Dead);
    if dead > 0 {
        items.push((format!("dead {dead}"), Role::Bad));
    }
    if view.paused {
        items.push(("queue paused".into(), Role::Attention));
    }
    let working = view
        .agents
        .iter()
        .filter(|agent| agent.task.is_some())
        .count();
    items.push((
        format!("working {working}/{}", view.agents.len()),
        Role::Text,
    ));
    let queued = view.count(TaskState::Queued) + view.count(TaskState::Blocked);
    items.push((
        format!("queued {}", queued + view.count(TaskState::Failed)),
        Role::Text,
    ));
    items.push((
        format!("merged {}", view.count(TaskState::Merged)),
        Role::Text,
    ));
    let avoided = view.gateway.swaps_avoided;
    if avoided > 0 {
        items.push((format!("{avoided} swaps avoided"), Role::Text));
    }
    items
}

/// What is wrong with the squad as a whole.
pub(super) fn banner(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    let Some((text, is_bad)) = layout::banner(model) else {
        return;
    };
    let role = if is_bad { Role::Bad } else { Role::Working };
    let theme = &model.theme;
    let text = cut(
        &theme.text(&plain(&text)),
        usize::from(area.width),
        theme.ellipsis(),
    );
    frame.render_widget(Span::styled(text, theme.style(role)), area);
}

/// The last thing to say, or the next keys.
pub(super) fn footer(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    let theme = &model.theme;
    if let Some(notice) = &model.notice {
        let role = match notice.tone {
            Tone::Done => Role::Good,
            Tone::Refused => Role::Bad,
        };
        let text = cut(
            &theme.text(&notice.text),
            usize::from(area.width),
            theme.ellipsis(),
        );
        frame.render_widget(Span::styled(text, theme.style(role)), area);
        return;
    }
    let pairs: Vec<(String, &str)> = hints(model.layer())
        .iter()
        .filter_map(|(action, words)| Some((key_of(model.layer(), *action)?, *words)))
        .collect();
    frame.render_widget(parts::keys(*theme, &pairs, area.width), area);
}

/// The keys worth showing in each layer; the keymap says which they are.
fn hints(layer: Layer) -> &'static [(Action, &'static str)] {
    match layer {
        Layer::Overview => &[
            (Action::Compose, "new"),
            (Action::Open, "open"),
            (Action::NextWaiting, "next waiting"),
            (Action::Diff, "diff"),
            (Action::Merge, "merge"),
            (Action::Revise, "send back"),
            (Action::Help, "help"),
            (Action::Detach, "leave"),
            (Action::Palette, "commands"),
            (Action::Zoom, "zoom"),
            (Action::NextTab, "tabs"),
        ],
        Layer::Focus => &[(Action::Leave, "to the list"), (Action::Jump(0), "agent")],
        Layer::Scroll => &[
            (Action::Up, "back"),
            (Action::Down, "on"),
            (Action::PageUp, "page back"),
            (Action::Copy, "copy"),
            (Action::Close, "close"),
        ],
        Layer::Composer => &[
            (Action::Submit, "submit"),
            (Action::Newline, "new line"),
            (Action::Options, "options"),
            (Action::Close, "close, the draft is kept"),
        ],
        Layer::Options => &[
            (Action::Down, "next"),
            (Action::NextValue, "change"),
            (Action::Close, "back"),
        ],
        Layer::Line => &[
            (Action::Submit, "send"),
            (Action::Newline, "new line"),
            (Action::Close, "close"),
        ],
        Layer::Diff => &[
            (Action::Merge, "merge"),
            (Action::Revise, "send back"),
            (Action::Discard, "discard"),
            (Action::PageDown, "page"),
            (Action::Copy, "copy"),
            (Action::Close, "close"),
        ],
        Layer::Confirm => &[(Action::Yes, "yes"), (Action::Close, "no")],
        Layer::Help => &[
            (Action::Down, "on"),
            (Action::PageDown, "page"),
            (Action::Close, "close"),
        ],
        Layer::Palette => &[
            (Action::Yes, "do it"),
            (Action::Down, "next"),
            (Action::Close, "close"),
        ],
    }
}
