//! Every built-in template with real Aider: the frame, the mode, the files and the check arrive,
//! and the task comes to what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Server, Squad};

/// `tests/scenarios/templates.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenarios {
    files: BTreeMap<String, String>,
    scenario: Vec<Scenario>,
}

/// One task and what must come of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    template: String,
    prompt: String,
    edits: Option<(String, String)>,
    answer: Option<String>,
    check: Option<String>,
    #[serde(default)]
    reads: Vec<String>,
}

impl Scenarios {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/templates.toml");
        toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Commits the repository of all scenarios.
    fn prepare(&self, squad: &Squad) {
        for (name, text) in &self.files {
            let file = squad.repo().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
            if name.starts_with("bin/") {
                executable(&file);
            }
        }
        squad.commit("notes.txt", "none\n");
    }

    /// A task file with a task for each scenario, named like its template.
    fn task_file(&self) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let task = |it: &Scenario| {
            let (name, prompt) = (text(&it.template), text(it.prompt.trim()));
            format!("[[task]]\nname = {name}\ntemplate = {name}\nprompt = {prompt}\n\n")
        };
        self.scenario.iter().map(task).collect()
    }
}

/// Stand-ins that succeed, for the programs that checks call.
const PROGRAMS: [&str; 14] = [
    "actionlint",
    "cargo",
    "cmake",
    "ctest",
    "dotnet",
    "go",
    "hadolint",
    "mvn",
    "npm",
    "npx",
    "php",
    "python3",
    "shellcheck",
    "terraform",
];

/// A `PATH` that begins with the stand-ins.
fn path_with_programs(squad: &Squad) -> std::ffi::OsString {
    let folder = squad.path("bin");
    std::fs::create_dir(&folder).unwrap();
    for name in PROGRAMS {
        let file = folder.join(name);
        std::fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
        executable(&file);
    }
    let rest = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).unwrap()
}

fn executable(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What is wrong with the outcome of one scenario.
struct Judge<'a> {
    squad: &'a Squad,
    scenario: &'a Scenario,
    files: &'a BTreeMap<String, String>,
    template: &'a Value,
    task: &'a Value,
    faults: Vec<String>,
}

impl Judge<'_> {
    fn faults(mut self) -> Vec<String> {
        self.outcome();
        self.check();
        self.frame();
        self.reads();
        self.faults
    }

    fn expect(&mut self, is_so: bool, what: &str) {
        if !is_so {
            let name = &self.scenario.template;
            self.faults
                .push(format!("{name}: not so: {what}\n{:#}", self.task));
        }
    }

    fn outcome(&mut self) {
        let (task, template) = (self.task, self.template);
        self.expect(task["state"] == "review", "it waits for review");
        self.expect(task["spec"]["template"] == template["name"], "the template");
        self.expect(task["spec"]["mode"] == template["mode"], "the mode");
        self.expect(
            task["spec"]["category"] == template["category"],
            "the category",
        );
        match (&self.scenario.edits, &self.scenario.answer) {
            (Some((path, text)), None) => {
                let branch = task["workplace"]["branch"].as_str().unwrap_or_default();
                let file = self.squad.git(&["show", &format!("{branch}:{path}")]);
                self.expect(task["spec"]["mode"] != "ask", "its mode edits");
                self.expect(
                    file.contains(text),
                    &format!("{path} holds {text:?}: {file}"),
                );
            }
            (None, Some(text)) => {
                let answer = task["answer"].as_str().unwrap_or_default();
                self.expect(task["spec"]["mode"] == "ask", "its mode asks");
                self.expect(answer.contains(text), "the answer");
                self.expect(task["commits"] == 0, "nothing was changed");
            }
            (Some(_), Some(_)) | (None, None) => self.expect(false, "either edits or answer"),
        }
    }

    fn check(&mut self) {
        let (task, wanted) = (self.task, &self.scenario.check);
        let verify = task["spec"]["verify"].as_str();
        self.expect(verify == wanted.as_deref(), "the check is the template's");
        if wanted.is_some() {
            let outcome = &task["verify"]["outcome"];
            self.expect(outcome == "passed", "the check was run");
        }
    }

    /// What the model was sent, as Aider wrote it down.
    fn sent(&self) -> String {
        let folder = self.squad.path("data/tasks");
        let file = folder
            .join(self.task["id"].to_string())
            .join("requests.log");
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Every line of the frame reached the model, around the words of the user.
    fn frame(&mut self) {
        let sent = self.sent();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let prompt = text(&self.task["spec"]["prompt"]);
        let notes = text(&self.template["notes"]);
        let asked = self.scenario.prompt.trim();
        self.expect(prompt.contains(&format!("\n{asked}\n")), "the user's words");
        self.expect(prompt.contains(notes.trim()), "the know-how");
        let first = text(&self.template["prompt"])
            .lines()
            .next()
            .map(str::to_owned);
        self.expect(
            first == prompt.lines().next().map(str::to_owned),
            "the frame",
        );
        let missing = |line: &&str| !sent.contains(line.trim());
        let lost: Vec<&str> = prompt.lines().filter(missing).collect();
        self.expect(lost.is_empty(), &format!("lines that were sent: {lost:?}"));
        if self.task["spec"]["mode"] == "code" {
            let blocks = "Every *SEARCH/REPLACE block* must use this format";
            let wants_blocks = self.template["edit_format"] == "diff";
            self.expect(sent.contains(blocks) == wants_blocks, "the edit format");
        }
    }

    fn reads(&mut self) {
        let sent = self.sent();
        let spec: Vec<String> =
            serde_json::from_value(self.task["spec"]["read"].clone()).unwrap_or_default();
        for path in &self.scenario.reads {
            self.expect(spec.contains(path), &format!("{path} is to be read"));
        }
        for path in spec {
            let text = self.files.get(&path).map_or("# Demo", |text| text.as_str());
            let first = text.lines().next().unwrap_or_default();
            self.expect(sent.contains(first), &format!("{path} was read"));
        }
    }
}

#[test]
fn every_template_is_used_by_aider_and_comes_to_what_was_asked_for() {
    let scenarios = Scenarios::read();
    let server = Server::simulator();
    let squad = Squad::new(&server, 6, "");
    scenarios.prepare(&squad);
    let templates = squad.json(&["template", "list", "--json"]);
    let templates = templates.as_array().unwrap();
    let names = |all: Vec<&str>| -> BTreeSet<String> { all.into_iter().map(Into::into).collect() };
    let known = templates.iter().map(|it| it["name"].as_str().unwrap());
    let played = scenarios.scenario.iter().map(|it| it.template.as_str());
    assert_eq!(names(known.collect()), names(played.collect()));
    assert_eq!(scenarios.scenario.len(), 54);

    std::fs::write(squad.path("tasks.toml"), scenarios.task_file()).unwrap();
    let mut run = squad.command(&["run", "-f", "../tasks.toml", "--json"]);
    let output = run
        .env("PATH", path_with_programs(&squad))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let end = said.lines().last().unwrap_or_default().to_owned();

    let tasks = squad.json(&["task", "list", "--all", "--json"]);
    let mut faults = Vec::new();
    for scenario in &scenarios.scenario {
        let named =
            |list: &'_ &Value, name: &Value| *name == *scenario.template && list.is_object();
        let template = templates.iter().find(|it| named(it, &it["name"])).unwrap();
        let mut tasks = tasks.as_array().unwrap().iter();
        let task = tasks.find(|it| named(it, &it["spec"]["name"])).unwrap();
        let judge = Judge {
            squad: &squad,
            scenario,
            files: &scenarios.files,
            template,
            task,
            faults: Vec::new(),
        };
        faults.extend(judge.faults());
    }
    assert!(faults.is_empty(), "{end}\n{}", faults.join("\n"));
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn what_a_repositorys_template_proposes_is_run_only_after_trust_and_settings_win() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "[models.defaults]\nedit_format = \"whole\"\n");
    let mine = squad.path("").display().to_string();
    let folder = squad.repo().join(".warpsquad/templates");
    std::fs::create_dir_all(&folder).unwrap();
    let ours = format!(
        "extends = \"implementer\"\nedit_format = \"diff\"\nverify = \"touch {mine}/proposed\"\n"
    );
    std::fs::write(folder.join("ours.toml"), ours).unwrap();
    squad.commit("notes.txt", "none\n");
    let run = |file: &str| {
        let prompt = format!("@sim create {file} := x = 1");
        squad.run(&["run", "--template", "ours", &prompt])
    };
    let before = run("a.py");
    assert_eq!(before.code, Some(0), "{before:?}");
    assert_eq!(squad.task(1)["spec"]["template"], "ours");
    assert_eq!(squad.task(1)["spec"]["edit_format"], "diff");
    let sent = std::fs::read_to_string(squad.path("data/tasks/1/requests.log")).unwrap();
    assert!(sent.contains("You MUST use this *file listing* format"));
    assert!(!squad.path("proposed").exists());
    let trusted = squad.run(&["trust", "--yes"]);
    assert!(trusted.out.contains("templates.ours.verify"), "{trusted:?}");
    let after = run("b.py");
    assert_eq!(after.code, Some(0), "{after:?}");
    assert!(squad.path("proposed").exists());
}

#[test]
fn the_composer_offers_the_best_eight_and_a_digit_chooses_one() {
    let server = Server::simulator();
    let squad = Squad::new(&server, 1, "");
    squad.commit("main.rs", "fn main() {}\n");
    let mut terminal = squad.attach(100, 30);
    terminal.see("No task yet.");
    terminal.is_taken();
    terminal.keys("n");
    terminal.see("Enter submit");
    terminal.keys("@sim say MINOR: it does nothing.");
    terminal.keys("\x0f");
    terminal.see("1 rust-implementer");
    terminal.see("3 rust-reviewer");
    terminal.see("8 ");
    terminal.keys("3");
    terminal.see("template  rust-reviewer");
    terminal.see("mode      ask");
    terminal.keys("\r");
    terminal.see("rust-reviewer · ask");
    terminal.keys("\r");
    terminal.see("task 1 submitted");
    let status = squad.wait_until("the task is answered", |status| {
        status["tasks"][0]["state"] == "review"
    });
    let task = &status["tasks"][0];
    assert_eq!(task["spec"]["template"], "rust-reviewer", "{task:#}");
    assert_eq!(task["spec"]["category"], "review", "{task:#}");
    assert_eq!(task["spec"]["asked"], "@sim say MINOR: it does nothing.");
    let answer = task["answer"].as_str().unwrap_or_default();
    assert!(answer.contains("MINOR: it does nothing."), "{task:#}");
}
