//! What a user sees, in three sizes and three states of the squad.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::fixture::{NOW, alarming, empty, gateway, measured, model, normal, screen, task};
use super::super::message::Message;
use super::super::model::{DiffContent, DiffPanel, Model, Row, Tab};
use super::super::theme::Theme;
use super::super::update::update;
use super::super::wire::ClientHello;
use super::*;
use crate::config::Sources;
use crate::config::templates::best_offers;
use crate::core::health::Health;
use crate::core::model::{Model as Language, ModelName};
use crate::core::settings::UiSettings;
use crate::core::task::TaskState;
use crate::core::{AgentSlot, TaskId};
use crate::engine::View;
use crate::pty::Size;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

const SIZES: [Size; 3] = [Size::new(80, 24), Size::new(120, 40), Size::new(20, 5)];

fn drawn(model: &Model) -> TestBackend {
    let backend = TestBackend::new(model.size.columns, model.size.rows);
    let mut terminal = Terminal::new(backend).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal.backend().clone()
}

/// Types `keys`: characters, `⏎` for Enter, `⎋` for Esc, `⇧` for Alt-Enter, `^x` for Ctrl-x.
fn press(model: &mut Model, keys: &str) {
    let mut control = false;
    for c in keys.chars() {
        let (code, modifiers) = match c {
            '^' if !control => {
                control = true;
                continue;
            }
            '⏎' => (KeyCode::Enter, KeyModifiers::NONE),
            '⇧' => (KeyCode::Enter, KeyModifiers::ALT),
            '⎋' => (KeyCode::Esc, KeyModifiers::NONE),
            c if control => (KeyCode::Char(c), KeyModifiers::CONTROL),
            c => (KeyCode::Char(c), KeyModifiers::NONE),
        };
        control = false;
        let key = Event::Key(KeyEvent::new(code, modifiers));
        update(model, Message::Event(key), NOW);
    }
}

fn with_screen(size: Size, view: View) -> Model {
    let mut model = model(size, view);
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(screen())),
        NOW,
    );
    model
}

/// Checks the picture of `model` under `name` with its size.
fn check(name: &str, model: &Model) {
    let name = format!("{name}-{}x{}", model.size.columns, model.size.rows);
    insta::assert_snapshot!(name, drawn(model));
}

#[test]
fn the_overview_in_every_size_and_state() {
    for size in SIZES {
        check("empty", &model(size, empty()));
        check("normal", &with_screen(size, normal()));
        check("alarming", &with_screen(size, alarming()));
    }
}

#[test]
fn an_agent_that_is_not_well_has_another_shape_and_says_why() {
    let mut view = normal();
    let ill = [
        Health::Degraded("no output for 5 min".into()),
        Health::Down("its process is gone".into()),
    ];
    for (agent, health) in view.agents.iter_mut().zip(ill) {
        agent.report.health = health;
        agent.report.question = None;
    }
    view.no_room = Some("only 3.0 MiB free".into());
    let mut model = model(Size::new(120, 40), view);
    let shown = drawn(&model).to_string();
    assert!(shown.contains(" 1 ▲ "), "{shown}");
    assert!(shown.contains(" 2 ✗ "), "{shown}");
    assert!(
        shown.contains("only 3.0 MiB free: nothing new is begun"),
        "{shown}"
    );
    let hello = ClientHello {
        utf8: false,
        ..ClientHello::default()
    };
    model.theme = Theme::new(&hello, &UiSettings::default());
    assert!(drawn(&model).to_string().contains(" 1 ! "));
    assert!(drawn(&model).to_string().contains("no output for 5 min"));
}

#[test]
fn a_selected_task_says_what_to_do_next() {
    for (name, view, id) in [("review", normal(), 4), ("failed", alarming(), 2)] {
        let mut model = model(Size::new(120, 40), view);
        model.list.cursor = Some(Row::Task(TaskId(id)));
        model.follow();
        check(&format!("task-{name}"), &model);
    }
}

#[test]
fn the_lower_tabs() {
    for tab in Tab::ALL {
        let mut model = with_screen(Size::new(120, 40), normal());
        model.tab = tab;
        check(&format!("tab-{}", tab.title()), &model);
    }
}

#[test]
fn the_models_tab_says_who_waits_how_fast_it_is_and_what_keeps_requests_away() {
    for size in SIZES {
        let mut view = normal();
        view.gateway = Arc::new(gateway());
        view.measured = Arc::new(measured());
        let mut model = with_screen(size, view);
        model.tab = Tab::Models;
        check("gateway", &model);
    }
}

/// Fifteen models; the last by name is busy, the one before it loaded.
fn many_models() -> View {
    let mut view = normal();
    view.gateway = Arc::new(gateway());
    view.measured = Arc::new(measured());
    let catalogue = Arc::make_mut(&mut view.catalogue);
    let local = catalogue.endpoints.get_mut(&"local".into()).unwrap();
    let (_, pattern) = local.models.first_key_value().unwrap();
    let pattern = pattern.clone();
    for number in 0..13 {
        let name = ModelName::new(&format!("a{number:02}:7b"));
        let model = Language {
            name: name.clone(),
            ..pattern.clone()
        };
        local.models.insert(name, model);
    }
    view
}

#[test]
fn of_many_models_those_at_work_come_first_the_sums_stay_and_the_rest_is_counted() {
    for size in [Size::new(80, 24), Size::new(120, 40)] {
        let mut model = with_screen(size, many_models());
        model.tab = Tab::Models;
        check("many-models", &model);
        press(&mut model, "}}}}");
        check("many-models-end", &model);
    }
}

#[test]
fn every_line_of_a_tab_can_be_scrolled_to_and_back() {
    let mut model = with_screen(Size::new(120, 40), many_models());
    model.tab = Tab::Models;
    let first = drawn(&model).to_string();
    let mut seen = first.clone();
    for _ in 0..8 {
        press(&mut model, "}");
        seen.push_str(&drawn(&model).to_string());
    }
    for number in 0..13 {
        assert!(seen.contains(&format!("a{number:02}:7b")), "{number}");
    }
    press(&mut model, "{{{{{{{{");
    assert_eq!(drawn(&model).to_string(), first);
}

#[test]
fn layers_above_the_overview() {
    for (name, keys) in [
        ("composer-empty", "n"),
        (
            "composer",
            "nAdd a test for the parser⇧and fix what it finds",
        ),
        ("options", "nAdd a test^o"),
        ("help", "?"),
        ("palette", ":me"),
        ("focus", "⏎"),
        ("scroll", "v"),
        ("stop", "x"),
    ] {
        for size in [Size::new(80, 24), Size::new(20, 5)] {
            let mut model = with_screen(size, normal());
            press(&mut model, keys);
            check(&format!("layer-{name}"), &model);
        }
    }
    for size in [Size::new(80, 24), Size::new(20, 5)] {
        let mut model = with_screen(size, normal());
        press(&mut model, "nAdd a test");
        let offers = best_offers(&Sources::default(), "");
        update(&mut model, Message::Templates(offers), NOW);
        press(&mut model, "^o3");
        check("layer-templates", &model);
    }
    let mut model = with_screen(Size::new(80, 24), alarming());
    press(&mut model, "ano, never");
    check("layer-answer", &model);
}

#[test]
fn changes_are_shown_without_control_characters() {
    let diff = "diff --git a/src/a.rs b/src/a.rs\n--- a/src/a.rs\n+++ b/src/a.rs\n\
                @@ -1,2 +1,2 @@ fn a()\n-\told \x1b[31mred\n+\tnew\n context\n";
    let mut model = model(Size::new(80, 24), normal());
    model.list.cursor = Some(Row::Task(TaskId(4)));
    model.follow();
    press(&mut model, "d");
    check("diff-loading", &model);
    update(&mut model, Message::Diff(TaskId(4), Ok(diff.into())), NOW);
    check("diff", &model);
    press(&mut model, "jjjjc");
    check("diff-comment", &model);
    model.diff = Some(DiffPanel {
        task: TaskId(4),
        content: DiffContent::Lines(Vec::new()),
        top: 0,
    });
    press(&mut model, "⎋");
    check("diff-nothing", &model);
}

#[test]
fn without_colours_and_unicode_everything_is_still_there() {
    let hello = ClientHello {
        size: Size::new(80, 24),
        no_color: true,
        utf8: false,
        ..ClientHello::default()
    };
    let mut model = with_screen(Size::new(80, 24), normal());
    model.theme = Theme::new(&hello, &UiSettings::default());
    let drawn = drawn(&model);
    let cells = drawn.buffer().content();
    assert!(cells.iter().all(|cell| cell.symbol().is_ascii()), "{drawn}");
    assert!(
        cells
            .iter()
            .all(|cell| cell.fg == ratatui::style::Color::Reset)
    );
    insta::assert_snapshot!("ascii-80x24", drawn);
}

#[test]
fn nothing_shown_can_act_on_the_terminal() {
    for size in SIZES {
        for keys in ["", "a", "]]", "G", "k", "Gd", "Gc", "?", ":", "x", "⏎"] {
            let mut model = with_screen(size, alarming());
            press(&mut model, keys);
            model.say(super::super::model::Tone::Refused, "bad \x1b[31m\nnews");
            let drawn = drawn(&model);
            for cell in drawn.buffer().content() {
                let symbol = cell.symbol();
                assert!(
                    !symbol.chars().any(super::super::text::is_unsafe),
                    "{keys:?} {symbol:?}"
                );
            }
        }
    }
}

#[test]
fn no_size_panics_in_any_layer() {
    for columns in [2, 3, 7, 20, 79, 80, 119, 120, 200] {
        for rows in [1, 2, 3, 4, 5, 10, 24, 60] {
            for keys in [
                "", "nabc", "n^o", "?", ":", "⏎", "v", "x", "i", "z", "Gkd", "Gkc",
            ] {
                let mut model = with_screen(Size::new(columns, rows), normal());
                press(&mut model, keys);
                drawn(&model);
            }
        }
    }
}

#[test]
fn a_screen_larger_than_its_panel_is_shown_around_the_cursor() {
    let mut emulator = crate::pty::Screen::new(Size::new(120, 40), 0);
    emulator.feed(b"top\r\n");
    emulator.feed(b"\x1b[40;1Hbottom");
    let mut model = model(Size::new(80, 24), normal());
    update(
        &mut model,
        Message::Screen(AgentSlot(1), Some(emulator.snapshot(0))),
        NOW,
    );
    let shown = drawn(&model).to_string();
    assert!(
        shown.contains("bottom") && !shown.contains("top\n"),
        "{shown}"
    );
}

#[test]
fn every_state_of_a_task_has_a_glyph_of_its_own_shape() {
    let theme = model(SIZES[0], empty()).theme;
    let mut glyphs: Vec<&str> = TaskState::ALL
        .iter()
        .map(|state| theme.task(&task(1, *state, "x")).0)
        .collect();
    glyphs.sort_unstable();
    glyphs.dedup();
    assert_eq!(glyphs.len(), TaskState::ALL.len());
}
