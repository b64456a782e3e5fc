//! The terminal of the selected agent: typing into it, its size, looking back.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::super::keymap::{Action, Layer};
use super::super::layout::{areas, first_row};
use super::super::message::Want;
use super::super::model::{Model, Row, TerminalPanel, Tone};
use super::overview;
use crate::core::AgentSlot;
use crate::core::agent::AgentState;
use crate::pty::input::encode;

/// A second Ctrl-c within this would end Aider.
const INTERRUPT_GUARD: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) fn act(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Leave => {
            model.close(Layer::Focus);
            Vec::new()
        }
        Action::Jump(number) => {
            let mut wants = overview::jump(model, number);
            wants.extend(fit(model));
            wants
        }
        _ => Vec::new(),
    }
}

/// Types into the selected agent from now on.
pub(super) fn focus(model: &mut Model) -> Vec<Want> {
    if !has_screen(model) {
        model.say(
            Tone::Refused,
            "this agent has no terminal yet; n writes a task",
        );
        return Vec::new();
    }
    if let Some(slot) = without_process(model) {
        let text = format!("nothing runs in agent {slot} now; v looks back, n writes a task");
        model.say(Tone::Refused, text);
        return Vec::new();
    }
    model.open(Layer::Focus);
    fit(model)
}

/// The selected agent, if keys would reach nobody there.
fn without_process(model: &Model) -> Option<AgentSlot> {
    let agent = model.agent()?;
    let is_gone = matches!(agent.report.state, AgentState::Cold | AgentState::Dead);
    is_gone.then_some(agent.slot)
}

/// Gives the agent's terminal the size of the panel.
pub(super) fn fit(model: &Model) -> Vec<Want> {
    let Some(agent) = model.agent() else {
        return Vec::new();
    };
    let size = areas(model).terminal_size();
    vec![Want::Resize(agent.slot, size)]
}

pub(super) fn zoom(model: &mut Model) -> Vec<Want> {
    model.terminal.is_zoomed = !model.terminal.is_zoomed;
    if model.terminal.is_zoomed {
        fit(model)
    } else {
        Vec::new()
    }
}

/// Looks `lines` back.
pub(super) fn look_back(model: &mut Model, lines: usize) -> Vec<Want> {
    let Some(slot) = model
        .agent()
        .map(|agent| agent.slot)
        .filter(|_| has_screen(model))
    else {
        model.say(Tone::Refused, "there is no terminal to look back in");
        return Vec::new();
    };
    model.terminal.past.clone_from(&model.terminal.screen);
    model.open(Layer::Scroll);
    vec![Want::Scrollback(slot, lines)]
}

/// Sends an event to the program, in the form that it wants.
pub(super) fn pass(model: &mut Model, event: &Event) -> Vec<Want> {
    if model.layer() != Layer::Focus || is_second_interrupt(model, event) {
        return Vec::new();
    }
    if let (Event::Key(_) | Event::Paste(_), Some(slot)) = (event, without_process(model)) {
        let text = format!("nothing runs in agent {slot} any more; Ctrl-q leads back to the list");
        model.say(Tone::Refused, text);
        return Vec::new();
    }
    let (Some(agent), Some(screen)) = (model.agent(), &model.terminal.screen) else {
        return Vec::new();
    };
    let bytes = encode(event, &screen.modes);
    if bytes.is_empty() {
        return Vec::new();
    }
    vec![Want::Input(agent.slot, bytes)]
}

pub(super) fn mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Want> {
    let area = areas(model).terminal();
    if !area.contains(Position::new(mouse.column, mouse.row)) {
        return Vec::new();
    }
    let top = model
        .terminal
        .screen
        .as_ref()
        .map_or(0, |screen| first_row(screen, area.height));
    let inside = MouseEvent {
        column: mouse.column - area.x,
        row: mouse.row - area.y + top,
        ..mouse
    };
    let wants = pass(model, &Event::Mouse(inside));
    if wants.is_empty() && mouse.kind == MouseEventKind::ScrollUp {
        return look_back(model, 3);
    }
    wants
}

/// Drops the screen of an agent that is no longer selected, and what was open above it.
pub(super) fn forget_other(model: &mut Model) {
    let slot = model.agent().map(|agent| agent.slot);
    if model.terminal.slot == slot {
        return;
    }
    model.terminal = TerminalPanel {
        slot,
        is_zoomed: model.terminal.is_zoomed,
        ..TerminalPanel::default()
    };
    model.close(Layer::Scroll);
    if !matches!(model.list.cursor, Some(Row::Agent(_))) {
        model.close(Layer::Focus);
        model.terminal.is_zoomed = false;
    }
}

fn has_screen(model: &Model) -> bool {
    model.terminal.screen.is_some()
}

/// Two Ctrl-c in a row end Aider; the second one is swallowed.
fn is_second_interrupt(model: &mut Model, event: &Event) -> bool {
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let Event::Key(key) = event else { return false };
    if (key.code, key.modifiers) != (interrupt.code, interrupt.modifiers) {
        return false;
    }
    let now = model.now;
    let is_second = model
        .terminal
        .interrupted
        .is_some_and(|last| now.since(last) < INTERRUPT_GUARD);
    if is_second {
        model.say(
            Tone::Refused,
            "a second Ctrl-c would end Aider: swallowed; x stops the task",
        );
    } else {
        model.terminal.interrupted = Some(now);
    }
    is_second
}
