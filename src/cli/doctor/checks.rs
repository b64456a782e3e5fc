//! Calls the checks in order and prints what they found.

use serde_json::json;

use super::finding::{Finding, Status};
use super::{fit, machine, measure, ollama, settings};
use crate::cli::args::Doctor;
use crate::cli::client::block_on;
use crate::cli::context::Context;
use crate::cli::dispatch::Exit;
use crate::cli::report::{Kind, Report};
use crate::config::load;
use crate::core::settings::Settings;

pub(in crate::cli) fn run(context: &mut Context, options: &Doctor) -> Result<Exit, Report> {
    if options.measure {
        return measure::run(context, options);
    }
    let findings = look(context)?;
    let errors = findings
        .iter()
        .filter(|finding| finding.status == Status::Error)
        .count();
    if options.json {
        context
            .out
            .json(&json!({ "ok": errors == 0, "findings": findings }));
    } else {
        print(context, &findings);
    }
    if errors == 0 {
        return Ok(Exit::Done);
    }
    Err(Report::new(
        Kind::Unavailable,
        format!("{errors} of {} checks failed", findings.len()),
    ))
}

fn look(context: &Context) -> Result<Vec<Finding>, Report> {
    let places = context.places()?;
    let (configuration, settings) = configuration(context)?;
    let mut findings = vec![
        configuration,
        machine::places(&places),
        machine::disk(&places.data_dir),
        machine::git(),
        machine::identity(),
        machine::python(&context.environment),
        machine::aider(context, &settings)?,
        machine::terminal(&context.environment),
        machine::linger(&context.environment),
    ];
    let seen = block_on(async { Ok(ollama::look(&settings).await) })?;
    findings.extend(ollama::endpoints(&seen));
    findings.extend(ollama::models(&seen, &settings));
    let plans = fit::planned(&seen, &settings, &places.data_dir);
    findings.extend(settings::settings(&seen, &settings, &plans));
    findings.extend(fit::fits(&plans));
    findings.extend(machine::gpu());
    Ok(findings)
}

/// Mistakes are one finding; the other checks go on with the defaults.
fn configuration(context: &Context) -> Result<(Finding, Settings), Report> {
    let name = "configuration";
    let sources = context.sources(context.repository(None))?;
    Ok(match load(&sources) {
        Ok(loaded) => {
            let file = context.places()?.config;
            let what = format!("no mistakes ({})", file.display());
            (Finding::ok(name, what), loaded.settings)
        }
        Err(error) => {
            let finding = Finding::error(name, error.to_string())
                .remedy("'warpsquad config check' shows each with its remedy");
            (finding, Settings::default())
        }
    })
}

fn print(context: &mut Context, findings: &[Finding]) {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    for finding in findings {
        let status = finding.status.as_str();
        let name = &finding.name;
        let what = finding.what.replace('\n', "\n                ");
        context
            .out
            .line(&format!("{status:<8}  {name:<width$}  {what}"));
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            context.out.line(&format!("            → {line}"));
        }
    }
}
