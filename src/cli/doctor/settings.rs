//! What Ollama's own settings allow: slots, context, flash attention, type of the KV cache.
//!
//! The API does not tell. For a server on this machine they are in its process's environment, or in
//! its systemd unit; for any other they are unknown.

use std::collections::BTreeMap;
use std::path::Path;

use super::finding::Finding;
use super::ollama::Seen;
use crate::core::settings::Settings;

/// What was read and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    variables: BTreeMap<String, String>,
    place: String,
}

/// Findings about every endpoint that answers.
pub(super) fn settings(seen: &[Seen], settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for seen in seen.iter().filter(|seen| seen.endpoint.health.is_ok()) {
        let name = &seen.settings.name;
        if !seen.settings.is_on_this_machine() {
            let what = format!("{name} runs elsewhere: its settings cannot be read from here");
            findings.push(
                Finding::unknown("ollama-settings", what)
                    .remedy(advice(settings.agents.max.ceiling())),
            );
            continue;
        }
        match of_process().or_else(of_unit) {
            Some(read) => findings.extend(judge(name, &read, settings)),
            None => findings.push(
                Finding::unknown(
                    "ollama-settings",
                    format!("{name}: the server's environment cannot be read"),
                )
                .remedy(advice(settings.agents.max.ceiling())),
            ),
        }
    }
    findings
}

/// Slots that are worth having: enough for the squad, few enough for one GPU.
fn wanted_slots(agents: u16) -> u16 {
    agents.min(4)
}

fn advice(agents: u16) -> String {
    unit_lines(&[
        ("OLLAMA_NUM_PARALLEL", wanted_slots(agents).to_string()),
        ("OLLAMA_FLASH_ATTENTION", "1".into()),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0".into()),
    ])
}

/// The exact lines, and where they go.
pub(super) fn unit_lines(variables: &[(&str, String)]) -> String {
    let mut lines = vec![
        "sudo systemctl edit ollama, then add:".to_owned(),
        "[Service]".into(),
    ];
    lines.extend(
        variables
            .iter()
            .map(|(name, value)| format!("Environment=\"{name}={value}\"")),
    );
    lines.push("and: sudo systemctl restart ollama".into());
    lines.join("\n")
}

fn judge(name: &str, read: &Read, settings: &Settings) -> Vec<Finding> {
    let get = |key: &str| {
        read.variables
            .get(key)
            .map(|value| value.trim())
            .filter(|v| !v.is_empty())
    };
    let number = |key: &str| get(key).and_then(|value| value.parse::<u16>().ok());
    let place = &read.place;
    let agents = settings.agents.max.ceiling();

    let slots = number("OLLAMA_NUM_PARALLEL")
        .filter(|slots| *slots > 0)
        .unwrap_or(1);
    let what = format!("{name}: {slots} slots for {agents} agents ({place})");
    let slots = if slots >= agents.min(2) {
        Finding::ok("ollama-slots", what)
    } else {
        let wanted = wanted_slots(agents).to_string();
        let remedy = unit_lines(&[("OLLAMA_NUM_PARALLEL", wanted)]);
        Finding::warning("ollama-slots", what).remedy(format!(
            "{remedy}\n(each slot needs its own context in GPU memory)"
        ))
    };

    let flash = match get("OLLAMA_FLASH_ATTENTION") {
        Some("0" | "false") => Finding::warning(
            "ollama-flash-attention",
            format!("{name}: switched off ({place})"),
        )
        .remedy(unit_lines(&[("OLLAMA_FLASH_ATTENTION", "1".into())])),
        Some(_) => Finding::ok("ollama-flash-attention", format!("{name}: on ({place})")),
        None => Finding::ok("ollama-flash-attention", format!("{name}: Ollama decides")),
    };

    let kind = get("OLLAMA_KV_CACHE_TYPE").unwrap_or("f16");
    let what = format!("{name}: {kind} ({place})");
    let cache = if kind == "f16" && agents > 1 {
        Finding::warning(
            "ollama-kv-cache",
            format!("{what}: contexts take twice the memory of q8_0"),
        )
        .remedy(unit_lines(&[
            ("OLLAMA_FLASH_ATTENTION", "1".into()),
            ("OLLAMA_KV_CACHE_TYPE", "q8_0".into()),
        ]))
    } else {
        Finding::ok("ollama-kv-cache", what)
    };

    let context = match get("OLLAMA_CONTEXT_LENGTH") {
        Some(tokens) => format!("{name}: {tokens} tokens by default ({place})"),
        None => format!("{name}: Ollama decides by the GPU's memory"),
    };
    let context = Finding::ok(
        "ollama-context",
        format!("{context}; agents pin their own with models.defaults.context"),
    );
    vec![slots, flash, cache, context]
}

/// The environment of `ollama serve` on this machine, if this user may read it.
fn of_process() -> Option<Read> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let folder = entry.path();
        let arguments = std::fs::read(folder.join("cmdline")).ok()?;
        if !is_ollama_serve(&arguments) {
            return None;
        }
        let environment = std::fs::read(folder.join("environ")).ok()?;
        let pid = entry.file_name().to_string_lossy().into_owned();
        let variables = variables(
            environment
                .split(|byte| *byte == 0)
                .map(String::from_utf8_lossy),
        );
        Some(Read {
            variables,
            place: format!("process {pid}"),
        })
    })
}

fn is_ollama_serve(arguments: &[u8]) -> bool {
    let mut words = arguments.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let is_ollama = program == b"ollama" || program.ends_with(b"/ollama");
    is_ollama && words.next() == Some(b"serve")
}

fn variables<T: AsRef<str>>(pairs: impl Iterator<Item = T>) -> BTreeMap<String, String> {
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.as_ref().split_once('=')?;
            name.starts_with("OLLAMA_")
                .then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The environment that systemd gives Ollama.
fn of_unit() -> Option<Read> {
    let roots = [
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/etc/systemd/system",
    ];
    let mut files: Vec<_> = roots
        .iter()
        .map(|root| Path::new(root).join("ollama.service"))
        .collect();
    for root in roots {
        let folder = Path::new(root).join("ollama.service.d");
        let mut more: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        more.sort();
        files.extend(more);
    }
    let texts: Vec<_> = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    if texts.is_empty() {
        return None;
    }
    Some(Read {
        variables: of_unit_texts(&texts),
        place: "ollama.service".into(),
    })
}

/// `Environment="A=b" C=d`: later files win.
fn of_unit_texts(texts: &[String]) -> BTreeMap<String, String> {
    let lines = texts.iter().flat_map(|text| text.lines());
    let values = lines.filter_map(|line| line.trim().strip_prefix("Environment="));
    let words = values.flat_map(|value| {
        let quoted = value.contains('"');
        let separator = if quoted { '"' } else { ' ' };
        value
            .split(separator)
            .map(str::trim)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    variables(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Status;

    fn read(pairs: &[(&str, &str)]) -> Read {
        Read {
            variables: pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            place: "here".into(),
        }
    }

    #[test]
    fn one_slot_for_many_agents_is_a_warning_with_the_exact_line() {
        let found = judge("local", &read(&[]), &Settings::default());
        assert_eq!(found[0].status, Status::Warning);
        let remedy = found[0].remedy.as_ref().unwrap();
        assert!(
            remedy.contains("Environment=\"OLLAMA_NUM_PARALLEL=4\""),
            "{remedy}"
        );
        assert_eq!(found[2].status, Status::Warning);
    }

    #[test]
    fn a_server_that_is_set_up_well_is_left_alone() {
        let good = read(&[
            ("OLLAMA_NUM_PARALLEL", "4"),
            ("OLLAMA_FLASH_ATTENTION", "1"),
            ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ]);
        let found = judge("local", &good, &Settings::default());
        assert!(
            found.iter().all(|finding| finding.status == Status::Ok),
            "{found:?}"
        );
    }

    #[test]
    fn a_units_environment_is_read_with_and_without_quotes_and_the_last_file_wins() {
        let texts = [
            "[Service]\nEnvironment=\"OLLAMA_NUM_PARALLEL=1\" \"PATH=/x\"\n".to_owned(),
            "[Service]\nEnvironment=OLLAMA_NUM_PARALLEL=3 OLLAMA_KEEP_ALIVE=5m\n".to_owned(),
        ];
        let found = of_unit_texts(&texts);
        assert_eq!(
            found.get("OLLAMA_NUM_PARALLEL").map(String::as_str),
            Some("3")
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn only_the_server_itself_is_taken_for_ollama() {
        assert!(is_ollama_serve(b"/usr/local/bin/ollama\0serve\0"));
        assert!(!is_ollama_serve(b"ollama\0run\0x\0"));
        assert!(!is_ollama_serve(b"vim\0ollama\0serve\0"));
    }
}
