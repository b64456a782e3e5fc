//! `warpsquad trust`: agree to exactly the commands that a repository proposes.

use std::io::{BufRead as _, IsTerminal as _};

use super::args::Trust;
use super::context::Context;
use super::report::Report;
use crate::config::{Proposals, Sources, TrustState, load, trust};

pub(super) fn run(context: &mut Context, options: &Trust) -> Result<(), Report> {
    let root = context.need_repository(options.repo.as_deref())?;
    let store = trust::Trust::new(&context.places()?.data_dir);
    if options.revoke {
        let was_trusted = store.revoke(&root).map_err(|error| not_stored(&error))?;
        let text = if was_trusted {
            "is no longer trusted"
        } else {
            "was not trusted"
        };
        context.out.line(&format!("{} {text}.", root.display()));
        return Ok(());
    }
    let sources = Sources {
        repository: Some(root.clone()),
        trust: Some(store.clone()),
        ..Sources::default()
    };
    let Some((proposals, state)) = load(&sources)?.proposals else {
        context
            .out
            .line(&format!("{} proposes nothing.", root.display()));
        return Ok(());
    };
    show(context, &proposals, state);
    if options.show || state == TrustState::Trusted {
        return Ok(());
    }
    if !options.yes && !is_agreed(context)? {
        context.out.line("Nothing was changed.");
        return Ok(());
    }
    store
        .agree(&proposals)
        .map_err(|error| not_stored(&error))?;
    context.out.line("Trusted, until one of them changes.");
    Ok(())
}

fn not_stored(error: &std::io::Error) -> Report {
    Report::unavailable(format!("the agreement cannot be stored: {error}"))
        .hint("check the data directory's permissions and free space")
}

fn show(context: &mut Context, proposals: &Proposals, state: TrustState) {
    let state = match state {
        TrustState::Trusted => "which you have agreed to",
        TrustState::Changed => "which have changed since you agreed",
        TrustState::Unknown => "which you have not agreed to",
    };
    context
        .out
        .line(&format!("{} proposes, {state}:", proposals.root.display()));
    for item in &proposals.items {
        let text = format!(
            "  {} = {}  ({}:{})",
            item.key, item.value, item.file, item.line
        );
        context.out.line(&text);
    }
}

fn is_agreed(context: &mut Context) -> Result<bool, Report> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Report::user("trust has to be confirmed, and standard input is no terminal")
                .hint("look at the commands above, then use 'warpsquad trust --yes'"),
        );
    }
    context
        .out
        .line("Commands run with your permissions. Agree? [y/N]");
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Report::internal(format!("standard input cannot be read: {error}")))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
