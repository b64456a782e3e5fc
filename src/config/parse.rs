//! Turns the text of a configuration file into assignments, each with its line.
//!
//! Nothing stops at the first mistake: syntax errors, unknown names and refused values are all
//! collected, and every one has a line that exists in the file.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Place};
use super::schema::{self, Found, Key, written};
use super::url;
use super::value::{Field, Kind, Refused, Value, from_toml};
use crate::core::settings::EndpointSettings;

/// One key given a value at one place.
#[derive(Clone)]
pub struct Assignment {
    /// Row of the table of keys.
    pub key: &'static Key,
    /// The path as the user wrote it, `*`s replaced.
    pub path: Vec<String>,
    /// A value that the key's kind has accepted.
    pub value: Value,
    /// Where it was said.
    pub place: Place,
}

impl Assignment {
    /// What the `*`s of the key's path stand for.
    pub fn stars(&self) -> Vec<&str> {
        self.key
            .segments()
            .zip(&self.path)
            .filter(|(segment, _)| *segment == "*")
            .map(|(_, name)| name.as_str())
            .collect()
    }
}

/// Reads the text of `file`.
pub fn parse(file: &Path, text: &str) -> (Vec<Assignment>, Vec<Mistake>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        file,
        text,
        path: Vec::new(),
        assignments: Vec::new(),
        mistakes: Vec::new(),
    };
    for error in errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        reader.wrong(offset, error.message().to_owned(), None);
    }
    reader.table(document.get_ref());
    let mut mistakes = reader.mistakes;
    mistakes.sort_by(|a, b| a.place.cmp(&b.place));
    (reader.assignments, mistakes)
}

/// The line of a byte offset, counted from 1, never behind the last one.
pub fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    let line = 1 + before.filter(|byte| **byte == b'\n').count();
    line.min(text.lines().count().max(1))
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    path: Vec<String>,
    assignments: Vec<Assignment>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::File {
            path: self.file.to_owned(),
            line: line_of(self.text, offset),
        }
    }

    fn wrong(&mut self, offset: usize, text: String, hint: Option<String>) {
        let place = self.place(offset);
        self.mistakes.push(Mistake { place, text, hint });
    }

    fn table(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            self.path.push(name.get_ref().to_string());
            self.entry(name.span().start, value);
            self.path.pop();
        }
    }

    fn entry(&mut self, offset: usize, value: &Spanned<DeValue<'_>>) {
        let path = self.path.clone();
        let names: Vec<_> = path.iter().map(String::as_str).collect();
        match (schema::find(&names), value.get_ref()) {
            (Found::Section, DeValue::Table(table)) => self.table(table),
            (Found::Section, _) => {
                let text = format!("{0} is a section: write [{0}]", written(&path));
                self.wrong(offset, text, None);
            }
            (Found::Unknown { meant, valid }, _) => {
                let text = format!("{} is not a key", written(&path));
                let hint = unknown_hint(meant, &valid);
                self.wrong(offset, text, hint);
            }
            (Found::Key(key, _), raw) => self.assign(key, offset, raw),
        }
    }

    fn assign(&mut self, key: &'static Key, offset: usize, raw: &DeValue<'_>) {
        let value = match key.kind {
            Kind::Endpoints => self.endpoints(offset, raw),
            kind => match from_toml(kind, raw) {
                Ok(value) => Some(value),
                Err(Refused { what, hint }) => {
                    let text = format!("{} {what}", written(&self.path));
                    self.wrong(offset, text, Some(hint));
                    None
                }
            },
        };
        if let Some(value) = value {
            self.assignments.push(Assignment {
                key,
                path: self.path.clone(),
                value,
                place: self.place(offset),
            });
        }
    }

    fn endpoints(&mut self, offset: usize, raw: &DeValue<'_>) -> Option<Value> {
        let DeValue::Array(items) = raw else {
            let hint = "write [[endpoints]] with name and url".to_owned();
            self.wrong(
                offset,
                "endpoints is not a list of tables".into(),
                Some(hint),
            );
            return None;
        };
        let known = self.mistakes.len();
        let mut list: Vec<EndpointSettings> = Vec::new();
        for item in items {
            let start = item.span().start;
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong(
                    start,
                    "an endpoint is a table with name and url".into(),
                    None,
                );
                continue;
            };
            if let Some(endpoint) = self.endpoint(start, table) {
                if list.iter().any(|other| other.name == endpoint.name) {
                    let text = format!("endpoints: the name {:?} is used twice", endpoint.name);
                    self.wrong(start, text, None);
                }
                list.push(endpoint);
            }
        }
        (self.mistakes.len() == known).then_some(Value::Endpoints(list))
    }

    fn endpoint(&mut self, start: usize, table: &DeTable<'_>) -> Option<EndpointSettings> {
        let (mut name, mut url) = (None, None);
        let mut optional = EndpointSettings::default();
        for (key, value) in table {
            let offset = key.span().start;
            let text = value.get_ref().as_str().map(str::trim).unwrap_or_default();
            match key.get_ref().as_ref() {
                "name" if is_endpoint_name(text) => name = Some(text.to_owned()),
                "name" => {
                    let hint = "up to 32 letters, digits, '-', '_' and '.'".to_owned();
                    self.wrong(offset, "endpoints: name is not a name".into(), Some(hint));
                }
                "url" => match url::normalise(text) {
                    Ok(address) => url = Some(address),
                    Err(error) => {
                        let hint = "for example \"http://127.0.0.1:11434\"".to_owned();
                        let text = format!("endpoints: url is {text:?}: {error}");
                        self.wrong(offset, text, Some(hint));
                    }
                },
                "parallel" => optional.parallel = self.field(("parallel", SLOTS), offset, value),
                "vram" => optional.vram = self.field(("vram", Kind::Size), offset, value),
                "kv_cache" => {
                    optional.kv_cache = self.field(("kv_cache", KV_CACHES), offset, value);
                }
                "gpu" => optional.gpu = self.field(("gpu", Kind::Text), offset, value),
                other => {
                    let hint = super::mistake::suggestion(other, &ENDPOINT_KEYS);
                    let text = format!("endpoints.{other} is not a key");
                    self.wrong(offset, text, Some(hint));
                }
            }
        }
        for missing in ["name", "url"] {
            if !table.iter().any(|(key, _)| key.get_ref() == missing) {
                self.wrong(
                    start,
                    format!("endpoints: this endpoint has no {missing}"),
                    None,
                );
            }
        }
        Some(EndpointSettings {
            name: name?,
            url: url?,
            ..optional
        })
    }

    /// An optional field of an endpoint.
    fn field<T: Field>(
        &mut self,
        (name, kind): (&str, Kind),
        offset: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        match from_toml(kind, value.get_ref()) {
            Ok(value) => Field::from_value(value),
            Err(Refused { what, hint }) => {
                let text = format!("endpoints: {name} {what}");
                self.wrong(offset, text, Some(hint));
                None
            }
        }
    }
}

const ENDPOINT_KEYS: [&str; 6] = ["name", "url", "parallel", "vram", "kv_cache", "gpu"];
const KV_CACHES: Kind = Kind::Choice(&["f16", "q8_0", "q4_0"]);
const SLOTS: Kind = Kind::Integer { min: 1, max: 64 };

/// Names are shown in columns and appear in URLs.
fn is_endpoint_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// `did you mean …? valid: …`
pub fn unknown_hint(meant: Option<String>, valid: &[&str]) -> Option<String> {
    let list = (!valid.is_empty()).then(|| format!("valid: {}", valid.join(", ")));
    match (meant, list) {
        (Some(meant), Some(list)) => Some(format!("did you mean \"{meant}\"? {list}")),
        (Some(meant), None) => Some(format!("did you mean \"{meant}\"?")),
        (None, list) => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vram::KvCache;
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<Assignment>, Vec<String>) {
        let (assignments, mistakes) = parse(Path::new("c.toml"), text);
        (
            assignments,
            mistakes.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn all_mistakes_are_found_at_once_each_with_its_line() {
        let (_, mistakes) = read(
            "[agents]\nmax = 99\nrosw = 3\n\n[merge]\nstrategy = \"sqash\"\n[tasks]\nbackoff = \"soon\"\n",
        );
        assert_eq!(mistakes.len(), 4);
        assert!(
            mistakes[0].starts_with("c.toml:2: agents.max is 99"),
            "{mistakes:?}"
        );
        assert!(mistakes[0].contains("from 1 to 64"));
        assert!(
            mistakes[1].starts_with("c.toml:3: agents.rosw is not a key (did you mean \"rows\"")
        );
        assert!(mistakes[2].contains("did you mean \"squash\"? valid: squash, merge, rebase"));
        assert!(mistakes[3].starts_with("c.toml:8: tasks.backoff is \"soon\""));
    }

    #[test]
    fn a_syntax_error_does_not_hide_the_others() {
        let (assignments, mistakes) = read("[agents]\nmax = = 3\nrows = 50\nwidth = 3\n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("c.toml:2: "));
        assert!(
            mistakes
                .iter()
                .any(|text| text.contains("agents.width is not a key"))
        );
        assert!(assignments.iter().any(|a| a.path == ["agents", "rows"]));
    }

    #[test]
    fn endpoints_are_read_as_a_whole_and_checked_one_by_one() {
        let (assignments, mistakes) = read(
            "[[endpoints]]\nname = \"a\"\nurl = \"gpu-1\"\n[[endpoints]]\nname = \"b\"\nurl = \"http://x:1\"\nparallel = 4\nvram = \"24GiB\"\nkv_cache = \"q8_0\"\n",
        );
        assert_eq!(mistakes, Vec::<String>::new());
        let Value::Endpoints(list) = &assignments[0].value else {
            panic!("no endpoints");
        };
        assert_eq!(list[0].url, "http://gpu-1:11434");
        assert_eq!(list[1].parallel, Some(4));
        assert_eq!(list[1].vram, Some(24 << 30));
        assert_eq!(list[1].kv_cache, Some(KvCache::Q8_0));
        let (_, mistakes) = read(
            "[[endpoints]]\nname = \"a\"\n[[endpoints]]\nname = \"a b\"\nurl = \"x\"\nspeed = 3\n",
        );
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(mistakes[0].contains("c.toml:1: endpoints: this endpoint has no url"));
    }

    #[test]
    fn a_model_has_settings_of_its_own() {
        let (assignments, mistakes) = read(
            "[models.by_name.\"qwen2.5-coder:7b\"]\ncontext = 8192\n[models.by_name.\"qwen2.5-coder:7b\".options]\ntop_p = 0.5\n",
        );
        assert_eq!(mistakes, Vec::<String>::new());
        assert!(
            assignments
                .iter()
                .all(|a| a.stars()[0] == "qwen2.5-coder:7b")
        );
    }

    fn any_config() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("agents".to_owned()),
            Just("endpoints".to_owned()),
            Just("models.by_name.x".to_owned()),
            Just("max".to_owned()),
            Just("url".to_owned()),
            Just("options".to_owned()),
            "[a-z\"'.{}=\\[\\]#\\\\é ]{0,8}",
        ];
        let value = prop_oneof![
            Just("3".to_owned()),
            Just("\"90s\"".to_owned()),
            Just("{ a = [1, { b = 2 }] }".to_owned()),
            Just("1979-05-27".to_owned()),
            Just("99999999999999999999".to_owned()),
            Just("0x".to_owned()),
            ".{0,12}",
        ];
        let line = prop_oneof![
            (word.clone(), value).prop_map(|(k, v)| format!("{k} = {v}")),
            word.clone().prop_map(|k| format!("[{k}]")),
            word.prop_map(|k| format!("[[{k}]]")),
            ".{0,20}",
        ];
        let ending = prop_oneof![Just("\n"), Just("\r\n"), Just("")];
        proptest::collection::vec((line, ending), 0..12)
            .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_mistake_has_a_line_inside_the_file(text in any_config()) {
            let (_, mistakes) = parse(Path::new("c.toml"), &text);
            let lines = text.lines().count().max(1);
            for mistake in mistakes {
                let Place::File { line, .. } = mistake.place else {
                    panic!("not in the file");
                };
                prop_assert!((1..=lines).contains(&line), "{line} of {lines}");
            }
        }

        #[test]
        fn any_bytes_at_all_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&bytes);
            parse(Path::new("c.toml"), &text);
        }
    }
}
