//! A demo from the command to the exit code, on a terminal and without one.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::follow::{Follow, Lines};
use super::outcome::{Outcome, Tests};
use super::stage::Stage;
use super::tasks::{self, IN_FILE, LEFT, MENDING};
use crate::api::wire::{NewTask, StopRequest};
use crate::cli::args::{Demo, Global, TaskOptions};
use crate::cli::client::{CallError, Client, block_on};
use crate::cli::output::Output;
use crate::cli::{Context, Exit, Report, start, submission};
use crate::config::Places;
use crate::core::TaskId;
use crate::core::runners::GatewayReport;
use crate::core::task::{Autonomy, Task};
use crate::keeper::stop_running;

/// The squad ends well before this.
const STOPPING: Duration = Duration::from_secs(30);

/// Runs the demo; `attach` shows the dashboard of the squad that the context points at.
///
/// # Errors
/// The demo cannot be set up or its squad cannot be reached.
pub fn run(
    context: &mut Context,
    options: &Demo,
    attach: fn(&mut Context) -> Result<Exit, Report>,
) -> Result<Exit, Report> {
    let is_terminal = context.out.is_terminal() && std::io::stdin().is_terminal();
    let count = options.tasks.map_or(IN_FILE, usize::from);
    let stage = Stage::set(context, &tasks::file(count))?;
    stage.enter(context);
    if options.headless || options.json || !is_terminal {
        let lines = if options.json {
            Lines::Hidden
        } else {
            Lines::Shown
        };
        headless(context, &stage, lines)
    } else {
        on_terminal(context, &stage, attach)
    }
}

/// The squad of a demo and what was given to it.
struct Show {
    started: Instant,
    places: Places,
    global: Global,
    tasks: Vec<NewTask>,
}

impl Show {
    fn new(context: &Context, stage: &Stage) -> Result<Self, Report> {
        let tasks = submission::tasks(context, Some(&stage.tasks), &TaskOptions::default())?;
        Ok(Self {
            started: Instant::now(),
            places: context.places()?,
            global: context.global.clone(),
            tasks,
        })
    }

    /// All tasks merge by themselves but the last `left`.
    fn merge_all_but(&mut self, left: usize) {
        let merging = self.tasks.len().saturating_sub(left);
        for task in self.tasks.iter_mut().take(merging) {
            task.spec.autonomy = Autonomy::Merge;
        }
    }

    async fn begin(&self) -> Result<(Client, Vec<TaskId>), Report> {
        let client = start::ensure(&self.places, &self.global).await?;
        let numbers = start::submit(&client, self.tasks.clone()).await?;
        Ok((client, numbers))
    }

    async fn outcome(&self, client: &Client, numbers: &[TaskId]) -> Result<Outcome, Report> {
        let mut tasks = Vec::new();
        for id in numbers {
            tasks.push(client.get::<Task>(&format!("/v1/tasks/{id}")).await?);
        }
        let view = client.view().await?;
        Ok(Outcome {
            tasks,
            gateway: GatewayReport::clone(&view.gateway),
            wall: self.started.elapsed(),
            tests: None,
            problems: Vec::new(),
        })
    }

    /// Ends the squad with everything that it runs, also when its server does not answer.
    async fn stop(&self) -> Result<(), Report> {
        let client = Client::new(&self.places.socket);
        let asked: Result<(), CallError> =
            client.post("/v1/stop", &StopRequest { now: false }).await;
        let paths = start::keeper_paths(&self.places);
        let stopped = stop_running(&paths, STOPPING).await;
        stopped.map_err(|error| {
            let asked = asked.err().map(|error| format!(" ({error})"));
            Report::unavailable(format!("{error}{}", asked.unwrap_or_default()))
        })?;
        Ok(())
    }
}

fn headless(context: &mut Context, stage: &Stage, lines: Lines) -> Result<Exit, Report> {
    let mut show = Show::new(context, stage)?;
    show.merge_all_but(0);
    let out = &mut context.out;
    if lines == Lines::Shown {
        out.line(&format!(
            "everything of this demo lies in {}",
            stage.folder.display()
        ));
    }
    block_on(async {
        let mut end = End::new()?;
        let ended = tokio::select! {
            performed = perform(&show, stage, out, lines) => Ended::Performed(performed),
            code = end.asked() => Ended::Interrupted(code),
        };
        let stopped = show.stop().await;
        let exit = match ended {
            Ended::Performed(Ok(outcome)) => {
                tell(out, &outcome, stage, lines);
                if outcome.reasons().is_empty() {
                    Exit::Done
                } else {
                    Exit::TaskFailed
                }
            }
            Ended::Performed(Err(report)) => return Err(report.hint(removal(&stage.folder))),
            Ended::Interrupted(code) => {
                remains(out, stage, lines);
                Exit::Code(ExitCode::from(code))
            }
        };
        stopped.map(|()| exit)
    })
}

/// How a demo without a terminal ended.
enum Ended {
    Performed(Result<Outcome, Report>),
    Interrupted(u8),
}

async fn perform(
    show: &Show,
    stage: &Stage,
    out: &mut Output,
    lines: Lines,
) -> Result<Outcome, Report> {
    let (client, numbers) = show.begin().await?;
    let stuck = Follow::new(&client, out, lines)
        .until_settled(&numbers)
        .await?;
    let mut outcome = show.outcome(&client, &numbers).await?;
    outcome.problems.extend(stuck);
    if show.tasks.len() >= MENDING {
        let (passed, said) = stage.test()?;
        outcome.tests = Some(Tests { passed, said });
    }
    Ok(outcome)
}

fn tell(out: &mut Output, outcome: &Outcome, stage: &Stage, lines: Lines) {
    match lines {
        Lines::Hidden => out.json(&outcome.json(stage)),
        Lines::Shown => {
            outcome.print(out);
            remains(out, stage, lines);
        }
    }
}

fn remains(out: &mut Output, stage: &Stage, lines: Lines) {
    if lines == Lines::Hidden {
        return;
    }
    out.line(&format!("repository   {}", stage.repository.display()));
    out.line(&format!("squad        {} (stopped)", stage.data.display()));
    print_aider(out, stage);
    out.line(&format!("remove       {}", removal(&stage.folder)));
}

/// Aider is the only thing outside the demo's folder, and only if it was installed.
fn print_aider(out: &mut Output, stage: &Stage) {
    if stage.aider.is_dir() {
        out.line(&format!(
            "aider        {} (kept for the next demo and your own squad)",
            stage.aider.display()
        ));
    }
}

fn removal(folder: &Path) -> String {
    format!("rm -rf '{}'", folder.display())
}

fn on_terminal(
    context: &mut Context,
    stage: &Stage,
    attach: fn(&mut Context) -> Result<Exit, Report>,
) -> Result<Exit, Report> {
    let mut show = Show::new(context, stage)?;
    show.merge_all_but(LEFT);
    let (client, numbers) = block_on(show.begin())?;
    let shown = attach(context);
    let outcome = block_on(show.outcome(&client, &numbers));
    let out = &mut context.out;
    let command = stage.command();
    let exit = if let Ok(outcome) = &outcome {
        outcome.print(out);
        out.line("");
        out.line("The squad goes on.");
        out.line(&format!("dashboard    {command}"));
        out.line(&format!("merge        {command} task merge NUMBER"));
        out.line(&format!("stop         {command} stop"));
        let failed = outcome.counts().failed > 0;
        if failed { Exit::TaskFailed } else { Exit::Done }
    } else {
        out.line("The squad has ended.");
        out.line(&format!("go on        {command}"));
        Exit::Done
    };
    out.line(&format!("repository   {}", stage.repository.display()));
    print_aider(out, stage);
    out.line(&format!(
        "remove       {} (stop first)",
        removal(&stage.folder)
    ));
    shown.map(|_| exit)
}

/// The signals that end a demo without a terminal.
struct End {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl End {
    fn new() -> Result<Self, Report> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Report::internal(format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one; the exit code that a shell expects then.
    async fn asked(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        }
    }
}
