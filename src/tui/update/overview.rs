//! The list: moving in it, and what can be done to the selected agent or task.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::super::editor::Editor;
use super::super::keymap::{Action, Layer};
use super::super::layout::{areas, inner};
use super::super::message::{Purpose, Want};
use super::super::model::{
    Confirm, DiffContent, DiffPanel, LinePanel, LinePurpose, Model, Row, Tab, Tone,
};
use super::super::view::tab_extent;
use super::{page, terminal};
use crate::core::command::Command;
use crate::core::task::{Task, TaskState};
use crate::core::verify::VerifyOutcome;
use crate::core::{AgentSlot, TaskId};

pub(super) fn act(model: &mut Model, action: Action) -> Vec<Want> {
    match action {
        Action::Down => step(model, 1),
        Action::Up => step(model, -1),
        Action::PageDown => step(model, isize::try_from(page(model)).unwrap_or(1)),
        Action::PageUp => step(model, -isize::try_from(page(model)).unwrap_or(1)),
        Action::First => select(model, 0),
        Action::Last => select(model, usize::MAX),
        Action::Jump(number) => jump(model, number),
        Action::NextWaiting => next_waiting(model),
        Action::Open => open(model),
        Action::Compose => compose(model),
        Action::Help => {
            model.help = 0;
            show(model, Layer::Help)
        }
        Action::Palette => {
            model.palette = super::super::model::Palette::default();
            show(model, Layer::Palette)
        }
        Action::NextTab => tab(model, 1),
        Action::PreviousTab => tab(model, Tab::ALL.len() - 1),
        Action::TabDown => page_tab(model, 1),
        Action::TabUp => page_tab(model, -1),
        Action::Zoom => terminal::zoom(model),
        Action::Scroll => terminal::look_back(model, 0),
        Action::Detach => vec![Want::Detach],
        Action::Suspend => vec![Want::Suspend],
        Action::Close => close(model),
        Action::Interrupt => {
            model.say(
                Tone::Refused,
                "Ctrl-c ends nothing here: q leaves, x stops a task",
            );
            Vec::new()
        }
        Action::Pause => pause(model),
        Action::StopAll => stop_all(model),
        Action::KillServer => kill_server(model),
        Action::Answer => answer(model),
        Action::SendLine => with_agent(model, send_line),
        Action::KillAgent => with_agent(model, kill_agent),
        Action::Diff => shown_changes(model),
        Action::Merge => with_task(model, merge),
        Action::Revise => with_task(model, revise),
        Action::Discard => with_task(model, discard),
        Action::Restore => with_task(model, restore),
        Action::Stop => with_task(model, stop),
        Action::Retry => with_task(model, retry),
        Action::Leave
        | Action::Copy
        | Action::Submit
        | Action::Newline
        | Action::Options
        | Action::NextValue
        | Action::PreviousValue
        | Action::Yes => Vec::new(),
    }
}

pub(super) fn mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Want> {
    let areas = areas(model);
    let at = Position::new(mouse.column, mouse.row);
    match mouse.kind {
        MouseEventKind::ScrollUp if areas.lower.contains(at) => scroll_tab(model, -1),
        MouseEventKind::ScrollDown if areas.lower.contains(at) => scroll_tab(model, 1),
        MouseEventKind::ScrollUp if areas.main.contains(at) => terminal::look_back(model, 3),
        MouseEventKind::ScrollUp => step(model, -1),
        MouseEventKind::ScrollDown if areas.list.contains(at) => step(model, 1),
        MouseEventKind::Down(MouseButton::Left) if areas.main.contains(at) => open(model),
        MouseEventKind::Down(MouseButton::Left) if inner(areas.list).contains(at) => {
            let visible = inner(areas.list);
            let top = list_top(model, usize::from(visible.height));
            let index = top + usize::from(mouse.row - visible.y);
            if index < model.rows().len() {
                select(model, index);
            }
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// First line of the list that is shown in `height` lines.
pub(in crate::tui) fn list_top(model: &Model, height: usize) -> usize {
    (model.list.index + 1).saturating_sub(height.max(1))
}

fn show(model: &mut Model, layer: Layer) -> Vec<Want> {
    model.open(layer);
    Vec::new()
}

/// Opens the composer; the templates are looked for anew, because files may have changed.
fn compose(model: &mut Model) -> Vec<Want> {
    model.open(Layer::Composer);
    vec![Want::Templates]
}

fn close(model: &mut Model) -> Vec<Want> {
    model.terminal.is_zoomed = false;
    Vec::new()
}

fn tab(model: &mut Model, steps: usize) -> Vec<Want> {
    model.tab = model.tab.stepped(steps);
    model.tab_top = 0;
    Vec::new()
}

fn page_tab(model: &mut Model, pages: isize) -> Vec<Want> {
    let (page, _) = tab_extent(model);
    scroll_tab(model, pages * isize::try_from(page.max(1)).unwrap_or(1))
}

fn scroll_tab(model: &mut Model, steps: isize) -> Vec<Want> {
    let (_, last) = tab_extent(model);
    model.tab_top = model.tab_top.saturating_add_signed(steps).min(last);
    Vec::new()
}

fn step(model: &mut Model, steps: isize) -> Vec<Want> {
    select(model, model.list.index.saturating_add_signed(steps))
}

fn select(model: &mut Model, index: usize) -> Vec<Want> {
    let rows = model.rows();
    model.list.index = index.min(rows.len().saturating_sub(1));
    model.list.cursor = rows.get(model.list.index).copied();
    terminal::forget_other(model);
    Vec::new()
}

pub(super) fn jump(model: &mut Model, number: u16) -> Vec<Want> {
    let row = Row::Agent(AgentSlot(number));
    let Some(index) = model.rows().iter().position(|other| *other == row) else {
        model.say(Tone::Refused, format!("there is no agent {number}"));
        return Vec::new();
    };
    select(model, index)
}

fn next_waiting(model: &mut Model) -> Vec<Want> {
    let rows = model.rows();
    let after = (1..=rows.len()).map(|steps| (model.list.index + steps) % rows.len());
    let mut waiting =
        after.filter(|index| rows.get(*index).is_some_and(|row| model.needs_human(*row)));
    let found = waiting.next();
    let Some(index) = found else {
        model.say(Tone::Done, "nothing needs you");
        return Vec::new();
    };
    select(model, index)
}

/// Into the agent's terminal, or what is most useful for a task.
fn open(model: &mut Model) -> Vec<Want> {
    match model.list.cursor {
        Some(Row::Agent(_)) => terminal::focus(model),
        Some(Row::Task(_)) => with_task(model, diff),
        None => compose(model),
    }
}

fn with_task(model: &mut Model, then: fn(&mut Model, &Task) -> Vec<Want>) -> Vec<Want> {
    let Some(task) = model.task().cloned() else {
        let text = match model.agent().map(|agent| agent.slot) {
            Some(slot) if model.waiting_count() > 0 => {
                format!("agent {slot} has no task; w selects the next that waits for you")
            }
            Some(slot) => format!("agent {slot} has no task; n writes one"),
            None => "no task is selected; n writes a new one".into(),
        };
        model.say(Tone::Refused, text);
        return Vec::new();
    };
    then(model, &task)
}

/// The changes of the selected task; beside a free agent those of the task whose end it shows.
fn shown_changes(model: &mut Model) -> Vec<Want> {
    let last = model.agent().filter(|agent| agent.task.is_none());
    let last = last.and_then(|agent| model.last_in_review(agent.slot));
    match last.cloned() {
        Some(task) => diff(model, &task),
        None => with_task(model, diff),
    }
}

fn with_agent(model: &mut Model, then: fn(&mut Model, AgentSlot) -> Vec<Want>) -> Vec<Want> {
    let Some(slot) = model.agent().map(|agent| agent.slot) else {
        model.say(Tone::Refused, "no agent is selected; a digit selects one");
        return Vec::new();
    };
    then(model, slot)
}

fn command(done: impl Into<String>, command: Command) -> Want {
    Want::Command(Purpose::Other(done.into()), command)
}

pub(super) fn diff(model: &mut Model, task: &Task) -> Vec<Want> {
    model.diff = Some(DiffPanel {
        task: task.id,
        content: DiffContent::Loading,
        top: 0,
    });
    model.open(Layer::Diff);
    let mut wants = vec![Want::Diff(task.id)];
    if task.unseen {
        wants.push(command("", Command::MarkSeen { task: task.id }));
    }
    wants
}

pub(super) fn merge(model: &mut Model, task: &Task) -> Vec<Want> {
    let id = task.id;
    let want = command(
        format!("task {id} merged"),
        Command::Merge {
            task: id,
            strategy: None,
        },
    );
    match task.verify.as_ref().map(|report| report.outcome) {
        Some(outcome @ (VerifyOutcome::Failed | VerifyOutcome::Unclear))
            if task.state == TaskState::Review =>
        {
            let outcome = outcome.as_str();
            ask(
                model,
                format!("The verification is {outcome}. Merge task {id} anyway?"),
                want,
            )
        }
        _ => vec![want],
    }
}

pub(super) fn revise(model: &mut Model, task: &Task) -> Vec<Want> {
    let quote = model
        .diff
        .as_ref()
        .filter(|diff| model.is_open(Layer::Diff) && diff.task == task.id)
        .and_then(super::reading::hunk)
        .unwrap_or_default();
    model.line = Some(LinePanel {
        purpose: LinePurpose::Revise(task.id),
        title: format!("send task {} back", task.id),
        question: String::from("What should be done differently?"),
        editor: Editor::new(&quote),
    });
    show(model, Layer::Line)
}

pub(super) fn discard(model: &mut Model, task: &Task) -> Vec<Want> {
    let id = task.id;
    let want = command(
        format!("task {id} discarded; u restores it"),
        Command::Discard { task: id },
    );
    ask(
        model,
        format!("Discard task {id}? The work is archived."),
        want,
    )
}

fn restore(_: &mut Model, task: &Task) -> Vec<Want> {
    let id = task.id;
    vec![command(
        format!("task {id} restored"),
        Command::Restore { task: id },
    )]
}

fn stop(model: &mut Model, task: &Task) -> Vec<Want> {
    let id = task.id;
    let want = command(format!("task {id} stopped"), Command::Cancel { task: id });
    ask(
        model,
        format!("Stop task {id}? What it has done so far is kept."),
        want,
    )
}

fn retry(_: &mut Model, task: &Task) -> Vec<Want> {
    let id: TaskId = task.id;
    vec![command(
        format!("task {id} starts again"),
        Command::Retry { task: id },
    )]
}

fn kill_agent(model: &mut Model, slot: AgentSlot) -> Vec<Want> {
    let want = command(format!("agent {slot} killed"), Command::KillAgent { slot });
    let question = format!("Kill the process of agent {slot}? Its task goes back to the queue.");
    ask(model, question, want)
}

fn stop_all(model: &mut Model) -> Vec<Want> {
    let want = command("everything is stopped", Command::StopAll);
    ask(
        model,
        "Stop everything that is not finished? Work done so far is kept.".into(),
        want,
    )
}

fn kill_server(model: &mut Model) -> Vec<Want> {
    if model.view.demo {
        let question = "Kill the server? The keeper starts a new one; agents go on.";
        return ask(model, question.into(), Want::KillServer);
    }
    model.say(Tone::Refused, "K works only in 'warpsquad demo'");
    Vec::new()
}

fn ask(model: &mut Model, question: String, want: Want) -> Vec<Want> {
    model.confirm = Some(Confirm { question, want });
    show(model, Layer::Confirm)
}

fn pause(model: &mut Model) -> Vec<Want> {
    vec![if model.view.paused {
        command("the queue goes on", Command::Resume)
    } else {
        command("the queue is paused; p resumes it", Command::Pause)
    }]
}

/// The question of the selected agent, or of the first one that asks.
fn answer(model: &mut Model) -> Vec<Want> {
    let asks = |agent: &&crate::engine::view::AgentView| agent.report.question.is_some();
    let agent = model
        .agent()
        .filter(asks)
        .or_else(|| model.view.agents.iter().find(asks));
    let Some((slot, question)) = agent.and_then(|agent| {
        let question = agent.report.question.as_ref()?;
        Some((agent.slot, question.text.clone()))
    }) else {
        model.say(Tone::Refused, "no agent asks anything");
        return Vec::new();
    };
    model.line = Some(LinePanel {
        purpose: LinePurpose::Answer(slot),
        title: format!("answer agent {slot}"),
        question,
        editor: Editor::default(),
    });
    show(model, Layer::Line)
}

fn send_line(model: &mut Model, slot: AgentSlot) -> Vec<Want> {
    model.line = Some(LinePanel {
        purpose: LinePurpose::Send(slot),
        title: format!("send a line to agent {slot}"),
        question: String::new(),
        editor: Editor::default(),
    });
    show(model, Layer::Line)
}
