//! The layer of environment variables: `WARPSQUAD__SECTION__KEY` and the older aliases.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::mistake::{Mistake, Place};
use super::parse::{Assignment, unknown_hint};
use super::schema::{self, Found, KEYS, written};
use super::value::{Refused, from_text};

/// Environment variables by name; tests bring their own.
pub type Environment = BTreeMap<String, String>;

/// Prefix of the variables that override a key.
const PREFIX: &str = "WARPSQUAD__";

/// Accepted names that mean a key. The later one wins.
const ALIASES: [(&str, &str); 3] = [
    ("WARP_MEMORY_LIMIT", "quota.squad_memory"),
    ("WARP_PARALLEL_WORKERS", "agents.max"),
    ("WARP_MAX_CONCURRENT_TASKS", "agents.max"),
];

/// Accepted names without an effect, and why.
const WITHOUT_EFFECT: [(&str, &str); 2] = [
    (
        "WARP_GPU_ENABLED",
        "a GPU is used by Ollama and shown here whenever there is one",
    ),
    (
        "WARP_MONITORING_ENABLED",
        "monitoring is part of the dashboard and always on",
    ),
];

/// The variables of this process that are text.
pub fn of_this_process() -> Environment {
    let text = |(name, value): (OsString, OsString)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// What the layer says: assignments in rising precedence, mistakes, and notes for the user.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) assignments: Vec<Assignment>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) notes: Vec<String>,
}

/// Reads the layer of environment variables.
pub(super) fn read(environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    for (alias, key) in ALIASES {
        if let Some(text) = environment.get(alias) {
            let path = key.split('.').map(str::to_owned).collect();
            assign(&mut layer, Place::Environment(alias.into()), path, text);
        }
    }
    for (name, why) in WITHOUT_EFFECT {
        if environment.contains_key(name) {
            layer.notes.push(format!("{name} has no effect: {why}"));
        }
    }
    for (name, text) in environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let path = rest.split("__").map(key_name).collect();
            assign(&mut layer, Place::Environment(name.clone()), path, text);
        }
    }
    layer
}

/// Reads the layer of flags: key and text.
pub(super) fn read_flags(flags: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (name, text) in flags {
        let path = super::layers::split_path(name);
        assign(&mut layer, Place::Flag(format!("--set {name}")), path, text);
    }
    layer
}

/// `CREATE_FILE` is the segment `create-file` where the table has that one.
fn key_name(segment: &str) -> String {
    let name = segment.to_ascii_lowercase();
    let dashed = name.replace('_', "-");
    let is_star = KEYS.iter().any(|key| key.stars.contains(&dashed.as_str()));
    if is_star { dashed } else { name }
}

fn assign(layer: &mut Layer, place: Place, path: Vec<String>, text: &str) {
    let names: Vec<_> = path.iter().map(String::as_str).collect();
    let (wrong, hint) = match schema::find(&names) {
        Found::Key(key, _) => match from_text(key.kind, text) {
            Ok(value) => {
                layer.assignments.push(Assignment {
                    key,
                    path,
                    value,
                    place,
                });
                return;
            }
            Err(Refused { what, hint }) => (format!("{} {what}", written(&path)), Some(hint)),
        },
        Found::Section => (format!("{} is a section, not a key", written(&path)), None),
        Found::Unknown { meant, valid } => (
            format!("{} is not a key", written(&path)),
            unknown_hint(meant, &valid),
        ),
    };
    layer.mistakes.push(Mistake {
        place,
        text: wrong,
        hint,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn a_variable_names_its_key_and_a_wrong_one_the_nearest() {
        let layer = read(&environment(&[
            ("WARPSQUAD__AGENTS__MAX", "3"),
            ("WARPSQUAD__AGENTS__ANSWERS__CREATE_FILE", "ask"),
            ("WARPSQUAD__MODELS__DEFAULTS__OPTIONS__TOP_P", "0.5"),
            ("WARPSQUAD__AGENTS__MXA", "3"),
            ("WARPSQUAD__TASKS__RETRIES", "many"),
            ("WARPSQUAD_DATA_DIR", "/x"),
        ]));
        let paths: Vec<_> = layer.assignments.iter().map(|a| written(&a.path)).collect();
        assert_eq!(
            paths,
            [
                "agents.answers.create-file",
                "agents.max",
                "models.defaults.options.top_p"
            ]
        );
        let texts: Vec<_> = layer.mistakes.iter().map(ToString::to_string).collect();
        assert!(texts[0].contains("did you mean \"max\"?"), "{texts:?}");
        assert!(texts[1].starts_with("WARPSQUAD__TASKS__RETRIES: tasks.retries is \"many\""));
    }

    #[test]
    fn the_older_names_are_accepted_and_those_without_effect_say_so() {
        let layer = read(&environment(&[
            ("WARP_PARALLEL_WORKERS", "2"),
            ("WARP_MAX_CONCURRENT_TASKS", "5"),
            ("WARP_MEMORY_LIMIT", "8GB"),
            ("WARP_GPU_ENABLED", "true"),
        ]));
        assert_eq!(layer.assignments.len(), 3);
        assert_eq!(written(&layer.assignments[0].path), "quota.squad_memory");
        assert_eq!(layer.assignments[2].value.to_toml().as_deref(), Some("5"));
        assert_eq!(layer.notes.len(), 1);
        assert!(layer.mistakes.is_empty());
    }
}
