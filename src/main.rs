//! The `warpsquad` command: hands the words to the command line and names the programs below it.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::ExitCode;

use warpsquad::cli::args::Demo;
use warpsquad::cli::{self, Context, Exit, Programs, Report};
use warpsquad::keeper::{options, process, shim};
use warpsquad::programs::{attach, server, simulator};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // Every job starts through here: it does not pay for a command line that it does not use.
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(shim::SUBCOMMAND) => return exec_job(arguments),
        Some(options::SUBCOMMAND) => return process::main(arguments),
        Some(_) | None => {}
    }
    cli::main(
        std::env::args_os(),
        Programs {
            attach,
            server,
            keeper,
            demo,
            simulator,
        },
    )
}

fn exec_job(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let error = shim::exec_job(arguments);
    // It goes to the job's own output; without one there is nobody to tell.
    drop(writeln!(std::io::stderr(), "warpsquad: {error}"));
    ExitCode::from(shim::CANNOT_START)
}

fn keeper(arguments: Vec<OsString>) -> ExitCode {
    process::foreground(arguments.into_iter())
}

fn demo(context: &mut Context, options: &Demo) -> Result<Exit, Report> {
    warpsquad::demo::run(context, options, attach)
}
