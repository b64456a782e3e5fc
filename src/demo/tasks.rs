//! Which tasks the demo submits: those of its task file, and more of them on request.

use std::fmt::Write as _;

use super::stage::TASKS;

/// Agents at a time.
pub(super) const AGENTS: u16 = 10;

/// Tasks in the file.
pub(super) const IN_FILE: usize = 18;

/// Tasks at the end that are left for the user to merge on a terminal.
pub(super) const LEFT: usize = 3;

/// Tasks at the beginning that together turn the tests green.
pub(super) const MENDING: usize = 7;

/// A task file with `count` tasks: the first of the file, then simple notes.
pub(super) fn file(count: usize) -> String {
    let mut parts = TASKS.split("[[task]]\n");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts.take(count) {
        text.push_str("[[task]]\n");
        text.push_str(part);
    }
    for number in IN_FILE + 1..=count {
        let written = write!(text, "{}", note(number));
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    text
}

/// A task whose prompt carries the simulator's answer itself.
fn note(number: usize) -> String {
    format!(
        "\n[[task]]\nname = \"note-{number}\"\ncategory = \"documentation\"\n\
         priority = \"background\"\nprompt = '''\nWrite docs/note-{number}.md.\n\
         @sim create docs/note-{number}.md := Note {number} of the demo.\n'''\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::cli::taskfile::{FileTask, parse};
    use crate::core::task::{Category, Mode};

    fn read(count: usize) -> Vec<FileTask> {
        parse(Path::new("tasks.toml"), &file(count)).unwrap()
    }

    #[test]
    fn any_number_of_tasks_makes_a_valid_file() {
        for count in [1, 2, IN_FILE - 1, IN_FILE, IN_FILE + 1, 100] {
            assert_eq!(read(count).len(), count);
        }
    }

    #[test]
    fn all_categories_and_modes_occur_and_what_mends_comes_first() {
        let tasks = read(IN_FILE);
        let words = |word: fn(&FileTask) -> Option<&String>| {
            let words: BTreeSet<_> = tasks.iter().filter_map(word).cloned().collect();
            words.len()
        };
        assert_eq!(words(|task| task.draft.category.as_ref()), 7);
        // The third is `code`, which nobody has to write.
        assert_eq!(words(|task| task.draft.mode.as_ref()), 2);
        assert_eq!(Category::default(), Category::General);
        assert_eq!(Mode::default(), Mode::Code);
        let mends = |task: &FileTask| task.draft.tags == Some(vec!["mends".to_owned()]);
        assert!(tasks.iter().take(MENDING).all(mends));
        assert!(!tasks.iter().skip(MENDING).any(mends));
    }
}
