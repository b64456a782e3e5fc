//! The prompt: the words of a task put into a template's frame.
//!
//! A line whose placeholder has nothing to stand for is left out, so that one frame serves tasks
//! with and without a check. What is put in is never searched for placeholders itself.
//!
//! Invariant: pure.

use super::template::Template;

/// Where the words of the task belong; once in every frame.
pub const TASK: &str = "{task}";

/// Where a template's know-how belongs.
pub const NOTES: &str = "{notes}";

/// Where the command belongs that checks the result.
pub const VERIFY: &str = "{verify}";

/// The words of a task in the frame of `template`.
pub fn frame(template: &Template, asked: &str, verify: Option<&str>) -> String {
    let notes = template.notes.trim();
    let mut lines: Vec<String> = template
        .prompt
        .trim()
        .lines()
        .filter_map(|line| filled(line, [asked, notes, verify.unwrap_or_default()]))
        .collect();
    if !notes.is_empty() && !template.prompt.contains(NOTES) {
        lines.extend([String::new(), notes.to_owned()]);
    }
    lines.join("\n")
}

/// The line with its placeholders replaced; `None` when one of them has nothing to stand for.
fn filled(line: &str, [task, notes, verify]: [&str; 3]) -> Option<String> {
    let places = [(TASK, task), (NOTES, notes), (VERIFY, verify)];
    let mut filled = String::new();
    let mut rest = line;
    loop {
        let found = places
            .iter()
            .filter_map(|(name, value)| Some((rest.find(name)?, *name, *value)))
            .min_by_key(|(at, _, _)| *at);
        let Some((at, name, value)) = found else {
            filled.push_str(rest);
            return Some(filled);
        };
        if value.is_empty() && name != TASK {
            return None;
        }
        filled.push_str(rest.get(..at).unwrap_or_default());
        filled.push_str(value);
        rest = rest.get(at + name.len()..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::templates::template::Shelf;
    use crate::core::task::{Category, Mode};

    fn template(prompt: &str, notes: &str) -> Template {
        Template {
            name: "t".into(),
            title: String::new(),
            summary: String::new(),
            extends: None,
            mode: Mode::Code,
            category: Category::General,
            prompt: prompt.into(),
            notes: notes.into(),
            check: None,
            edit_format: None,
            read: Vec::new(),
            when: Vec::new(),
            shelf: Shelf::BuiltIn,
        }
    }

    #[test]
    fn the_words_of_the_task_stand_as_they_are() {
        let template = template("Do:\n{task}\nCheck: `{verify}`.\n", "");
        let asked = "a {verify} b\n{notes} {task} {json: 1}";
        let framed = frame(&template, asked, Some("make {task}"));
        assert_eq!(framed, format!("Do:\n{asked}\nCheck: `make {{task}}`."));
    }

    #[test]
    fn a_line_without_anything_to_say_is_left_out() {
        let template = template("{task}\n{notes}\nRuns `{verify}`.\nEnd.", " ");
        assert_eq!(frame(&template, "x", None), "x\nEnd.");
    }

    #[test]
    fn know_how_is_never_lost() {
        assert_eq!(frame(&template("{task}", "- a\n"), "x", None), "x\n\n- a");
        let placed = template("{notes}\n{task}", "- a\n");
        assert_eq!(frame(&placed, "x", None), "- a\nx");
    }
}
