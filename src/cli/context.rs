//! What every command works with: where it was called, what it was told, where it answers.

use std::path::{Path, PathBuf};

use super::args::Global;
use super::output::Output;
use super::report::Report;
use crate::config::{Environment, Loaded, Overrides, Places, Sources, load};

/// The surroundings of one call.
pub struct Context {
    /// Options that every command takes.
    pub global: Global,
    /// Environment variables.
    pub environment: Environment,
    /// Where it was called.
    pub current_dir: PathBuf,
    /// Where it answers.
    pub out: Output,
}

impl Context {
    /// Where the squad's things lie.
    pub fn places(&self) -> Result<Places, Report> {
        let overrides = Overrides {
            config: self.global.config.clone(),
            data_dir: self.global.data_dir.clone(),
            socket: self.global.socket.clone(),
        };
        Ok(Places::resolve(
            &overrides,
            &self.environment,
            &self.current_dir,
        )?)
    }

    /// What the configuration is read from.
    pub fn sources(&self, repository: Option<PathBuf>) -> Result<Sources, Report> {
        let mut sources = Sources::of(&self.places()?, self.environment.clone());
        sources.flags.clone_from(&self.global.set);
        Ok(sources.with_repository(repository))
    }

    /// The configuration, without or with the file of a repository.
    pub fn load(&self, repository: Option<PathBuf>) -> Result<Loaded, Report> {
        Ok(load(&self.sources(repository)?)?)
    }

    /// The repository that was named, or the one around the current directory.
    pub fn repository(&self, named: Option<&Path>) -> Option<PathBuf> {
        let start = match named {
            Some(named) => self.current_dir.join(named),
            None => self.current_dir.clone(),
        };
        let start = start.canonicalize().ok()?;
        start
            .ancestors()
            .find(|folder| folder.join(".git").exists())
            .map(Path::to_owned)
    }

    /// The same, or why there is none.
    pub fn need_repository(&self, named: Option<&Path>) -> Result<PathBuf, Report> {
        self.repository(named).ok_or_else(|| {
            let place = named.map_or_else(
                || self.current_dir.clone(),
                |named| self.current_dir.join(named),
            );
            Report::user(format!("there is no git repository at {}", place.display()))
                .hint("change into one, name one with --repo, or make one with 'git init'")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_from_any_folder_inside_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        let context = Context {
            global: Global::default(),
            environment: Environment::new(),
            current_dir: inner,
            out: Output::to(Box::new(Vec::new()), false),
        };
        let root = folder.path().canonicalize().unwrap();
        assert_eq!(context.repository(None), Some(root.clone()));
        assert_eq!(context.repository(Some(Path::new(".."))), Some(root));
        assert!(context.need_repository(Some(Path::new("/"))).is_err());
    }
}
