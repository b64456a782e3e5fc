//! Writes an answer in one of Aider's edit formats.

use std::fmt::Write as _;

use super::edit::{CannotEdit, Hunk, Patch, apply};
use super::{Conversation, Edit, Mode, Step};

/// The text of one answer.
pub(super) fn step(conversation: &Conversation, step: &Step) -> String {
    let (edits, say) = match step {
        Step::Refuse(text) | Step::Ask(text) => return text.clone(),
        Step::Malformed(edits) | Step::Elided(edits) => (edits, ""),
        Step::Edits { edits, say, .. } => (edits, say.as_str()),
    };
    let patches = match apply(edits, &conversation.files) {
        Ok(patches) => patches,
        Err(problem) => return cannot(&problem),
    };
    let mut text = match step {
        Step::Malformed(_) => malformed(conversation, &patches),
        Step::Elided(_) => elided(conversation, edits, &patches),
        Step::Edits { .. } | Step::Refuse(_) | Step::Ask(_) => {
            let say = if say.is_empty() {
                "Here is the change."
            } else {
                say
            };
            format!("{say}\n\n{}", patches_in(conversation, &patches))
        }
    };
    if let Step::Edits {
        shell: Some(command),
        ..
    } = step
    {
        let _infallible = write!(text, "\n```bash\n{command}\n```\n");
    }
    text
}

fn cannot(problem: &CannotEdit) -> String {
    match problem {
        CannotEdit::Unseen(paths) => {
            let quoted: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
            format!(
                "I need to see these files first, please add them to the chat: {}",
                quoted.join(" ")
            )
        }
        CannotEdit::NotFound { path } => {
            format!("The text that should be replaced is not in {path}.")
        }
    }
}

fn patches_in(conversation: &Conversation, patches: &[Patch]) -> String {
    let each = patches.iter().map(|patch| match conversation.mode {
        Mode::Diff => search_replace(conversation, patch),
        Mode::DiffFenced => search_replace_fenced(conversation, patch),
        Mode::Udiff => unified(patch),
        Mode::Whole
        | Mode::Ask
        | Mode::Architect
        | Mode::CommitMessage
        | Mode::Summary
        | Mode::Plain => listing(conversation, &patch.path, &patch.content),
    });
    each.collect::<Vec<_>>().join("\n")
}

fn listing(conversation: &Conversation, path: &str, content: &str) -> String {
    let (open, close) = &conversation.fence;
    format!("{path}\n{open}\n{}{close}\n", line_ended(content))
}

fn search_replace(conversation: &Conversation, patch: &Patch) -> String {
    let (open, close) = &conversation.fence;
    let blocks = patch
        .hunks
        .iter()
        .map(|hunk| format!("{}\n{open}\n{}{close}\n", patch.path, block(hunk)));
    blocks.collect::<Vec<_>>().join("\n")
}

fn search_replace_fenced(conversation: &Conversation, patch: &Patch) -> String {
    let (open, close) = &conversation.fence;
    let blocks = patch
        .hunks
        .iter()
        .map(|hunk| format!("{open}\n{}\n{}{close}\n", patch.path, block(hunk)));
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(hunk: &Hunk) -> String {
    format!(
        "<<<<<<< SEARCH\n{}=======\n{}>>>>>>> REPLACE\n",
        line_ended(&hunk.before),
        line_ended(&hunk.after)
    )
}

fn unified(patch: &Patch) -> String {
    let old = if patch.is_new {
        "/dev/null"
    } else {
        &patch.path
    };
    let mut text = format!("```diff\n--- {old}\n+++ {}\n", patch.path);
    for hunk in &patch.hunks {
        text.push_str("@@ ... @@\n");
        for line in hunk.before.lines() {
            let _infallible = writeln!(text, "-{line}");
        }
        for line in hunk.after.lines() {
            let _infallible = writeln!(text, "+{line}");
        }
    }
    text.push_str("```\n");
    text
}

/// An answer that Aider cannot apply. Where it would still guess (a listing without a name and one
/// file in the chat), the fences are missing.
fn malformed(conversation: &Conversation, patches: &[Patch]) -> String {
    let (open, close) = &conversation.fence;
    let bodies = patches.iter().map(|patch| match conversation.mode {
        Mode::Diff | Mode::DiffFenced => format!(
            "{}\n{open}\n<<<<<<< SEARCH\nthis line is in no file\n{}{close}\n",
            patch.path,
            line_ended(&patch.content)
        ),
        Mode::Udiff => format!(
            "```diff\n--- {0}\n+++ {0}\n@@ ... @@\n-this line is in no file\n-nor is this one\n+{1}\n```\n",
            patch.path,
            patch.content.lines().next().unwrap_or_default()
        ),
        _ if conversation.files.len() == 1 => format!("{}\n{}", patch.path, patch.content),
        _ => format!("{open}\n{}{close}\n", line_ended(&patch.content)),
    });
    bodies.collect::<Vec<_>>().join("\n")
}

/// An answer with "... rest of code ..." where code should be.
fn elided(conversation: &Conversation, edits: &[Edit], patches: &[Patch]) -> String {
    let shortened: Vec<Patch> = patches
        .iter()
        .map(|patch| {
            let shorten = |text: &str| {
                let mut lines: Vec<&str> = text.lines().take(2).collect();
                lines.push("# ... rest of code ...");
                line_ended(&lines.join("\n"))
            };
            let hunks = patch.hunks.iter().map(|hunk| Hunk {
                before: hunk.before.clone(),
                after: shorten(&hunk.after),
            });
            Patch {
                content: shorten(&patch.content),
                hunks: hunks.collect(),
                ..patch.clone()
            }
        })
        .collect();
    let count = edits.len();
    format!(
        "Here are {count} changes, shortened.\n\n{}",
        patches_in(conversation, &shortened)
    )
}

fn line_ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') {
        text.to_owned()
    } else {
        format!("{text}\n")
    }
}
