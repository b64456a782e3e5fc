//! One template file: its keys, with every mistake and its line.

use std::path::{Component, Path};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::frame::TASK;
use super::survey::Sign;
use crate::config::keys::EDIT_FORMAT;
use crate::config::mistake::{Mistake, Place, suggestion};
use crate::config::parse::line_of;
use crate::config::value::{Field, Kind, Value, from_toml};
use crate::core::task::{Category, Mode};

/// What one file says; `None` means "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTemplate {
    /// A few words for lists.
    pub title: Option<String>,
    /// One sentence: what it is for.
    pub summary: Option<String>,
    /// The template that it extends, and the line that says so.
    pub extends: Option<(String, usize)>,
    /// How Aider works.
    pub mode: Option<Mode>,
    /// What kind of work it is.
    pub category: Option<Category>,
    /// The frame.
    pub prompt: Option<String>,
    /// Know-how for the frame.
    pub notes: Option<String>,
    /// The check, and its line.
    pub verify: Option<(String, usize)>,
    /// What the repository must show for the check.
    pub verify_needs: Vec<Sign>,
    /// How the model writes its edits.
    pub edit_format: Option<String>,
    /// Files to read.
    pub read: Vec<String>,
    /// What a repository shows that it fits; `None` means as in the extended one.
    pub when: Option<Vec<Sign>>,
}

const KEYS: [(&str, Kind); 12] = [
    ("category", Kind::Choice(&Category::WORDS)),
    ("edit_format", EDIT_FORMAT),
    ("extends", Kind::Text),
    ("mode", Kind::Choice(&Mode::WORDS)),
    ("notes", Kind::Text),
    ("prompt", Kind::Text),
    ("read", Kind::List),
    ("summary", Kind::Text),
    ("title", Kind::Text),
    ("verify", Kind::Text),
    ("verify_needs", Kind::List),
    ("when", Kind::List),
];

/// Reads the text of `file`.
///
/// # Errors
/// All mistakes of the file.
pub fn parse(file: &Path, text: &str) -> Result<FileTemplate, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        file,
        text,
        template: FileTemplate::default(),
        mistakes: Vec::new(),
    };
    for error in errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        reader.wrong(offset, error.message(), None);
    }
    for (name, value) in document.get_ref() {
        reader.key(name.get_ref(), name.span().start, value);
    }
    reader.whole();
    if reader.mistakes.is_empty() {
        return Ok(reader.template);
    }
    reader.mistakes.sort_by(|a, b| a.place.cmp(&b.place));
    Err(reader.mistakes)
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    template: FileTemplate,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, offset: usize, text: &str, hint: Option<&str>) {
        self.mistakes.push(Mistake {
            place: Place::File {
                path: self.file.to_owned(),
                line: line_of(self.text, offset),
            },
            text: text.to_owned(),
            hint: hint.map(str::to_owned),
        });
    }

    fn key(&mut self, name: &str, offset: usize, raw: &Spanned<DeValue<'_>>) {
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == name) else {
            let hint = suggestion(name, &KEYS.map(|(known, _)| known));
            let text = format!("{name} is not a key of a template");
            return self.wrong(offset, &text, Some(&hint));
        };
        match from_toml(*kind, raw.get_ref()) {
            Ok(value) => self.set(name, offset, value),
            Err(refused) => {
                let text = format!("{name} {}", refused.what);
                self.wrong(offset, &text, Some(&refused.hint));
            }
        }
    }

    fn set(&mut self, name: &str, offset: usize, value: Value) {
        let line = line_of(self.text, offset);
        match name {
            "read" => return self.set_read(offset, value),
            "verify_needs" => {
                self.template.verify_needs = self.signs(name, offset, value);
                return;
            }
            "when" => {
                self.template.when = Some(self.signs(name, offset, value));
                return;
            }
            _ => {}
        }
        let Some(text) = Field::from_value(value) else {
            return;
        };
        let text: String = text;
        let template = &mut self.template;
        match name {
            "title" => template.title = Some(text),
            "summary" => template.summary = Some(text),
            "extends" => template.extends = Some((text, line)),
            "mode" => template.mode = Mode::from_word(&text),
            "category" => template.category = Category::from_word(&text),
            "notes" => template.notes = Some(text),
            "verify" => template.verify = Some((text, line)),
            "edit_format" => template.edit_format = Some(text),
            _ => self.set_prompt(offset, text),
        }
    }

    fn set_prompt(&mut self, offset: usize, text: String) {
        let count = text.matches(TASK).count();
        if count != 1 {
            let what = format!("prompt holds {TASK} {count} times");
            let hint = "write it once, where the words of the task belong";
            self.wrong(offset, &what, Some(hint));
        }
        self.template.prompt = Some(text);
    }

    fn set_read(&mut self, offset: usize, value: Value) {
        let paths: Vec<String> = Field::from_value(value).unwrap_or_default();
        for path in &paths {
            let inside = |part| matches!(part, Component::Normal(_));
            if !Path::new(path).components().all(inside) {
                let text = format!("read names {path:?}, which is not inside the repository");
                let hint = "name files relative to the top of the repository";
                self.wrong(offset, &text, Some(hint));
            } else if let Err(error) = Sign::parse(path) {
                self.wrong(offset, &format!("read: {error}"), None);
            }
        }
        self.template.read = paths;
    }

    fn signs(&mut self, name: &str, offset: usize, value: Value) -> Vec<Sign> {
        let texts: Vec<String> = Field::from_value(value).unwrap_or_default();
        let mut signs = Vec::new();
        for text in texts {
            match Sign::parse(&text) {
                Ok(sign) => signs.push(sign),
                Err(error) => {
                    let hint = "write \"GLOB\", or \"GLOB: TEXT\" for a file that holds a text";
                    self.wrong(offset, &format!("{name}: {error}"), Some(hint));
                }
            }
        }
        signs
    }

    /// What must be there together.
    fn whole(&mut self) {
        let template = &self.template;
        let lacks_verify = template.verify.is_none() && !template.verify_needs.is_empty();
        let needed = [
            ("title", template.title.is_some()),
            ("summary", template.summary.is_some()),
            ("prompt", template.prompt.is_some()),
        ];
        let is_whole = template.extends.is_some() || !self.mistakes.is_empty();
        if !is_whole {
            for (name, is_there) in needed {
                if !is_there {
                    let hint = "give it one, or name the template that this one extends";
                    self.wrong(0, &format!("this template has no {name}"), Some(hint));
                }
            }
        }
        if lacks_verify {
            let hint = "it says when the command of the same file is used";
            self.wrong(0, "verify_needs stands without verify", Some(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<FileTemplate, Vec<String>> {
        let texts = |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect();
        parse(Path::new("t.toml"), text).map_err(texts)
    }

    #[test]
    fn every_key_is_read() {
        let template = read(
            "title = \"T\"\nsummary = \"S.\"\nextends = \"reviewer\"\nmode = \"ask\"\n\
             category = \"review\"\nprompt = \"{task}\"\nnotes = \"- n\"\nverify = \"true\"\n\
             verify_needs = [\"a: b\"]\nedit_format = \"diff\"\nread = [\"docs/*.md\"]\n\
             when = [\"**/*.rs\"]\n",
        )
        .unwrap();
        assert_eq!(template.extends, Some(("reviewer".into(), 3)));
        assert_eq!(template.verify, Some(("true".into(), 8)));
        assert_eq!(template.mode, Some(Mode::Ask));
        assert_eq!(template.category, Some(Category::Review));
        assert_eq!(template.read, ["docs/*.md"]);
        assert_eq!(template.verify_needs, [Sign::parse("a: b").unwrap()]);
        assert_eq!(template.when, Some(vec![Sign::parse("**/*.rs").unwrap()]));
        assert_eq!(template.edit_format.as_deref(), Some("diff"));
        assert_eq!(template.notes.as_deref(), Some("- n"));
    }

    #[test]
    fn all_mistakes_are_found_at_once_each_with_its_line() {
        let mistakes = read(
            "titel = \"T\"\nmode = \"cod\"\nprompt = \"no place\"\nread = [\"../x\"]\n\
             when = [\"a[\"]\nverify_needs = [\"b\"]\nedit_format = \"patch\"\n",
        )
        .unwrap_err();
        let starts = |text: &str| mistakes.iter().any(|m| m.starts_with(text));
        assert!(starts(
            "t.toml:1: titel is not a key of a template (did you mean \"title\""
        ));
        assert!(starts("t.toml:2: mode is \"cod\" (did you mean \"code\""));
        assert!(starts("t.toml:3: prompt holds {task} 0 times"));
        assert!(starts("t.toml:4: read names \"../x\", which is not inside"));
        assert!(starts("t.toml:5: when: "), "{mistakes:?}");
        assert!(starts("t.toml:1: verify_needs stands without verify"));
        assert!(starts("t.toml:7: edit_format is \"patch\""));
    }

    #[test]
    fn what_extends_nothing_must_be_whole() {
        let mistakes = read("summary = \"S.\"\n").unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(read("extends = \"implementer\"\n").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_mistake_is_outside_the_file(
            text in "(prompt = \"\\{task\\}\"\n|when = \\[\"a\"\\]\n|mode = \"ask\"\n|.{0,9}\n?){0,9}"
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
