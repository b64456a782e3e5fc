//! What a template means for one repository: whether its check is used, which files it reads, and
//! the prompt that it makes.

use std::path::{Path, PathBuf};

use super::frame::frame;
use super::library::Library;
use super::rank;
use super::survey::{Sign, Survey};
use super::template::Template;
use crate::config::layers::{Loaded, Sources, load};
use crate::config::trust::TrustState;
use crate::core::task::{Mode, TaskSpec};

/// A longer file is not read into the chat: a small model's context is soon full.
const LONGEST_READ: u64 = 8 * 1024;

/// All files together are not longer.
const LONGEST_READS: u64 = 16 * 1024;

/// Where templates are to be used.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The repository's root.
    pub root: Option<PathBuf>,
    /// What it shows.
    pub survey: Survey,
    /// The check that the settings name; it wins over a template's.
    pub configured: Option<String>,
    /// What the repository proposes may take effect.
    pub is_trusted: bool,
    /// The submitter's `PATH`.
    pub path: String,
}

impl Place {
    /// The repository at `root` with its settings, for somebody with this `PATH`.
    pub fn new(root: Option<&Path>, loaded: Option<&Loaded>, path: &str) -> Self {
        let proposals = loaded.and_then(|loaded| loaded.proposals.as_ref());
        Self {
            root: root.map(Path::to_owned),
            survey: root.map(Survey::of).unwrap_or_default(),
            configured: loaded.and_then(|loaded| loaded.settings.verify.command.clone()),
            is_trusted: proposals.is_some_and(|(_, state)| *state == TrustState::Trusted),
            path: path.to_owned(),
        }
    }
}

/// Whether a template's check is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// It has none.
    None,
    /// It is.
    Used,
    /// The settings name another one.
    Configured,
    /// The repository proposes it and is not trusted.
    Untrusted,
    /// The repository does not show this.
    Lacks(Sign),
    /// This program is not on the submitter's `PATH`.
    NoProgram(String),
}

/// What a template means for one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The template.
    pub template: Template,
    /// The check of a task for which nobody names one: the settings' or the template's.
    pub verify: Option<String>,
    /// What became of the template's own.
    pub check: CheckState,
    /// Its files to read that are there and short enough.
    pub read: Vec<String>,
}

impl Offer {
    /// What `template` means at `place`.
    pub fn new(template: &Template, place: &Place) -> Self {
        let check = check_state(template, place);
        let own = template.check.as_ref().map(|check| check.command.clone());
        Self {
            verify: place
                .configured
                .clone()
                .or_else(|| own.filter(|_| check == CheckState::Used)),
            check,
            read: read(template, place),
            template: template.clone(),
        }
    }

    /// Frames the prompt of a task whose other fields are complete.
    pub fn frame(&self, spec: &mut TaskSpec) {
        let verify = spec.verify.as_deref().filter(|_| spec.mode != Mode::Ask);
        let framed = frame(&self.template, spec.prompt.trim_end(), verify);
        spec.asked = Some(std::mem::replace(&mut spec.prompt, framed));
        spec.template = Some(self.template.name.clone());
        // A template says what kind of work it is for, also where that is nothing in particular.
        spec.category_said = true;
        spec.edit_format.clone_from(&self.template.edit_format);
    }
}

/// The best templates for the repository at `root`, as the settings in `sources` make them.
pub fn best_offers(sources: &Sources, path: &str) -> Vec<Offer> {
    let root = sources.repository.as_deref();
    let library = Library::open(sources.templates().as_deref(), root);
    let place = Place::new(root, load(sources).ok().as_ref(), path);
    let signs = library.all().iter().flat_map(|template| &template.when);
    let seen = place.survey.find(signs);
    rank::best(library.all(), &seen)
        .into_iter()
        .map(|template| Offer::new(template, &place))
        .collect()
}

fn check_state(template: &Template, place: &Place) -> CheckState {
    let Some(check) = &template.check else {
        return CheckState::None;
    };
    if place.configured.is_some() {
        return CheckState::Configured;
    }
    if check.is_proposed && !place.is_trusted {
        return CheckState::Untrusted;
    }
    let seen = place.survey.find(&check.needs);
    if let Some(sign) = check.needs.iter().find(|sign| seen.count(sign) == 0) {
        return CheckState::Lacks(sign.clone());
    }
    let program = program(&check.command);
    if is_found(program, place) {
        CheckState::Used
    } else {
        CheckState::NoProgram(program.to_owned())
    }
}

/// The first word of a command behind assignments.
fn program(command: &str) -> &str {
    command
        .split_whitespace()
        .find(|word| !word.contains('='))
        .unwrap_or_default()
}

fn is_found(program: &str, place: &Place) -> bool {
    if program.contains('/') {
        let root = place.root.as_deref();
        return root.is_some_and(|root| root.join(program).is_file());
    }
    std::env::split_paths(&place.path).any(|folder| folder.join(program).is_file())
}

/// Files that are there, inside the repository, and together not too long.
fn read(template: &Template, place: &Place) -> Vec<String> {
    let Some(root) = place
        .root
        .as_ref()
        .and_then(|root| root.canonicalize().ok())
    else {
        return Vec::new();
    };
    let patterns: Vec<&str> = template.read.iter().map(String::as_str).collect();
    let mut left = LONGEST_READS;
    let mut paths: Vec<String> = Vec::new();
    for path in place.survey.matching(&patterns).into_iter().flatten() {
        let file = root.join(path);
        let is_inside = file
            .canonicalize()
            .is_ok_and(|real| real.starts_with(&root));
        let length = std::fs::metadata(&file).map_or(u64::MAX, |it| it.len());
        let fits = is_inside && length <= LONGEST_READ && length <= left;
        if fits && !paths.iter().any(|known| known == path) {
            left -= length;
            paths.push(path.to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(tempfile::TempDir);

    impl World {
        fn new(files: &[(&str, &str)]) -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let file = world.0.path().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            world
        }

        fn sources(&self) -> Sources {
            Sources {
                user: Some(self.0.path().join("etc/config.toml")),
                repository: Some(self.0.path().join("repo")),
                trust: Some(crate::config::Trust::new(&self.0.path().join("data"))),
                ..Sources::default()
            }
        }

        fn offer(&self, name: &str) -> Offer {
            let sources = self.sources();
            let root = sources.repository.clone().unwrap();
            let library = Library::open(sources.templates().as_deref(), Some(&root));
            let loaded = load(&sources).unwrap();
            let path = self.0.path().join("bin").display().to_string();
            let place = Place::new(Some(&root), Some(&loaded), &path);
            Offer::new(library.get(name).unwrap(), &place)
        }
    }

    const OURS: &str = "title = \"T\"\nsummary = \"S.\"\nprompt = \"{task}\"\n\
                        verify = \"lint .\"\nread = [\"*.md\", \"docs/*.md\"]\n";

    #[test]
    fn a_check_is_used_where_its_program_and_its_files_are() {
        let state = |files: &[(&str, &str)]| World::new(files).offer("rust-implementer").check;
        assert!(matches!(state(&[("repo/x", "")]), CheckState::Lacks(_)));
        let manifest = ("repo/Cargo.toml", "");
        let no_program = CheckState::NoProgram("cargo".into());
        assert_eq!(state(&[manifest]), no_program);
        assert_eq!(state(&[manifest, ("bin/cargo", "")]), CheckState::Used);
        let settings = ("etc/config.toml", "verify.command = \"make\"\n");
        let configured = state(&[manifest, ("bin/cargo", ""), settings]);
        assert_eq!(configured, CheckState::Configured);
    }

    #[test]
    fn what_a_repository_proposes_takes_effect_only_after_trust() {
        let file = "repo/.warpsquad/templates/ours.toml";
        let world = World::new(&[(file, OURS), ("bin/lint", "")]);
        let before = world.offer("ours");
        assert_eq!((before.check, before.verify), (CheckState::Untrusted, None));
        let (proposals, _) = load(&world.sources()).unwrap().proposals.unwrap();
        let trust = crate::config::Trust::new(&world.0.path().join("data"));
        trust.agree(&proposals).unwrap();
        assert_eq!(world.offer("ours").verify.as_deref(), Some("lint ."));
        let changed = OURS.replace("lint .", "lint; rm -rf ~");
        std::fs::write(world.0.path().join(file), changed).unwrap();
        assert_eq!(world.offer("ours").check, CheckState::Untrusted);
    }

    #[test]
    fn files_to_read_are_short_and_inside_the_repository() {
        let long = "x".repeat(10_000);
        let half = "x".repeat(7_000);
        let world = World::new(&[
            ("etc/templates/ours.toml", OURS),
            ("repo/A.md", "a"),
            ("repo/B.md", &long),
            ("repo/docs/c.md", &half),
            ("repo/docs/d.md", &half),
            ("repo/docs/e.md", &half),
            ("secret.md", "s"),
        ]);
        let link = world.0.path().join("repo/S.md");
        std::os::unix::fs::symlink(world.0.path().join("secret.md"), link).unwrap();
        assert_eq!(world.offer("ours").read, ["A.md", "docs/c.md", "docs/d.md"]);
    }

    #[test]
    fn a_framed_task_keeps_what_was_asked_as_its_title() {
        let world = World::new(&[("repo/x", "")]);
        let mut spec = TaskSpec {
            prompt: "Add a flag\n".into(),
            verify: Some("make check".into()),
            ..TaskSpec::default()
        };
        let offer = world.offer("implementer");
        offer.frame(&mut spec);
        assert_eq!(spec.title(), "Add a flag");
        assert_eq!(spec.template.as_deref(), Some("implementer"));
        assert!(spec.prompt.contains("\nAdd a flag\n"), "{}", spec.prompt);
        assert!(spec.prompt.contains("make check"), "{}", spec.prompt);
        spec.mode = Mode::Ask;
        spec.prompt = "Why?".into();
        offer.frame(&mut spec);
        assert!(!spec.prompt.contains("make check"), "{}", spec.prompt);
    }

    #[test]
    fn the_best_are_offered_even_without_a_repository() {
        let names = |offers: Vec<Offer>| -> Vec<String> {
            offers.into_iter().map(|it| it.template.name).collect()
        };
        let nowhere = names(best_offers(&Sources::default(), ""));
        assert_eq!(nowhere.len(), rank::BEST);
        assert_eq!(nowhere[0], "implementer");
        let world = World::new(&[("repo/Cargo.toml", ""), ("repo/src/lib.rs", "")]);
        assert_eq!(
            names(best_offers(&world.sources(), ""))[0],
            "rust-implementer"
        );
    }
}
