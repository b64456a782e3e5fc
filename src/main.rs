//! The `warpsquad` command.

use std::io::Write;
use std::process::ExitCode;

use warpsquad::keeper::{options, process, shim};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|first| first.to_str()) {
        Some(shim::SUBCOMMAND) => {
            let error = shim::exec_job(args);
            // It goes to the job's own output; without one there is nobody to tell.
            drop(writeln!(std::io::stderr(), "warpsquad: {error}"));
            ExitCode::from(shim::CANNOT_START)
        }
        Some(options::SUBCOMMAND) => process::main(args),
        Some(_) | None => ExitCode::SUCCESS,
    }
}
