//! Layers that are read: changes, the help, an agent's terminal scrolled back.

use crossterm::event::{MouseEvent, MouseEventKind};

use super::super::keymap::{Action, Layer};
use super::super::message::Want;
use super::super::model::{DiffContent, DiffPanel, Model, Tone};
use super::{overview, page, terminal};

pub(super) fn diff(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Close => {
            model.close(Layer::Diff);
            model.diff = None;
            Vec::new()
        }
        Action::Help => {
            model.help = 0;
            model.open(Layer::Help);
            Vec::new()
        }
        Action::Merge => with_shown_task(model, overview::merge),
        Action::Revise => with_shown_task(model, overview::revise),
        Action::Discard => with_shown_task(model, overview::discard),
        Action::Copy => copy_diff(model),
        _ => {
            let page = page(model);
            if let Some(diff) = &mut model.diff {
                let count = match &diff.content {
                    DiffContent::Lines(lines) => lines.len(),
                    DiffContent::Loading | DiffContent::Failed(_) => 0,
                };
                diff.top = moved(diff.top, count, page, action);
            }
            Vec::new()
        }
    }
}

fn with_shown_task(
    model: &mut Model,
    then: fn(&mut Model, &crate::core::task::Task) -> Vec<Want>,
) -> Vec<Want> {
    let shown = model.diff.as_ref().map(|diff| diff.task);
    match shown.and_then(|id| model.view.task(id).cloned()) {
        Some(task) => then(model, &task),
        None => Vec::new(),
    }
}

fn copy_diff(model: &mut Model) -> Vec<Want> {
    let Some(DiffContent::Lines(lines)) = model.diff.as_ref().map(|diff| &diff.content) else {
        return Vec::new();
    };
    let text = lines.join("\n");
    model.say(Tone::Done, "the changes are in the clipboard");
    vec![Want::Copy(text)]
}

/// The file and hunk at the top of what is shown, as the beginning of a comment.
pub(super) fn hunk(diff: &DiffPanel) -> Option<String> {
    let DiffContent::Lines(lines) = &diff.content else {
        return None;
    };
    let before = lines.get(..=diff.top.min(lines.len().checked_sub(1)?))?;
    let last = |prefix: &str| before.iter().rev().find(|line| line.starts_with(prefix));
    let file = last("+++ b/")?.trim_start_matches("+++ b/");
    Some(match last("@@") {
        Some(hunk) => format!("{file} {hunk}\n"),
        None => format!("{file}\n"),
    })
}

pub(super) fn help(model: &mut Model, action: Action) -> Vec<Want> {
    if action == Action::Close {
        model.close(Layer::Help);
    } else {
        let count = super::super::view::help_lines(model).len();
        model.help = moved(model.help, count, page(model), action);
    }
    Vec::new()
}

pub(super) fn scroll(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Close => {
            model.close(Layer::Scroll);
            model.terminal.past = None;
            return Vec::new();
        }
        Action::Zoom => return terminal::zoom(model),
        Action::Copy => return copy_screen(model),
        _ => {}
    }
    let (Some(slot), Some(past)) = (model.terminal.slot, &model.terminal.past) else {
        return Vec::new();
    };
    // Offsets count from the newest line, tops from the oldest.
    let top = past.history.saturating_sub(past.offset);
    let top = moved(top, past.history + 1, page(model), action);
    vec![Want::Scrollback(slot, past.history.saturating_sub(top))]
}

fn copy_screen(model: &mut Model) -> Vec<Want> {
    let Some(text) = model.terminal.past.as_ref().map(crate::pty::Snapshot::text) else {
        return Vec::new();
    };
    model.say(Tone::Done, "what is shown is in the clipboard");
    vec![Want::Copy(text)]
}

pub(super) fn mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Want> {
    let action = match mouse.kind {
        MouseEventKind::ScrollUp => Action::Up,
        MouseEventKind::ScrollDown => Action::Down,
        _ => return Vec::new(),
    };
    let layer = model.layer();
    super::act(model, layer, action)
}

/// The first line shown after `action`, of `count` lines of which `page` fit.
fn moved(top: usize, count: usize, page: usize, action: Action) -> usize {
    let top = match action {
        Action::Down => top + 1,
        Action::Up => top.saturating_sub(1),
        Action::PageDown => top + page,
        Action::PageUp => top.saturating_sub(page),
        Action::First => 0,
        Action::Last => usize::MAX,
        _ => top,
    };
    top.min(count.saturating_sub(1))
}
