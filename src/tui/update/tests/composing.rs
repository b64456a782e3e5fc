//! Writing a new task: its text, its options, its template.

use super::*;
use crate::config::Sources;
use crate::config::templates::best_offers;
use crate::core::task::{Category, Mode};

#[test]
fn a_task_is_composed_with_options_and_its_text_comes_back_when_refused() {
    let mut model = given(normal());
    press(&mut model, "nfix");
    key(&mut model, KeyCode::Enter, KeyModifiers::ALT);
    press(&mut model, "it");
    key(&mut model, KeyCode::Char('o'), KeyModifiers::CONTROL);
    press(&mut model, "j jj ");
    key(&mut model, KeyCode::Down, KeyModifiers::NONE);
    press(&mut model, "make");
    key(&mut model, KeyCode::Esc, KeyModifiers::NONE);
    let wants = enter(&mut model);
    let [Command::Submit { tasks }] = commands(&wants)[..] else {
        panic!("{wants:?}");
    };
    let spec = &tasks[0].spec;
    assert_eq!(spec.prompt, "fix\nit");
    assert_eq!(spec.mode, Mode::Architect);
    assert_eq!(spec.model.as_deref(), Some("llama3.1:8b"));
    assert_eq!(spec.verify.as_deref(), Some("make"));
    assert_eq!(spec.repo.to_str(), Some("/home/user/project"));
    assert_eq!(model.layer(), Layer::Overview);

    let Want::Command(purpose, _) = wants[0].clone() else {
        panic!("{wants:?}");
    };
    let refused = Err(Refusal::user("not a repository").hint("git init"));
    update(&mut model, Message::Answered(purpose, refused), NOW);
    assert_eq!(model.composer.editor.text(), "fix\nit");
    assert_eq!(
        notice(&model),
        "your text is kept (n): not a repository; git init"
    );
}

#[test]
fn escape_keeps_the_draft_and_an_empty_one_is_not_submitted() {
    let mut model = given(normal());
    press(&mut model, "n");
    assert_eq!(enter(&mut model), []);
    assert_eq!(model.layer(), Layer::Composer);
    press(&mut model, "later");
    key(&mut model, KeyCode::Esc, KeyModifiers::NONE);
    press(&mut model, "n!");
    assert_eq!(model.composer.editor.text(), "later!");
}

#[test]
fn a_template_frames_the_task_and_what_is_chosen_wins_over_it() {
    let mut model = given(normal());
    assert_eq!(press(&mut model, "n"), [Want::Templates]);
    press(&mut model, "look at the parser");
    let offers = best_offers(&Sources::default(), "");
    let names: Vec<&str> = offers.iter().map(|it| it.template.name.as_str()).collect();
    let reviewer = names.iter().position(|name| *name == "reviewer").unwrap() + 1;
    update(&mut model, Message::Templates(offers.clone()), NOW);
    key(&mut model, KeyCode::Char('o'), KeyModifiers::CONTROL);
    press(&mut model, &reviewer.to_string());
    assert_eq!(model.composer.mode(), Mode::Ask);
    press(&mut model, "9");
    assert_eq!(model.composer.chosen(), reviewer, "there is no ninth");
    let spec = model.composer.new_task(&model.origin).spec;
    assert_eq!(spec.template.as_deref(), Some("reviewer"));
    assert_eq!((spec.mode, spec.category), (Mode::Ask, Category::Review));
    assert_eq!(spec.title(), "look at the parser");
    assert!(spec.prompt.contains("\nlook at the parser\n"));

    press(&mut model, "jl");
    assert_eq!(model.composer.mode(), Mode::Code);
    press(&mut model, "kl");
    assert_eq!(model.composer.chosen(), reviewer + 1);
    assert_eq!(model.composer.options.mode, None, "its own mode counts");
    update(&mut model, Message::Templates(Vec::new()), NOW);
    let spec = model.composer.new_task(&model.origin).spec;
    assert_eq!((spec.template, spec.asked), (None, None));
    assert_eq!(spec.prompt, "look at the parser");
}
