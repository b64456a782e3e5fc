//! (state, keys, state and wants).

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEventKind};

use super::super::fixture::{NOW, alarming, empty, model, normal, screen};
use super::super::model::{LinePurpose, Row, Tab};
use super::*;
use crate::core::agent::AgentState;
use crate::core::command::Command;
use crate::core::task::TaskState;
use crate::engine::View;

mod composing;

const SIZE: Size = Size::new(120, 40);

fn given(view: View) -> Model {
    let mut model = model(SIZE, view);
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(screen())),
        NOW,
    );
    model
}

fn key(model: &mut Model, code: KeyCode, modifiers: KeyModifiers) -> Vec<Want> {
    let key = Event::Key(KeyEvent::new(code, modifiers));
    update(model, Message::Event(key), NOW)
}

/// Presses each character; the wants of the last one.
fn press(model: &mut Model, keys: &str) -> Vec<Want> {
    keys.chars()
        .map(|c| key(model, KeyCode::Char(c), KeyModifiers::NONE))
        .last()
        .unwrap_or_default()
}

fn enter(model: &mut Model) -> Vec<Want> {
    key(model, KeyCode::Enter, KeyModifiers::NONE)
}

fn commands(wants: &[Want]) -> Vec<&Command> {
    wants
        .iter()
        .filter_map(|want| match want {
            Want::Command(_, command) => Some(command),
            _ => None,
        })
        .collect()
}

fn on_task(view: View, id: u64) -> Model {
    let mut model = given(view);
    model.list.cursor = Some(Row::Task(TaskId(id)));
    model.follow();
    model
}

fn notice(model: &Model) -> &str {
    model
        .notice
        .as_ref()
        .map_or("", |notice| notice.text.as_str())
}

#[test]
fn digits_letters_and_ends_move_the_cursor() {
    let mut model = given(normal());
    press(&mut model, "3");
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(3))));
    press(&mut model, "jj");
    assert_eq!(model.list.cursor, Some(Row::Task(TaskId(4))));
    press(&mut model, "k");
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(4))));
    press(&mut model, "G");
    assert_eq!(model.list.cursor, Some(Row::Task(TaskId(8))));
    press(&mut model, "jg");
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(1))));
    press(&mut model, "9");
    assert_eq!(notice(&model), "there is no agent 9");
}

#[test]
fn the_cursor_stays_on_its_task_and_follows_it_to_an_agent() {
    let mut model = on_task(normal(), 6);
    let mut view = normal();
    view.tasks.retain(|task| task.id != TaskId(5));
    update(&mut model, Message::View(Arc::new(view)), NOW);
    assert_eq!(model.list.cursor, Some(Row::Task(TaskId(6))));
    let mut view = normal();
    for task in &mut view.tasks {
        if task.id == TaskId(6) {
            let mut taken = super::super::fixture::task(6, TaskState::Running, "x");
            taken.attempts[0].slot = AgentSlot(4);
            *task = Arc::new(taken);
        }
    }
    update(&mut model, Message::View(Arc::new(view)), NOW);
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(4))));
    update(&mut model, Message::View(Arc::new(View::default())), NOW);
    assert_eq!(model.list.cursor, None);
}

#[test]
fn w_goes_to_each_that_needs_a_human_in_turn() {
    let mut model = given(alarming());
    press(&mut model, "w");
    assert_eq!(model.list.cursor, Some(Row::Task(TaskId(2))));
    press(&mut model, " ");
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(1))));
    let mut idle = given(empty());
    press(&mut idle, "w");
    assert_eq!(notice(&idle), "nothing needs you");
}

#[test]
fn pasted_text_opens_the_composer_and_never_acts_as_keys() {
    let mut model = given(normal());
    let wants = update(
        &mut model,
        Message::Event(Event::Paste("q\nx\ny".into())),
        NOW,
    );
    assert_eq!(wants, [Want::Templates]);
    assert_eq!(model.layer(), Layer::Composer);
    assert_eq!(model.composer.editor.text(), "q\nx\ny");
    let huge = "x".repeat(super::super::editor::TEXT_MAX);
    update(&mut model, Message::Event(Event::Paste(huge)), NOW);
    assert!(notice(&model).contains("nothing was inserted"));
    let mut asked = given(normal());
    press(&mut asked, "x");
    let wants = update(&mut asked, Message::Event(Event::Paste("y".into())), NOW);
    assert_eq!((wants, asked.layer()), (vec![], Layer::Confirm));
}

#[test]
fn what_cannot_be_undone_asks_first() {
    for (keys, id, command) in [
        ("x", 6, Command::Cancel { task: TaskId(6) }),
        ("D", 4, Command::Discard { task: TaskId(4) }),
        ("S", 4, Command::StopAll),
    ] {
        let mut model = on_task(normal(), id);
        assert_eq!(press(&mut model, keys), []);
        assert_eq!(press(&mut model, "n"), []);
        assert_eq!(model.layer(), Layer::Overview);
        press(&mut model, keys);
        assert_eq!(commands(&press(&mut model, "y")), [&command]);
    }
}

#[test]
fn a_good_result_is_merged_at_once_and_a_bad_one_after_a_question() {
    let merge = |task| Command::Merge {
        task: TaskId(task),
        strategy: None,
    };
    let mut good = on_task(normal(), 4);
    assert_eq!(commands(&press(&mut good, "m")), [&merge(4)]);
    let mut bad = on_task(alarming(), 2);
    assert_eq!(press(&mut bad, "m"), []);
    assert_eq!(commands(&press(&mut bad, "y")), [&merge(2)]);
}

#[test]
fn a_task_is_sent_back_with_the_hunk_that_was_looked_at() {
    let mut model = on_task(normal(), 4);
    let wants = press(&mut model, "d");
    assert_eq!(wants[0], Want::Diff(TaskId(4)));
    assert_eq!(commands(&wants), [&Command::MarkSeen { task: TaskId(4) }]);
    let diff = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n";
    update(&mut model, Message::Diff(TaskId(4), Ok(diff.into())), NOW);
    press(&mut model, "jjjjcno");
    let wants = enter(&mut model);
    assert_eq!(
        commands(&wants),
        [&Command::Revise {
            task: TaskId(4),
            comment: "a @@ -1 +1 @@\nno".into()
        }]
    );
    assert_eq!(model.layer(), Layer::Overview);
}

#[test]
fn a_diff_that_comes_late_does_not_replace_another_one() {
    let mut model = on_task(normal(), 4);
    press(&mut model, "d");
    update(
        &mut model,
        Message::Diff(TaskId(5), Ok("other".into())),
        NOW,
    );
    assert_eq!(
        model.diff.as_ref().map(|diff| &diff.content),
        Some(&DiffContent::Loading)
    );
    update(&mut model, Message::Diff(TaskId(4), Ok("\n".into())), NOW);
    assert_eq!(
        model.diff.map(|diff| diff.content),
        Some(DiffContent::Lines(Vec::new()))
    );
}

#[test]
fn a_question_is_answered_from_anywhere_in_the_list() {
    let mut model = on_task(alarming(), 2);
    press(&mut model, "a");
    assert_eq!(
        model.line.as_ref().map(|line| line.purpose),
        Some(LinePurpose::Answer(AgentSlot(1)))
    );
    press(&mut model, "n");
    assert_eq!(
        commands(&enter(&mut model)),
        [&Command::Answer {
            slot: AgentSlot(1),
            text: "n".into()
        }]
    );
    let mut calm = given(normal());
    press(&mut calm, "a");
    assert_eq!(notice(&calm), "no agent asks anything");
}

#[test]
fn a_line_is_sent_to_the_selected_agent() {
    let mut model = given(normal());
    press(&mut model, "2i/undo");
    assert_eq!(
        commands(&enter(&mut model)),
        [&Command::SendLine {
            slot: AgentSlot(2),
            text: "/undo".into()
        }]
    );
}

#[test]
fn restore_retry_and_pause_are_commands() {
    let mut model = on_task(alarming(), 3);
    assert_eq!(
        commands(&press(&mut model, "u")),
        [&Command::Restore { task: TaskId(3) }]
    );
    assert_eq!(
        commands(&press(&mut model, "r")),
        [&Command::Retry { task: TaskId(3) }]
    );
    assert_eq!(commands(&press(&mut model, "p")), [&Command::Resume]);
    assert_eq!(
        commands(&press(&mut given(normal()), "p")),
        [&Command::Pause]
    );
}

#[test]
fn keys_go_to_the_agent_only_while_it_is_focused() {
    let mut model = given(normal());
    let wants = enter(&mut model);
    let [Want::Resize(AgentSlot(1), size)] = wants[..] else {
        panic!("{wants:?}");
    };
    assert_eq!(size, areas(&model).terminal_size());
    assert_eq!(
        press(&mut model, "q"),
        [Want::Input(AgentSlot(1), b"q".to_vec())]
    );
    key(&mut model, KeyCode::Char('2'), KeyModifiers::ALT);
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(2))));
    assert_eq!(press(&mut model, "q"), [], "its terminal is not known yet");
    key(&mut model, KeyCode::Char('\\'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut model, "q"), [Want::Detach]);
}

#[test]
fn an_agent_without_a_terminal_cannot_be_focused_and_a_lost_one_lets_go() {
    let mut model = given(normal());
    press(&mut model, "2");
    enter(&mut model);
    assert_eq!(model.layer(), Layer::Overview);
    press(&mut model, "1");
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(screen())),
        NOW,
    );
    enter(&mut model);
    assert_eq!(model.layer(), Layer::Focus);
    update(&mut model, Message::Screen(AgentSlot(1), None), NOW);
    assert_eq!(model.layer(), Layer::Overview);
}

#[test]
fn a_second_interrupt_within_two_seconds_is_swallowed() {
    let mut model = given(normal());
    enter(&mut model);
    let interrupt = || {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        Message::Event(Event::Key(key))
    };
    let sent = [Want::Input(AgentSlot(1), vec![3])];
    assert_eq!(update(&mut model, interrupt(), NOW), sent);
    let soon = NOW.plus(Duration::from_millis(1999));
    assert_eq!(update(&mut model, interrupt(), soon), []);
    assert!(notice(&model).contains("swallowed"));
    let later = NOW.plus(Duration::from_secs(2));
    assert_eq!(update(&mut model, interrupt(), later), sent);
}

#[test]
fn a_paste_into_an_agent_is_bracketed_when_it_wants_that() {
    let mut model = given(normal());
    let mut emulator = crate::pty::Screen::new(Size::new(80, 24), 0);
    emulator.feed(b"\x1b[?2004h");
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(emulator.snapshot(0))),
        NOW,
    );
    enter(&mut model);
    let wants = update(&mut model, Message::Event(Event::Paste("a\nb".into())), NOW);
    let bytes = b"\x1b[200~a\rb\x1b[201~".to_vec();
    assert_eq!(wants, [Want::Input(AgentSlot(1), bytes)]);
}

#[test]
fn looking_back_moves_from_the_newest_line_to_the_oldest() {
    let mut model = given(normal());
    let mut emulator = crate::pty::Screen::new(Size::new(40, 5), 100);
    for line in 0..50 {
        emulator.feed(format!("{line}\r\n").as_bytes());
    }
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(emulator.snapshot(0))),
        NOW,
    );
    assert_eq!(press(&mut model, "v"), [Want::Scrollback(AgentSlot(1), 0)]);
    assert_eq!(press(&mut model, "k"), [Want::Scrollback(AgentSlot(1), 1)]);
    let past = emulator.snapshot(1);
    update(
        &mut model,
        Message::Scrollback(AgentSlot(1), Some(past.clone())),
        NOW,
    );
    assert_eq!(press(&mut model, "j"), [Want::Scrollback(AgentSlot(1), 0)]);
    assert_eq!(
        press(&mut model, "g"),
        [Want::Scrollback(AgentSlot(1), past.history)]
    );
    press(&mut model, "q");
    assert_eq!(
        (model.layer(), model.terminal.past.clone()),
        (Layer::Overview, None)
    );
}

#[test]
fn another_window_size_reaches_a_focused_agent() {
    let mut model = given(normal());
    let resize = |columns, rows| Message::Event(Event::Resize(columns, rows));
    assert_eq!(update(&mut model, resize(90, 30), NOW), []);
    enter(&mut model);
    let wants = update(&mut model, resize(60, 20), NOW);
    assert_eq!(wants, [Want::Resize(AgentSlot(1), Size::new(60, 17))]);
}

#[test]
fn leaving_suspending_and_the_demo_only_key() {
    let mut model = given(normal());
    assert_eq!(press(&mut model, "q"), [Want::Detach]);
    assert_eq!(
        key(&mut model, KeyCode::Char('z'), KeyModifiers::CONTROL),
        [Want::Suspend]
    );
    assert_eq!(
        key(&mut model, KeyCode::Char('c'), KeyModifiers::CONTROL),
        []
    );
    assert_eq!(press(&mut model, "Ky"), []);
    assert!(!model.is_open(Layer::Confirm));
    let mut demo = given(View {
        demo: true,
        ..normal()
    });
    assert_eq!(press(&mut demo, "Ky"), [Want::KillServer]);
}

#[test]
fn the_palette_does_what_its_line_says() {
    let mut model = given(normal());
    press(&mut model, ":pause");
    assert_eq!(commands(&enter(&mut model)), [&Command::Pause]);
    press(&mut model, ":zzzzzz");
    assert_eq!(enter(&mut model), []);
}

#[test]
fn tabs_go_around_both_ways() {
    let mut model = given(normal());
    press(&mut model, "]]");
    assert_eq!(model.tab, Tab::Events);
    press(&mut model, "][");
    assert_eq!(model.tab, Tab::Events);
}

#[test]
fn another_tab_begins_at_its_first_line() {
    let mut model = given(normal());
    model.tab_top = 3;
    press(&mut model, "]");
    assert_eq!(model.tab_top, 0);
}

#[test]
fn a_tab_is_scrolled_no_farther_than_its_last_line() {
    let mut view = normal();
    let event = Arc::clone(&view.events[0]);
    view.events = vec![event; 30];
    let mut model = given(view);
    model.tab = Tab::Events;
    let (page, last) = super::super::view::tab_extent(&model);
    assert_eq!(page + last, 30);
    press(&mut model, "}");
    assert_eq!(model.tab_top, page);
    press(&mut model, "}}}}}}}}}}");
    assert_eq!(model.tab_top, last);
    press(&mut model, "{{{{{{{{{{");
    assert_eq!(model.tab_top, 0);
    let lower = areas(&model).lower;
    let wheel = Event::Mouse(MouseEvent {
        kind: MouseEventKind::ScrollDown,
        column: lower.x,
        row: lower.y + 1,
        modifiers: KeyModifiers::NONE,
    });
    update(&mut model, Message::Event(wheel), NOW);
    assert_eq!(model.tab_top, 1);
}

#[test]
fn a_click_selects_a_line_and_the_wheel_looks_back() {
    let mut model = given(normal());
    let list = areas(&model).list;
    let at = |kind, column, row| {
        Message::Event(Event::Mouse(MouseEvent {
            kind,
            column,
            row,
            modifiers: KeyModifiers::NONE,
        }))
    };
    let click = MouseEventKind::Down(MouseButton::Left);
    update(&mut model, at(click, 3, list.y + 3), NOW);
    assert_eq!(model.list.cursor, Some(Row::Agent(AgentSlot(3))));
    update(&mut model, at(click, 3, list.bottom() - 1), NOW);
    assert_eq!(
        model.list.cursor,
        Some(Row::Agent(AgentSlot(3))),
        "below the last line"
    );
    press(&mut model, "1");
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(screen())),
        NOW,
    );
    let main = areas(&model).main;
    let wants = update(
        &mut model,
        at(MouseEventKind::ScrollUp, main.x + 2, main.y + 2),
        NOW,
    );
    assert_eq!(wants, [Want::Scrollback(AgentSlot(1), 3)]);
}

#[test]
fn answers_are_told_until_the_next_key() {
    let mut model = given(normal());
    let done = Message::Answered(Purpose::Other("task 4 merged".into()), Ok(Reply::Done));
    update(&mut model, done, NOW);
    assert_eq!(notice(&model), "task 4 merged");
    press(&mut model, "j");
    assert_eq!(notice(&model), "");
    let silent = Message::Answered(Purpose::Other(String::new()), Ok(Reply::Done));
    update(&mut model, silent, NOW);
    assert_eq!(notice(&model), "");
}

#[test]
fn beside_a_free_agent_d_shows_what_it_did_last_and_other_keys_say_what_to_do() {
    let mut model = given(normal());
    assert_eq!(press(&mut model, "4m"), []);
    assert_eq!(
        notice(&model),
        "agent 4 has no task; w selects the next that waits for you"
    );
    let wants = press(&mut model, "d");
    assert!(wants.contains(&Want::Diff(TaskId(4))), "{wants:?}");
}

#[test]
fn keys_are_not_typed_where_nothing_runs() {
    let mut model = given(normal());
    enter(&mut model);
    assert_eq!(model.layer(), Layer::Focus);
    let mut ended = normal();
    ended.agents[0].task = None;
    ended.agents[0].report.state = AgentState::Cold;
    update(&mut model, Message::View(Arc::new(ended)), NOW);
    assert_eq!(press(&mut model, "y"), []);
    assert!(notice(&model).contains("Ctrl-q leads back"));
    key(&mut model, KeyCode::Char('q'), KeyModifiers::CONTROL);
    enter(&mut model);
    assert_eq!(model.layer(), Layer::Overview);
    assert!(notice(&model).contains("nothing runs in agent 1 now"));
}
