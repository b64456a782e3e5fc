//! Which key does what in which layer: one table, from which the help is made.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What has the keyboard; the topmost open one gets each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The list.
    Overview,
    /// An agent's terminal: what is not bound is typed into it.
    Focus,
    /// An agent's terminal, scrolled back.
    Scroll,
    /// A new task is being written.
    Composer,
    /// The options of the new task.
    Options,
    /// A line or comment is being written.
    Line,
    /// The changes of a task.
    Diff,
    /// A question before something that cannot be undone.
    Confirm,
    /// All keys.
    Help,
    /// All commands by name.
    Palette,
}

/// What a key can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Select the agent with this number.
    Jump(u16),
    /// Next line.
    Down,
    /// Previous line.
    Up,
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// A page on.
    PageDown,
    /// A page back.
    PageUp,
    /// Into the selected agent's terminal, or the selected task's changes.
    Open,
    /// Out of the terminal.
    Leave,
    /// Write a task.
    Compose,
    /// Answer an agent's question.
    Answer,
    /// Type a line into an agent.
    SendLine,
    /// The next one that needs a human.
    NextWaiting,
    /// The changes of the selected task.
    Diff,
    /// Merge.
    Merge,
    /// Send back with a comment.
    Revise,
    /// Throw away.
    Discard,
    /// Bring back.
    Restore,
    /// Stop a task.
    Stop,
    /// Start a task again.
    Retry,
    /// Kill an agent's process.
    KillAgent,
    /// Stop everything.
    StopAll,
    /// Pause or resume the queue.
    Pause,
    /// Only the terminal.
    Zoom,
    /// Look back.
    Scroll,
    /// Copy what is shown.
    Copy,
    /// The next lower tab.
    NextTab,
    /// The previous lower tab.
    PreviousTab,
    /// A page on in the lower tab.
    TabDown,
    /// A page back in the lower tab.
    TabUp,
    /// Show all keys.
    Help,
    /// Show all commands.
    Palette,
    /// Close the layer.
    Close,
    /// Leave the dashboard; work goes on.
    Detach,
    /// Stop the client as a job of the shell.
    Suspend,
    /// Kill the server.
    KillServer,
    /// Say that Ctrl-c does not end anything here.
    Interrupt,
    /// Submit what was written.
    Submit,
    /// A line end in what is written.
    Newline,
    /// The options of the new task.
    Options,
    /// The next value of an option.
    NextValue,
    /// The previous value of an option.
    PreviousValue,
    /// Do it.
    Yes,
}

/// A key or a group of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// One key.
    Key(KeyCode, KeyModifiers),
    /// The digits 1 to 9 and 0 for 10.
    Digit(KeyModifiers),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Keys that do it.
    pub triggers: &'static [Trigger],
    /// What they do.
    pub action: Action,
    /// In words, for the help.
    pub help: &'static str,
}

const fn key(c: char) -> Trigger {
    Trigger::Key(KeyCode::Char(c), KeyModifiers::NONE)
}

const fn ctrl(c: char) -> Trigger {
    Trigger::Key(KeyCode::Char(c), KeyModifiers::CONTROL)
}

const fn named(code: KeyCode) -> Trigger {
    Trigger::Key(code, KeyModifiers::NONE)
}

const ESC: Trigger = named(KeyCode::Esc);
const ENTER: Trigger = named(KeyCode::Enter);
const ALT_ENTER: Trigger = Trigger::Key(KeyCode::Enter, KeyModifiers::ALT);
const DIGITS: Trigger = Trigger::Digit(KeyModifiers::NONE);
const ALT_DIGITS: Trigger = Trigger::Digit(KeyModifiers::ALT);
const DOWN: Trigger = named(KeyCode::Down);
const UP: Trigger = named(KeyCode::Up);
const PAGE_DOWN: Trigger = named(KeyCode::PageDown);
const PAGE_UP: Trigger = named(KeyCode::PageUp);

const fn bind(triggers: &'static [Trigger], action: Action, help: &'static str) -> Binding {
    Binding {
        triggers,
        action,
        help,
    }
}

const OVERVIEW: &[Binding] = &[
    bind(&[key('n')], Action::Compose, "write a new task"),
    bind(
        &[ENTER],
        Action::Open,
        "type into the agent, or look at the task's changes",
    ),
    bind(
        &[key('w'), key(' ')],
        Action::NextWaiting,
        "next that needs you",
    ),
    bind(&[key('d')], Action::Diff, "changes of the task"),
    bind(&[key('m')], Action::Merge, "merge the task"),
    bind(
        &[key('c')],
        Action::Revise,
        "send the task back with a comment",
    ),
    bind(&[key('a')], Action::Answer, "answer the agent's question"),
    bind(&[key('i')], Action::SendLine, "send a line to the agent"),
    bind(&[DIGITS], Action::Jump(0), "select an agent"),
    bind(&[key('j'), DOWN], Action::Down, "next line"),
    bind(&[key('k'), UP], Action::Up, "previous line"),
    bind(
        &[key('g'), named(KeyCode::Home)],
        Action::First,
        "first line",
    ),
    bind(&[key('G'), named(KeyCode::End)], Action::Last, "last line"),
    bind(&[PAGE_DOWN], Action::PageDown, "page down"),
    bind(&[PAGE_UP], Action::PageUp, "page up"),
    bind(
        &[key('D')],
        Action::Discard,
        "discard the task (asks; the work is archived)",
    ),
    bind(
        &[key('u')],
        Action::Restore,
        "restore a discarded, cancelled or dead task",
    ),
    bind(&[key('x')], Action::Stop, "stop the task (asks)"),
    bind(&[key('r')], Action::Retry, "start the task again"),
    bind(
        &[key('X')],
        Action::KillAgent,
        "kill the agent's process (asks; its task is queued again)",
    ),
    bind(
        &[key('z')],
        Action::Zoom,
        "only the terminal, or everything again",
    ),
    bind(&[key('v')], Action::Scroll, "look back in the terminal"),
    bind(&[key('p')], Action::Pause, "pause or resume the queue"),
    bind(&[key('S')], Action::StopAll, "stop everything (asks)"),
    bind(
        &[key(']'), named(KeyCode::Tab)],
        Action::NextTab,
        "next of queue, models, events",
    ),
    bind(
        &[key('['), named(KeyCode::BackTab)],
        Action::PreviousTab,
        "previous of queue, models, events",
    ),
    bind(&[key('}')], Action::TabDown, "a page on in that tab"),
    bind(&[key('{')], Action::TabUp, "a page back in that tab"),
    bind(&[key(':')], Action::Palette, "all commands by name"),
    bind(&[key('?')], Action::Help, "all keys"),
    bind(
        &[key('q')],
        Action::Detach,
        "leave the dashboard; work goes on",
    ),
    bind(&[ESC], Action::Close, "close what is on top"),
    bind(
        &[ctrl('z')],
        Action::Suspend,
        "suspend the dashboard (fg brings it back)",
    ),
    bind(
        &[ctrl('c')],
        Action::Interrupt,
        "nothing: work is never ended by accident",
    ),
    bind(
        &[key('K')],
        Action::KillServer,
        "kill the server (demo only: nothing gets lost)",
    ),
];

const FOCUS: &[Binding] = &[
    bind(
        &[ctrl('q'), ctrl('\\'), ctrl('4')],
        Action::Leave,
        "back to the list",
    ),
    bind(&[ALT_DIGITS], Action::Jump(0), "another agent"),
];

const SCROLL: &[Binding] = &[
    bind(&[key('j'), DOWN], Action::Down, "one line on"),
    bind(&[key('k'), UP], Action::Up, "one line back"),
    bind(
        &[PAGE_DOWN, key(' '), ctrl('d')],
        Action::PageDown,
        "a page on",
    ),
    bind(
        &[PAGE_UP, key('b'), ctrl('u')],
        Action::PageUp,
        "a page back",
    ),
    bind(
        &[key('g'), named(KeyCode::Home)],
        Action::First,
        "the oldest line",
    ),
    bind(
        &[key('G'), named(KeyCode::End)],
        Action::Last,
        "the newest line",
    ),
    bind(&[key('y')], Action::Copy, "copy what is shown"),
    bind(
        &[key('z')],
        Action::Zoom,
        "only the terminal, or everything again",
    ),
    bind(
        &[ESC, key('q'), key('v'), ctrl('c')],
        Action::Close,
        "back to the list",
    ),
];

const COMPOSER: &[Binding] = &[
    bind(&[ENTER], Action::Submit, "submit the task"),
    bind(&[ALT_ENTER, ctrl('j')], Action::Newline, "a new line"),
    bind(
        &[ctrl('o')],
        Action::Options,
        "template, mode, priority, model, verify command, autonomy",
    ),
    bind(&[ESC, ctrl('c')], Action::Close, "close; the draft is kept"),
];

const OPTIONS: &[Binding] = &[
    bind(&[DOWN, named(KeyCode::Tab)], Action::Down, "next option"),
    bind(
        &[UP, named(KeyCode::BackTab)],
        Action::Up,
        "previous option",
    ),
    bind(&[named(KeyCode::Right)], Action::NextValue, "next value"),
    bind(
        &[named(KeyCode::Left)],
        Action::PreviousValue,
        "previous value",
    ),
    bind(
        &[ENTER, ESC, ctrl('o'), ctrl('c')],
        Action::Close,
        "back to the text",
    ),
];

const LINE: &[Binding] = &[
    bind(&[ENTER], Action::Submit, "send"),
    bind(&[ALT_ENTER, ctrl('j')], Action::Newline, "a new line"),
    bind(&[ESC, ctrl('c')], Action::Close, "close without sending"),
];

const DIFF: &[Binding] = &[
    bind(&[key('j'), DOWN], Action::Down, "one line on"),
    bind(&[key('k'), UP], Action::Up, "one line back"),
    bind(
        &[PAGE_DOWN, key(' '), ctrl('d')],
        Action::PageDown,
        "a page on",
    ),
    bind(
        &[PAGE_UP, key('b'), ctrl('u')],
        Action::PageUp,
        "a page back",
    ),
    bind(
        &[key('g'), named(KeyCode::Home)],
        Action::First,
        "first line",
    ),
    bind(&[key('G'), named(KeyCode::End)], Action::Last, "last line"),
    bind(&[key('m')], Action::Merge, "merge the task"),
    bind(
        &[key('c')],
        Action::Revise,
        "send it back with a comment on the hunk shown",
    ),
    bind(&[key('D')], Action::Discard, "discard the task (asks)"),
    bind(&[key('y')], Action::Copy, "copy the changes"),
    bind(&[key('?')], Action::Help, "all keys"),
    bind(
        &[ESC, key('q'), key('d'), ctrl('c')],
        Action::Close,
        "back to the list",
    ),
];

const CONFIRM: &[Binding] = &[
    bind(&[key('y')], Action::Yes, "yes"),
    bind(&[key('n'), ESC, key('q'), ctrl('c')], Action::Close, "no"),
];

const HELP: &[Binding] = &[
    bind(&[key('j'), DOWN], Action::Down, "one line on"),
    bind(&[key('k'), UP], Action::Up, "one line back"),
    bind(&[PAGE_DOWN, key(' ')], Action::PageDown, "a page on"),
    bind(&[PAGE_UP], Action::PageUp, "a page back"),
    bind(
        &[ESC, key('q'), key('?'), ctrl('c')],
        Action::Close,
        "close",
    ),
];

const PALETTE: &[Binding] = &[
    bind(&[DOWN, ctrl('n')], Action::Down, "next"),
    bind(&[UP, ctrl('p')], Action::Up, "previous"),
    bind(&[ENTER], Action::Yes, "do it"),
    bind(&[ESC, ctrl('c')], Action::Close, "close"),
];

/// The layers with a heading, in the order of the help.
pub const LAYERS: &[(Layer, &str)] = &[
    (Layer::Overview, "Overview"),
    (Layer::Focus, "In an agent's terminal"),
    (Layer::Diff, "Changes"),
    (Layer::Composer, "New task"),
    (Layer::Options, "Options of a new task"),
    (Layer::Scroll, "Looking back"),
    (Layer::Line, "Answer, line or comment"),
    (Layer::Palette, "Commands"),
];

/// The table of a layer.
pub fn bindings(layer: Layer) -> &'static [Binding] {
    match layer {
        Layer::Overview => OVERVIEW,
        Layer::Focus => FOCUS,
        Layer::Scroll => SCROLL,
        Layer::Composer => COMPOSER,
        Layer::Options => OPTIONS,
        Layer::Line => LINE,
        Layer::Diff => DIFF,
        Layer::Confirm => CONFIRM,
        Layer::Help => HELP,
        Layer::Palette => PALETTE,
    }
}

/// What `key` does in `layer`.
pub fn lookup(layer: Layer, key: KeyEvent) -> Option<Action> {
    bindings(layer).iter().find_map(|binding| {
        binding
            .triggers
            .iter()
            .find_map(|trigger| matched(*trigger, key, binding.action))
    })
}

fn matched(trigger: Trigger, pressed: KeyEvent, action: Action) -> Option<Action> {
    // Shift is part of the character, and of BackTab.
    let modifiers = pressed.modifiers.difference(KeyModifiers::SHIFT);
    match trigger {
        Trigger::Key(code, wanted) => {
            (pressed.code == code && modifiers == wanted).then_some(action)
        }
        Trigger::Digit(wanted) => match pressed.code {
            KeyCode::Char(c) if modifiers == wanted => match c.to_digit(10)? {
                0 => Some(Action::Jump(10)),
                digit => Some(Action::Jump(u16::try_from(digit).ok()?)),
            },
            _ => None,
        },
    }
}

/// The keys of a binding in words: `j, Down`.
pub fn keys(binding: &Binding) -> String {
    let names: Vec<String> = binding.triggers.iter().map(|key| name(*key)).collect();
    names.join(", ")
}

/// The first key that does `action` in `layer`.
pub fn key_of(layer: Layer, action: Action) -> Option<String> {
    bindings(layer)
        .iter()
        .find(|binding| binding.action == action)
        .and_then(|binding| binding.triggers.first())
        .map(|trigger| name(*trigger))
}

fn name(trigger: Trigger) -> String {
    let (modifiers, key) = match trigger {
        Trigger::Digit(modifiers) => (modifiers, "1..9, 0".to_owned()),
        Trigger::Key(code, modifiers) => (modifiers, code_name(code)),
    };
    if modifiers.contains(KeyModifiers::CONTROL) {
        format!("Ctrl-{key}")
    } else if modifiers.contains(KeyModifiers::ALT) {
        format!("Alt-{key}")
    } else {
        key
    }
}

fn code_name(code: KeyCode) -> String {
    match code {
        KeyCode::Char(' ') => "Space".into(),
        KeyCode::Char(c) => c.into(),
        KeyCode::BackTab => "Shift-Tab".into(),
        code => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_means_two_things_in_a_layer() {
        for (layer, _) in LAYERS {
            let mut seen = HashSet::new();
            for trigger in bindings(*layer).iter().flat_map(|b| b.triggers) {
                assert!(seen.insert(format!("{trigger:?}")), "{layer:?} {trigger:?}");
            }
        }
    }

    #[test]
    fn digits_name_agents_and_nought_is_the_tenth() {
        let press = |c, modifiers| KeyEvent::new(KeyCode::Char(c), modifiers);
        let none = KeyModifiers::NONE;
        assert_eq!(
            lookup(Layer::Overview, press('3', none)),
            Some(Action::Jump(3))
        );
        assert_eq!(
            lookup(Layer::Overview, press('0', none)),
            Some(Action::Jump(10))
        );
        assert_eq!(lookup(Layer::Focus, press('3', none)), None);
        assert_eq!(
            lookup(Layer::Focus, press('3', KeyModifiers::ALT)),
            Some(Action::Jump(3))
        );
    }

    #[test]
    fn capitals_are_found_with_and_without_shift() {
        for modifiers in [KeyModifiers::NONE, KeyModifiers::SHIFT] {
            let press = KeyEvent::new(KeyCode::Char('G'), modifiers);
            assert_eq!(lookup(Layer::Overview, press), Some(Action::Last));
        }
    }

    #[test]
    fn help_names_keys_as_people_do() {
        let find = |action| {
            bindings(Layer::Overview)
                .iter()
                .find(|binding| binding.action == action)
                .map(keys)
                .unwrap()
        };
        assert_eq!(find(Action::NextWaiting), "w, Space");
        assert_eq!(find(Action::Suspend), "Ctrl-z");
        assert_eq!(find(Action::PreviousTab), "[, Shift-Tab");
    }
}
