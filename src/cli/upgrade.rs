//! `warpsquad upgrade`: another program becomes the server while agents work on.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::args::Upgrade;
use super::client::{CallError, Client, block_on};
use super::context::Context;
use super::report::Report;
use super::start::PAUSE;
use super::task::client;
use crate::api::wire::{SquadEvent, UpgradeReport, UpgradeRequest, UpgradeState, View, What};

/// The keeper gives a new server 30 s and starts the old one again: all is over well before this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of it.
#[derive(Debug, Serialize)]
struct Upgraded {
    program: PathBuf,
    before: String,
    version: String,
    adopted: String,
}

pub(super) fn run(context: &mut Context, options: &Upgrade) -> Result<(), Report> {
    let program = program(context, options.binary.as_deref())?;
    let version = version(&program)?;
    let client = client(context)?;
    let upgraded = block_on(async { upgrade(&client, program, version).await })?;
    if options.json {
        context.out.json(&upgraded);
        return Ok(());
    }
    let Upgraded {
        before,
        version,
        adopted,
        ..
    } = upgraded;
    let line = format!("the squad runs warpsquad {version} now, before it was {before}: {adopted}");
    context.out.line(&line);
    Ok(())
}

fn program(context: &Context, named: Option<&Path>) -> Result<PathBuf, Report> {
    let program = match named {
        Some(path) => context.current_dir.join(path),
        None => std::env::current_exe().map_err(|error| {
            Report::internal(format!("the program's own path is unknown: {error}"))
        })?,
    };
    if !program.is_file() {
        return Err(Report::user(format!("{} is not a file", program.display()))
            .hint("name the new warpsquad with --binary"));
    }
    Ok(program)
}

/// What the program says of itself: `warpsquad 0.2.0`.
fn version(program: &Path) -> Result<String, Report> {
    let answer = Process::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let said = answer
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let version = said.trim().strip_prefix("warpsquad ");
    version.map(str::to_owned).ok_or_else(|| {
        Report::user(format!(
            "{} is not a warpsquad that runs here",
            program.display()
        ))
        .hint("'--version' has to answer 'warpsquad' and a version")
    })
}

async fn upgrade(client: &Client, program: PathBuf, version: String) -> Result<Upgraded, Report> {
    let before = client.view().await?;
    let request = UpgradeRequest {
        program: program.clone(),
    };
    match client.post::<_, ()>("/v1/upgrade", &request).await {
        // A server that is told to end at once may not finish its answer.
        Ok(()) | Err(CallError::Lost) => {}
        Err(error) => return Err(impossible(error, &before)),
    }
    let (after, report) = outcome(client, &before, &version).await?;
    if report.state == UpgradeState::Back {
        let why = report.why.unwrap_or_else(|| "it did not serve".into());
        return Err(Report::unavailable(format!(
            "warpsquad {version} did not take over: {why}; {} runs again",
            after.version
        ))
        .hint("its log is in the data directory, below log/; agents were not touched"));
    }
    Ok(Upgraded {
        program,
        before: before.version,
        version: after.version.clone(),
        adopted: adopted(&after),
    })
}

fn impossible(error: CallError, before: &View) -> Report {
    match error {
        CallError::Refused(refusal) if refusal.message == "there is no such route" => {
            let text = format!(
                "warpsquad {} cannot be upgraded while it runs",
                before.version
            );
            Report::unavailable(text)
                .hint("'warpsquad stop', then start again: tasks go on, agents are interrupted")
        }
        error => error.into(),
    }
}

/// Waits until a new server answers and is no longer on trial.
async fn outcome(
    client: &Client,
    before: &View,
    version: &str,
) -> Result<(View, UpgradeReport), Report> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look(client, before, version).await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            let text = format!(
                "no server answers {} s after the upgrade",
                PATIENCE.as_secs()
            );
            return Err(Report::unavailable(text)
                .hint("'warpsquad status' shows how it is; its log is below log/"));
        }
        sleep(PAUSE).await;
    }
}

async fn look(client: &Client, before: &View, version: &str) -> Option<(View, UpgradeReport)> {
    let view = client.view().await.ok()?;
    if view.epoch <= before.epoch {
        return None;
    }
    match client.get::<UpgradeReport>("/v1/upgrade").await {
        Ok(report) => {
            let over = matches!(report.state, UpgradeState::Done | UpgradeState::Back);
            // It serves before its first event is recorded.
            (over && started(&view).is_some()).then_some((view, report))
        }
        // A server of a version before that route: it answers, that is all that can be known.
        Err(CallError::Refused(_)) if view.version == version => {
            Some((view, UpgradeReport::default()))
        }
        Err(_) => None,
    }
}

/// What the new server found, in its own words.
fn adopted(view: &View) -> String {
    started(view).unwrap_or_else(|| "what it adopted is not known".into())
}

/// What the server of this view said when it started; none before it has.
fn started(view: &View) -> Option<String> {
    view.events
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            What::Squad {
                event: SquadEvent::ServerStarted { epoch, adopted },
            } => (*epoch == view.epoch.0).then(|| adopted.clone()),
            What::Squad { .. } | What::Task { .. } => None,
        })
}
