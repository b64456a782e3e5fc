//! All templates of a squad: built in, the user's, a repository's, each over the ones before.
//!
//! A file of a higher place replaces those of the same name below it, unless it extends them. A
//! file with mistakes is never replaced by a lower one: its mistakes are what is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::built_in;
use super::file::{self, FileTemplate};
use super::template::{Check, Shelf, Template};
use crate::config::layers::read_file;
use crate::config::mistake::{Mistake, Place, nearest};
use crate::config::schema::written;
use crate::config::trust::Proposal;

/// Where a repository keeps its templates.
pub const REPOSITORY_FOLDER: &str = ".warpsquad/templates";

/// No folder of templates is longer; what is behind is not read.
const LONGEST_FOLDER: usize = 500;

/// All templates that can be used.
#[derive(Debug, Clone, Default)]
pub struct Library {
    templates: Vec<Template>,
    broken: BTreeMap<String, Vec<Mistake>>,
}

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is none of this name.
    #[error("there is no template {name:?}")]
    Unknown {
        /// The name.
        name: String,
        /// One that was probably meant.
        meant: Option<String>,
    },
    /// Its file, or one that it extends, has mistakes.
    #[error("the template {name:?} has mistakes")]
    Broken {
        /// The name.
        name: String,
        /// At least one.
        mistakes: Vec<Mistake>,
    },
}

impl Library {
    /// The built-in templates, those in the folder `user`, and those of the repository at `root`.
    pub fn open(user: Option<&Path>, root: Option<&Path>) -> Self {
        let mut layers = vec![built_in_layer()];
        if let Some(folder) = user {
            layers.push(layer(folder, Shelf::User));
        }
        if let Some(root) = root {
            layers.push(layer(&root.join(REPOSITORY_FOLDER), Shelf::Repository));
        }
        Self::of(&layers)
    }

    fn of(layers: &[Layer]) -> Self {
        let built_in = built_in::FILES.iter().map(|(name, _)| (*name).to_owned());
        let mut names: Vec<String> = built_in.collect();
        let own: BTreeSet<&String> = layers.iter().flat_map(BTreeMap::keys).collect();
        let own: Vec<String> = own.into_iter().cloned().collect();
        names.extend(own.into_iter().filter(|name| !is_built_in(name)));
        let mut library = Self::default();
        for name in names {
            match resolve(layers, &name) {
                Ok(template) => library.templates.push(template),
                Err(mistakes) => {
                    library.broken.insert(name, mistakes);
                }
            }
        }
        library
    }

    /// All that can be used: the built-in names in their order, then the others by name.
    pub fn all(&self) -> &[Template] {
        &self.templates
    }

    /// All mistakes of all files.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut all: Vec<Mistake> = Vec::new();
        for mistake in self.broken.values().flatten() {
            if !all.contains(mistake) {
                all.push(mistake.clone());
            }
        }
        all
    }

    /// The template of this name.
    ///
    /// # Errors
    /// There is none, or its file has mistakes.
    pub fn get(&self, name: &str) -> Result<&Template, Missing> {
        if let Some(template) = self.templates.iter().find(|it| it.name == name) {
            return Ok(template);
        }
        if let Some(mistakes) = self.broken.get(name) {
            return Err(Missing::Broken {
                name: name.to_owned(),
                mistakes: mistakes.clone(),
            });
        }
        let names = self.templates.iter().map(|it| it.name.as_str());
        Err(Missing::Unknown {
            name: name.to_owned(),
            meant: nearest(name, names).map(str::to_owned),
        })
    }
}

fn is_built_in(name: &str) -> bool {
    built_in::FILES.iter().any(|(known, _)| *known == name)
}

/// The commands that the templates of the repository at `root` propose. A file with mistakes
/// proposes nothing: it cannot be used.
pub fn proposals(root: &Path) -> Vec<Proposal> {
    let files = layer(&root.join(REPOSITORY_FOLDER), Shelf::Repository);
    let proposal = |(name, found): (String, Found)| {
        let (command, line) = found.template.ok()?.verify?;
        let key = ["templates".to_owned(), name.clone(), "verify".to_owned()];
        Some(Proposal {
            key: written(&key),
            value: toml::Value::String(command).to_string(),
            line,
            file: format!("{REPOSITORY_FOLDER}/{name}.toml"),
        })
    };
    files.into_iter().filter_map(proposal).collect()
}

/// One file of a layer.
#[derive(Debug, Clone)]
struct Found {
    path: PathBuf,
    shelf: Shelf,
    template: Result<FileTemplate, Vec<Mistake>>,
}

type Layer = BTreeMap<String, Found>;

fn built_in_layer() -> Layer {
    let found = |(name, text): &(&str, &str)| {
        let path = PathBuf::from(format!("{name}.toml"));
        let found = Found {
            template: file::parse(&path, text),
            shelf: Shelf::BuiltIn,
            path,
        };
        ((*name).to_owned(), found)
    };
    built_in::FILES.iter().map(found).collect()
}

/// The `.toml` files of a folder; one that does not exist is empty.
fn layer(folder: &Path, shelf: fn(PathBuf) -> Shelf) -> Layer {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"));
    let mut layer = Layer::new();
    for path in paths.take(LONGEST_FOLDER) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let found = Found {
            template: read(&path, &name),
            shelf: shelf(path.clone()),
            path: path.clone(),
        };
        layer.insert(name.into_owned(), found);
    }
    layer
}

fn read(path: &Path, name: &str) -> Result<FileTemplate, Vec<Mistake>> {
    let is_name = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !is_name {
        let hint = "name the file with letters, digits, '-' and '_'";
        return Err(vec![mistake(path, 1, "its name is no template's", hint)]);
    }
    match read_file(path) {
        Ok(text) => file::parse(path, &text),
        Err(error) => {
            let text = format!("the file cannot be read: {error}");
            Err(vec![mistake(path, 1, &text, "correct or remove it")])
        }
    }
}

fn mistake(path: &Path, line: usize, text: &str, hint: &str) -> Mistake {
    Mistake {
        place: Place::File {
            path: path.to_owned(),
            line,
        },
        text: text.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// The template of this name with all that it extends, the lowest ancestor first.
fn resolve(layers: &[Layer], name: &str) -> Result<Template, Vec<Mistake>> {
    let mut line: Vec<&Found> = Vec::new();
    let mut seen: BTreeSet<(usize, &str)> = BTreeSet::new();
    let mut below = layers.len();
    let mut wanted = name;
    loop {
        let Some((level, found)) = highest(layers, below, wanted) else {
            return Err(vec![no_parent(layers, &line, wanted)]);
        };
        line.push(found);
        let template = found.template.as_ref().map_err(Clone::clone)?;
        if !seen.insert((level, wanted)) {
            let text = format!("{name} extends itself in a circle");
            let hint = "name another template with extends";
            let at = template.extends.as_ref().map_or(1, |(_, line)| *line);
            return Err(vec![mistake(&found.path, at, &text, hint)]);
        }
        let Some((parent, _)) = &template.extends else {
            break;
        };
        // Its own name means the one that it replaces.
        below = if parent == wanted {
            level
        } else {
            layers.len()
        };
        wanted = parent;
    }
    Ok(merged(name, &line))
}

fn highest<'a>(layers: &'a [Layer], below: usize, name: &str) -> Option<(usize, &'a Found)> {
    let mut levels = layers.iter().enumerate().take(below).rev();
    levels.find_map(|(level, layer)| Some((level, layer.get(name)?)))
}

fn no_parent(layers: &[Layer], line: &[&Found], wanted: &str) -> Mistake {
    let child = line.last();
    let path = child.map(|found| found.path.clone()).unwrap_or_default();
    let at = child
        .and_then(|found| found.template.as_ref().ok()?.extends.as_ref())
        .map_or(1, |(_, line)| *line);
    let names = layers.iter().flat_map(|layer| layer.keys());
    let hint = match nearest(wanted, names.map(String::as_str)) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => "'warpsquad template list' shows all".to_owned(),
    };
    let text = format!("extends names {wanted:?}, which is no template");
    mistake(&path, at, &text, &hint)
}

/// `line` has the template itself first and its oldest ancestor last.
fn merged(name: &str, line: &[&Found]) -> Template {
    let files = || line.iter().filter_map(|found| found.template.as_ref().ok());
    let oldest_first = || files().collect::<Vec<_>>().into_iter().rev();
    let text = |of: fn(&FileTemplate) -> Option<&String>| files().find_map(of).cloned();
    let notes: Vec<&str> = oldest_first()
        .filter_map(|file| file.notes.as_deref())
        .map(str::trim)
        .collect();
    let mut read: Vec<String> = Vec::new();
    for path in oldest_first().flat_map(|file| &file.read) {
        if !read.contains(path) {
            read.push(path.clone());
        }
    }
    let extends = files()
        .next()
        .and_then(|file| Some(file.extends.as_ref()?.0.clone()));
    Template {
        name: name.to_owned(),
        title: text(|file| file.title.as_ref()).unwrap_or_default(),
        summary: text(|file| file.summary.as_ref()).unwrap_or_default(),
        extends,
        mode: files().find_map(|file| file.mode).unwrap_or_default(),
        category: files().find_map(|file| file.category).unwrap_or_default(),
        prompt: text(|file| file.prompt.as_ref()).unwrap_or_default(),
        notes: notes.join("\n"),
        check: line.iter().find_map(|found| check(found)),
        edit_format: text(|file| file.edit_format.as_ref()),
        read,
        when: files()
            .find_map(|file| file.when.clone())
            .unwrap_or_default(),
        shelf: line
            .first()
            .map_or(Shelf::BuiltIn, |found| found.shelf.clone()),
    }
}

fn check(found: &Found) -> Option<Check> {
    let template = found.template.as_ref().ok()?;
    let (command, _) = template.verify.as_ref()?;
    Some(Check {
        command: command.clone(),
        needs: template.verify_needs.clone(),
        is_proposed: matches!(found.shelf, Shelf::Repository(_)),
    })
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
