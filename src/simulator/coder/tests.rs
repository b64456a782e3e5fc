//! Directives, conversations and answers without Aider; the real one is driven in `tests/it`.

use super::*;

fn whole(files: &[(&str, &str)], turns: &[(&str, &str)]) -> Vec<Message> {
    with_format("You MUST use this *file listing* format:", files, turns)
}

fn with_format(format: &str, files: &[(&str, &str)], turns: &[(&str, &str)]) -> Vec<Message> {
    let mut messages = vec![Message::new(
        "system",
        format!("Act as an expert.\n{format}"),
    )];
    if !files.is_empty() {
        let mut listing = String::from("I have *added these files to the chat* so you can.\n\n");
        for (path, content) in files {
            let _infallible = write!(listing, "\n{path}\n```\n{content}```\n");
        }
        messages.push(Message::new("user", listing));
        messages.push(Message::new(
            "assistant",
            "Ok, any changes I propose will be to those files.",
        ));
    }
    messages.extend(turns.iter().map(|(role, text)| Message::new(role, *text)));
    messages
}

fn say(messages: &[Message]) -> String {
    answer(messages, "m:1b", &[]).text
}

#[test]
fn files_are_read_from_the_listing_also_without_a_last_line_end() {
    let messages = whole(
        &[
            ("a.py", "one\ntwo\n"),
            ("b/c.md", "x ``` y\nend"),
            ("e.txt", ""),
        ],
        &[],
    );
    let read = Conversation::read(&messages);
    assert_eq!(read.mode, Mode::Whole);
    let expected = [
        ("a.py", "one\ntwo\n"),
        ("b/c.md", "x ``` y\nend"),
        ("e.txt", ""),
    ];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(read.files.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_edit_gives_the_whole_file_in_whole_format() {
    let prompt = "Please.\n@sim replace a.py\ntwo\n@sim with\n2\n@sim end\n@sim append a.py := four\n@sim delete a.py := one\\n\n@sim create n.py := new";
    let text = say(&whole(
        &[("a.py", "one\ntwo\nthree\n")],
        &[("user", prompt)],
    ));
    assert_eq!(
        text,
        "Here is the change.\n\na.py\n```\n2\nthree\nfour\n```\n\nn.py\n```\nnew\n```\n"
    );
}

#[test]
fn search_blocks_grow_until_they_are_unique() {
    let files = [("a.py", "if a:\n    pass\nif b:\n    pass\n")];
    let prompt = "@sim replace a.py := if b:\\n    pass => if c:\\n    pass";
    let format = "Every *SEARCH/REPLACE block* must use this format:";
    let text = say(&with_format(format, &files, &[("user", prompt)]));
    assert!(
        text.contains("<<<<<<< SEARCH\nif b:\n    pass\n=======\nif c:\n    pass\n>>>>>>> REPLACE"),
        "{text}"
    );
    let prompt = "@sim append a.py := end\n";
    let text = say(&with_format(format, &files, &[("user", prompt)]));
    assert!(
        text.contains("<<<<<<< SEARCH\n=======\nend\n>>>>>>> REPLACE"),
        "{text}"
    );
}

#[test]
fn a_unified_diff_adds_a_file_from_nothing() {
    let text = say(&with_format(
        "Return edits similar to unified diffs that `diff -U0` would produce.",
        &[],
        &[("user", "@sim create d/n.py := a\\nb")],
    ));
    assert!(
        text.ends_with("--- /dev/null\n+++ d/n.py\n@@ ... @@\n+a\n+b\n```\n"),
        "{text}"
    );
}

#[test]
fn steps_follow_the_answers_that_were_given() {
    let ask = "@sim malformed 1\n@sim create a := 1\n@sim then\n@sim create a := 2";
    let turn = |turns: &[(&str, &str)]| {
        let all = [&[("user", ask)], turns].concat();
        say(&whole(&[], &all))
    };
    assert!(turn(&[]).starts_with("```\n"));
    let mut turns = vec![("assistant", "bad"), ("user", "did not conform")];
    assert!(turn(&turns).ends_with("a\n```\n1\n```\n"));
    turns.extend([("assistant", "ok"), ("user", "tests fail")]);
    assert!(turn(&turns).ends_with("a\n```\n2\n```\n"));
    turns.extend([("assistant", "ok"), ("user", "more?")]);
    assert_eq!(turn(&turns), "Nothing is left to do.");
}

#[test]
fn a_file_outside_the_chat_is_asked_for_and_that_is_no_answer() {
    let ask = ("user", "@sim append a.py := x");
    let first = say(&whole(&[], &[ask]));
    assert!(first.ends_with("add them to the chat: `a.py`"), "{first}");
    let turns = [
        ask,
        ("assistant", first.as_str()),
        ("user", "I added these files to the chat: a.py\nLet me know"),
    ];
    let second = say(&whole(&[("a.py", "1\n")], &turns));
    assert!(second.ends_with("a.py\n```\n1\nx\n```\n"), "{second}");
}

#[test]
fn an_architect_hands_the_directives_on_and_ask_explains_them() {
    let ask = "Do this:\n@sim create a.py\nx = 1\n@sim end\nThanks!";
    let architect = vec![
        Message::new(
            "system",
            "Act as an expert architect engineer and provide direction",
        ),
        Message::new("user", ask),
    ];
    let text = say(&architect);
    assert!(
        text.ends_with("@sim create a.py\nx = 1\n@sim end\n"),
        "{text}"
    );
    let edited = say(&whole(&[], &[("user", &text)]));
    assert!(edited.ends_with("a.py\n```\nx = 1\n```\n"), "{edited}");
    let analyst = vec![
        Message::new("system", "Act as an expert code analyst."),
        Message::new("user", ask),
    ];
    assert!(say(&analyst).contains("- write a.py"));
}

#[test]
fn scripted_replies_are_found_by_part_of_the_prompt() {
    let scripts = [Script {
        prompt: "fix the parser".into(),
        model: None,
        answer: "@sim create p.py := fixed".into(),
    }];
    let messages = whole(
        &[],
        &[(
            "user",
            "Please fix the parser.\n\nTo suggest changes to a file you MUST return the entire content of the updated file.",
        )],
    );
    let text = answer(&messages, "m:1b", &scripts).text;
    assert!(text.ends_with("p.py\n```\nfixed\n```\n"), "{text}");
}

#[test]
fn commit_messages_name_the_files() {
    let messages = vec![
        Message::new(
            "system",
            "You are an expert software engineer that generates concise, one-line Git commit messages based on",
        ),
        Message::new("user", "diff\n--- a/src/x.py\n+++ b/src/x.py\n"),
    ];
    assert_eq!(say(&messages), "feat: change x.py");
}

#[test]
fn mistakes_in_directives_are_told() {
    let cases = [
        ("@sim fly a", "line 1: unknown directive \"fly\""),
        ("\n@sim create", "line 2: create needs a path"),
        ("@sim create a\nx", "line 1: create has no \"@sim end\""),
        (
            "@sim replace a\nx\n@sim end",
            "line 1: replace needs a line \"@sim with\"",
        ),
        (
            "@sim replace a := b",
            "line 1: replace needs \"old => new\" after \":=\"",
        ),
        (
            "@sim slow 0",
            "line 1: slow needs a number of tokens per second",
        ),
        (
            "@sim malformed x",
            "line 1: \"x\" is not a number of answers from 1 to 100",
        ),
        ("@sim end", "line 1: end without an edit before it"),
    ];
    for (text, expected) in cases {
        assert_eq!(directive::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_aider_says_to_itself_is_no_answer() {
    let files = "I have *added these files to the chat* so you can.\n\n\na\n```\n1\n```\n";
    let mut messages = whole(
        &[],
        &[("user", "@sim create a := 1\n@sim then\n@sim create a := 2")],
    );
    for (role, text) in [
        ("assistant", "a\n```\n1\n```\n"),
        (
            "user",
            "I committed the changes with git hash 1 & commit msg: x",
        ),
        ("assistant", "Ok."),
        ("user", files),
        (
            "assistant",
            "Ok, any changes I propose will be to those files.",
        ),
        ("user", "The tests fail."),
    ] {
        messages.push(Message::new(role, text));
    }
    assert!(say(&messages).ends_with("a\n```\n2\n```\n"));
}
