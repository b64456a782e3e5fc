//! Real Aider under our launcher, in a pty, against a recording stand-in for Ollama.
//!
//! Needs `WARPSQUAD_TEST_PYTHON`: an interpreter that can import aider-chat 0.86.2.

mod ollama;
mod setup;
mod share;
mod who_commits;
pub(crate) mod world;

use ollama::{Answer, Ollama};
use warpsquad::agents::aider::catalogue::Whose;
use warpsquad::agents::aider::cues::{AgentScreenState, Cue, InputEnd, Signal};
use warpsquad::agents::aider::judge::{GitFacts, Verdict, judge};
use warpsquad::agents::aider::{flavour, prompt, questions};
use warpsquad::core::settings::Answer::{No, Yes};
use warpsquad::core::settings::OptionValue;
use warpsquad::core::task::Mode;
use world::{Agent, World, make_executable, names, python};

fn text(text: &str) -> Answer {
    Answer::Text(text.into())
}

/// An answer in the format `whole` that writes one file.
fn whole(name: &str, content: &str) -> Answer {
    text(&format!("Here it is:\n\n{name}\n```\n{content}\n```\n"))
}

const ONE_COMMIT: GitFacts = GitFacts {
    commits: 1,
    dirty: false,
};

#[test]
fn an_edit_is_committed_with_one_request_and_reported() {
    let world = World::new();
    world.git(&["config", "commit.gpgsign", "true"]);
    let ollama = Ollama::start([whole("README.md", "# Hello")]);
    let mut plan = world.plan(&ollama.url);
    plan.files = vec!["README.md".into()];
    plan.tuning.temperature = Some(0.00001);
    plan.tuning.options = [
        ("top_p".to_owned(), OptionValue::Float(0.9)),
        ("top_k".to_owned(), OptionValue::Integer(20)),
        ("keep_alive".to_owned(), OptionValue::Text("30m".into())),
    ]
    .into();
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.forget();
    agent.prompt("Say hello");
    agent.until_prompt();

    let turn = agent.turn();
    assert_eq!(
        judge(Mode::Code, &turn, ONE_COMMIT),
        Verdict::Edited { commits: 1 }
    );
    assert_eq!(turn.files, ["README.md"]);
    assert_eq!(turn.commits, [world.git(&["rev-parse", "HEAD"])]);
    assert!(
        turn.tokens.0 > 100 && turn.tokens.1 > 5,
        "{:?}",
        turn.tokens
    );
    assert_eq!(world.read("README.md"), "# Hello\n");
    assert_eq!(
        world.git(&["log", "-1", "--format=%s|%an|%ae|%cn"]),
        "squad: say hello|Ada Lovelace|ada@example.com|Ada Lovelace"
    );
    assert_eq!(world.git(&["status", "--porcelain", "--ignored"]), "");

    let paths: Vec<String> = ollama.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/api/chat"]);
    let body = &ollama.chats()[0].body;
    assert_eq!(body["options"]["num_ctx"], 16_384);
    assert_eq!(body["options"]["top_p"], 0.9);
    assert_eq!(body["options"]["top_k"], 20);
    assert_eq!(body["options"]["temperature"], 0.00001);
    assert_eq!(body.get("keep_alive"), None);
    assert_eq!(body.get("think"), None);

    agent.write(&prompt::line("/exit").bytes);
    assert_eq!(agent.until_ended(), 0);
    assert_eq!(agent.state(), &AgentScreenState::Exited { code: 0 });
}

#[test]
fn a_hostile_repository_and_environment_configure_nothing() {
    let world = World::new();
    let trap = world.dir.path().join("trapped");
    let trap = trap.to_str().unwrap();
    world.file(
        ".aider.conf.yml",
        &format!(
            "test-cmd: \"touch '{trap}'\"\nauto-test: true\nyes-always: true\n\
             notifications: true\nnotifications-command: \"touch '{trap}'\"\nmap-tokens: 9999\n"
        ),
    );
    world.file(
        ".env",
        "OLLAMA_API_BASE=http://127.0.0.1:9\nAIDER_AUTO_TEST=true\nAIDER_MAP_TOKENS=7777\n",
    );
    let params = "- name: aider/extra_params\n  extra_params: {num_ctx: 4, keep_alive: 9h}\n";
    world.file(".aider.model.settings.yml", params);
    world.file(
        ".aider.model.metadata.json",
        r#"{"ollama_chat/coder:7b": {"max_input_tokens": 10, "max_tokens": 10}}"#,
    );
    world.file("git.py", &format!("open({trap:?}, 'w')\n"));
    world.file("sitecustomize.py", &format!("open({trap:?}, 'w')\n"));
    let hooks = world.repo.join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let hook = hooks.join("post-commit");
    std::fs::write(&hook, format!("#!/bin/sh\ntouch '{trap}'\n")).unwrap();
    make_executable(&hook);
    world.git(&["config", "core.hooksPath", "hooks"]);

    let ollama = Ollama::start([whole("README.md", "# Hello")]);
    let mut plan = world.plan(&ollama.url);
    plan.files = vec!["README.md".into()];
    let home = std::path::PathBuf::from(&plan.environment["HOME"]);
    for name in [".aider.conf.yml", ".env", ".aider.model.settings.yml"] {
        std::fs::copy(world.repo.join(name), home.join(name)).unwrap();
    }
    for (name, value) in [
        ("AIDER_MAP_TOKENS", "5555"),
        ("AIDER_TEST_CMD", "false"),
        ("OLLAMA_API_BASE", "http://127.0.0.1:9"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("PYTHONPATH", world.repo.to_str().unwrap()),
        ("GIT_DIR", "/nowhere"),
        ("COLUMNS", "7"),
    ] {
        plan.environment.insert(name.into(), value.into());
    }
    let mut launch = flavour::plan(&plan).unwrap();
    // The launcher itself must stand what the table already keeps out.
    launch.env.insert("AIDER_MAP_TOKENS".into(), "5555".into());
    launch.env.insert("AIDER_YES_ALWAYS".into(), "true".into());
    let mut agent = Agent::launch(&launch);
    agent.until_prompt();
    agent.prompt("Say hello");
    agent.until_prompt();

    assert_eq!(agent.turn().commits.len(), 1);
    let printed = String::from_utf8_lossy(&agent.transcript);
    assert!(printed.contains("Repo-map: using 1024 tokens"), "{printed}");
    assert!(!std::path::Path::new(trap).exists());
    assert_eq!(ollama.chats()[0].body["options"]["num_ctx"], 16_384);
    assert_eq!(
        names(&home),
        [".aider.conf.yml", ".aider.model.settings.yml", ".env"]
    );
}

#[test]
fn files_of_the_repository_do_not_take_the_place_of_files_not_named() {
    let world = World::new();
    let params = "- name: aider/extra_params\n  extra_params: {num_ctx: 4444}\n";
    world.file(".aider.model.settings.yml", params);
    let ollama = Ollama::start([text("Fine.")]);
    let mut plan = world.plan(&ollama.url);
    plan.mode = Mode::Ask;
    let mut launch = flavour::plan(&plan).unwrap();
    let flag = |argument: &String| argument == "--model-settings-file";
    let position = launch.argv.iter().position(flag).unwrap();
    launch.argv.drain(position..position + 2);
    let mut agent = Agent::launch(&launch);
    agent.until_prompt();
    agent.prompt("Well?");
    agent.until_prompt();
    let num_ctx = ollama.chats()[0].body["options"]["num_ctx"].as_u64();
    assert!(num_ctx.unwrap() > 8_192, "{num_ctx:?}");
}

#[test]
fn a_hundred_resizes_at_the_prompt_change_no_state() {
    let world = World::new();
    let ollama = Ollama::start([]);
    let mut agent = Agent::start(&world.plan(&ollama.url));
    agent.until_prompt();
    let (state, redraws) = (
        agent.state().clone(),
        count(&agent.transcript, b"\x1b[?2004h"),
    );
    agent.forget();
    for round in 1..=100_u16 {
        agent.resize(60 + round % 60, 10 + round % 30);
        let seen = redraws + usize::from(round);
        agent.until("a redraw", |agent| {
            count(&agent.transcript, b"\x1b[?2004h") >= seen
        });
    }
    assert_eq!(agent.signals, []);
    assert_eq!(agent.state(), &state);
    // It still takes a prompt.
    agent.prompt("Still there?");
    agent.until_prompt();
}

fn count(bytes: &[u8], sequence: &[u8]) -> usize {
    bytes
        .windows(sequence.len())
        .filter(|it| it == &sequence)
        .count()
}

#[test]
fn every_prompt_arrives_as_it_was_written() {
    let world = World::new();
    let ollama = Ollama::start([]);
    let mut plan = world.plan(&ollama.url);
    plan.mode = Mode::Ask;
    plan.num_ctx = 1 << 20;
    let mut agent = Agent::start(&plan);
    let long = "äö 世界 🦀 {braces} `ticks` 'quotes' \"double\" $HOME \\n\n".repeat(1_700);
    assert!(long.len() > 100_000);
    let prompts = [
        "/exit".to_owned(),
        "!touch trapped".to_owned(),
        "{".to_owned(),
        "{tag\nand more".to_owned(),
        "first\n/exit\n!ls\n}\n\tindented\n\n  last  ".to_owned(),
        "\u{1b}[201~\r/exit\r\u{3}\u{4}".to_owned(),
        "one\r\ntwo\rthree".to_owned(),
        long,
    ];
    for prompt_text in &prompts {
        agent.until_prompt();
        agent.forget();
        agent.prompt(prompt_text);
    }
    agent.until_prompt();
    let chats = ollama.chats();
    assert_eq!(chats.len(), prompts.len());
    for (chat, prompt_text) in chats.iter().zip(&prompts) {
        let users = chat.contents("user");
        let last = users.last().unwrap();
        assert!(last.starts_with(&prompt::clean(prompt_text)), "{last:?}");
    }
    assert!(!world.repo.join("trapped").exists());
}

#[test]
fn questions_are_asked_with_what_is_needed_to_answer_them() {
    let world = World::new();
    world.file("big.py", &"x = 1\n".repeat(20_000));
    world.file("small.py", "y = 2\n");
    world.git(&["add", "-A"]);
    let ollama = Ollama::start([
        text("I need to see `small.py` and `big.py`."),
        whole("new.py", "z = 3"),
    ]);
    let mut agent = Agent::start(&world.plan(&ollama.url));
    agent.until_prompt();
    agent.prompt("Make z");
    let mut decided = Vec::new();
    for _ in 0..3 {
        let question = agent.until_question();
        let decision = questions::decide(&question, &std::collections::BTreeMap::new());
        let subject = question.subject.clone().unwrap();
        decided.push((decision.kind.name(), subject, decision.answer));
        agent.write(questions::keys(decision.answer).unwrap());
        agent.until_cue(
            "the answer taken",
            |cue| matches!(cue, Cue::Answered { n, .. } if *n == question.n),
        );
    }
    agent.until_prompt();
    assert_eq!(
        decided,
        [
            ("add-file", "big.py".to_owned(), No),
            ("add-file", "small.py".to_owned(), Yes),
            ("create-file", "new.py".to_owned(), Yes),
        ]
    );
    assert_eq!(world.read("new.py"), "z = 3\n");
    let reading = |signal: &&Signal| matches!(signal, Signal::Reading { .. });
    assert_eq!(agent.signals.iter().filter(reading).count(), 5);
}

#[test]
fn an_ask_task_leaves_its_reply_in_a_file() {
    let world = World::new();
    let answer = "It says: grüße 🦀; and `README.md` is short.";
    let ollama = Ollama::start([text(answer)]);
    let mut plan = world.plan(&ollama.url);
    plan.mode = Mode::Ask;
    plan.read = vec!["README.md".into()];
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("What does it say?");
    agent.until_prompt();
    let verdict = judge(Mode::Ask, &agent.turn(), GitFacts::default());
    assert_eq!(verdict, Verdict::Answered);
    let kept = std::fs::read_to_string(flavour::reply_file(&plan.agent_dir)).unwrap();
    assert_eq!(kept, answer);
    assert!(
        ollama.chats()[0]
            .contents("user")
            .concat()
            .contains("# Demo")
    );
}

#[test]
fn an_architect_plans_and_edits_with_one_model_in_two_requests() {
    let world = World::new();
    let ollama = Ollama::start([text("Change the heading."), whole("README.md", "# Hello")]);
    let mut plan = world.plan(&ollama.url);
    plan.mode = Mode::Architect;
    plan.files = vec!["README.md".into()];
    plan.can_think = true;
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("Say hello");
    agent.until_prompt();
    let verdict = judge(Mode::Architect, &agent.turn(), ONE_COMMIT);
    assert_eq!(verdict, Verdict::Edited { commits: 1 });
    assert_eq!(world.read("README.md"), "# Hello\n");
    let chats = ollama.chats();
    assert_eq!(chats.len(), 2);
    for chat in chats {
        assert_eq!(chat.body["model"], "coder:7b");
        assert_eq!(chat.body["options"]["num_ctx"], 16_384);
        assert_eq!(chat.body["think"], false);
    }
}

#[test]
fn a_refusing_endpoint_is_recognised_at_once_and_can_be_interrupted() {
    let world = World::new();
    let refusal = Answer::Refusal(503, "server busy, please try again".into());
    let ollama = Ollama::start(vec![refusal; 9]);
    let mut plan = world.plan(&format!("{}/agent/secret-token", ollama.url));
    plan.mode = Mode::Ask;
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("Hello?");
    agent.until_cue("a retry", |cue| matches!(cue, Cue::Retry { .. }));
    let Verdict::Failed(failure) = judge(Mode::Ask, &agent.turn(), GitFacts::default()) else {
        panic!("it did not fail");
    };
    assert_eq!(failure.whose, Whose::Endpoint);
    agent.write(b"\x03");
    agent.until_prompt();
    let printed = String::from_utf8_lossy(&agent.transcript);
    assert!(!printed.contains("secret-token"), "{printed}");
}

#[test]
fn an_answer_cut_off_changes_nothing_and_opens_no_browser() {
    let world = World::new();
    let cut = "README.md\n```\n# Half";
    let ollama = Ollama::start([Answer::Cut(cut.into())]);
    let mut plan = world.plan(&ollama.url);
    plan.files = vec!["README.md".into()];
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("Say hello");
    agent.until_prompt();
    let Verdict::Failed(failure) = judge(Mode::Code, &agent.turn(), GitFacts::default()) else {
        panic!("it did not fail");
    };
    assert_eq!(failure.whose, Whose::Task);
    assert_eq!(world.read("README.md"), "# Demo\n");
}

#[test]
fn a_signal_repeats_the_state_at_a_prompt_and_at_a_question() {
    let world = World::new();
    let ollama = Ollama::start([whole("new.py", "z = 3")]);
    let mut agent = Agent::start(&world.plan(&ollama.url));
    for at_question in [false, true] {
        if at_question {
            agent.prompt("Make z");
            agent.until_question();
        } else {
            agent.until_prompt();
        }
        let state = agent.state().clone();
        agent.signal(rustix::process::Signal::USR1);
        let is_state = |cue: &Cue| matches!(cue, Cue::State(_));
        let repeated = agent.until_cue("the state repeated", is_state);
        let mut fresh = AgentScreenState::default();
        fresh.apply(&repeated);
        assert_eq!(fresh, state);
        assert_eq!(agent.state(), &state);
        agent.forget();
    }
}

#[test]
fn a_chat_is_taken_up_again_by_the_next_process() {
    let world = World::new();
    let ollama = Ollama::start([text("The word is plover."), text("As I said.")]);
    let mut plan = world.plan(&ollama.url);
    plan.mode = Mode::Ask;
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("What is the word?");
    agent.until_prompt();
    drop(agent);
    plan.restore_chat = true;
    let mut agent = Agent::start(&plan);
    agent.until_prompt();
    agent.prompt("Say it again");
    agent.until_prompt();
    let last = ollama.chats().pop().unwrap();
    assert!(last.contents("assistant").concat().contains("plover"));
}

#[test]
fn end_of_input_ends_aider_and_is_reported() {
    let world = World::new();
    let ollama = Ollama::start([]);
    let mut agent = Agent::start(&world.plan(&ollama.url));
    agent.until_prompt();
    agent.write(b"\x04");
    assert_eq!(agent.until_ended(), 0);
    let ended = |cue: &Cue| {
        matches!(
            cue,
            Cue::Input {
                how: InputEnd::End,
                ..
            }
        )
    };
    assert!(agent.cues().any(ended));
    assert_eq!(agent.state(), &AgentScreenState::Exited { code: 0 });
}

#[test]
fn another_aider_is_refused_with_exit_code_70() {
    let launcher = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/aider/launch.py");
    let changes = [
        ("aider.__version__ = '0.99.0'", "Aider is 0.99.0"),
        (
            "import aider.repo; del aider.repo.GitRepo.commit",
            "GitRepo.commit is missing",
        ),
        (
            "import aider.io; aider.io.InputOutput.confirm_ask = lambda self, what: True",
            "InputOutput.confirm_ask takes",
        ),
    ];
    for (change, complaint) in changes {
        let code = format!(
            "import aider, runpy, sys; {change}; sys.argv = ['launch.py', '--selftest']; \
             runpy.run_path({launcher:?}, run_name='__main__')"
        );
        let output = std::process::Command::new(python())
            .args(["-I", "-X", "utf8", "-c", &code])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{error}");
        assert!(error.contains(complaint), "{error}");
    }
}
