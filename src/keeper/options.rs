//! Where a keeper lives and what it runs; the arguments of `warpsquad keeper`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "keeper";

/// Exit code of a server that wants the whole squad to stop; any other end restarts it.
pub const SERVER_STOP_CODE: u8 = 86;

/// Exit code of a keeper that found another one.
pub const ALREADY_RUNNING_CODE: u8 = 87;

/// The places of one squad that concern its keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperPaths {
    /// Directory of the sockets, private to the user.
    pub runtime: PathBuf,
    /// The squad's data directory. There is one keeper for each.
    pub data: PathBuf,
}

impl KeeperPaths {
    /// The keeper's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("keeper.sock")
    }

    /// The file that only one keeper can lock.
    pub fn lock(&self) -> PathBuf {
        self.data.join("keeper.lock")
    }

    /// What the keeper and a server that cannot log say.
    pub fn log(&self) -> PathBuf {
        self.data.join("log").join("keeper.log")
    }
}

/// How a keeper is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperOptions {
    /// Its places.
    pub paths: KeeperPaths,
    /// Program and arguments of the server it starts, and starts again; empty for none. The server
    /// inherits the keeper's environment.
    pub server: Vec<OsString>,
    /// Whether it leaves the terminal it was started from.
    pub session: Session,
}

/// Relation to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Stay in the foreground: under systemd, in a container, in a test.
    Foreground,
    /// A session of its own.
    Detached,
}

/// Arguments that do not make a keeper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("keeper: {0}")]
pub struct OptionsError(String);

impl KeeperOptions {
    /// A keeper in the foreground that starts no server.
    pub fn new(runtime: &Path, data: &Path) -> Self {
        let paths = KeeperPaths {
            runtime: runtime.to_owned(),
            data: data.to_owned(),
        };
        Self {
            paths,
            server: Vec::new(),
            session: Session::Foreground,
        }
    }

    /// Arguments after the program's name.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![SUBCOMMAND.into()];
        args.extend([
            "--runtime".into(),
            self.paths.runtime.clone().into_os_string(),
        ]);
        args.extend(["--data".into(), self.paths.data.clone().into_os_string()]);
        if self.session == Session::Detached {
            args.push("--detach".into());
        }
        if !self.server.is_empty() {
            args.push("--".into());
            args.extend(self.server.iter().cloned());
        }
        args
    }

    /// Reads the arguments after the subcommand's name:
    /// `--runtime DIR --data DIR [--detach] [-- SERVER ARGS…]`.
    pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let (mut runtime, mut data, mut session) = (None, None, Session::Foreground);
        let mut server = Vec::new();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--runtime") => runtime = args.next(),
                Some("--data") => data = args.next(),
                Some("--detach") => session = Session::Detached,
                Some("--") => server.extend(args.by_ref()),
                Some(_) | None => return Err(unknown(&arg)),
            }
        }
        let runtime = runtime.ok_or_else(|| OptionsError("--runtime is missing".into()))?;
        let data = data.ok_or_else(|| OptionsError("--data is missing".into()))?;
        let paths = KeeperPaths {
            runtime: runtime.into(),
            data: data.into(),
        };
        Ok(Self {
            paths,
            server,
            session,
        })
    }
}

fn unknown(arg: &OsStr) -> OptionsError {
    OptionsError(format!("unknown argument {}", arg.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<KeeperOptions, OptionsError> {
        KeeperOptions::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn what_the_launcher_writes_is_what_the_keeper_reads() {
        let mut options = KeeperOptions::new(Path::new("/run/a b"), Path::new("/data"));
        assert_eq!(
            KeeperOptions::parse(options.to_args().into_iter().skip(1)).unwrap(),
            options
        );
        options.session = Session::Detached;
        options.server = ["warpsquad", "server", "--", "--data"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(
            KeeperOptions::parse(options.to_args().into_iter().skip(1)).unwrap(),
            options
        );
    }

    #[test]
    fn a_missing_or_unknown_argument_is_named() {
        assert_eq!(
            parse(&["--data", "/d"]).unwrap_err().to_string(),
            "keeper: --runtime is missing"
        );
        assert_eq!(
            parse(&["--x"]).unwrap_err().to_string(),
            "keeper: unknown argument --x"
        );
    }
}
