//! Task files: `[[task]]` tables with `[defaults]`, read with every mistake and its line.
//!
//! ```toml
//! [defaults]
//! verify = "cargo test"
//!
//! [[task]]
//! name = "retry"
//! prompt = "Add retry logic to fetch()"
//!
//! [[task]]
//! prompt_file = "docs.md"
//! after = ["retry"]
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::words;
use crate::config::mistake::{Mistake, Place, suggestion};
use crate::config::parse::line_of;
use crate::config::value::{Field, Kind, from_toml};

/// What a task is given; `None` and empty mean "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Short name, unique in its file.
    pub name: Option<String>,
    /// What Aider is told.
    pub prompt: Option<String>,
    /// File that holds the prompt, relative to the task file.
    pub prompt_file: Option<String>,
    /// One of [`words::MODES`].
    pub mode: Option<String>,
    /// One of [`words::CATEGORIES`].
    pub category: Option<String>,
    /// One of [`words::PRIORITIES`].
    pub priority: Option<String>,
    /// Free words.
    pub tags: Option<Vec<String>>,
    /// Names of tasks in the same file that must be merged first.
    pub after: Vec<String>,
    /// Numbers of tasks that exist and must be merged first.
    pub after_tasks: Vec<u64>,
    /// Files for editing.
    pub files: Option<Vec<String>>,
    /// Files for reading.
    pub read: Option<Vec<String>>,
    /// Model by name.
    pub model: Option<String>,
    /// Command that must succeed.
    pub verify: Option<String>,
    /// One of [`words::AUTONOMIES`].
    pub autonomy: Option<String>,
    /// Further attempts.
    pub retries: Option<u32>,
    /// Longest wait in the queue.
    pub ttl: Option<Duration>,
    /// `head`, `wip` or a revision.
    pub base: Option<String>,
    /// Branch that receives the result.
    pub target: Option<String>,
    /// One of [`words::STRATEGIES`].
    pub strategy: Option<String>,
    /// Idempotency key.
    pub key: Option<String>,
    /// Template that frames the prompt.
    pub template: Option<String>,
}

/// One task of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTask {
    /// What it is given, defaults included.
    pub draft: Draft,
    /// Line of its `[[task]]`.
    pub line: usize,
    /// Indexes of the tasks that `after` names.
    pub after_index: Vec<usize>,
}

/// Reads the text of `file`. The order of the tasks is kept.
pub fn parse(file: &Path, text: &str) -> Result<Vec<FileTask>, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        file,
        text,
        mistakes: Vec::new(),
    };
    for error in errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        reader.wrong(offset, error.message(), None);
    }
    let mut tasks = reader.document(document.get_ref());
    reader.resolve(&mut tasks);
    if reader.mistakes.is_empty() {
        return Ok(tasks);
    }
    reader.mistakes.sort_by(|a, b| a.place.cmp(&b.place));
    Err(reader.mistakes)
}

const KEYS: [(&str, Kind); 21] = [
    ("after", Kind::List),
    ("after_tasks", Kind::List),
    ("autonomy", Kind::Choice(&words::AUTONOMIES)),
    ("base", Kind::Text),
    ("category", Kind::Choice(&words::CATEGORIES)),
    ("files", Kind::List),
    ("key", Kind::Text),
    ("mode", Kind::Choice(&words::MODES)),
    ("model", Kind::Text),
    ("name", Kind::Text),
    ("priority", Kind::Choice(&words::PRIORITIES)),
    ("prompt", Kind::Text),
    ("prompt_file", Kind::Text),
    ("read", Kind::List),
    ("retries", Kind::Integer { min: 0, max: 100 }),
    ("strategy", Kind::Choice(&words::STRATEGIES)),
    ("tags", Kind::List),
    ("target", Kind::Text),
    ("template", Kind::Text),
    ("ttl", Kind::Duration),
    ("verify", Kind::Text),
];

/// What only one task can have.
const OWN: [&str; 5] = ["name", "prompt", "prompt_file", "after", "key"];

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, offset: usize, text: &str, hint: Option<String>) {
        self.wrong_at(line_of(self.text, offset), text, hint);
    }

    fn wrong_at(&mut self, line: usize, text: &str, hint: Option<String>) {
        self.mistakes.push(Mistake {
            place: Place::File {
                path: self.file.to_owned(),
                line,
            },
            text: text.to_owned(),
            hint,
        });
    }

    fn document(&mut self, document: &DeTable<'_>) -> Vec<FileTask> {
        let mut defaults = Draft::default();
        for (name, value) in document {
            let offset = name.span().start;
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("defaults", DeValue::Table(table)) => {
                    for (key, value) in table {
                        if OWN.contains(&key.get_ref().as_ref()) {
                            let text = format!("{} cannot be a default", key.get_ref());
                            self.wrong(key.span().start, &text, None);
                        } else {
                            self.key(&mut defaults, key.get_ref(), key.span().start, value);
                        }
                    }
                }
                ("task", DeValue::Array(_)) => {}
                ("task" | "defaults", _) => {
                    let text = format!("{} is not what is expected here", name.get_ref());
                    self.wrong(offset, &text, Some("write [[task]] and [defaults]".into()));
                }
                (other, _) => {
                    let hint = suggestion(other, &["task", "defaults"]);
                    self.wrong(offset, &format!("{other} is not a key"), Some(hint));
                }
            }
        }
        let items = document
            .get("task")
            .and_then(|value| value.get_ref().as_array());
        let tasks: Vec<_> = items
            .into_iter()
            .flatten()
            .filter_map(|item| self.task(&defaults, item))
            .collect();
        if tasks.is_empty() && self.mistakes.is_empty() {
            self.wrong(
                0,
                "there is no task in it",
                Some("write [[task]] with a prompt".into()),
            );
        }
        tasks
    }

    fn task(&mut self, defaults: &Draft, item: &Spanned<DeValue<'_>>) -> Option<FileTask> {
        let start = item.span().start;
        let DeValue::Table(table) = item.get_ref() else {
            self.wrong(start, "a task is a table", Some("write [[task]]".into()));
            return None;
        };
        let mut draft = defaults.clone();
        for (key, value) in table {
            self.key(&mut draft, key.get_ref(), key.span().start, value);
        }
        let given = |name: &str| table.iter().any(|(key, _)| key.get_ref() == name);
        let hint = Some("give it either prompt or prompt_file".to_owned());
        match (given("prompt"), given("prompt_file")) {
            (false, false) => self.wrong(start, "this task has no prompt", hint),
            (true, true) => self.wrong(start, "this task has two prompts", hint),
            (true, false) | (false, true) => {}
        }
        let line = line_of(self.text, start);
        Some(FileTask {
            draft,
            line,
            after_index: Vec::new(),
        })
    }

    fn key(&mut self, draft: &mut Draft, name: &str, offset: usize, raw: &Spanned<DeValue<'_>>) {
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = KEYS.iter().map(|(known, _)| *known).collect();
            let hint = suggestion(name, &names);
            self.wrong(
                offset,
                &format!("{name} is not a key of a task"),
                Some(hint),
            );
            return;
        };
        if name == "after_tasks" {
            match numbers(raw.get_ref()) {
                Some(numbers) => draft.after_tasks = numbers,
                None => self.wrong(offset, "after_tasks is not a list of task numbers", None),
            }
            return;
        }
        match from_toml(*kind, raw.get_ref()) {
            Ok(value) => set(draft, name, value),
            Err(refused) => {
                self.wrong(
                    offset,
                    &format!("{name} {}", refused.what),
                    Some(refused.hint),
                );
            }
        }
    }

    /// Turns names into indexes and finds circles.
    fn resolve(&mut self, tasks: &mut [FileTask]) {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            let Some(name) = &task.draft.name else {
                continue;
            };
            if names.insert(name.clone(), index).is_some() {
                self.wrong_at(task.line, &format!("the name {name:?} is used twice"), None);
            }
        }
        for task in tasks.iter_mut() {
            for name in &task.draft.after {
                if let Some(index) = names.get(name) {
                    task.after_index.push(*index);
                    continue;
                }
                let known: Vec<_> = names.keys().map(String::as_str).collect();
                let text = format!("after names {name:?}, which is no task of this file");
                self.wrong_at(task.line, &text, Some(suggestion(name, &known)));
            }
        }
        if let Some(circle) = circle(tasks) {
            let name = |index: &usize| {
                let task = tasks.get(*index);
                task.and_then(|task| task.draft.name.clone())
                    .unwrap_or_default()
            };
            let path: Vec<_> = circle.iter().map(name).collect();
            let line = circle
                .first()
                .and_then(|index| tasks.get(*index))
                .map_or(1, |t| t.line);
            let text = format!("these tasks wait for each other: {}", path.join(" → "));
            self.wrong_at(line, &text, None);
        }
    }
}

fn numbers(raw: &DeValue<'_>) -> Option<Vec<u64>> {
    let number = |item: &Spanned<DeValue<'_>>| {
        let number = item.get_ref().as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    };
    raw.as_array()?.iter().map(number).collect()
}

fn set(draft: &mut Draft, name: &str, value: crate::config::value::Value) {
    match name {
        "name" => draft.name = Field::from_value(value),
        "prompt" => draft.prompt = Field::from_value(value),
        "prompt_file" => draft.prompt_file = Field::from_value(value),
        "mode" => draft.mode = Field::from_value(value),
        "category" => draft.category = Field::from_value(value),
        "priority" => draft.priority = Field::from_value(value),
        "tags" => draft.tags = Field::from_value(value),
        "after" => draft.after = Field::from_value(value).unwrap_or_default(),
        "files" => draft.files = Field::from_value(value),
        "read" => draft.read = Field::from_value(value),
        "model" => draft.model = Field::from_value(value),
        "verify" => draft.verify = Field::from_value(value),
        "autonomy" => draft.autonomy = Field::from_value(value),
        "retries" => draft.retries = Field::from_value(value),
        "ttl" => draft.ttl = Field::from_value(value),
        "base" => draft.base = Field::from_value(value),
        "target" => draft.target = Field::from_value(value),
        "strategy" => draft.strategy = Field::from_value(value),
        "template" => draft.template = Field::from_value(value),
        _ => draft.key = Field::from_value(value),
    }
}

/// The first circle of dependencies, its first task repeated at the end.
fn circle(tasks: &[FileTask]) -> Option<Vec<usize>> {
    let mut settled = vec![false; tasks.len()];
    for start in 0..tasks.len() {
        // Walk in depth with an explicit path: files may hold thousands of tasks.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((index, next)) = path.pop() {
            if settled.get(index).copied().unwrap_or(true) {
                continue;
            }
            let Some(child) = tasks.get(index).and_then(|t| t.after_index.get(next)) else {
                settled
                    .iter_mut()
                    .skip(index)
                    .take(1)
                    .for_each(|mark| *mark = true);
                continue;
            };
            path.push((index, next + 1));
            if let Some(at) = path.iter().position(|(seen, _)| seen == child) {
                let mut circle: Vec<_> = path.iter().skip(at).map(|(seen, _)| *seen).collect();
                circle.push(*child);
                return Some(circle);
            }
            path.push((*child, 0));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<FileTask>, Vec<String>> {
        let texts = |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect();
        parse(Path::new("t.toml"), text).map_err(texts)
    }

    #[test]
    fn defaults_are_given_to_all_and_a_task_has_the_last_word() {
        let tasks = read(
            "[defaults]\nmode = \"ask\"\nretries = 2\n[[task]]\nname = \"a\"\nprompt = \"x\"\n\
             [[task]]\nprompt_file = \"p.md\"\nmode = \"code\"\nafter = [\"a\"]\nafter_tasks = [7]\n",
        )
        .unwrap();
        assert_eq!(tasks[0].draft.mode.as_deref(), Some("ask"));
        assert_eq!(tasks[1].draft.mode.as_deref(), Some("code"));
        assert_eq!(tasks[1].draft.retries, Some(2));
        assert_eq!(tasks[1].after_index, [0]);
        assert_eq!(tasks[1].draft.after_tasks, [7]);
        assert_eq!(tasks[1].line, 7);
    }

    #[test]
    fn all_mistakes_are_found_at_once_each_with_its_line() {
        let mistakes = read(
            "[defaults]\nname = \"n\"\n[[task]]\nprmpt = \"x\"\n[[task]]\nprompt = \"y\"\n\
             mode = \"cod\"\nafter = [\"b\"]\n[[task]]\nname = \"a\"\nprompt = \"\"\n",
        )
        .unwrap_err();
        let starts = |text: &str| mistakes.iter().any(|m| m.starts_with(text));
        assert!(starts("t.toml:2: name cannot be a default"), "{mistakes:?}");
        assert!(starts("t.toml:3: this task has no prompt"));
        assert!(starts(
            "t.toml:4: prmpt is not a key of a task (did you mean \"prompt\""
        ));
        assert!(starts("t.toml:7: mode is \"cod\" (did you mean \"code\""));
        assert!(starts("t.toml:5: after names \"b\""));
        assert!(starts("t.toml:11: prompt is empty"));
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_refused_with_the_circle() {
        let mistakes = read(
            "[[task]]\nname = \"x\"\nprompt = \"p\"\nafter = [\"a\"]\n\
             [[task]]\nname = \"a\"\nprompt = \"p\"\nafter = [\"b\"]\n\
             [[task]]\nname = \"b\"\nprompt = \"p\"\nafter = [\"a\"]\n",
        )
        .unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].contains("a → b → a"), "{mistakes:?}");
    }

    #[test]
    fn a_file_without_a_task_is_refused() {
        assert!(read("").unwrap_err()[0].contains("there is no task"));
        assert!(read("task = 3").unwrap_err()[0].contains("[[task]]"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_mistake_is_outside_the_file(
            text in "(\\[\\[task\\]\\]\n|\\[defaults\\]\n|after = \\[\"a\"\\]\n|name = \"a\"\n|.{0,9}\n?){0,9}"
        ) {
            if let Err(mistakes) = parse(Path::new("t"), &text) {
                let lines = text.lines().count().max(1);
                for mistake in mistakes {
                    let Place::File { line, .. } = mistake.place else {
                        panic!("not in the file");
                    };
                    prop_assert!((1..=lines).contains(&line));
                }
            }
        }
    }
}
