//! `warpsquad status`, `stop` and `clean`: the squad as a whole.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::{Clean, Json, Stop};
use super::client::{CallError, block_on};
use super::context::Context;
use super::figures;
use super::output::bytes;
use super::report::Report;
use super::show;
use super::start::{PAUSE, keeper_paths};
use super::task::client;
use crate::api::wire::{CleanReport, CleanRequest, Installation, StopRequest, View};
use crate::core::task::TaskState;
use crate::keeper::await_end;

/// Agents get some time to end; the squad is gone well before this.
const STOPPING: Duration = Duration::from_secs(60);

/// What agents get to end in, and a little more.
const LEAVING: Duration = Duration::from_secs(7);

pub(super) fn status(context: &mut Context, json: Json) -> Result<(), Report> {
    let client = client(context)?;
    let view = block_on(async { Ok(client.view().await?) })?;
    if json.json {
        context.out.json(&view);
        return Ok(());
    }
    head(context, &view);
    let counts: Vec<_> = TaskState::ALL
        .into_iter()
        .map(|state| (state, view.count(state)))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let counts = if counts.is_empty() {
        "none".into()
    } else {
        counts.join(", ")
    };
    context.out.line(&format!("tasks      {counts}\n"));
    context.out.table(&show::agents(&view.agents));
    context.out.line("");
    context.out.table(&figures::endpoints(&view));
    Ok(())
}

fn head(context: &mut Context, view: &View) {
    let paused = if view.paused { " · paused" } else { "" };
    context.out.line(&format!(
        "squad      warpsquad {} · process {} · epoch {}{paused}",
        view.version, view.pid, view.epoch
    ));
    context.out.line(&format!("health     {}", view.health));
    let aider = match &view.installation {
        Installation::Unknown => "not looked at yet".to_owned(),
        Installation::Installing { message } => format!("being installed: {message}"),
        Installation::Ready { version } => version.clone(),
        Installation::Failed { why } => format!("not usable: {why}"),
    };
    context.out.line(&format!("aider      {aider}"));
    context
        .out
        .line(&format!("pool       {}", show::pool(&view.pool)));
    for row in figures::gateway(view) {
        context.out.line(&row);
    }
    if let Some(fault) = &view.store_fault {
        context.out.line(&format!("store      {fault}"));
    }
}

pub(super) fn stop(context: &mut Context, options: Stop) -> Result<(), Report> {
    let client = client(context)?;
    let keeper = keeper_paths(&context.places()?);
    let stopped = block_on(async {
        let asked: Result<(), CallError> = client
            .post("/v1/stop", &StopRequest { now: options.now })
            .await;
        match asked {
            Err(CallError::NotRunning(_)) => return Ok(false),
            // A server that ends at once may not finish its answer.
            Ok(()) | Err(CallError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
        let deadline = Instant::now() + STOPPING;
        while !client.is_gone().await {
            if Instant::now() > deadline {
                return Err(Report::unavailable("the squad has not ended yet")
                    .hint("'warpsquad stop --now' kills agents at once"));
            }
            sleep(PAUSE).await;
        }
        // The keeper goes last, after every agent. A socket that was named alone may be that of
        // another squad than the data directory's, whose keeper stays.
        await_end(&keeper, LEAVING).await;
        Ok(true)
    })?;
    context.out.line(if stopped {
        "the squad has ended"
    } else {
        "no squad was running"
    });
    Ok(())
}

pub(super) fn clean(context: &mut Context, options: Clean) -> Result<(), Report> {
    let client = client(context)?;
    let request = CleanRequest {
        dry_run: options.dry_run,
        older_than_ms: options
            .older_than
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    };
    let report: CleanReport = block_on(async { Ok(client.post("/v1/clean", &request).await?) })?;
    if options.json {
        context.out.json(&report);
        return Ok(());
    }
    let verb = if options.dry_run {
        "would remove"
    } else {
        "removed"
    };
    for item in &report.removed {
        let line = format!("{verb} {} ({}, {})", item.what, bytes(item.bytes), item.why);
        context.out.line(&line);
    }
    for item in &report.kept {
        context
            .out
            .line(&format!("kept {} ({})", item.what, item.why));
    }
    let total: u64 = report.removed.iter().map(|item| item.bytes).sum();
    context.out.line(&format!(
        "{verb} {}, {}",
        super::config::counted(report.removed.len(), "thing"),
        bytes(total)
    ));
    Ok(())
}
