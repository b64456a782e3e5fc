//! What Ollama's own settings allow: slots, context, flash attention, type of the KV cache.
//!
//! The API does not tell. For a server on this machine they are in its process's environment, or in
//! its systemd unit; for any other they are unknown.
//!
//! What is advised is what `model list --fit` advises ([`Advice`]), so that both say the same. Where
//! the GPU's memory is unknown nobody can tell whether a smaller cache or more slots would do any
//! good, and only what a squad needs anyway is said.

use std::collections::BTreeMap;
use std::path::Path;

use super::finding::Finding;
use super::ollama::Seen;
use crate::cli::fit::EndpointPlan;
use crate::core::settings::Settings;
use crate::core::vram::{Advice, KvCache};

/// What was read and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    variables: BTreeMap<String, String>,
    place: String,
}

impl Read {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.variables.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }
}

/// Findings about every endpoint that answers.
pub(super) fn settings(seen: &[Seen], settings: &Settings, plans: &[EndpointPlan]) -> Vec<Finding> {
    let agents = settings.agents.max.ceiling();
    let mut findings = Vec::new();
    for seen in seen.iter().filter(|seen| seen.endpoint.health.is_ok()) {
        let name = &seen.settings.name;
        let plan = plans.iter().find(|plan| plan.endpoint.0 == *name);
        let advice = plan.and_then(|plan| plan.advice.as_ref());
        let unknown = |what| Finding::unknown("ollama-settings", what);
        if !seen.settings.is_on_this_machine() {
            let what = format!("{name} runs elsewhere: its settings cannot be read from here");
            findings.push(unknown(what).remedy(remedy(advice, agents)));
            continue;
        }
        let Some(read) = of_process().or_else(of_unit) else {
            let what = format!("{name}: the server's environment cannot be read");
            findings.push(unknown(what).remedy(remedy(advice, agents)));
            continue;
        };
        findings.extend(judge(name, &read, agents, advice));
    }
    findings
}

/// Slots that are worth having: enough for the squad, few enough for one GPU.
fn wanted_slots(agents: u16) -> u16 {
    agents.min(4)
}

/// All that is advised.
fn remedy(advice: Option<&Advice>, agents: u16) -> String {
    let without_plan = || {
        vec![
            ("OLLAMA_NUM_PARALLEL", wanted_slots(agents).to_string()),
            ("OLLAMA_FLASH_ATTENTION", "1".into()),
        ]
    };
    unit_lines(&advice.map_or_else(without_plan, Advice::variables))
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

fn judge(name: &str, read: &Read, agents: u16, advice: Option<&Advice>) -> Vec<Finding> {
    vec![
        slots(name, read, agents, advice),
        flash_attention(name, read),
        kv_cache(name, read, advice),
        context(name, read),
    ]
}

fn slots(name: &str, read: &Read, agents: u16, advice: Option<&Advice>) -> Finding {
    let place = &read.place;
    let slots = read.get("OLLAMA_NUM_PARALLEL");
    let slots = slots.and_then(|value| value.parse::<u16>().ok());
    let slots = slots.filter(|slots| *slots > 0).unwrap_or(1);
    let what = format!("{name}: {slots} slots for {agents} agents ({place})");
    let room_for = advice.map_or(u16::MAX, |advice| advice.parallel);
    if slots >= agents.min(2).min(room_for) {
        return Finding::ok("ollama-slots", what);
    }
    let (lines, cost) = match advice {
        Some(_) => (remedy(advice, agents), ""),
        None => (
            unit_lines(&[("OLLAMA_NUM_PARALLEL", wanted_slots(agents).to_string())]),
            "\n(each slot needs its own context in GPU memory)",
        ),
    };
    Finding::warning("ollama-slots", what).remedy(format!("{lines}{cost}"))
}

fn flash_attention(name: &str, read: &Read) -> Finding {
    let (check, place) = ("ollama-flash-attention", &read.place);
    match read.get("OLLAMA_FLASH_ATTENTION") {
        Some("0" | "false") => Finding::warning(check, format!("{name}: switched off ({place})"))
            .remedy(unit_lines(&[("OLLAMA_FLASH_ATTENTION", "1".into())])),
        Some(_) => Finding::ok(check, format!("{name}: on ({place})")),
        None => Finding::ok(check, format!("{name}: Ollama decides")),
    }
}

/// A smaller one is advised only where it brings something: see [`Advice`].
fn kv_cache(name: &str, read: &Read, advice: Option<&Advice>) -> Finding {
    let kind = read.get("OLLAMA_KV_CACHE_TYPE").unwrap_or("f16");
    let what = format!("{name}: {kind} ({})", read.place);
    let now = KvCache::parse(kind);
    let is_better = |advice: &&Advice| now.is_some_and(|now| advice.kv_cache > now);
    let Some(advice) = advice.filter(is_better) else {
        return Finding::ok("ollama-kv-cache", what);
    };
    let (better, model) = (advice.kv_cache.as_str(), &advice.model);
    let what = format!("{what}: {better} would make room for more of {model}");
    Finding::warning("ollama-kv-cache", what).remedy(unit_lines(&advice.variables()))
}

fn context(name: &str, read: &Read) -> Finding {
    let what = match read.get("OLLAMA_CONTEXT_LENGTH") {
        Some(tokens) => format!("{name}: {tokens} tokens by default ({})", read.place),
        None => format!("{name}: Ollama decides by the GPU's memory"),
    };
    let what = format!("{what}; agents pin their own with models.defaults.context");
    Finding::ok("ollama-context", what)
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

    fn advice(parallel: u16, kv_cache: KvCache) -> Advice {
        serde_json::from_value(serde_json::json!({
            "model": "m:7b", "parallel": parallel, "context": 16_384, "kv_cache": kv_cache,
            "loaded": 1, "need": {"size": 1, "source": "formula"},
        }))
        .unwrap()
    }

    #[test]
    fn one_slot_for_many_agents_is_a_warning_with_the_exact_line() {
        let found = judge("local", &read(&[]), 10, None);
        assert_eq!(found[0].status, Status::Warning);
        let remedy = found[0].remedy.as_ref().unwrap();
        assert!(
            remedy.contains("Environment=\"OLLAMA_NUM_PARALLEL=4\""),
            "{remedy}"
        );
    }

    #[test]
    fn what_is_advised_is_what_the_plan_of_the_memory_advises() {
        let smaller = advice(3, KvCache::Q8_0);
        let found = judge("local", &read(&[]), 10, Some(&smaller));
        for finding in [&found[0], &found[2]] {
            assert_eq!(finding.status, Status::Warning, "{finding:?}");
            let remedy = finding.remedy.as_ref().unwrap();
            for (name, value) in smaller.variables() {
                assert!(remedy.contains(&format!("{name}={value}")), "{remedy}");
            }
        }
        let as_it_is = advice(1, KvCache::F16);
        let found = judge("local", &read(&[]), 10, Some(&as_it_is));
        assert!(
            found.iter().all(|finding| finding.status == Status::Ok),
            "neither more slots nor a smaller cache would fit more: {found:?}"
        );
    }

    #[test]
    fn where_the_memory_is_unknown_no_cache_is_advised() {
        let found = judge("local", &read(&[]), 10, None);
        assert_eq!(found[2].status, Status::Ok);
        assert!(!remedy(None, 10).contains("KV_CACHE"));
        let planned = remedy(Some(&advice(2, KvCache::F16)), 10);
        assert!(planned.contains("OLLAMA_KV_CACHE_TYPE=f16"), "{planned}");
    }

    #[test]
    fn a_server_that_is_set_up_well_is_left_alone() {
        let good = read(&[
            ("OLLAMA_NUM_PARALLEL", "4"),
            ("OLLAMA_FLASH_ATTENTION", "1"),
            ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ]);
        let found = judge("local", &good, 10, Some(&advice(4, KvCache::F16)));
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
