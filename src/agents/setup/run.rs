//! Runs one installer step and hands on its output line by line.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Variables that would point an installer at another environment or place.
fn is_dropped(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "PIP_NO_COMPILE",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_TARGET",
        "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV",
        "UV_PROJECT_ENVIRONMENT",
        "UV_PYTHON",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "__PYVENV_LAUNCHER__",
    ];
    NAMES.contains(&name) || name.starts_with("PYTHON")
}

/// A command with exactly this environment, in a directory whose files cannot configure it.
pub(super) fn command(
    program: &Path,
    environment: &BTreeMap<String, String>,
    cwd: &Path,
) -> Command {
    let mut command = Command::new(program);
    let kept = environment.iter().filter(|(name, _)| !is_dropped(name));
    command
        .env_clear()
        .envs(kept)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_NO_INPUT", "1")
        .current_dir(cwd)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end; whether it succeeded, and all it printed.
pub(super) fn run(
    mut command: Command,
    log: &mut dyn Write,
    mut each: impl FnMut(&str),
) -> io::Result<(bool, String)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It holds the writing ends; the output ends when the child does.
    drop(command);
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}")?;
        each(&line);
        output.push_str(&line);
        output.push('\n');
    }
    Ok((child.wait()?.success(), output))
}
