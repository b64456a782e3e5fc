//! `warpsquad server`: start the squad behind the scenes, or be its keeper in the foreground.

use std::ffi::OsString;
use std::process::ExitCode;

use super::args::Server;
use super::client::{Client, block_on};
use super::context::Context;
use super::dispatch::Exit;
use super::report::Report;
use super::start;
use crate::keeper::options::Session;

pub(super) fn run(
    context: &mut Context,
    options: Server,
    keeper: fn(Vec<OsString>) -> ExitCode,
) -> Result<Exit, Report> {
    // A mistake in the configuration is said here, not in a log.
    context.load(None)?;
    let places = context.places()?;
    places.create()?;
    let client = Client::new(&places.socket);
    let is_running = block_on(async { Ok(client.is_running().await) })?;
    if is_running && options.foreground {
        return Err(Report::unavailable(format!(
            "a squad is already running at {}",
            places.socket.display()
        ))
        .hint("'warpsquad stop' ends it; --data-dir and --socket start another one beside it"));
    }
    if is_running {
        context.out.line("the squad is already running");
        return Ok(Exit::Done);
    }
    if options.foreground {
        let mut options = start::keeper_options(&places, &context.global)?;
        options.session = Session::Foreground;
        let arguments = options.to_args().into_iter().skip(1).collect();
        return Ok(Exit::Code(keeper(arguments)));
    }
    let global = context.global.clone();
    block_on(async { start::ensure(&places, &global).await })?;
    context.out.line(&format!(
        "the squad is running at {}",
        places.socket.display()
    ));
    Ok(Exit::Done)
}
