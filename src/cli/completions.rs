//! `warpsquad completions`: a script that completes the command line in a shell.

use super::args::Cli;
use super::context::Context;

pub(super) fn run(context: &mut Context, shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::describe(), "warpsquad", &mut script);
    context.out.text(&String::from_utf8_lossy(&script));
}
