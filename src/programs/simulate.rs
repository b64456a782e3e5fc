//! `warpsquad ollama-sim`: the simulator as a server of its own.

use crate::cli::args::OllamaSim;
use crate::cli::client::block_on;
use crate::cli::{Context, Exit, Kind, Report};
use crate::simulator::{Args, RunError, run};

/// Serves until it is told to stop.
///
/// # Errors
/// The scenario has a mistake or the address cannot be used.
pub fn simulator(context: &mut Context, options: &OllamaSim) -> Result<Exit, Report> {
    let args = Args {
        listen: options.listen.to_string(),
        scenario: options
            .scenario
            .as_ref()
            .map(|path| context.current_dir.join(path)),
    };
    block_on(async {
        run(args).await.map_err(|error| match &error {
            RunError::Scenario(_) => Report::new(Kind::Config, error.to_string())
                .hint("docs/simulator.md describes scenario files"),
            RunError::Listen { .. } => Report::unavailable(error.to_string())
                .hint("another program may use the address; port 0 takes a free one"),
            RunError::Serve(_) => Report::internal(error.to_string()),
        })
    })?;
    Ok(Exit::Done)
}
