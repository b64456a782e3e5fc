//! What a message does to a dashboard, and what the dashboard wants because of it.
//!
//! Dispatch only: each layer has a function in a file of its own.

mod overview;
mod reading;
mod terminal;
mod writing;

use crossterm::event::{Event, KeyEvent, KeyEventKind, MouseEvent};

pub(super) use overview::list_top;
pub(super) use writing::matches;

use super::keymap::{Action, Layer, lookup};
use super::layout::areas;
use super::message::{Message, Purpose, Want};
use super::model::{DiffContent, Model, Tone};
use crate::core::command::{Refusal, Reply};
use crate::core::{AgentSlot, TaskId, Timestamp};
use crate::pty::{Size, Snapshot};

/// Applies one message.
pub fn update(model: &mut Model, message: Message, now: Timestamp) -> Vec<Want> {
    model.now = now;
    match message {
        Message::Event(event) => on_event(model, event),
        Message::View(view) => {
            model.view = view;
            model.follow();
            terminal::forget_other(model);
            Vec::new()
        }
        Message::Screen(slot, screen) => on_screen(model, slot, screen),
        Message::Tick => Vec::new(),
        Message::Redraw(size) => on_size(model, size),
        Message::Answered(purpose, result) => on_answer(model, purpose, result),
        Message::Diff(task, result) => on_diff(model, task, result),
        Message::Templates(offers) => {
            model.composer.take(offers);
            Vec::new()
        }
        Message::Scrollback(slot, screen) => on_scrollback(model, slot, screen),
    }
}

fn on_event(model: &mut Model, event: Event) -> Vec<Want> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Event::Key(key) => on_key(model, key),
        Event::Paste(text) => on_paste(model, text),
        Event::Mouse(mouse) => on_mouse(model, mouse),
        Event::Resize(columns, rows) => on_size(model, Size::new(columns, rows)),
        Event::FocusGained | Event::FocusLost => terminal::pass(model, &event),
    }
}

fn on_key(model: &mut Model, key: KeyEvent) -> Vec<Want> {
    model.notice = None;
    let layer = model.layer();
    match lookup(layer, key) {
        Some(action) => act(model, layer, action),
        None => type_key(model, layer, key),
    }
}

/// Does what a key is bound to.
fn act(model: &mut Model, layer: Layer, action: Action) -> Vec<Want> {
    match layer {
        Layer::Overview => overview::act(model, action),
        Layer::Focus => terminal::act(model, action),
        Layer::Scroll => reading::scroll(model, action),
        Layer::Diff => reading::diff(model, action),
        Layer::Help => reading::help(model, action),
        Layer::Composer => writing::composer(model, action),
        Layer::Options => writing::options(model, action),
        Layer::Line => writing::line(model, action),
        Layer::Palette => writing::palette(model, action),
        Layer::Confirm => confirm(model, action),
    }
}

/// A key without a binding: text, in the layers where text is written.
fn type_key(model: &mut Model, layer: Layer, key: KeyEvent) -> Vec<Want> {
    match layer {
        Layer::Focus => return terminal::pass(model, &Event::Key(key)),
        Layer::Composer => {
            model.composer.editor.key(key);
        }
        Layer::Options => writing::type_option(model, key),
        Layer::Line => {
            if let Some(line) = &mut model.line {
                line.editor.key(key);
            }
        }
        Layer::Palette => {
            model.palette.editor.key(key);
            model.palette.index = 0;
        }
        Layer::Overview | Layer::Scroll | Layer::Diff | Layer::Confirm | Layer::Help => {}
    }
    Vec::new()
}

/// Pasted text is text, never keys; outside a text it opens the composer.
fn on_paste(model: &mut Model, text: String) -> Vec<Want> {
    let was_open = model.is_open(Layer::Composer);
    let inserted = match model.layer() {
        Layer::Focus => return terminal::pass(model, &Event::Paste(text)),
        Layer::Options => model.composer.options.verify.insert(text.trim()),
        Layer::Palette => model.palette.editor.insert(text.trim()),
        Layer::Line => match &mut model.line {
            Some(line) => line.editor.insert(&text),
            None => Ok(()),
        },
        Layer::Confirm => Ok(()),
        Layer::Overview | Layer::Scroll | Layer::Diff | Layer::Help | Layer::Composer => {
            model.open(Layer::Composer);
            model.composer.editor.insert(&text)
        }
    };
    if let Err(error) = inserted {
        model.say(Tone::Refused, format!("{error}; nothing was inserted"));
    }
    if model.layer() == Layer::Composer && !was_open {
        return vec![Want::Templates];
    }
    Vec::new()
}

fn on_mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Want> {
    match model.layer() {
        Layer::Overview => overview::mouse(model, mouse),
        Layer::Focus => terminal::mouse(model, mouse),
        Layer::Scroll | Layer::Diff | Layer::Help => reading::mouse(model, mouse),
        Layer::Composer | Layer::Options | Layer::Line | Layer::Confirm | Layer::Palette => {
            Vec::new()
        }
    }
}

fn on_size(model: &mut Model, size: Size) -> Vec<Want> {
    model.size = size.clamped();
    if model.is_open(Layer::Focus) || model.terminal.is_zoomed {
        terminal::fit(model)
    } else {
        Vec::new()
    }
}

fn on_screen(model: &mut Model, slot: AgentSlot, screen: Option<Snapshot>) -> Vec<Want> {
    if screen.is_none() && model.is_open(Layer::Focus) {
        model.close(Layer::Focus);
        model.say(
            Tone::Refused,
            format!("the terminal of agent {slot} is gone"),
        );
    }
    model.terminal.slot = Some(slot);
    model.terminal.screen = screen;
    Vec::new()
}

fn on_scrollback(model: &mut Model, slot: AgentSlot, screen: Option<Snapshot>) -> Vec<Want> {
    if model.is_open(Layer::Scroll) && model.terminal.slot == Some(slot) {
        if screen.is_none() {
            model.close(Layer::Scroll);
            model.say(Tone::Refused, "there is nothing to look back at");
        }
        model.terminal.past = screen;
    }
    Vec::new()
}

fn on_diff(model: &mut Model, task: TaskId, result: Result<String, Refusal>) -> Vec<Want> {
    if let Some(diff) = model.diff.as_mut().filter(|diff| diff.task == task) {
        diff.content = match result {
            Ok(text) if text.trim().is_empty() => DiffContent::Lines(Vec::new()),
            Ok(text) => DiffContent::Lines(super::text::plain_lines(&text)),
            Err(refusal) => DiffContent::Failed(words(&refusal)),
        };
    }
    Vec::new()
}

fn on_answer(model: &mut Model, purpose: Purpose, result: Result<Reply, Refusal>) -> Vec<Want> {
    match (purpose, result) {
        (Purpose::Submit(_), Ok(Reply::Submitted { tasks })) => {
            let numbers: Vec<String> = tasks.iter().map(ToString::to_string).collect();
            model.say(Tone::Done, format!("task {} submitted", numbers.join(", ")));
        }
        (Purpose::Submit(_), Ok(Reply::Done)) => model.say(Tone::Done, "submitted"),
        (Purpose::Submit(prompt), Err(refusal)) => {
            if model.composer.editor.is_blank() {
                model.composer.editor = super::editor::Editor::new(&prompt);
            }
            let text = format!("your text is kept (n): {}", words(&refusal));
            model.say(Tone::Refused, text);
        }
        (Purpose::Other(done), Ok(_)) if done.is_empty() => {}
        (Purpose::Other(done), Ok(_)) => model.say(Tone::Done, done),
        (Purpose::Other(_), Err(refusal)) => model.say(Tone::Refused, words(&refusal)),
    }
    Vec::new()
}

fn confirm(model: &mut Model, action: Action) -> Vec<Want> {
    model.close(Layer::Confirm);
    match (model.confirm.take(), action) {
        (Some(confirm), Action::Yes) => vec![confirm.want],
        _ => Vec::new(),
    }
}

/// A refusal with its remedies.
fn words(refusal: &Refusal) -> String {
    let mut text = refusal.message.clone();
    for hint in &refusal.hints {
        text.push_str("; ");
        text.push_str(hint);
    }
    text
}

/// Lines that a page of what has the keyboard shows.
fn page(model: &Model) -> usize {
    let areas = areas(model);
    let area = match model.layer() {
        Layer::Overview => areas.list,
        Layer::Scroll | Layer::Focus => areas.main,
        _ => return usize::from(model.size.rows.saturating_sub(4)).max(1),
    };
    usize::from(area.height.saturating_sub(2)).max(1)
}

#[cfg(test)]
mod tests;
