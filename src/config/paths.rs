//! Where things lie: configuration, data, sockets and logs.
//!
//! Two squads with different data directories share nothing. Sockets lie in a runtime directory of
//! their own, because a Unix socket's path may have only some hundred bytes; where it would be
//! longer, a short folder in `/tmp` that only the user may enter takes its place.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::environment::Environment;
use super::trust::hex;

/// Longest runtime directory: a socket's path has at most 107 bytes on Linux and 103 on macOS,
/// and names in the directory have at most 32.
const LONGEST_RUNTIME_DIR: usize = 70;

/// Longest path of a socket that `--socket` may name.
const LONGEST_SOCKET: usize = 103;

/// What the command line says about places; the environment fills what it leaves open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`, else `WARPSQUAD_CONFIG`.
    pub config: Option<PathBuf>,
    /// `--data-dir`, else `WARPSQUAD_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// `--socket`, else `WARPSQUAD_SOCKET`.
    pub socket: Option<PathBuf>,
}

/// Where one squad's things lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The user's configuration file; it need not exist.
    pub config: PathBuf,
    /// The user named the file, so it must exist and no system file is read.
    pub config_is_named: bool,
    /// Database, worktrees, the private Aider, logs, agreements.
    pub data_dir: PathBuf,
    /// Sockets; only the user may enter it.
    pub runtime_dir: PathBuf,
    /// The server's socket.
    pub socket: PathBuf,
}

/// Why no places can be named.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// Neither `HOME` nor an override.
    #[error("no home directory is known")]
    NoHome,
    /// `--socket` is too long for the system.
    #[error("the socket's path {} is longer than {LONGEST_SOCKET} bytes", .0.display())]
    SocketTooLong(PathBuf),
    /// A folder cannot be made.
    #[error("{} cannot be created", .0.display())]
    Create(PathBuf, #[source] std::io::Error),
    /// Somebody else's folder has the name of ours.
    #[error("{} belongs to somebody else or others may write to it", .0.display())]
    NotOurs(PathBuf),
}

impl Places {
    /// The places of a squad. Relative overrides count from `current_dir`.
    pub fn resolve(
        overrides: &Overrides,
        environment: &Environment,
        current_dir: &Path,
    ) -> Result<Self, PlacesError> {
        let named = |flag: &Option<PathBuf>, variable: &str| {
            let from_environment = environment.get(variable).filter(|text| !text.is_empty());
            flag.clone()
                .or_else(|| from_environment.map(PathBuf::from))
                .map(|path| current_dir.join(path))
        };
        let config = named(&overrides.config, "WARPSQUAD_CONFIG");
        let data_dir = named(&overrides.data_dir, "WARPSQUAD_DATA_DIR");
        let socket = named(&overrides.socket, "WARPSQUAD_SOCKET");
        let platform = directories::ProjectDirs::from("", "", "warpsquad");
        let runtime_dir = match (&data_dir, environment.get("XDG_RUNTIME_DIR")) {
            (Some(data), _) => data.join("run"),
            (None, Some(runtime)) if Path::new(runtime).is_absolute() => {
                Path::new(runtime).join("warpsquad")
            }
            (None, _) => platform
                .as_ref()
                .ok_or(PlacesError::NoHome)?
                .data_dir()
                .join("run"),
        };
        let runtime_dir = short(runtime_dir);
        let data_dir = match data_dir {
            Some(data_dir) => data_dir,
            None => platform
                .as_ref()
                .ok_or(PlacesError::NoHome)?
                .data_dir()
                .to_owned(),
        };
        if let Some(socket) = socket.as_ref().filter(|path| length(path) > LONGEST_SOCKET) {
            return Err(PlacesError::SocketTooLong(socket.clone()));
        }
        Ok(Self {
            config_is_named: config.is_some(),
            config: match config {
                Some(config) => config,
                None => platform
                    .ok_or(PlacesError::NoHome)?
                    .config_dir()
                    .join("config.toml"),
            },
            socket: socket.unwrap_or_else(|| runtime_dir.join("squad.sock")),
            data_dir,
            runtime_dir,
        })
    }

    /// Folder of the log files.
    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// Makes the folders; nobody but the user may enter them.
    pub fn create(&self) -> Result<(), PlacesError> {
        for folder in [&self.data_dir, &self.logs(), &self.runtime_dir] {
            create_private(folder)?;
        }
        if let Some(parent) = self.socket.parent() {
            create_private(parent)?;
        }
        let metadata = std::fs::symlink_metadata(&self.runtime_dir)
            .map_err(|error| PlacesError::Create(self.runtime_dir.clone(), error))?;
        let ours = metadata.uid() == rustix::process::getuid().as_raw();
        if !ours || !metadata.is_dir() || metadata.mode() & 0o022 != 0 {
            return Err(PlacesError::NotOurs(self.runtime_dir.clone()));
        }
        Ok(())
    }
}

fn create_private(folder: &Path) -> Result<(), PlacesError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| PlacesError::Create(folder.to_owned(), error))
}

fn length(path: &Path) -> usize {
    path.as_os_str().as_bytes().len()
}

/// The folder itself, or a short one that stands for it.
fn short(folder: PathBuf) -> PathBuf {
    if length(&folder) <= LONGEST_RUNTIME_DIR {
        return folder;
    }
    let digest = hex(&Sha256::digest(folder.as_os_str().as_bytes()));
    let head: String = digest.chars().take(16).collect();
    let user = rustix::process::getuid().as_raw();
    PathBuf::from(format!("/tmp/warpsquad-{user}-{head}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(overrides: &Overrides, variables: &[(&str, &str)]) -> Places {
        let environment = variables
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        Places::resolve(overrides, &environment, Path::new("/work")).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_variable_and_relative_paths_count_from_here() {
        let overrides = Overrides {
            data_dir: Some("squad".into()),
            ..Overrides::default()
        };
        let places = resolve(
            &overrides,
            &[
                ("WARPSQUAD_DATA_DIR", "/else"),
                ("WARPSQUAD_CONFIG", "c.toml"),
            ],
        );
        assert_eq!(places.data_dir, Path::new("/work/squad"));
        assert_eq!(places.config, Path::new("/work/c.toml"));
        assert!(places.config_is_named);
        assert_eq!(places.socket, Path::new("/work/squad/run/squad.sock"));
    }

    #[test]
    fn a_long_data_directory_gets_a_short_folder_for_sockets_of_its_own() {
        let long = |end: &str| Overrides {
            data_dir: Some(format!("/{}/{end}", "x".repeat(120)).into()),
            ..Overrides::default()
        };
        let (a, b) = (resolve(&long("a"), &[]), resolve(&long("b"), &[]));
        assert!(length(&a.socket) < 100);
        assert_ne!(a.socket, b.socket);
        assert_eq!(a, resolve(&long("a"), &[]));
    }

    #[test]
    fn a_socket_that_no_system_accepts_is_refused() {
        let overrides = Overrides {
            socket: Some("y".repeat(200).into()),
            ..Overrides::default()
        };
        let found = Places::resolve(&overrides, &Environment::new(), Path::new("/"));
        assert!(matches!(found, Err(PlacesError::SocketTooLong(_))));
    }

    #[test]
    fn the_folders_are_made_for_the_user_alone_and_others_folders_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let overrides = Overrides {
            data_dir: Some(folder.path().join("d")),
            ..Overrides::default()
        };
        let places = resolve(&overrides, &[]);
        places.create().unwrap();
        let mode = std::fs::metadata(&places.runtime_dir).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&places.runtime_dir, open).unwrap();
        assert!(matches!(places.create(), Err(PlacesError::NotOurs(_))));
    }
}
