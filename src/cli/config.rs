//! `warpsquad config`: what is configured, where each value came from, and what is wrong.

use serde_json::json;

use super::args::{Config, ConfigShow, Json};
use super::context::Context;
use super::report::Report;
use crate::config::templates::Library;
use crate::config::{ConfigError, example, layers::Shown, load};

pub(super) fn run(context: &mut Context, config: &Config) -> Result<(), Report> {
    match config {
        Config::Show(show) => self::show(context, show),
        Config::Check(json) => check(context, *json),
        Config::Path => {
            let places = context.places()?;
            context.out.line(&places.config.display().to_string());
            Ok(())
        }
        Config::Example => {
            context.out.text(&example());
            Ok(())
        }
    }
}

fn show(context: &mut Context, show: &ConfigShow) -> Result<(), Report> {
    let repository = context.repository(None);
    let loaded = context.load(repository)?;
    let wanted = |row: &Shown| {
        let is_default = row.origin == crate::config::Origin::Default;
        let starts = show
            .key
            .as_ref()
            .is_none_or(|key| row.key.starts_with(key.as_str()));
        starts && !(show.changed && is_default)
    };
    let rows: Vec<_> = loaded.show().into_iter().filter(wanted).collect();
    if rows.is_empty() && !show.changed {
        let key = show.key.as_deref().unwrap_or_default();
        return Err(Report::user(format!("no key starts with {key:?}"))
            .hint("'warpsquad config show' lists all"));
    }
    if show.json {
        let rows: Vec<_> = rows
            .iter()
            .map(
                |row| json!({"key": row.key, "value": row.value, "origin": row.origin.to_string()}),
            )
            .collect();
        context.out.json(&rows);
        return Ok(());
    }
    let mut table = vec![vec!["KEY".into(), "VALUE".into(), "FROM".into()]];
    table.extend(rows.into_iter().map(|row| {
        vec![
            row.key,
            row.value.unwrap_or_else(|| "-".into()),
            row.origin.to_string(),
        ]
    }));
    context.out.table(&table);
    notes(context, &loaded);
    Ok(())
}

fn check(context: &mut Context, json: Json) -> Result<(), Report> {
    let sources = context.sources(context.repository(None))?;
    let library = Library::open(
        sources.templates().as_deref(),
        sources.repository.as_deref(),
    );
    let mistakes = library.mistakes();
    let loaded = match load(&sources) {
        Ok(loaded) if mistakes.is_empty() => Ok(loaded),
        Ok(_) => Err(ConfigError { mistakes }),
        Err(mut error) => {
            error.mistakes.extend(mistakes);
            Err(error)
        }
    };
    match loaded {
        Ok(loaded) => {
            if json.json {
                context
                    .out
                    .json(&json!({"ok": true, "mistakes": [], "notes": loaded.notes}));
            } else {
                context.out.line("The configuration has no mistakes.");
                notes(context, &loaded);
            }
            Ok(())
        }
        Err(error) => {
            if json.json {
                let mistakes: Vec<_> = error
                    .mistakes
                    .iter()
                    .map(|m| json!({"place": m.place.to_string(), "text": m.text, "hint": m.hint}))
                    .collect();
                context
                    .out
                    .json(&json!({"ok": false, "mistakes": mistakes, "notes": []}));
            }
            Err(error.into())
        }
    }
}

fn notes(context: &mut Context, loaded: &crate::config::Loaded) {
    for note in &loaded.notes {
        context.out.line(&format!("note: {note}"));
    }
    if let Some((proposals, state)) = &loaded.proposals
        && *state != crate::config::TrustState::Trusted
    {
        context.out.line(&format!(
            "note: {} proposes {} that take effect only after 'warpsquad trust'",
            proposals.root.display(),
            counted(proposals.items.len(), "value"),
        ));
    }
}

/// `1 value`, `2 values`
pub(super) fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}
