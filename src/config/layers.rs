//! Puts the layers together and remembers where every value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::{self, Environment};
use super::mistake::{ConfigError, Mistake, Place};
use super::parse::{self, Assignment};
use super::paths::Places;
use super::schema::{KEYS, Repository, written};
use super::templates;
use super::trust::{Proposal, Proposals, Trust, TrustState};
use super::url;
use crate::core::settings::{EndpointSettings, Settings};

/// Where a system's administrator sets defaults.
pub const SYSTEM_FILE: &str = "/etc/warpsquad/config.toml";

/// A repository's own file, in its root.
pub const REPOSITORY_FILE: &str = ".warpsquad.toml";

/// No configuration is longer than this; a longer file is a mistake.
const LONGEST_FILE: u64 = 1 << 20;

/// What is read, from the lowest layer to the highest.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The system's file.
    pub system: Option<PathBuf>,
    /// The user's file, or the one named by `--config`.
    pub user: Option<PathBuf>,
    /// The user named the file, so it must exist.
    pub user_is_named: bool,
    /// Root of a repository whose file is read.
    pub repository: Option<PathBuf>,
    /// Environment variables.
    pub environment: Environment,
    /// Keys and values of `--set`.
    pub flags: Vec<(String, String)>,
    /// Decides about what the repository proposes; without it nothing proposed takes effect.
    pub trust: Option<Trust>,
}

impl Sources {
    /// The usual sources of a squad at `places`, without a repository and flags.
    pub fn of(places: &Places, environment: Environment) -> Self {
        Self {
            system: (!places.config_is_named).then(|| PathBuf::from(SYSTEM_FILE)),
            user: Some(places.config.clone()),
            user_is_named: places.config_is_named,
            repository: None,
            environment,
            flags: Vec::new(),
            trust: Some(Trust::new(&places.data_dir)),
        }
    }

    /// The same with the file of the repository at `root`.
    #[must_use]
    pub fn with_repository(mut self, root: Option<PathBuf>) -> Self {
        self.repository = root;
        self
    }

    /// Folder of the user's templates: beside the configuration file.
    pub fn templates(&self) -> Option<PathBuf> {
        Some(self.user.as_ref()?.parent()?.join("templates"))
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// Said at this place.
    Said(Place),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Said(place) => place.fmt(f),
        }
    }
}

/// One key with its value and origin, as `config show` lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The path as it is written in a file.
    pub key: String,
    /// The value as it is written in a file; `None` when nothing is set.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration without mistakes.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The result of all layers.
    pub settings: Settings,
    /// What the repository proposes, if anything, and whether it is in effect.
    pub proposals: Option<(Proposals, TrustState)>,
    /// Things worth a word that are no mistakes.
    pub notes: Vec<String>,
    origins: BTreeMap<Vec<String>, Origin>,
}

impl Loaded {
    /// Every key with its value and origin, in the order of the reference.
    pub fn show(&self) -> Vec<Shown> {
        let mut rows = Vec::new();
        for key in KEYS {
            if !key.path.contains('*') {
                let path: Vec<_> = key.segments().map(str::to_owned).collect();
                rows.push(self.shown(&path, (key.read)(&self.settings, &[]).to_toml()));
                continue;
            }
            for path in self.origins.keys().filter(|path| is_below(key, path)) {
                let stars: Vec<_> = key
                    .segments()
                    .zip(path)
                    .filter_map(|(segment, name)| (segment == "*").then_some(name.as_str()))
                    .collect();
                rows.push(self.shown(path, (key.read)(&self.settings, &stars).to_toml()));
            }
        }
        rows
    }

    fn shown(&self, path: &[String], value: Option<String>) -> Shown {
        Shown {
            key: written(path),
            value,
            origin: self.origins.get(path).cloned().unwrap_or(Origin::Default),
        }
    }
}

fn is_below(key: &super::schema::Key, path: &[String]) -> bool {
    key.segments().count() == path.len()
        && key
            .segments()
            .zip(path)
            .all(|(segment, name)| segment == "*" || segment == name)
}

/// Reads all layers. All mistakes of all layers are returned together.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut build = Build::new(&sources.environment);
    for (file, must_exist) in [
        (&sources.system, false),
        (&sources.user, sources.user_is_named),
    ] {
        if let Some(file) = file {
            let assignments = build.file(file, must_exist);
            build.apply(assignments);
        }
    }
    if let Some(root) = &sources.repository {
        build.repository(root, sources.trust.as_ref());
    }
    for layer in [
        environment::read(&sources.environment),
        environment::read_flags(&sources.flags),
    ] {
        build.mistakes.extend(layer.mistakes);
        build.loaded.notes.extend(layer.notes);
        build.apply(layer.assignments);
    }
    build.finish()
}

/// `models.by_name."a.b".context` as segments; quotes keep their dots.
pub(super) fn split_path(text: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => path.push(String::new()),
            c => path
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|segment| segment.push(c)),
        }
    }
    path
}

struct Build {
    loaded: Loaded,
    mistakes: Vec<Mistake>,
}

impl Build {
    fn new(environment: &Environment) -> Self {
        let mut build = Self {
            loaded: Loaded {
                settings: Settings::default(),
                proposals: None,
                notes: Vec::new(),
                origins: BTreeMap::new(),
            },
            mistakes: Vec::new(),
        };
        build.default_endpoint(environment);
        build
    }

    /// `OLLAMA_HOST` first, as Ollama's own client.
    fn default_endpoint(&mut self, environment: &Environment) {
        let named = ["OLLAMA_HOST", "OLLAMA_BASE_URL"]
            .into_iter()
            .find_map(|name| environment.get(name).map(|text| (name, text)))
            .filter(|(_, text)| !text.trim().is_empty());
        let (url, origin) = match named {
            None => ("http://127.0.0.1:11434".to_owned(), Origin::Default),
            Some((name, text)) => {
                let place = Place::Environment(name.into());
                match url::normalise(text) {
                    Ok(url) => (url, Origin::Said(place)),
                    Err(error) => {
                        self.mistakes.push(Mistake {
                            place,
                            text: format!("it is {text:?}: {error}"),
                            hint: Some("for example 127.0.0.1:11434".into()),
                        });
                        return;
                    }
                }
            }
        };
        self.loaded.settings.endpoints = vec![EndpointSettings {
            name: "local".into(),
            url,
            ..EndpointSettings::default()
        }];
        self.loaded.origins.insert(vec!["endpoints".into()], origin);
    }

    fn file(&mut self, file: &Path, must_exist: bool) -> Vec<Assignment> {
        match read_file(file) {
            Ok(text) => {
                let (assignments, mistakes) = parse::parse(file, &text);
                self.mistakes.extend(mistakes);
                assignments
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Vec::new(),
            Err(error) => {
                self.mistakes.push(Mistake {
                    place: Place::File {
                        path: file.to_owned(),
                        line: 1,
                    },
                    text: format!("the file cannot be read: {error}"),
                    hint: must_exist.then(|| "correct --config or WARPSQUAD_CONFIG".into()),
                });
                Vec::new()
            }
        }
    }

    fn repository(&mut self, root: &Path, trust: Option<&Trust>) {
        let assignments = self.file(&root.join(REPOSITORY_FILE), false);
        let mut allowed = Vec::new();
        let mut proposed = Vec::new();
        for assignment in assignments {
            match assignment.key.repository {
                Repository::May => allowed.push(assignment),
                Repository::Proposes => proposed.push(assignment),
                Repository::MayNot => self.mistakes.push(Mistake {
                    place: assignment.place,
                    text: format!(
                        "{} may not be set by a repository",
                        written(&assignment.path)
                    ),
                    hint: Some("set it in your own configuration file".into()),
                }),
            }
        }
        self.apply(allowed);
        let mut items: Vec<_> = proposed.iter().map(Proposal::from_assignment).collect();
        items.extend(templates::proposals(root));
        if items.is_empty() {
            return;
        }
        let proposals = Proposals {
            root: root.to_owned(),
            items,
        };
        let state = trust.map_or(TrustState::Unknown, |trust| trust.state(&proposals));
        if state == TrustState::Trusted {
            self.apply(proposed);
        }
        self.loaded.proposals = Some((proposals, state));
    }

    fn apply(&mut self, assignments: Vec<Assignment>) {
        for assignment in assignments {
            let write = assignment.key.write;
            write(
                &mut self.loaded.settings,
                &assignment.stars(),
                assignment.value.clone(),
            );
            let origin = Origin::Said(assignment.place);
            self.loaded.origins.insert(assignment.path, origin);
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let tasks = &self.loaded.settings.tasks;
        if tasks.backoff > tasks.backoff_max {
            let path = |name: &str| vec!["tasks".to_owned(), name.to_owned()];
            let origin = [path("backoff"), path("backoff_max")]
                .iter()
                .find_map(|path| self.loaded.origins.get(path).cloned());
            if let Some(Origin::Said(place)) = origin {
                self.mistakes.push(Mistake {
                    place,
                    text: "tasks.backoff is longer than tasks.backoff_max".into(),
                    hint: None,
                });
            }
        }
        if self.mistakes.is_empty() {
            return Ok(self.loaded);
        }
        Err(ConfigError {
            mistakes: self.mistakes,
        })
    }
}

pub(super) fn read_file(file: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read as _};
    let opened = std::fs::File::open(file)?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a file"));
    }
    if metadata.len() > LONGEST_FILE {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "it is longer than 1 MiB",
        ));
    }
    let mut text = String::new();
    opened.take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::MaxAgents;
    use std::time::Duration;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let file = self.0.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn a_higher_layer_wins_and_the_origin_of_every_value_is_known() {
        let folder = Folder::new();
        folder.write(
            REPOSITORY_FILE,
            "tasks.retries = 5\nmodels.default = \"m\"\n",
        );
        let sources = Sources {
            system: Some(folder.write("s.toml", "[agents]\nmax = 2\nrows = 30\n")),
            user: Some(folder.write("u.toml", "\n[agents]\nmax = 3\n[tasks]\nretries = 4\n")),
            repository: Some(folder.0.path().into()),
            environment: environment(&[("WARPSQUAD__TASKS__BACKOFF", "1s")]),
            flags: vec![("agents.columns".into(), "80".into())],
            ..Sources::default()
        };
        let loaded = load(&sources).unwrap();
        let settings = &loaded.settings;
        let agents = &settings.agents;
        assert_eq!((agents.max, agents.rows), (MaxAgents::Fixed(3), 30));
        assert_eq!(settings.agents.columns, 80);
        assert_eq!(settings.tasks.retries, 5);
        assert_eq!(settings.tasks.backoff, Duration::from_secs(1));
        let origin = |key: &str| {
            let shown = loaded.show();
            let row = shown.iter().find(|row| row.key == key).unwrap();
            row.origin.to_string()
        };
        assert!(origin("agents.max").ends_with("u.toml:3"));
        assert!(origin("agents.rows").ends_with("s.toml:3"));
        assert!(origin("tasks.retries").ends_with(".warpsquad.toml:1"));
        assert_eq!(origin("tasks.backoff"), "WARPSQUAD__TASKS__BACKOFF");
        assert_eq!(origin("agents.columns"), "--set agents.columns");
        assert_eq!(origin("verify.nice"), "default");
    }

    #[test]
    fn mistakes_of_all_layers_are_reported_together() {
        let folder = Folder::new();
        folder.write(REPOSITORY_FILE, "log.level = \"debug\"\n");
        let sources = Sources {
            user: Some(folder.write("u.toml", "a = 1\n")),
            repository: Some(folder.0.path().into()),
            environment: environment(&[("WARPSQUAD__X", "1"), ("OLLAMA_HOST", "a b")]),
            flags: vec![("agents.max".into(), "eleven".into())],
            ..Sources::default()
        };
        let error = load(&sources).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.mistakes.len(), 5, "{text}");
        assert!(text.contains("log.level may not be set by a repository"));
    }

    #[test]
    fn what_a_repository_proposes_takes_effect_only_after_trust() {
        let (folder, data) = (Folder::new(), Folder::new());
        folder.write(REPOSITORY_FILE, "verify.command = \"cargo test\"\n");
        let sources = Sources {
            repository: Some(folder.0.path().into()),
            trust: Some(Trust::new(data.0.path())),
            ..Sources::default()
        };
        let before = load(&sources).unwrap();
        let (proposals, state) = before.proposals.unwrap();
        assert_eq!(
            (state, before.settings.verify.command),
            (TrustState::Unknown, None)
        );
        Trust::new(data.0.path()).agree(&proposals).unwrap();
        let after = load(&sources).unwrap();
        assert_eq!(after.settings.verify.command.as_deref(), Some("cargo test"));
        folder.write(REPOSITORY_FILE, "verify.command = \"rm -rf ~\"\n");
        let changed = load(&sources).unwrap();
        assert_eq!(changed.settings.verify.command, None);
        assert_eq!(changed.proposals.unwrap().1, TrustState::Changed);
    }

    #[test]
    fn no_key_that_runs_or_opens_something_is_a_repositorys_to_set() {
        for key in KEYS {
            let runs = [
                "setup",
                "command",
                "python",
                "link",
                "copy",
                "url",
                "endpoints",
            ];
            let name = key.path.rsplit('.').next().unwrap();
            if runs.contains(&name) || key.path.starts_with("agents.answers") {
                assert_ne!(key.repository, Repository::May, "{}", key.path);
            }
        }
    }

    #[test]
    fn the_default_endpoint_is_what_ollamas_own_variables_say() {
        let endpoint = |pairs: &[(&str, &str)]| {
            let sources = Sources {
                environment: environment(pairs),
                ..Sources::default()
            };
            load(&sources).unwrap().settings.endpoints[0].url.clone()
        };
        assert_eq!(endpoint(&[]), "http://127.0.0.1:11434");
        assert_eq!(endpoint(&[("OLLAMA_BASE_URL", "http://b:2")]), "http://b:2");
        let both = [("OLLAMA_BASE_URL", "http://b:2"), ("OLLAMA_HOST", "a:1")];
        assert_eq!(endpoint(&both), "http://a:1");
        assert_eq!(
            endpoint(&[("WARPSQUAD__ENDPOINTS", "x=http://c:3")]),
            "http://c:3"
        );
    }

    #[test]
    fn a_named_file_must_exist_and_must_be_a_file() {
        let folder = Folder::new();
        let missing = folder.0.path().join("none.toml");
        let sources = |file: &Path, named| Sources {
            user: Some(file.into()),
            user_is_named: named,
            ..Sources::default()
        };
        assert!(load(&sources(&missing, false)).is_ok());
        assert!(load(&sources(&missing, true)).is_err());
        assert!(load(&sources(folder.0.path(), false)).is_err());
    }

    #[test]
    fn a_waiting_time_longer_than_its_limit_is_a_mistake() {
        let sources = Sources {
            flags: vec![("tasks.backoff".into(), "1h".into())],
            ..Sources::default()
        };
        let text = load(&sources).unwrap_err().to_string();
        assert!(text.contains("tasks.backoff is longer"), "{text}");
    }
}
