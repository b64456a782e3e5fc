//! `warpsquad setup`: install or check the Aider that the squad works with.

use std::io::Write as _;
use std::path::Path;

use super::args::Setup;
use super::context::Context;
use super::report::{Report, chain};
use crate::agents::setup::{Checked, Progress, Setup as Installation, SetupError};

pub(super) fn run(context: &mut Context, options: Setup) -> Result<(), Report> {
    let settings = context.load(None)?.settings;
    let installation = Installation::new(&context.places()?.data_dir, context.environment.clone());
    if let Some(python) = &settings.agents.python {
        let checked = installation
            .check_python(Path::new(python))
            .map_err(|error| report(&error))?;
        say(context, &checked, python);
        return Ok(());
    }
    if !options.check {
        context.places()?.create()?;
        installation
            .install(&mut |step| progress(&step))
            .map_err(|error| report(&error))?;
    }
    let checked = installation.check().map_err(|error| report(&error))?;
    say(context, &checked, "private installation");
    Ok(())
}

fn say(context: &mut Context, checked: &Checked, place: &str) {
    let Checked { aider, python } = checked;
    context.out.line(&format!(
        "Aider {aider} on Python {python} is ready ({place})"
    ));
}

/// Progress is for people who watch: it goes to standard error, so that the answer stays alone.
fn progress(progress: &Progress) {
    let line = format!("{:>3} %  {}\n", progress.percent, progress.message);
    drop(std::io::stderr().write_all(line.as_bytes()));
}

fn report(error: &SetupError) -> Report {
    Report::unavailable(chain(error)).hint(error.hint())
}
