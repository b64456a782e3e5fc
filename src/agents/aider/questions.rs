//! What Aider asks, and what is answered unless the settings say otherwise.
//!
//! Aider runs without `--yes-always`: that would add every file a model mentions and go on past
//! the context. A question that is not in the table waits for a human.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use super::cues::AskedQuestion;
use crate::core::settings::Answer;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuestionKind {
    /// May a new file be made?
    CreateFile,
    /// May a file be put into the chat?
    AddFile,
    /// May a file be edited that is not in the chat?
    EditFile,
    /// Try to mend lint errors?
    FixLint,
    /// Try to mend failing tests?
    FixTests,
    /// Run a command that the model proposes?
    Shell,
    /// Put the output of a command into the chat?
    CommandOutput,
    /// Fetch or open a URL?
    Url,
    /// Change `.gitignore`?
    Gitignore,
    /// Send a request that is estimated to exceed the context?
    TokenLimit,
    /// Not in the table.
    Unknown,
}

/// One row of the table.
struct Row {
    kind: QuestionKind,
    name: &'static str,
    /// The question begins with one of these.
    begins: &'static [&'static str],
    answer: Answer,
}

const TABLE: &[Row] = &[
    Row {
        kind: QuestionKind::CreateFile,
        name: "create-file",
        begins: &["Create new file?", "No files matched "],
        answer: Answer::Yes,
    },
    Row {
        kind: QuestionKind::AddFile,
        name: "add-file",
        begins: &["Add file to the chat?"],
        answer: Answer::Yes,
    },
    Row {
        kind: QuestionKind::EditFile,
        name: "add-file",
        begins: &["Allow edits to file that has not been added"],
        answer: Answer::Yes,
    },
    Row {
        kind: QuestionKind::FixLint,
        name: "fix-lint",
        begins: &["Attempt to fix lint errors?", "Fix lint errors in "],
        answer: Answer::Yes,
    },
    Row {
        kind: QuestionKind::FixTests,
        name: "fix-tests",
        begins: &["Attempt to fix test errors?"],
        answer: Answer::Yes,
    },
    Row {
        kind: QuestionKind::Shell,
        name: "shell",
        begins: &[
            "Run shell command",
            "Run pip install?",
            "Install playwright?",
        ],
        answer: Answer::No,
    },
    Row {
        kind: QuestionKind::CommandOutput,
        name: "shell",
        begins: &["Add command output to the chat?"],
        answer: Answer::No,
    },
    Row {
        kind: QuestionKind::Url,
        name: "url",
        begins: &[
            "Add URL to the chat?",
            "Open URL for more info?",
            "Open documentation ",
            "Login to OpenRouter",
        ],
        answer: Answer::No,
    },
    Row {
        kind: QuestionKind::Gitignore,
        name: "gitignore",
        begins: &["Add .aider", "Add .env"],
        answer: Answer::No,
    },
    Row {
        kind: QuestionKind::TokenLimit,
        name: "token-limit",
        begins: &["Try to proceed anyway?"],
        answer: Answer::No,
    },
];

impl QuestionKind {
    /// The kind of a question by its words.
    pub fn of(text: &str) -> Self {
        TABLE
            .iter()
            .find(|row| row.begins.iter().any(|begin| text.starts_with(begin)))
            .map_or(Self::Unknown, |row| row.kind)
    }

    /// The name used in settings and JSON. Kinds that belong together share one: whoever lets
    /// files be added lets them be edited, whoever lets commands run lets their output be read.
    pub fn name(self) -> &'static str {
        self.row().map_or("unknown", |row| row.name)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.kind == self)
    }
}

/// What to do about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What it is about.
    pub kind: QuestionKind,
    /// The answer; `Ask` leaves it to a human.
    pub answer: Answer,
    /// Why, on one line for the log.
    pub why: String,
}

/// Decides a question: the settings' answer for its kind, else the table's.
///
/// A yes to a file holds only inside the worktree, and for adding only within the room that is
/// left in the context; otherwise it is a no.
pub fn decide(question: &AskedQuestion, answers: &BTreeMap<String, Answer>) -> Decision {
    let kind = if question.form == "text" {
        QuestionKind::Unknown
    } else {
        QuestionKind::of(&question.text)
    };
    let said = answers.get(kind.name()).copied();
    let answer = said.unwrap_or_else(|| kind.row().map_or(Answer::Ask, |row| row.answer));
    let source = if said.is_some() {
        "settings"
    } else {
        "default"
    };
    match (answer, refusal(kind, question)) {
        (Answer::Yes, Some(why)) => Decision {
            kind,
            answer: Answer::No,
            why,
        },
        (answer, _) => Decision {
            kind,
            answer,
            why: format!("{source} for {}", kind.name()),
        },
    }
}

/// Why a yes does not hold for this file.
fn refusal(kind: QuestionKind, question: &AskedQuestion) -> Option<String> {
    let is_file = matches!(
        kind,
        QuestionKind::CreateFile | QuestionKind::AddFile | QuestionKind::EditFile
    );
    let name = question.subject.as_deref().unwrap_or("the file");
    if is_file && question.subject.is_some() && question.inside != Some(true) {
        return Some(format!("{name} is not inside the worktree"));
    }
    if kind != QuestionKind::AddFile {
        return None;
    }
    let (tokens, room) = (question.tokens?, question.room?);
    (tokens > room)
        .then(|| format!("{name} needs about {tokens} tokens, the context has room for {room}"))
}

/// The keys that give an answer at a question that reads; `None` for `Ask`.
pub fn keys(answer: Answer) -> Option<&'static [u8]> {
    match answer {
        Answer::Yes => Some(b"y\r"),
        Answer::No => Some(b"n\r"),
        Answer::Ask => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirm(text: &str) -> AskedQuestion {
        AskedQuestion {
            form: "confirm".into(),
            text: text.into(),
            ..AskedQuestion::default()
        }
    }

    fn file(text: &str, inside: bool, tokens: u64, room: u64) -> AskedQuestion {
        AskedQuestion {
            subject: Some("src/lib.rs".into()),
            inside: Some(inside),
            tokens: Some(tokens),
            room: Some(room),
            ..confirm(text)
        }
    }

    fn default_answer(question: &AskedQuestion) -> (QuestionKind, Answer) {
        let decision = decide(question, &BTreeMap::new());
        (decision.kind, decision.answer)
    }

    #[test]
    fn each_kind_has_its_default_answer() {
        let table = [
            (
                "Attempt to fix lint errors?",
                QuestionKind::FixLint,
                Answer::Yes,
            ),
            (
                "Attempt to fix test errors?",
                QuestionKind::FixTests,
                Answer::Yes,
            ),
            ("Run shell command?", QuestionKind::Shell, Answer::No),
            ("Run shell commands?", QuestionKind::Shell, Answer::No),
            ("Add URL to the chat?", QuestionKind::Url, Answer::No),
            (
                "Add .aider*, .env to .gitignore (recommended)?",
                QuestionKind::Gitignore,
                Answer::No,
            ),
            (
                "Try to proceed anyway?",
                QuestionKind::TokenLimit,
                Answer::No,
            ),
            ("Shall I compare thee?", QuestionKind::Unknown, Answer::Ask),
        ];
        for (text, kind, answer) in table {
            assert_eq!(default_answer(&confirm(text)), (kind, answer), "{text}");
        }
    }

    #[test]
    fn a_file_is_added_only_inside_the_worktree_and_within_the_room() {
        let text = "Add file to the chat?";
        let add = |inside, tokens, room| default_answer(&file(text, inside, tokens, room)).1;
        assert_eq!(add(true, 900, 1_000), Answer::Yes);
        assert_eq!(add(true, 1_100, 1_000), Answer::No);
        assert_eq!(add(false, 1, 1_000), Answer::No);
    }

    #[test]
    fn no_file_is_made_or_edited_outside_the_worktree() {
        for text in [
            "Create new file?",
            "Allow edits to file that has not been added to the chat?",
        ] {
            assert_eq!(
                default_answer(&file(text, true, 9, 0)).1,
                Answer::Yes,
                "{text}"
            );
            assert_eq!(
                default_answer(&file(text, false, 9, 0)).1,
                Answer::No,
                "{text}"
            );
        }
    }

    #[test]
    fn settings_override_the_default_but_not_the_worktree() {
        let answers = BTreeMap::from([
            ("shell".to_owned(), Answer::Ask),
            ("create-file".to_owned(), Answer::Yes),
        ]);
        let shell = decide(&confirm("Run shell command?"), &answers);
        assert_eq!(shell.answer, Answer::Ask);
        let outside = decide(&file("Create new file?", false, 1, 9), &answers);
        assert_eq!(outside.answer, Answer::No);
    }

    #[test]
    fn a_question_for_a_text_always_waits() {
        let question = AskedQuestion {
            form: "text".into(),
            ..confirm("Create new file?")
        };
        assert_eq!(default_answer(&question).1, Answer::Ask);
        assert_eq!(keys(Answer::Ask), None);
    }
}
