//! From the words that were typed to the command that answers, and to the exit code.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use super::args::{Cli, Command, Demo, OllamaSim};
use super::context::Context;
use super::output::Output;
use super::report::{Kind, Report};
use super::{
    agent, catalogue, completions, config, doctor, man, progress, route, server, setup, squad,
    task, template, trust, upgrade,
};
use crate::config::environment;

/// How a command ended that was able to do its work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exit {
    /// As asked.
    Done,
    /// A task did not reach its goal.
    TaskFailed,
    /// As a program below the command line says.
    Code(ExitCode),
}

impl Exit {
    fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::TaskFailed => ExitCode::from(Kind::User.code()),
            Self::Code(code) => code,
        }
    }
}

/// The faces that stand above the command line; `main` names them.
#[derive(Clone, Copy)]
pub struct Programs {
    /// `warpsquad` alone: the dashboard on this terminal.
    pub attach: fn(&mut Context) -> Result<Exit, Report>,
    /// `server --child`: the server itself, started by its keeper.
    pub server: fn(&mut Context) -> Result<Exit, Report>,
    /// The keeper, with its own arguments: what `server --foreground` becomes.
    pub keeper: fn(Vec<OsString>) -> ExitCode,
    /// `demo`
    pub demo: fn(&mut Context, &Demo) -> Result<Exit, Report>,
    /// `ollama-sim`
    pub simulator: fn(&mut Context, &OllamaSim) -> Result<Exit, Report>,
}

/// Runs the command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>, programs: Programs) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output; a reader that has gone is no error.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let current_dir = match std::env::current_dir() {
        Ok(current_dir) => current_dir,
        Err(error) => {
            return Report::unavailable(format!("the current directory is gone: {error}"))
                .hint("change into one that exists")
                .finish();
        }
    };
    let mut context = Context {
        global: cli.global,
        environment: environment::of_this_process(),
        current_dir,
        out: Output::stdout(),
    };
    let ended = run(&mut context, cli.command, programs);
    match (ended, context.out.finish()) {
        (Ok(exit), Ok(())) => exit.code(),
        (Err(report), _) | (Ok(_), Err(report)) => report.finish(),
    }
}

fn run(
    context: &mut Context,
    command: Option<Command>,
    programs: Programs,
) -> Result<Exit, Report> {
    let Some(command) = command else {
        return attach(context, programs);
    };
    match command {
        Command::Run(options) => progress::run(context, &options),
        Command::Demo(options) => (programs.demo)(context, &options),
        Command::Setup(options) => setup::run(context, options).map(done),
        Command::Doctor(options) => doctor::run(context, &options),
        Command::Task(asked) => task::run(context, &asked),
        Command::Template(asked) => template::run(context, &asked).map(done),
        Command::Agent(asked) => agent::run(context, &asked).map(done),
        Command::Model(asked) => catalogue::models(context, &asked).map(done),
        Command::Endpoint(asked) => catalogue::endpoints(context, &asked).map(done),
        Command::Route(asked) => route::run(context, &asked).map(done),
        Command::Status(options) => squad::status(context, options).map(done),
        Command::Server(options) if options.child => (programs.server)(context),
        Command::Server(options) => server::run(context, options, programs.keeper),
        Command::Stop(options) => squad::stop(context, options).map(done),
        Command::Upgrade(options) => upgrade::run(context, &options).map(done),
        Command::Clean(options) => squad::clean(context, options).map(done),
        Command::Trust(options) => trust::run(context, &options).map(done),
        Command::OllamaSim(options) => (programs.simulator)(context, &options),
        Command::Config(asked) => config::run(context, &asked).map(done),
        Command::Completions { shell } => {
            completions::run(context, shell);
            Ok(Exit::Done)
        }
        Command::Man(options) => man::run(context, &options).map(done),
    }
}

/// The dashboard needs a terminal on both sides.
fn attach(context: &mut Context, programs: Programs) -> Result<Exit, Report> {
    if !context.out.is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Report::unavailable("the dashboard needs a terminal")
            .hint("without one, use 'warpsquad run', 'warpsquad task' or 'warpsquad status'"));
    }
    (programs.attach)(context)
}

fn done((): ()) -> Exit {
    Exit::Done
}
