//! `warpsquad server --child`: the server itself, started by its keeper.

use std::process::ExitCode;

use crate::cli::client::block_on;
use crate::cli::{Context, Exit, Report, start};
use crate::keeper::{SERVER_STOP_CODE, ensure_running};
use crate::server::{Ending, InstallPolicy, ServerError, ServerOptions, demo_of, run};

/// Runs a server until it ends; its exit code tells the keeper what is to follow.
///
/// # Errors
/// The configuration, the store or a socket refuses.
pub fn server(context: &mut Context) -> Result<Exit, Report> {
    let places = context.places()?;
    let paths = start::keeper_paths(&places);
    let demo = demo_of(&places.data_dir)
        .map_err(|error| Report::unavailable(format!("demo.json cannot be used: {error}")))?;
    let options = ServerOptions {
        settings: context.load(None)?.settings,
        environment: context.environment.clone(),
        install: if demo.is_some() {
            InstallPolicy::Automatic
        } else {
            InstallPolicy::OnRequest
        },
        demo,
        keeper: paths.socket(),
        places: places.clone(),
    };
    // TLS for endpoints behind https; it can be set once in a process, and only here.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Report::internal(format!("the runtime cannot be started: {error}")))?;
    let ending = runtime
        .block_on(run(options))
        .map_err(|error| report(&error))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ending {
        Ending::Stopped => Ok(Exit::Code(ExitCode::from(SERVER_STOP_CODE))),
        Ending::Terminated | Ending::Superseded => Ok(Exit::Done),
        Ending::KeeperLost => {
            let keeper = start::keeper_options(&places, &context.global)?;
            block_on(async {
                ensure_running(&keeper)
                    .await
                    .map_err(|error| Report::unavailable(format!("no new keeper: {error}")))
            })?;
            Ok(Exit::Done)
        }
    }
}

fn report(error: &ServerError) -> Report {
    let report = Report::unavailable(error.to_string());
    match error {
        ServerError::Store(_) => {
            report.hint("the database is never deleted by itself; a copy is made before changes")
        }
        ServerError::Listen(_) => {
            report.hint("--socket and --data-dir start another squad beside it")
        }
        ServerError::Keeper(_)
        | ServerError::Gateway(_)
        | ServerError::System { .. }
        | ServerError::Log(_) => report,
    }
}
