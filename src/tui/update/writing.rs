//! Layers in which text is written: a new task and its options, a line, the palette.

use crossterm::event::{KeyCode, KeyEvent};

use super::super::keymap::{Action, Binding, Layer, bindings};
use super::super::message::{Purpose, Want};
use super::super::model::{Field, LinePurpose, Model, Palette, TaskOptions, Tone};
use super::overview;
use crate::core::command::Command;
use crate::core::task::{Autonomy, Mode, Priority};

pub(super) fn composer(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Submit => return submit(model),
        Action::Newline => insert_newline(&mut model.composer.editor),
        Action::Options => model.open(Layer::Options),
        Action::Close => model.close(Layer::Composer),
        _ => {}
    }
    Vec::new()
}

fn submit(model: &mut Model) -> Vec<Want> {
    if model.composer.editor.is_blank() {
        model.say(Tone::Refused, "write what is to be done first");
        return Vec::new();
    }
    let task = model.composer.new_task(&model.origin);
    let prompt = model.composer.editor.text();
    model.composer.editor = super::super::editor::Editor::default();
    model.close(Layer::Composer);
    vec![Want::Command(
        Purpose::Submit(prompt),
        Command::Submit { tasks: vec![task] },
    )]
}

/// A line end always fits where a character did; a full text says so by not growing.
fn insert_newline(editor: &mut super::super::editor::Editor) {
    editor.insert("\n").unwrap_or_default();
}

pub(super) fn options(model: &mut Model, action: Action) -> Vec<Want> {
    let last = Field::ALL.len() - 1;
    match action {
        Action::Down => model.composer.field = stepped(&Field::ALL, model.composer.field, 1),
        Action::Up => model.composer.field = stepped(&Field::ALL, model.composer.field, last),
        Action::NextValue => change(model, Way::Next),
        Action::PreviousValue => change(model, Way::Previous),
        Action::Close => model.close(Layer::Options),
        _ => {}
    }
    Vec::new()
}

/// Text goes into the verify command and a digit chooses a template; elsewhere Space, j, k, h and l
/// do what arrows do.
pub(super) fn type_option(model: &mut Model, key: KeyEvent) {
    if model.composer.field == Field::Verify {
        model.composer.options.verify.key(key);
        return;
    }
    if let (Field::Template, Some(number)) = (model.composer.field, digit(key)) {
        model.composer.choose(number);
        return;
    }
    let action = match key.code {
        KeyCode::Char(' ' | 'l') => Action::NextValue,
        KeyCode::Char('h') => Action::PreviousValue,
        KeyCode::Char('j') => Action::Down,
        KeyCode::Char('k') => Action::Up,
        _ => return,
    };
    options(model, action);
}

fn digit(key: KeyEvent) -> Option<usize> {
    let KeyCode::Char(c) = key.code else {
        return None;
    };
    usize::try_from(c.to_digit(10)?).ok()
}

#[derive(Clone, Copy)]
enum Way {
    Next,
    Previous,
}

fn change(model: &mut Model, way: Way) {
    let names: Vec<Option<String>> = std::iter::once(None)
        .chain(model.model_names().into_iter().map(Some))
        .collect();
    let field = model.composer.field;
    let mode = model.composer.mode();
    let numbers: Vec<usize> = (0..=model.composer.offers.len()).collect();
    let chosen = model.composer.chosen();
    let options: &mut TaskOptions = &mut model.composer.options;
    match field {
        Field::Template => model.composer.choose(turned(&numbers, chosen, way)),
        Field::Mode => options.mode = Some(turned(&Mode::ALL, mode, way)),
        Field::Priority => options.priority = turned(&PRIORITIES, options.priority, way),
        Field::Model => options.model = turned(&names, options.model.clone(), way),
        Field::Verify => {
            let code = match way {
                Way::Next => KeyCode::Right,
                Way::Previous => KeyCode::Left,
            };
            options.verify.key(KeyEvent::from(code));
        }
        Field::Autonomy => {
            options.autonomy = turned(&[Autonomy::Review, Autonomy::Merge], options.autonomy, way);
        }
    }
}

const PRIORITIES: [Priority; 5] = [
    Priority::Critical,
    Priority::High,
    Priority::Normal,
    Priority::Low,
    Priority::Background,
];

fn turned<T: PartialEq + Clone>(all: &[T], now: T, way: Way) -> T {
    match way {
        Way::Next => stepped(all, now, 1),
        Way::Previous => stepped(all, now, all.len().saturating_sub(1)),
    }
}

/// The value `steps` after `now`, around the end.
fn stepped<T: PartialEq + Clone>(all: &[T], now: T, steps: usize) -> T {
    let index = all.iter().position(|value| *value == now).unwrap_or(0);
    all.get((index + steps) % all.len().max(1))
        .cloned()
        .unwrap_or(now)
}

pub(super) fn line(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Submit => return send(model),
        Action::Newline => {
            if let Some(line) = &mut model.line {
                insert_newline(&mut line.editor);
            }
        }
        Action::Close => {
            model.close(Layer::Line);
            model.line = None;
        }
        _ => {}
    }
    Vec::new()
}

fn send(model: &mut Model) -> Vec<Want> {
    let Some(line) = model.line.take() else {
        return Vec::new();
    };
    let text = line.editor.text();
    let (done, command) = match line.purpose {
        LinePurpose::Revise(_) if line.editor.is_blank() => {
            model.line = Some(line);
            model.say(Tone::Refused, "write what should be done differently first");
            return Vec::new();
        }
        LinePurpose::Revise(task) => (
            format!("task {task} sent back"),
            Command::Revise {
                task,
                comment: text,
            },
        ),
        LinePurpose::Answer(slot) => (
            format!("agent {slot} answered"),
            Command::Answer { slot, text },
        ),
        LinePurpose::Send(slot) => (
            format!("sent to agent {slot}"),
            Command::SendLine { slot, text },
        ),
    };
    model.close(Layer::Line);
    if matches!(line.purpose, LinePurpose::Revise(_)) {
        model.close(Layer::Diff);
        model.diff = None;
    }
    vec![Want::Command(Purpose::Other(done), command)]
}

pub(super) fn palette(model: &mut Model, action: Action) -> Vec<Want> {
    let found = matches(&model.palette);
    match action {
        Action::Down => model.palette.index = (model.palette.index + 1) % found.len().max(1),
        Action::Up => {
            let last = found.len().saturating_sub(1);
            model.palette.index = model.palette.index.checked_sub(1).unwrap_or(last);
        }
        Action::Close => model.close(Layer::Palette),
        Action::Yes => {
            model.close(Layer::Palette);
            if let Some(binding) = found.get(model.palette.index) {
                return overview::act(model, binding.action);
            }
        }
        _ => {}
    }
    Vec::new()
}

/// The commands whose words contain the letters written, in order.
pub(in crate::tui) fn matches(palette: &Palette) -> Vec<&'static Binding> {
    let wanted = palette.editor.text().to_lowercase();
    bindings(Layer::Overview)
        .iter()
        .filter(|binding| !matches!(binding.action, Action::Jump(_) | Action::Palette))
        .filter(|binding| is_subsequence(&wanted, &binding.help.to_lowercase()))
        .collect()
}

fn is_subsequence(wanted: &str, text: &str) -> bool {
    let mut rest = text.chars();
    wanted
        .chars()
        .filter(|c| !c.is_whitespace())
        .all(|c| rest.any(|other| other == c))
}
