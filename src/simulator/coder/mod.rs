//! The coder: what a simulated model answers to Aider.
//!
//! It reads Aider's prompts (which edit format, which files, how far the conversation is), takes
//! directives from the user's message or from the scenario's scripted replies, and writes the
//! answer that a well-trained model would give, or exactly the kind of bad one that was asked for.
//! The same conversation always gets the same answer.

mod conversation;
mod directive;
mod edit;
mod render;

pub use conversation::{Conversation, Mode};
pub use directive::{DirectiveError, Edit, Step};

use std::fmt::Write as _;

use crate::ollama::wire::Message;

/// A scripted reply of a scenario: what to answer when a prompt contains a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Part of the user's message.
    pub prompt: String,
    /// Only for this model.
    pub model: Option<String>,
    /// Text, or directives, which are carried out in the edit format that was asked for.
    pub answer: String,
}

/// What the model says, before it is cut into tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tokens per second instead of the model's own pace.
    pub rate: Option<f64>,
}

impl Answer {
    fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            rate: None,
        }
    }
}

/// The answer of `model` to this conversation.
pub fn answer(messages: &[Message], model: &str, scripts: &[Script]) -> Answer {
    let conversation = Conversation::read(messages);
    match conversation.mode {
        Mode::CommitMessage => return Answer::text(commit_message(messages)),
        Mode::Summary => {
            return Answer::text(
                "I asked you to change the files that we talked about, and you did.",
            );
        }
        Mode::Whole
        | Mode::Diff
        | Mode::DiffFenced
        | Mode::Udiff
        | Mode::Ask
        | Mode::Architect
        | Mode::Plain => {}
    }
    let Some((task, turn)) = task(&conversation, model, scripts) else {
        return Answer::text(small_talk(&conversation));
    };
    if !directive::is_directive(&task) {
        let first = turn == 0;
        return Answer::text(if first {
            task
        } else {
            small_talk(&conversation)
        });
    }
    match directive::parse(&task) {
        Ok(plan) => Answer {
            text: carry_out(&conversation, &plan, &task, turn),
            rate: plan.rate,
        },
        Err(error) => Answer::text(format!("The directives cannot be followed: {error}.")),
    }
}

/// The newest user message that asks for something, as directives or scripted text, and how many
/// answers it already got.
fn task(conversation: &Conversation, model: &str, scripts: &[Script]) -> Option<(String, usize)> {
    conversation.requests().find_map(|(text, answers)| {
        if directive::is_directive(text) {
            return Some((text.to_owned(), answers));
        }
        scripts
            .iter()
            .find(|script| {
                text.contains(&script.prompt)
                    && script.model.as_deref().is_none_or(|only| only == model)
            })
            .map(|script| (script.answer.clone(), answers))
    })
}

fn carry_out(
    conversation: &Conversation,
    plan: &directive::Plan,
    task: &str,
    turn: usize,
) -> String {
    let Some(step) = plan.steps.get(turn) else {
        return "Nothing is left to do.".into();
    };
    match (conversation.mode, step) {
        (_, Step::Refuse(text) | Step::Ask(text)) => text.clone(),
        (Mode::Ask | Mode::Plain, Step::Edits { say, edits, .. }) => explain(say, edits),
        (Mode::Ask | Mode::Plain, Step::Malformed(edits) | Step::Elided(edits)) => {
            explain("", edits)
        }
        (Mode::Architect, _) => format!(
            "The editor makes exactly these changes:\n\n{}\n",
            directive::only_directives(task)
        ),
        (_, step) => render::step(conversation, step),
    }
}

fn explain(say: &str, edits: &[Edit]) -> String {
    let mut text = if say.is_empty() {
        "This is what would change:\n".to_owned()
    } else {
        format!("{say}\n")
    };
    for edit in edits {
        let _infallible = writeln!(text, "- {}", edit.describe());
    }
    text
}

fn small_talk(conversation: &Conversation) -> String {
    let files = conversation.files.len();
    match conversation.mode {
        Mode::Ask => format!("I looked at {files} files and have nothing to add."),
        _ => "No changes are needed.".into(),
    }
}

/// `feat: change a.rs, b.rs` from the diff in the request.
fn commit_message(messages: &[Message]) -> String {
    let mut names: Vec<&str> = messages
        .iter()
        .flat_map(|message| message.content.lines())
        .filter_map(|line| line.strip_prefix("+++ b/"))
        .map(|path| path.rsplit('/').next().unwrap_or(path))
        .collect();
    names.dedup();
    if names.is_empty() {
        return "chore: apply the requested change".into();
    }
    let line = format!("feat: change {}", names.join(", "));
    line.chars().take(72).collect()
}

#[cfg(test)]
mod tests;
