//! The one table of configuration keys: name, kind, document, default and who may set it.
//!
//! A path may hold `*`, which stands for a name chosen by the user (`models.by_name.*.context`).
//! The defaults themselves are in [`crate::core::settings`]; the table reads them from there.

use super::mistake::nearest;
use super::value::{Kind, Value};
use crate::core::settings::Settings;

pub use super::keys::KEYS;

/// What a repository's `.warpsquad.toml` may do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repository {
    /// Set it: it can neither run nor open anything.
    May,
    /// Propose it; it takes effect only after `warpsquad trust`.
    Proposes,
    /// Nothing: it would run something, redirect traffic or decide for other repositories.
    MayNot,
}

/// One configuration key.
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// One or more sentences for the reference and the example.
    pub doc: &'static str,
    /// What a repository may do with it.
    pub repository: Repository,
    /// Names that a `*` may stand for; empty when any is fine.
    pub stars: &'static [&'static str],
    /// Reads it; the names are what the `*`s stand for.
    pub read: fn(&Settings, &[&str]) -> Value,
    /// Writes a value that `kind` has accepted.
    pub write: fn(&mut Settings, &[&str], Value),
}

impl Key {
    /// The default as it is written in a file; `None` when nothing is set by default.
    pub fn default_text(&self) -> Option<String> {
        (self.read)(&Settings::default(), &["", ""]).to_toml()
    }

    /// The environment variable that overrides it; none for a path with a free name in its middle.
    pub fn environment(&self) -> Option<String> {
        if self.path.contains(".*.") {
            return None;
        }
        Some(format!(
            "WARPSQUAD__{}",
            self.path
                .replace('.', "__")
                .replace('*', "NAME")
                .to_ascii_uppercase()
        ))
    }

    /// The path's segments.
    pub fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('.')
    }
}

/// What a path means.
pub enum Found<'a> {
    /// A key, and what its `*`s stand for.
    Key(&'static Key, Vec<&'a str>),
    /// A table on the way to keys.
    Section,
    /// Neither; with the path's last valid name, if one is near.
    Unknown {
        /// A name that was probably meant.
        meant: Option<String>,
        /// All names that are valid there.
        valid: Vec<&'static str>,
    },
}

/// Looks a path up.
pub fn find<'a>(path: &[&'a str]) -> Found<'a> {
    for key in KEYS {
        if let Some(stars) = matches(key, path, path.len()) {
            if key.segments().count() > path.len() {
                return Found::Section;
            }
            return Found::Key(key, stars);
        }
    }
    let (parent, word) = match path.split_last() {
        Some((word, parent)) => (parent, *word),
        None => (path, ""),
    };
    let mut valid: Vec<&'static str> = KEYS
        .iter()
        .filter(|key| key.segments().count() > parent.len())
        .filter(|key| matches(key, parent, parent.len()).is_some())
        .flat_map(|key| match key.segments().nth(parent.len()) {
            Some("*") => key.stars.to_vec(),
            Some(name) => vec![name],
            None => Vec::new(),
        })
        .collect();
    valid.sort_unstable();
    valid.dedup();
    let meant = nearest(word, valid.iter().copied())
        .map(str::to_owned)
        .or_else(|| elsewhere(word));
    Found::Unknown { meant, valid }
}

/// A key of that last name in another section: `max` for `agents.max`.
fn elsewhere(word: &str) -> Option<String> {
    KEYS.iter()
        .find(|key| key.segments().last() == Some(word))
        .map(|key| key.path.to_owned())
}

/// Whether the first `length` segments of `key` are `path`; what its `*`s stand for, if so.
fn matches<'a>(key: &Key, path: &[&'a str], length: usize) -> Option<Vec<&'a str>> {
    if key.segments().count() < length {
        return None;
    }
    let mut stars = Vec::new();
    for (segment, name) in key.segments().zip(path) {
        if segment == "*" && (key.stars.is_empty() || key.stars.contains(name)) {
            stars.push(*name);
        } else if segment != *name {
            return None;
        }
    }
    Some(stars)
}

/// A path as it is written in TOML: names that need it are quoted.
pub fn written(path: &[String]) -> String {
    let bare = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    path.iter()
        .map(|name| {
            if bare(name) {
                name.clone()
            } else {
                toml::Value::String(name.clone()).to_string()
            }
        })
        .collect::<Vec<_>>()
        .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{Refused, from_toml};

    #[test]
    fn every_default_is_accepted_by_its_own_kind_and_read_back() -> Result<(), Refused> {
        for key in KEYS {
            let Some(text) = key.default_text() else {
                continue;
            };
            if key.kind == Kind::Endpoints {
                continue;
            }
            let raw = toml::de::DeValue::parse(&text).unwrap();
            let value = from_toml(key.kind, raw.get_ref())?;
            let mut settings = Settings::default();
            (key.write)(&mut settings, &["", ""], value);
            assert_eq!(settings, Settings::default(), "{}", key.path);
        }
        Ok(())
    }

    #[test]
    fn no_two_keys_share_a_path_and_each_is_found() {
        for key in KEYS {
            let path: Vec<_> = key
                .segments()
                .map(|s| {
                    if s == "*" {
                        key.stars.first().copied().unwrap_or("x")
                    } else {
                        s
                    }
                })
                .collect();
            let Found::Key(found, _) = find(&path) else {
                panic!("{} is not found", key.path);
            };
            assert_eq!(found.path, key.path);
        }
    }

    #[test]
    fn an_unknown_name_brings_the_nearest_valid_one() {
        let Found::Unknown { meant, valid } = find(&["agents", "mxa"]) else {
            panic!("found");
        };
        assert_eq!(meant.as_deref(), Some("max"));
        assert!(valid.contains(&"rows"));
        let Found::Unknown { meant, .. } = find(&["tasks", "strategy"]) else {
            panic!("found");
        };
        assert_eq!(meant.as_deref(), Some("merge.strategy"));
    }
}
