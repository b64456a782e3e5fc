//! The zygote's files, its list of modules, and the request that has the keeper keep one.
//!
//! The list names what one message of the installed Aider imports. It lies beside the interpreter
//! in an environment that `warpsquad setup` made, else in the data directory, and is made again for
//! another Aider, another Python or another launcher.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::aider::flavour::{LAUNCHER, VERSION};
use super::jobs::Jobs;
use super::output::{read_end, tail};
use super::workshop::{Workshop, hex};
use crate::keeper::{
    ClientError, JobSpec, Limits, Origin, Output, RefusalKind, ZygoteSpec, ZygoteState, resident,
};

/// The fork server.
const ZYGOTE: &str = include_str!("../../assets/aider/zygote.py");
/// What it does before it forks.
const AHEAD: &str = include_str!("../../assets/aider/ahead.py");
/// What keeps its memory shared by what it forks.
const SHARE: &str = include_str!("../../assets/aider/share.py");
/// What makes the list.
const SURVEY: &str = include_str!("../../assets/aider/survey.py");
/// A survey starts Aider once and lets it do one edit.
const SURVEY_LIMIT: Duration = Duration::from_secs(180);
/// A zygote only forks: it holds 270 MB and grows by nothing that is meant to be kept.
const GROWTH: u64 = 64 << 20;
/// Its job.
const SURVEY_JOB: &str = "zygote-survey";

/// Why there is no zygote.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteFault {
    /// Its files cannot be written.
    #[error("the zygote's files cannot be written: {0}")]
    Files(#[from] std::io::Error),
    /// The keeper is gone, refused, or is an older one that knows none.
    #[error("{0}")]
    Keeper(#[from] ClientError),
    /// A path that cannot be written into a command line.
    #[error("{} is not valid UTF-8", .0.display())]
    Path(PathBuf),
}

/// Has the keeper keep a zygote for this interpreter; again whenever it has forked `recycle` times.
pub(super) async fn keep(workshop: &Workshop, python: &Path, generation: u64) {
    match try_keep(workshop, python, generation).await {
        Ok(()) => {}
        Err(ZygoteFault::Keeper(error)) if error.refusal() == Some(RefusalKind::UnknownMethod) => {
            workshop
                .jobs
                .no_zygote("the keeper is of an older version; it goes on at its next start");
        }
        Err(fault) => {
            tracing::warn!(%fault, "agents are started one by one");
            workshop.jobs.no_zygote(&fault.to_string());
        }
    }
}

/// Returns when the zygote has forked `recycle` times, or holds more than it did at first.
pub(super) async fn worn(jobs: &Jobs, recycle: u32) {
    let first = jobs.forks();
    let mut growth = Growth::default();
    loop {
        let forks = jobs.forks();
        let pid = match &*jobs.zygote().borrow() {
            ZygoteState::Ready { pid, .. } => Some(*pid),
            ZygoteState::Off
            | ZygoteState::Starting
            | ZygoteState::Failed { .. }
            | ZygoteState::Other => None,
        };
        let held = pid.and_then(|pid| Some((pid, resident(pid)?)));
        if forks >= first.saturating_add(u64::from(recycle)) || growth.is_too_much(held) {
            return;
        }
        jobs.forked(forks + 1).await;
    }
}

/// Memory of one zygote over time.
#[derive(Debug, Default)]
struct Growth(Option<(i32, u64)>);

impl Growth {
    /// Takes a process and what it holds in bytes; another process begins anew.
    fn is_too_much(&mut self, now: Option<(i32, u64)>) -> bool {
        let Some((pid, bytes)) = now else {
            return false;
        };
        match self.0 {
            Some((known, first)) if known == pid => bytes > first.saturating_add(GROWTH),
            Some(_) | None => {
                self.0 = now;
                false
            }
        }
    }
}

async fn try_keep(workshop: &Workshop, python: &Path, generation: u64) -> Result<(), ZygoteFault> {
    let place = Place::of(workshop, python).await?;
    place.write().await?;
    if !is_listed(&place.list).await {
        place.survey(workshop).await?;
    }
    workshop.jobs.keep_zygote(place.spec(generation)?).await?;
    Ok(())
}

/// Where the files of one zygote lie.
struct Place {
    dir: PathBuf,
    home: PathBuf,
    log: PathBuf,
    python: PathBuf,
    list: PathBuf,
    path: String,
}

impl Place {
    /// A folder for each launcher: what runs is never written over.
    async fn of(workshop: &Workshop, python: &Path) -> Result<Self, ZygoteFault> {
        let root = workshop.data.join("zygote");
        let beside = list_beside(python);
        let list = if is_listed(&beside).await {
            beside
        } else {
            root.join(format!("modules-{}.txt", digest(&[&text(python)?])))
        };
        Ok(Self {
            dir: root.join(digest(&[LAUNCHER, ZYGOTE, AHEAD, SHARE, SURVEY])),
            home: root.join("home"),
            log: workshop.data.join("log").join("zygote.log"),
            python: python.to_owned(),
            list,
            path: std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into()),
        })
    }

    async fn write(&self) -> std::io::Result<()> {
        tokio::fs::create_dir_all(&self.dir).await?;
        for folder in [&self.home, &self.log] {
            if let Some(parent) = folder.parent() {
                tokio::fs::create_dir_all(parent).await?;
            }
        }
        for (name, text) in files() {
            let path = self.dir.join(name);
            if tokio::fs::read(&path).await.ok().as_deref() != Some(text.as_bytes()) {
                tokio::fs::write(&path, text).await?;
            }
        }
        Ok(())
    }

    fn environment(&self) -> Result<BTreeMap<String, String>, ZygoteFault> {
        let variables = [
            ("PATH", self.path.clone()),
            ("LANG", "C.UTF-8".to_owned()),
            ("HOME", text(&self.home)?),
            // Else every thread of every agent gets a heap of its own, and shares none of it.
            ("MALLOC_ARENA_MAX", "1".into()),
            ("SQUAD_AGENT_HOME", text(&self.home)?),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("NO_PROXY", "*".to_owned()),
            ("HF_HUB_OFFLINE", "1".to_owned()),
        ];
        Ok(variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    fn command(&self, script: &str, list: &Path) -> Result<Vec<String>, ZygoteFault> {
        let python = text(&self.python)?;
        let words = [python, "-I".into(), "-X".into(), "utf8".into()];
        let words = words.into_iter();
        Ok(words
            .chain([text(&self.dir.join(script))?, text(list)?])
            .collect())
    }

    fn spec(&self, generation: u64) -> Result<ZygoteSpec, ZygoteFault> {
        let list = if self.list.exists() {
            self.list.clone()
        } else {
            PathBuf::from("-")
        };
        let mut env = self.environment()?;
        env.insert("SQUAD_GENERATION".into(), generation.to_string());
        Ok(ZygoteSpec {
            argv: self.command("zygote.py", &list)?,
            env,
            cwd: self.dir.clone(),
            log: self.log.clone(),
        })
    }

    /// Makes the list. Without one the zygote imports less, and first messages take longer.
    async fn survey(&self, workshop: &Workshop) -> Result<(), ZygoteFault> {
        let log = workshop.data.join("log").join("zygote-survey.log");
        let fresh = self.dir.join("modules.txt");
        let spec = JobSpec {
            id: SURVEY_JOB.into(),
            argv: self.command("survey.py", &fresh)?,
            env: self.environment()?,
            cwd: self.dir.clone(),
            output: Output::File(log.clone()),
            nice: 0,
            time_limit: Some(SURVEY_LIMIT),
            meta: String::new(),
            origin: Origin::Program,
            limits: Limits::default(),
        };
        let exit = workshop.jobs.run(spec).await?;
        workshop.jobs.keeper().forget(SURVEY_JOB).await?;
        if !exit.is_success() {
            let end = tail(&read_end(log).await?);
            tracing::warn!(%end, "what Aider imports could not be listed");
            return Ok(());
        }
        let names = tokio::fs::read_to_string(&fresh).await?;
        tokio::fs::write(&self.list, listed(&names)).await?;
        Ok(())
    }
}

/// The list is there and was made for this Aider and this launcher.
async fn is_listed(list: &Path) -> bool {
    let text = tokio::fs::read_to_string(list).await.unwrap_or_default();
    text.lines().next() == Some(heading().as_str())
}

/// The scripts, by name.
fn files() -> [(&'static str, &'static str); 5] {
    [
        ("launch.py", LAUNCHER),
        ("zygote.py", ZYGOTE),
        ("ahead.py", AHEAD),
        ("share.py", SHARE),
        ("survey.py", SURVEY),
    ]
}

/// Where `warpsquad setup` puts the list: in the environment that the interpreter belongs to.
pub(super) fn list_beside(python: &Path) -> PathBuf {
    let bin = python.parent().unwrap_or(Path::new("."));
    let environment = bin.parent().unwrap_or(bin);
    environment.join("warpsquad-modules.txt")
}

/// The scripts in `dir`, and the arguments of a survey that writes to `list`.
pub(super) fn write_survey(dir: &Path, list: &Path) -> std::io::Result<Vec<PathBuf>> {
    for (name, text) in files() {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(vec![dir.join("survey.py"), list.to_owned()])
}

/// A list with its heading.
pub(super) fn listed(names: &str) -> String {
    format!("{}\n{names}", heading())
}

fn heading() -> String {
    format!("# Aider {VERSION} {}", digest(&[LAUNCHER, SURVEY]))
}

fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let all = hex(&hash.finalize());
    all.chars().take(12).collect()
}

fn text(path: &Path) -> Result<String, ZygoteFault> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ZygoteFault::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zygote_that_grows_is_worn_and_another_process_begins_anew() {
        let mut growth = Growth::default();
        assert!(!growth.is_too_much(Some((7, 100 << 20))));
        assert!(!growth.is_too_much(None));
        assert!(!growth.is_too_much(Some((7, 164 << 20))));
        assert!(growth.is_too_much(Some((7, 165 << 20))));
        assert!(!growth.is_too_much(Some((8, 400 << 20))));
    }
}
