//! Why the private Aider could not be installed or does not work, each with its remedy.

use std::io;
use std::path::PathBuf;

/// A setup that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No interpreter fits.
    #[error("no Python 3.10, 3.11 or 3.12 was found{}", seen(.0))]
    NoPython(Vec<String>),
    /// The interpreter cannot make environments.
    #[error("{} cannot make a virtual environment: its venv module is missing", .0.display())]
    NoVenv(PathBuf),
    /// The package index could not be reached.
    #[error("the Python package index could not be reached: {0}")]
    NoNetwork(String),
    /// Too little space before or during the installation.
    #[error("{} has too little space for Aider (about {needed_mib} MiB are needed)", at.display())]
    NoSpace {
        /// Where.
        at: PathBuf,
        /// How much.
        needed_mib: u64,
    },
    /// An installer failed for another reason.
    #[error("{step} failed: {reason}")]
    Step {
        /// Which.
        step: &'static str,
        /// The line of its output that says most.
        reason: String,
        /// Its whole output.
        log: PathBuf,
    },
    /// There is no private Aider.
    #[error("Aider is not installed in {}", .0.display())]
    NotInstalled(PathBuf),
    /// Aider is there and cannot be used.
    #[error("{} cannot run Aider {}: {reason}", python.display(), crate::agents::aider::flavour::VERSION)]
    Unusable {
        /// The interpreter.
        python: PathBuf,
        /// What the check said.
        reason: String,
    },
    /// A file or directory of ours could not be used.
    #[error("{} cannot be used", at.display())]
    Io {
        /// Which.
        at: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl SetupError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoPython(_) => "install Python 3.12 (for example 'apt install python3.11 \
                python3.11-venv', 'brew install python@3.12', 'pyenv install 3.12' or \
                'uv python install 3.12') and run 'warpsquad setup' again"
                .into(),
            Self::NoVenv(python) => {
                let name = python.file_name().unwrap_or_default().to_string_lossy();
                format!(
                    "install it (on Debian and Ubuntu: 'apt install {name}-venv'), or install uv"
                )
            }
            Self::NoNetwork(_) => "check the connection, or point pip at a mirror \
                (PIP_INDEX_URL, UV_INDEX_URL), and run 'warpsquad setup' again"
                .into(),
            Self::NoSpace { .. } => {
                "free some space, or choose another place with --data-dir".into()
            }
            Self::Step { log, .. } => format!("the whole output is in {}", log.display()),
            Self::NotInstalled(_) => "run 'warpsquad setup'".into(),
            Self::Unusable { .. } => {
                "run 'warpsquad setup', or correct agents.python in the configuration".into()
            }
            Self::Io { at, .. } => format!("check the permissions of {}", at.display()),
        }
    }

    /// The situation that an installer's output describes, where it is a known one.
    pub(super) fn recognise(output: &str, at: &std::path::Path) -> Option<Self> {
        const SPACE: &[&str] = &["No space left on device", "Disk quota exceeded"];
        const NETWORK: &[&str] = &[
            "Failed to establish a new connection",
            "Temporary failure in name resolution",
            "Name or service not known",
            "Network is unreachable",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "dns error",
            "error sending request",
            "Could not connect",
            "Connection refused",
        ];
        // From the telling word on: what stands before it is the installer's own.
        let line_with = |words: &[&str]| {
            output.lines().find_map(|line| {
                words.iter().find_map(|word| {
                    let (_, rest) = line.split_once(word)?;
                    Some(
                        format!("{word}{rest}")
                            .chars()
                            .take(200)
                            .collect::<String>(),
                    )
                })
            })
        };
        if line_with(SPACE).is_some() {
            return Some(Self::NoSpace {
                at: at.to_owned(),
                needed_mib: super::install::NEEDED_MIB,
            });
        }
        line_with(NETWORK).map(Self::NoNetwork)
    }
}

fn seen(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!(" (found: {})", found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn installers_words_are_recognised() {
        let at = Path::new("/data");
        let kind = |text: &str| SetupError::recognise(text, at);
        assert!(matches!(
            kind(
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
            ),
            Some(SetupError::NoSpace { .. })
        ));
        assert!(matches!(
            kind(
                "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(': Failed to establish a new connection: [Errno -2] Name or service not known')'"
            ),
            Some(SetupError::NoNetwork(_))
        ));
        assert!(matches!(
            kind("error: Failed to fetch\n  Caused by: dns error: failed to lookup"),
            Some(SetupError::NoNetwork(_))
        ));
        assert!(kind("ERROR: some wheel is broken").is_none());
    }

    #[test]
    fn every_message_comes_with_a_remedy() {
        let missing = SetupError::NoPython(vec!["3.13.0 (/usr/bin/python3)".into()]);
        assert_eq!(
            missing.to_string(),
            "no Python 3.10, 3.11 or 3.12 was found (found: 3.13.0 (/usr/bin/python3))"
        );
        assert!(missing.hint().contains("warpsquad setup"));
        let venv = SetupError::NoVenv("/usr/bin/python3.11".into());
        assert!(venv.hint().contains("python3.11-venv"));
    }
}
