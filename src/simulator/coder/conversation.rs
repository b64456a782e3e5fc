//! Reads what Aider 0.86.2 sends: which answer it expects, the files in the chat, the requests.
//!
//! The phrases looked for are those of Aider's prompts; they are all in this file.

use std::collections::BTreeMap;

use crate::ollama::wire::Message;

/// What kind of answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whole files.
    Whole,
    /// Search/replace blocks.
    Diff,
    /// Search/replace blocks with the path inside the fence.
    DiffFenced,
    /// Unified diffs.
    Udiff,
    /// Prose.
    Ask,
    /// Prose that an editor turn carries out.
    Architect,
    /// One line.
    CommitMessage,
    /// A summary of a conversation.
    Summary,
    /// Not from Aider.
    Plain,
}

/// A conversation, as far as the coder needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// What is expected.
    pub mode: Mode,
    /// Opening and closing fence that Aider will look for.
    pub fence: (String, String),
    /// Editable files in the chat, by path.
    pub files: BTreeMap<String, String>,
    requests: Vec<(String, usize)>,
}

const FILES: &str = "I have *added these files to the chat*";
const NOT_REQUESTS: [&str; 8] = [
    FILES,
    "I am working with you on code in a git repository.",
    "I am not sharing",
    "Don't try and edit any existing code",
    "Here are some READ ONLY files",
    "Here are summaries of some files",
    "I switched to a new code base.",
    "I committed the changes with git hash",
];
/// What Aider lets the assistant say to its own additions: none of them is an answer.
const AIDERS_OWN: [&str; 6] = [
    "Ok.",
    "Ok, I won't try and edit those files without asking first.",
    "Ok, I will use these files as references.",
    "Ok, any changes I propose will be to those files.",
    "Ok, I will use that as the true, current contents of the files.",
    "Ok, based on your requests I will suggest which files need to be edited and then stop and wait for your approval.",
];
const FILES_ADDED: &str = "I added these files to the chat:";
const REMINDERS: [&str; 3] = [
    "To suggest changes to a file you MUST return the entire content",
    "# *SEARCH/REPLACE block* Rules:",
    "# File editing rules:",
];
const FENCES: [(&str, &str); 7] = [
    ("````", "````"),
    ("```", "```"),
    ("<source>", "</source>"),
    ("<code>", "</code>"),
    ("<pre>", "</pre>"),
    ("<codeblock>", "</codeblock>"),
    ("<sourcecode>", "</sourcecode>"),
];

impl Conversation {
    /// Reads the messages of one request.
    pub fn read(messages: &[Message]) -> Self {
        let fence = fence(messages);
        let mut files = BTreeMap::new();
        for message in messages.iter().filter(|m| m.content.starts_with(FILES)) {
            files.extend(listed_files(&message.content, &fence));
        }
        Self {
            mode: mode(messages),
            files,
            requests: requests(messages),
            fence,
        }
    }

    /// User messages, the newest first, each with the number of answers that it got.
    pub fn requests(&self) -> impl Iterator<Item = (&str, usize)> {
        let newest_first = self.requests.iter().rev();
        newest_first.map(|(text, answers)| (text.as_str(), *answers))
    }
}

fn mode(messages: &[Message]) -> Mode {
    let system = messages.first().map_or("", |message| &message.content);
    let says = |phrase: &str| messages.iter().any(|m| m.content.contains(phrase));
    if system.contains("concise, one-line Git commit messages") {
        Mode::CommitMessage
    } else if system.starts_with("*Briefly* summarize") {
        Mode::Summary
    } else if system.contains("Act as an expert code analyst") {
        Mode::Ask
    } else if system.contains("Act as an expert architect engineer") {
        Mode::Architect
    } else if says("1. The opening fence and code language") {
        Mode::DiffFenced
    } else if says("Every *SEARCH/REPLACE block* must use this format") {
        Mode::Diff
    } else if says("Return edits similar to unified diffs") {
        Mode::Udiff
    } else if says("You MUST use this *file listing* format") {
        Mode::Whole
    } else {
        Mode::Plain
    }
}

/// The fence that Aider chose: it avoids those that occur in the files.
fn fence(messages: &[Message]) -> (String, String) {
    let announced = messages
        .iter()
        .flat_map(|message| message.content.lines())
        .find_map(|line| {
            let (_, fence) = line
                .split_once("Second line: opening ")
                .or_else(|| line.split_once("The opening fence and code language, eg: "))?;
            let fence = fence.strip_suffix("python").unwrap_or(fence);
            FENCES.iter().find(|(open, _)| *open == fence)
        });
    let (open, close) = announced
        .or_else(|| files_fence(messages))
        .unwrap_or(&("```", "```"));
    ((*open).to_owned(), (*close).to_owned())
}

/// The fence of the file listing: the first line after the introduction that is one.
fn files_fence(messages: &[Message]) -> Option<&'static (&'static str, &'static str)> {
    let listing = messages.iter().find(|m| m.content.starts_with(FILES))?;
    listing
        .content
        .lines()
        .find_map(|line| FENCES.iter().find(|(open, _)| *open == line))
}

/// Files of a listing: path, fence, content, fence. The closing fence follows the last line
/// directly when that has no line end.
fn listed_files(listing: &str, fence: &(String, String)) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let lines: Vec<&str> = listing.split('\n').collect();
    let mut at = 1;
    while at < lines.len() {
        if lines[at] != fence.0 {
            at += 1;
            continue;
        }
        let path = lines[at - 1].to_owned();
        let mut content = String::new();
        at += 1;
        while at < lines.len() && lines[at] != fence.1 {
            let is_last = lines.get(at + 1).is_none_or(|next| next.is_empty());
            if let Some(rest) = lines[at].strip_suffix(fence.1.as_str()).filter(|_| is_last) {
                content.push_str(rest);
                break;
            }
            content.push_str(lines[at]);
            content.push('\n');
            at += 1;
        }
        files.insert(path, content);
        at += 1;
    }
    files
}

/// What the user asked, without Aider's own additions.
fn requests(messages: &[Message]) -> Vec<(String, usize)> {
    let mut requests: Vec<(String, usize)> = Vec::new();
    let mut seen_answer = false;
    for message in messages {
        let content = message.content.as_str();
        match message.role.as_str() {
            "assistant" => seen_answer |= !AIDERS_OWN.contains(&content),
            "user" if content.starts_with(FILES_ADDED) => {
                // The answer before only asked for files: it was none.
                seen_answer = false;
            }
            "user" => {
                if std::mem::take(&mut seen_answer) {
                    for (_, answers) in &mut requests {
                        *answers += 1;
                    }
                }
                if !NOT_REQUESTS.iter().any(|start| content.starts_with(start)) {
                    requests.push((without_reminder(content).to_owned(), 0));
                }
            }
            _ => {}
        }
    }
    requests
}

fn without_reminder(content: &str) -> &str {
    let end = REMINDERS
        .iter()
        .filter_map(|start| content.find(start))
        .min();
    end.and_then(|end| content.get(..end)).unwrap_or(content)
}
