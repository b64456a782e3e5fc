//! `warpsquad task …`: submit, look at and settle tasks.

use serde_json::json;

use super::args::{Task as Asked, TaskAdd, TaskList, TaskLog, TaskMerge};
use super::client::{Client, block_on, escaped};
use super::context::Context;
use super::dispatch::Exit;
use super::report::Report;
use super::{progress, show, start, submission, words};
use crate::api::wire::{Command, Event, Reply, TaskFilter};
use crate::core::TaskId;
use crate::core::settings::MergeStrategy;
use crate::core::task::{Task, TaskState};

pub(super) fn run(context: &mut Context, asked: &Asked) -> Result<Exit, Report> {
    match asked {
        Asked::Add(options) => add(context, options),
        Asked::List(options) => list(context, options),
        Asked::Show(options) => {
            let task = fetch(context, options.task)?;
            if options.json {
                context.out.json(&task);
            } else {
                show::task(&mut context.out, &task);
                treatments(context, options.task)?;
            }
            Ok(Exit::Done)
        }
        Asked::Wait(options) => progress::wait(context, options),
        Asked::Cancel(named) => each(context, &named.tasks, |task| Command::Cancel { task }),
        Asked::Retry(named) => each(context, &named.tasks, |task| Command::Retry { task }),
        Asked::Discard(named) => each(context, &named.tasks, |task| Command::Discard { task }),
        Asked::Restore(named) => each(context, &named.tasks, |task| Command::Restore { task }),
        Asked::Revise(options) => {
            let comment = submission::comment(&options.comment)?;
            each(context, &[options.task], |task| Command::Revise {
                task,
                comment: comment.clone(),
            })
        }
        Asked::Merge(options) => merge(context, options),
        Asked::Log(options) => log(context, options),
        Asked::Diff(number) => {
            let client = client(context)?;
            let path = format!("/v1/tasks/{}/diff", number.task);
            let diff = block_on(async { Ok(client.text(&path).await?) })?;
            context.out.text(&diff);
            Ok(Exit::Done)
        }
        Asked::Path(number) => path(context, number.task),
    }
}

/// A client of the squad that the call is about.
pub(super) fn client(context: &Context) -> Result<Client, Report> {
    Ok(Client::new(&context.places()?.socket))
}

fn fetch(context: &Context, task: u64) -> Result<Task, Report> {
    let client = client(context)?;
    block_on(async { Ok(client.get(&format!("/v1/tasks/{task}")).await?) })
}

/// What the medic and the quotas did about its agents.
fn treatments(context: &mut Context, task: u64) -> Result<(), Report> {
    let client = client(context)?;
    let path = format!("/v1/tasks/{task}/events");
    let events: Vec<Event> = block_on(async { Ok(client.get(&path).await?) })?;
    let lines = show::treatments(&events);
    if !lines.is_empty() {
        context.out.line("\nmedic:");
    }
    for line in lines {
        context.out.line(&line);
    }
    Ok(())
}

fn add(context: &mut Context, options: &TaskAdd) -> Result<Exit, Report> {
    let tasks = submission::tasks(context, options.file.as_deref(), &options.task)?;
    let places = context.places()?;
    let global = context.global.clone();
    let numbers = block_on(async {
        let client = start::ensure(&places, &global).await?;
        start::submit(&client, tasks).await
    })?;
    if options.json {
        context.out.json(&json!({ "tasks": numbers }));
    } else {
        for number in numbers {
            context.out.line(&format!("task {number} submitted"));
        }
    }
    Ok(Exit::Done)
}

fn list(context: &mut Context, options: &TaskList) -> Result<Exit, Report> {
    let client = client(context)?;
    let here = if options.here {
        Some(context.need_repository(None)?)
    } else {
        None
    };
    let mut states: Vec<TaskState> = options
        .state
        .iter()
        .filter_map(|word| words::value(word))
        .collect();
    if states.is_empty() && !options.all {
        states = TaskState::ALL
            .into_iter()
            .filter(|state| !state.is_final())
            .collect();
    }
    let filter = TaskFilter {
        states,
        limit: options.limit,
        ..TaskFilter::default()
    };
    let filter = serde_json::to_string(&filter)
        .map_err(|error| Report::internal(format!("the filter cannot be written: {error}")))?;
    let path = format!("/v1/tasks?filter={}", escaped(&filter));
    let mut tasks: Vec<Task> = block_on(async { Ok(client.get(&path).await?) })?;
    tasks.retain(|task| {
        let tagged = options
            .tag
            .as_ref()
            .is_none_or(|tag| task.spec.tags.contains(tag));
        tagged && here.as_ref().is_none_or(|root| task.spec.repo == *root)
    });
    if options.json {
        context.out.json(&tasks);
    } else if tasks.is_empty() {
        let all = if options.all {
            ""
        } else {
            "; --all shows the finished ones too"
        };
        context.out.line(&format!("no tasks{all}"));
    } else {
        let view = block_on(async { Ok(client.view().await?) })?;
        context.out.table(&show::tasks(&tasks, &view.waiting));
    }
    Ok(Exit::Done)
}

/// One command for each task. The first refusal ends it, after the earlier ones took effect.
fn each(
    context: &mut Context,
    tasks: &[u64],
    command: impl Fn(TaskId) -> Command,
) -> Result<Exit, Report> {
    let client = client(context)?;
    for task in tasks.iter().copied().map(TaskId) {
        let reply: Reply = block_on(async { Ok(client.command(command(task)).await?) })?;
        if reply == Reply::Done {
            context.out.line(&format!("task {task}: done"));
        }
    }
    Ok(Exit::Done)
}

fn merge(context: &mut Context, options: &TaskMerge) -> Result<Exit, Report> {
    let strategy: Option<MergeStrategy> = options.strategy.as_deref().and_then(words::value);
    each(context, &options.tasks, |task| Command::Merge {
        task,
        strategy,
    })
}

fn log(context: &mut Context, options: &TaskLog) -> Result<Exit, Report> {
    let client = client(context)?;
    let task = options.task;
    if let Some(what) = &options.what {
        let path = format!("/v1/tasks/{task}/log?what={what}");
        let text = block_on(async { Ok(client.text(&path).await?) })?;
        context.out.text(&text);
        return Ok(Exit::Done);
    }
    let path = format!("/v1/tasks/{task}/events");
    let events: Vec<Event> = block_on(async { Ok(client.get(&path).await?) })?;
    if options.json {
        context.out.json(&events);
    } else {
        for event in &events {
            context.out.line(&show::event(event));
        }
    }
    Ok(Exit::Done)
}

fn path(context: &mut Context, task: u64) -> Result<Exit, Report> {
    let found = fetch(context, task)?;
    let Some(workplace) = found.workplace else {
        let report = Report::user(format!(
            "task {task} is {} and has no worktree",
            found.state
        ));
        return Err(match found.state {
            TaskState::Discarded | TaskState::Cancelled | TaskState::Dead => report.hint(format!(
                "'warpsquad task restore {task}' brings its work back"
            )),
            _ => report,
        });
    };
    // A path may hold any bytes; as far as it is text it is printed as it is.
    context.out.text(&workplace.dir.to_string_lossy());
    Ok(Exit::Done)
}
