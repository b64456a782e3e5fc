//! `warpsquad agent …`: look at agents and talk to them.

use super::args::{Agent, AgentSend};
use super::client::block_on;
use super::context::Context;
use super::report::Report;
use super::show;
use super::task::client;
use crate::api::wire::{AgentView, Command};
use crate::core::AgentSlot;

pub(super) fn run(context: &mut Context, asked: &Agent) -> Result<(), Report> {
    match asked {
        Agent::List(json) => {
            let agents = all(context)?;
            if json.json {
                context.out.json(&agents);
            } else {
                context.out.table(&show::agents(&agents));
            }
            Ok(())
        }
        Agent::Show(named) => {
            let agent = one(context, named.agent)?;
            if named.json {
                context.out.json(&agent);
            } else {
                detail(context, &agent);
            }
            Ok(())
        }
        Agent::Log(number) => {
            let client = client(context)?;
            let path = format!("/v1/agents/{}/screen", number.agent);
            let text = block_on(async { Ok(client.text(&path).await?) })?;
            context.out.text(&text);
            Ok(())
        }
        Agent::Send(options) => send(context, options),
        Agent::Kill(number) => {
            let slot = AgentSlot(number.agent);
            command(context, Command::KillAgent { slot })
        }
    }
}

fn all(context: &Context) -> Result<Vec<AgentView>, Report> {
    let client = client(context)?;
    block_on(async { Ok(client.view().await?.agents) })
}

fn one(context: &Context, number: u16) -> Result<AgentView, Report> {
    let agents = all(context)?;
    let count = agents.len();
    let found = agents.into_iter().find(|agent| agent.slot.0 == number);
    found.ok_or_else(|| {
        Report::user(format!("there is no agent {number}")).hint(format!(
            "agents are numbered from 1 to {count}; agents.max sets how many"
        ))
    })
}

fn detail(context: &mut Context, agent: &AgentView) {
    let task = agent.task.map(|task| format!("{task} {}", agent.title));
    let rows = [
        ("state", Some(agent.report.state.to_string())),
        ("health", Some(agent.report.health.to_string())),
        ("why", Some(show::why(agent))),
        ("task", task),
        ("model", Some(agent.model.clone())),
        ("endpoint", Some(agent.endpoint.clone())),
        ("since", agent.since.map(show::moment)),
        ("process", agent.report.pid.map(|pid| pid.to_string())),
        ("uses", agent.report.usage.map(show::usage)),
        ("note", agent.report.note.clone()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    context.out.line(&format!("agent {}", agent.slot));
    context.out.table(&rows);
}

fn send(context: &mut Context, options: &AgentSend) -> Result<(), Report> {
    let slot = AgentSlot(options.agent);
    let text = options.text.join(" ");
    if options.answer {
        return command(context, Command::Answer { slot, text });
    }
    command(context, Command::SendLine { slot, text })
}

fn command(context: &mut Context, command: Command) -> Result<(), Report> {
    let client = client(context)?;
    block_on(async { Ok(client.command(command).await?) })?;
    context.out.line("done");
    Ok(())
}
