//! Turns edits into new contents and into hunks of whole lines.

use std::collections::BTreeMap;

use super::Edit;

/// A change of consecutive whole lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Lines that are there, unique in the file; empty for an addition at the end.
    pub(super) before: String,
    /// Lines that will be there.
    pub(super) after: String,
}

/// All changes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patch {
    /// Path.
    pub(super) path: String,
    /// Whether the file is new.
    pub(super) is_new: bool,
    /// Content at the end.
    pub(super) content: String,
    /// The same as steps.
    pub(super) hunks: Vec<Hunk>,
}

/// Why edits cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CannotEdit {
    /// These files are not in the chat.
    Unseen(Vec<String>),
    /// The text is not in the file.
    NotFound {
        /// Path.
        path: String,
    },
}

/// Applies `edits` in order to `files`.
pub(super) fn apply(
    edits: &[Edit],
    files: &BTreeMap<String, String>,
) -> Result<Vec<Patch>, CannotEdit> {
    let mut patches: Vec<Patch> = Vec::new();
    let mut unseen = Vec::new();
    for edit in edits {
        let path = edit.path().to_owned();
        let known = patches.iter().position(|patch| patch.path == path);
        let index = match (known, files.get(&path)) {
            (Some(index), _) => index,
            (None, Some(content)) => push(&mut patches, path, content.clone(), false),
            (None, None) if matches!(edit, Edit::Create { .. }) => {
                push(&mut patches, path, String::new(), true)
            }
            (None, None) => {
                if !unseen.contains(&path) {
                    unseen.push(path);
                }
                continue;
            }
        };
        if let Some(patch) = patches.get_mut(index) {
            apply_one(edit, patch)?;
        }
    }
    if unseen.is_empty() {
        Ok(patches)
    } else {
        Err(CannotEdit::Unseen(unseen))
    }
}

fn push(patches: &mut Vec<Patch>, path: String, content: String, is_new: bool) -> usize {
    patches.push(Patch {
        path,
        is_new,
        content,
        hunks: Vec::new(),
    });
    patches.len() - 1
}

fn apply_one(edit: &Edit, patch: &mut Patch) -> Result<(), CannotEdit> {
    let hunk = match edit {
        Edit::Create { content, .. } => Hunk {
            before: patch.content.clone(),
            after: content.clone(),
        },
        Edit::Append { content, .. }
            if patch.content.ends_with('\n') || patch.content.is_empty() =>
        {
            Hunk {
                before: String::new(),
                after: content.clone(),
            }
        }
        Edit::Append { content, .. } => {
            let last = patch.content.rfind('\n').map_or(0, |end| end + 1);
            let last_line = patch.content.get(last..).unwrap_or_default();
            replaced(
                &patch.content,
                last,
                last_line,
                &format!("{last_line}\n{content}"),
            )
        }
        Edit::Replace { path, old, new } => {
            let (at, old, new) = locate(&patch.content, old, new)
                .ok_or_else(|| CannotEdit::NotFound { path: path.clone() })?;
            replaced(&patch.content, at, old, new)
        }
    };
    patch.content = if hunk.before.is_empty() {
        format!("{}{}", patch.content, hunk.after)
    } else {
        patch.content.replacen(&hunk.before, &hunk.after, 1)
    };
    patch.hunks.push(hunk);
    Ok(())
}

/// Where `old` is; also without its last line end, for a file that lacks one.
fn locate<'a>(content: &str, old: &'a str, new: &'a str) -> Option<(usize, &'a str, &'a str)> {
    if old.is_empty() {
        return None;
    }
    if let Some(at) = content.find(old) {
        return Some((at, old, new));
    }
    let old = old.strip_suffix('\n').filter(|old| !old.is_empty())?;
    let at = content.find(old)?;
    Some((at, old, new.strip_suffix('\n').unwrap_or(new)))
}

/// The replacement widened to whole lines, and further up until it is unique in the file.
fn replaced(content: &str, at: usize, old: &str, new: &str) -> Hunk {
    let line_start = |at: usize| {
        let head = content.get(..at).unwrap_or_default();
        head.rfind('\n').map_or(0, |end| end + 1)
    };
    let mut start = line_start(at);
    let end = at + old.len();
    let end = if end > 0 && content.as_bytes().get(end - 1) == Some(&b'\n') {
        end
    } else {
        let tail = content.get(end..).unwrap_or_default();
        tail.find('\n').map_or(content.len(), |line| end + line + 1)
    };
    loop {
        let before = content.get(start..end).unwrap_or_default();
        if content.find(before) == Some(start) || start == 0 {
            let head = content.get(start..at).unwrap_or_default();
            let tail = content.get(at + old.len()..end).unwrap_or_default();
            return Hunk {
                before: before.to_owned(),
                after: format!("{head}{new}{tail}"),
            };
        }
        start = line_start(start - 1);
    }
}
