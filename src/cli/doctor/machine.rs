//! The doctor's look at this machine: git, Python, disk, terminal, logging out, GPU.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::finding::Finding;
use crate::agents::setup::{Setup, SetupError, find_interpreters};
use crate::cli::context::Context;
use crate::cli::output::bytes;
use crate::cli::report::{Report, chain};
use crate::config::{Environment, Places};
use crate::core::settings::Settings;
use crate::telemetry::{Gpus, NoGpus};

/// `git merge-tree --write-tree` is what merges without touching a checkout.
const GIT_NEEDED: (u32, u32) = (2, 38);

/// Worktrees and logs of a working squad need some room.
const DISK_NEEDED: u64 = 1 << 30;
const DISK_WANTED: u64 = 5 << 30;

/// Standard output of a short command; `None` when it cannot be run or fails.
pub(super) fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first two numbers in a text: `git version 2.39.5` is (2, 39).
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor: String = parts
            .next()?
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Some((major, minor.parse().ok()?))
    })
}

pub(super) fn git() -> Finding {
    let needed = format!("{}.{}", GIT_NEEDED.0, GIT_NEEDED.1);
    let remedy = format!("install git {needed} or newer with the system's package manager");
    match output_of("git", &["--version"]) {
        None => Finding::error("git", "git was not found").remedy(remedy),
        Some(text) => match version(&text) {
            None => Finding::unknown("git", format!("{text:?} names no version")),
            Some(found) if found >= GIT_NEEDED => Finding::ok("git", text),
            Some(_) => {
                Finding::error("git", format!("{text} is older than {needed}")).remedy(remedy)
            }
        },
    }
}

pub(super) fn identity() -> Finding {
    let set = |key: &str| output_of("git", &["config", "--get", key]).filter(|v| !v.is_empty());
    match (set("user.name"), set("user.email")) {
        (Some(name), Some(email)) => Finding::ok("git-identity", format!("{name} <{email}>")),
        _ => Finding::warning("git-identity", "git does not know who you are").remedy(
            "git config --global user.name \"Your Name\"\n\
             git config --global user.email you@example.org",
        ),
    }
}

pub(super) fn python(environment: &Environment) -> Finding {
    if let Some(text) = output_of("uv", &["--version"]) {
        return Finding::ok("python", format!("{text} brings a Python by itself"));
    }
    let found = find_interpreters(environment);
    if let Some(best) = found.usable.first() {
        let (major, minor, patch) = best.version;
        let text = format!("Python {major}.{minor}.{patch} ({})", best.path.display());
        return Finding::ok("python", text);
    }
    let what = if found.others.is_empty() {
        "no Python was found".to_owned()
    } else {
        format!("Aider does not run on {}", found.others.join(", "))
    };
    Finding::error("python", what).remedy(
        "install Python 3.12, 3.11 or 3.10 with the system's package manager, or install uv",
    )
}

/// Whether the Aider that agents run is there and fits the launcher.
pub(super) fn aider(context: &Context, settings: &Settings) -> Result<Finding, Report> {
    let installation = Setup::new(&context.places()?.data_dir, context.environment.clone());
    let checked = match &settings.agents.python {
        Some(python) => installation.check_python(Path::new(python)),
        None => installation.check(),
    };
    Ok(match checked {
        Ok(checked) => {
            let text = format!("Aider {} on Python {}", checked.aider, checked.python);
            Finding::ok("aider", text)
        }
        Err(error @ SetupError::NotInstalled(_)) => {
            Finding::warning("aider", error.to_string()).remedy(error.hint())
        }
        Err(error) => Finding::error("aider", chain(&error)).remedy(error.hint()),
    })
}

pub(super) fn disk(folder: &Path) -> Finding {
    let existing = folder.ancestors().find(|folder| folder.exists());
    let Some(Ok(figures)) = existing.map(rustix::fs::statvfs) else {
        return Finding::unknown("disk", format!("{} cannot be looked at", folder.display()));
    };
    let free = figures.f_bavail.saturating_mul(figures.f_frsize);
    let what = format!("{} free for {}", bytes(free), folder.display());
    let remedy = "'warpsquad clean' removes what finished tasks left; --data-dir moves the rest";
    match free {
        0..DISK_NEEDED => Finding::error("disk", what).remedy(remedy),
        DISK_NEEDED..DISK_WANTED => Finding::warning("disk", what).remedy(remedy),
        _ => Finding::ok("disk", what),
    }
}

pub(super) fn places(places: &Places) -> Finding {
    match places.create() {
        Ok(()) => Finding::ok(
            "places",
            format!(
                "data in {}, socket {}",
                places.data_dir.display(),
                places.socket.display()
            ),
        ),
        Err(error) => {
            Finding::error("places", chain(&error)).remedy("choose another folder with --data-dir")
        }
    }
}

pub(super) fn terminal(environment: &Environment) -> Finding {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Finding::unknown("terminal", "this is not a terminal")
            .remedy("call it from the terminal that you want to use");
    }
    let kind = environment
        .get("TERM")
        .map(String::as_str)
        .unwrap_or_default();
    if matches!(kind, "" | "dumb") {
        return Finding::error(
            "terminal",
            format!("TERM is {kind:?}: nothing can be drawn"),
        )
        .remedy("use another terminal, or 'warpsquad run' and 'warpsquad status'");
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let (columns, rows) = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    let what = format!("{kind}, {columns}×{rows}");
    if columns < 80 || rows < 24 {
        return Finding::warning("terminal", format!("{what} is small"))
            .remedy("80×24 shows the list, 120×40 everything");
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| environment.get(name).filter(|value| !value.is_empty()));
    let speaks_utf8 = locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    if !speaks_utf8 {
        return Finding::warning("terminal", format!("{what}, the locale is not UTF-8"))
            .remedy("export LANG=C.UTF-8, or set ui.ascii = true");
    }
    Finding::ok("terminal", what)
}

/// Whether the squad survives the end of the login session.
pub(super) fn linger(environment: &Environment) -> Finding {
    let name = "linger";
    if !Path::new("/run/systemd/system").exists() {
        return Finding::ok(name, "no systemd: nothing ends the squad when you log out");
    }
    let user = environment
        .get("USER")
        .or_else(|| environment.get("LOGNAME"));
    let Some(user) = user else {
        return Finding::unknown(name, "USER is not set");
    };
    if Path::new("/var/lib/systemd/linger").join(user).exists() {
        return Finding::ok(
            name,
            format!("{user} may linger: the squad outlives a logout"),
        );
    }
    if !kill_user_processes(&logind_texts()) {
        return Finding::ok(name, "the system lets processes outlive a logout");
    }
    let what = "KillUserProcesses=yes: logging out ends the squad (its tasks go on later)";
    Finding::warning(name, what).remedy("loginctl enable-linger")
}

/// logind's configuration in the order in which it is read.
fn logind_texts() -> Vec<String> {
    let mut files = vec![
        "/usr/lib/systemd/logind.conf".into(),
        "/etc/systemd/logind.conf".into(),
    ];
    for folder in [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ] {
        let mut more: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        more.sort();
        files.extend(more);
    }
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect()
}

/// The last word on `KillUserProcesses`; off where nothing is said.
fn kill_user_processes(texts: &[String]) -> bool {
    texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("KillUserProcesses="))
        .next_back()
        .is_some_and(|value| matches!(value.trim(), "yes" | "true" | "on" | "1"))
}

pub(super) fn gpu() -> Vec<Finding> {
    let gpus = match Gpus::open() {
        Ok(gpus) => gpus,
        Err(NoGpus::NoDriver) => {
            let what = "no NVIDIA GPU here: models run on the CPU, or on another machine";
            return vec![Finding::ok("gpu", what)];
        }
        Err(NoGpus::Refused(error)) => {
            return vec![Finding::unknown(
                "gpu",
                format!("the driver does not answer: {error}"),
            )];
        }
    };
    let driver = gpus.driver().unwrap_or_else(|| "unknown".into());
    let found = gpus.read();
    if found.is_empty() {
        return vec![Finding::ok("gpu", format!("driver {driver}, no GPU"))];
    }
    let finding = |gpu: &crate::telemetry::Gpu| {
        let memory = match (gpu.memory_used, gpu.memory_total) {
            (Some(used), Some(total)) => format!("{} of {} used", bytes(used), bytes(total)),
            _ => "memory unknown".into(),
        };
        let text = format!("{}, {memory}, driver {driver}", gpu.name);
        Finding::ok(format!("gpu-{}", gpu.index), text)
    };
    found.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Status;

    #[test]
    fn versions_are_found_in_what_programs_say_of_themselves() {
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("Python 3.12.0rc1"), Some((3, 12)));
        assert_eq!(version("nothing here"), None);
    }

    #[test]
    fn the_last_file_decides_whether_processes_are_killed() {
        let texts = |all: &[&str]| {
            all.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(!kill_user_processes(&texts(&["#KillUserProcesses=yes\n"])));
        let both = texts(&["KillUserProcesses=no\n", "[Login]\nKillUserProcesses=yes\n"]);
        assert!(kill_user_processes(&both));
    }

    #[test]
    fn the_disk_of_a_folder_that_does_not_exist_yet_is_known() {
        let finding = disk(Path::new("/tmp/none/such/folder"));
        assert_ne!(finding.status, Status::Unknown);
    }
}
