//! From what was typed or written in a task file to the tasks that are submitted.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::args::TaskOptions;
use super::context::Context;
use super::report::{Kind, Problem, Report};
use super::taskfile::{self, Draft};
use super::template::Offers;
use super::words;
use crate::config::Environment;
use crate::config::templates::Offer;
use crate::core::TaskId;
use crate::core::command::NewTask;
use crate::core::settings::Settings;
use crate::core::task::{Base, TaskSpec};

/// Variables that verify and setup commands get from the submitter: where tools are found.
const PASSED_ON: [&str; 22] = [
    "CARGO_HOME",
    "CONDA_PREFIX",
    "GOCACHE",
    "GOMODCACHE",
    "GOPATH",
    "GOROOT",
    "HOME",
    "JAVA_HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "NODE_PATH",
    "NVM_DIR",
    "PATH",
    "PKG_CONFIG_PATH",
    "PYENV_ROOT",
    "RUSTUP_HOME",
    "SHELL",
    "TMPDIR",
    "USER",
    "VIRTUAL_ENV",
];

/// Longest task file.
const LONGEST_FILE: usize = 64 << 20;

/// The tasks of a file, or the one that the options describe.
pub fn tasks(
    context: &Context,
    file: Option<&Path>,
    options: &TaskOptions,
) -> Result<Vec<NewTask>, Report> {
    let repository = context.need_repository(options.repo.as_deref())?;
    let offers = Offers::new(context, &repository)?;
    let settings = offers.settings().clone();
    let builder = Builder {
        repository,
        settings: &settings,
        offers: &offers,
        environment: chosen(&context.environment),
    };
    if let Some(file) = file {
        return from_file(context, &builder, file, options);
    }
    let mut draft = from_options(options);
    draft.prompt = Some(prompt(context, options, &settings)?);
    Ok(vec![builder.task(draft, Vec::new())?])
}

fn chosen(environment: &Environment) -> BTreeMap<String, String> {
    PASSED_ON
        .iter()
        .filter_map(|name| environment.get_key_value(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn prompt(context: &Context, options: &TaskOptions, settings: &Settings) -> Result<String, Report> {
    let limit = settings.tasks.prompt_max;
    match (&options.prompt_file, options.prompt.as_slice()) {
        (Some(file), _) => read_limited(&context.current_dir.join(file), limit),
        (None, [dash]) if dash == "-" => read_limited(Path::new("-"), limit),
        (None, []) => Err(Report::user("there is no prompt")
            .hint("write it behind the command, use --prompt-file, or - for standard input")),
        (None, parts) => Ok(parts.join(" ")),
    }
}

/// Reads a file, or standard input for `-`; one byte more than allowed is enough to refuse.
fn read_limited(file: &Path, limit: usize) -> Result<String, Report> {
    let cannot =
        |error: std::io::Error| Report::user(format!("{} cannot be read: {error}", file.display()));
    let source: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(cannot)?)
    };
    let mut text = Vec::new();
    let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(more).read_to_end(&mut text).map_err(cannot)?;
    if text.len() > limit {
        return Err(too_long(&file.display().to_string(), limit));
    }
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::user(format!("{} is not UTF-8 text (byte {at})", file.display()))
    })
}

/// A comment from the words of the command line, or from standard input for `-`.
pub(super) fn comment(words: &[String]) -> Result<String, Report> {
    let text = match words {
        [dash] if dash == "-" => read_limited(Path::new("-"), 1 << 20)?,
        words => words.join(" "),
    };
    if text.trim().is_empty() {
        return Err(Report::user("the comment is empty").hint("say what is to be done"));
    }
    Ok(text)
}

fn too_long(what: &str, limit: usize) -> Report {
    Report::user(format!("{what} is longer than {limit} bytes"))
        .hint("put long material into files of the repository and name them with --read")
        .hint("tasks.prompt_max sets the limit")
}

fn from_file(
    context: &Context,
    builder: &Builder<'_>,
    file: &Path,
    options: &TaskOptions,
) -> Result<Vec<NewTask>, Report> {
    let (shown, folder) = if file == Path::new("-") {
        (PathBuf::from("standard input"), context.current_dir.clone())
    } else {
        let folder = context.current_dir.join(file);
        (
            file.to_owned(),
            folder.parent().map(Path::to_owned).unwrap_or_default(),
        )
    };
    let place = if file == Path::new("-") {
        file.to_owned()
    } else {
        context.current_dir.join(file)
    };
    let text = read_limited(&place, LONGEST_FILE)?;
    let parsed = taskfile::parse(&shown, &text).map_err(|mistakes| Report {
        kind: Kind::User,
        problems: mistakes
            .into_iter()
            .map(|mistake| Problem {
                error: format!("{}: {}", mistake.place, mistake.text),
                hints: mistake.hint.into_iter().collect(),
            })
            .collect(),
    })?;
    let flags = from_options(options);
    parsed
        .into_iter()
        .map(|task| {
            let mut draft = over(task.draft, &flags);
            if let Some(file) = &draft.prompt_file {
                let limit = builder.settings.tasks.prompt_max;
                draft.prompt = Some(read_limited(&folder.join(file), limit)?);
            }
            let place = format!("{}:{}", shown.display(), task.line);
            let found = builder.task(draft, task.after_index);
            found.map_err(|report| report.at(&place))
        })
        .collect()
}

fn from_options(options: &TaskOptions) -> Draft {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Draft {
        name: options.name.clone(),
        prompt: None,
        prompt_file: None,
        mode: options.mode.clone(),
        category: options.category.clone(),
        priority: options.priority.clone(),
        tags: list(&options.tags),
        after: Vec::new(),
        after_tasks: options.after.clone(),
        files: list(&options.files),
        read: list(&options.read),
        model: options.model.clone(),
        verify: options.verify.clone(),
        autonomy: options.autonomy.clone(),
        retries: options.retries,
        ttl: options.ttl,
        base: options.base.clone(),
        target: options.target.clone(),
        strategy: options.strategy.clone(),
        key: options.key.clone(),
        template: options.template.clone(),
    }
}

/// What flags say wins over what a file says.
fn over(file: Draft, flags: &Draft) -> Draft {
    let mut after_tasks = file.after_tasks;
    after_tasks.extend(&flags.after_tasks);
    Draft {
        mode: flags.mode.clone().or(file.mode),
        category: flags.category.clone().or(file.category),
        priority: flags.priority.clone().or(file.priority),
        tags: flags.tags.clone().or(file.tags),
        after_tasks,
        files: flags.files.clone().or(file.files),
        read: flags.read.clone().or(file.read),
        model: flags.model.clone().or(file.model),
        verify: flags.verify.clone().or(file.verify),
        autonomy: flags.autonomy.clone().or(file.autonomy),
        retries: flags.retries.or(file.retries),
        ttl: flags.ttl.or(file.ttl),
        base: flags.base.clone().or(file.base),
        target: flags.target.clone().or(file.target),
        strategy: flags.strategy.clone().or(file.strategy),
        template: flags.template.clone().or(file.template),
        ..file
    }
}

struct Builder<'a> {
    repository: PathBuf,
    settings: &'a Settings,
    offers: &'a Offers,
    environment: BTreeMap<String, String>,
}

impl Builder<'_> {
    fn task(&self, draft: Draft, after_index: Vec<usize>) -> Result<NewTask, Report> {
        let asked = draft.prompt.as_deref().unwrap_or_default();
        if asked.trim().is_empty() {
            return Err(Report::user("the prompt is empty").hint("say what is to be done"));
        }
        let offer = draft.template.as_deref().map(|name| self.offers.get(name));
        let offer = offer.transpose()?;
        let category_said = draft.category.is_some();
        let draft = match &offer {
            Some(offer) => filled(draft, offer),
            None => draft,
        };
        let mut spec = self.spec(draft);
        spec.category_said = category_said;
        if let Some(offer) = &offer {
            offer.frame(&mut spec);
        }
        if spec.prompt.len() > self.settings.tasks.prompt_max {
            return Err(too_long("the prompt", self.settings.tasks.prompt_max));
        }
        Ok(NewTask { spec, after_index })
    }

    fn spec(&self, draft: Draft) -> TaskSpec {
        let settings = self.settings;
        let millis = |ttl: std::time::Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        TaskSpec {
            copy: settings.worktree.copy.clone(),
            link: settings.worktree.link.clone(),
            name: draft.name,
            repo: self.repository.clone(),
            prompt: draft.prompt.unwrap_or_default(),
            mode: word(draft.mode.as_deref()),
            category: word(draft.category.as_deref()),
            priority: word(draft.priority.as_deref()),
            tags: draft.tags.unwrap_or_default(),
            after: draft.after_tasks.into_iter().map(TaskId).collect(),
            files: draft.files.unwrap_or_default(),
            read: draft.read.unwrap_or_default(),
            model: draft.model,
            verify: draft.verify.or_else(|| settings.verify.command.clone()),
            autonomy: word(draft.autonomy.as_deref()),
            retries: draft.retries.unwrap_or(settings.tasks.retries),
            ttl_ms: draft.ttl.map(millis),
            base: match draft.base {
                None => Base::Head,
                Some(base) if base.eq_ignore_ascii_case("head") => Base::Head,
                Some(base) if base == "wip" => Base::Wip,
                Some(base) => Base::Rev(base),
            },
            base_commit: String::new(),
            target: draft.target.unwrap_or_default(),
            strategy: draft
                .strategy
                .as_deref()
                .and_then(words::value)
                .unwrap_or(settings.merge.strategy),
            setup: settings.worktree.setup.clone(),
            environment: self.environment.clone(),
            key: draft.key,
            ..TaskSpec::default()
        }
    }
}

/// What is not said comes from the template.
fn filled(draft: Draft, offer: &Offer) -> Draft {
    let template = &offer.template;
    Draft {
        mode: draft.mode.or_else(|| Some(template.mode.as_str().into())),
        category: draft
            .category
            .or_else(|| Some(template.category.as_str().into())),
        read: draft.read.or_else(|| Some(offer.read.clone())),
        verify: draft.verify.or_else(|| offer.verify.clone()),
        ..draft
    }
}

/// The word's value; clap and the task file accept no other words.
fn word<T: serde::de::DeserializeOwned + Default>(word: Option<&str>) -> T {
    word.and_then(words::value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;
    use crate::core::task::Mode;

    struct Place {
        folder: tempfile::TempDir,
        context: Context,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        let data = folder.path().join("data").display().to_string();
        let pairs = [
            ("WARPSQUAD_DATA_DIR", data.as_str()),
            ("PATH", "/bin"),
            ("TOKEN", "secret"),
        ];
        let context = Context {
            global: super::super::args::Global::default(),
            environment: pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            current_dir: folder.path().canonicalize().unwrap(),
            out: Output::to(Box::new(Vec::new()), false),
        };
        Place { folder, context }
    }

    fn options(prompt: &[&str]) -> TaskOptions {
        TaskOptions {
            prompt: prompt.iter().map(|part| (*part).to_owned()).collect(),
            ..TaskOptions::default()
        }
    }

    #[test]
    fn a_prompt_on_the_command_line_becomes_one_task_with_the_configured_rest() {
        let place = place();
        let found = tasks(&place.context, None, &options(&["add", "a test"])).unwrap();
        let spec = &found[0].spec;
        assert_eq!(spec.prompt, "add a test");
        assert_eq!(spec.retries, 1);
        let names: Vec<_> = spec.environment.keys().collect();
        assert_eq!(names, ["PATH"]);
    }

    #[test]
    fn an_empty_and_a_huge_prompt_are_refused_with_the_remedy() {
        let place = place();
        let of = |prompt: &[&str]| tasks(&place.context, None, &options(prompt)).unwrap_err();
        assert!(of(&[]).to_string().contains("there is no prompt"));
        assert!(of(&[" "]).to_string().contains("the prompt is empty"));
        let huge = "x".repeat(10 << 20);
        assert!(
            of(&[&huge])
                .to_string()
                .contains("longer than 1048576 bytes")
        );
        let file = place.folder.path().join("huge.md");
        std::fs::write(&file, &huge).unwrap();
        let from_file = TaskOptions {
            prompt_file: Some(file),
            ..TaskOptions::default()
        };
        let report = tasks(&place.context, None, &from_file).unwrap_err();
        assert_eq!(report.kind, Kind::User);
        assert!(report.to_string().contains("tasks.prompt_max"));
    }

    #[test]
    fn a_template_fills_what_is_not_said_and_frames_the_prompt() {
        let place = place();
        std::fs::write(place.folder.path().join("README.md"), "# R\n").unwrap();
        let reviewed = TaskOptions {
            template: Some("reviewer".into()),
            category: Some("general".into()),
            ..options(&["look at src"])
        };
        let spec = tasks(&place.context, None, &reviewed).unwrap()[0]
            .spec
            .clone();
        assert_eq!(spec.mode, Mode::Ask);
        assert_eq!(spec.category, crate::core::task::Category::General);
        assert_eq!(spec.template.as_deref(), Some("reviewer"));
        assert_eq!(spec.asked.as_deref(), Some("look at src"));
        assert_eq!(spec.title(), "look at src");
        assert!(spec.prompt.contains("\nlook at src\n") && spec.prompt.len() > 200);
        let said = TaskOptions {
            mode: Some("code".into()),
            verify: Some("true".into()),
            read: vec!["a.md".into()],
            ..reviewed
        };
        let spec = tasks(&place.context, None, &said).unwrap()[0].spec.clone();
        assert_eq!(
            (spec.mode, spec.verify.as_deref()),
            (Mode::Code, Some("true"))
        );
        assert_eq!(spec.read, ["a.md"]);
    }

    #[test]
    fn an_unknown_template_is_refused_with_the_nearest_name_and_its_line() {
        let place = place();
        let wrong = TaskOptions {
            template: Some("reviwer".into()),
            ..options(&["x"])
        };
        let report = tasks(&place.context, None, &wrong).unwrap_err();
        assert_eq!(report.kind, Kind::User);
        assert!(report.to_string().contains("did you mean reviewer?"));
        let text = "[[task]]\nprompt = \"a\"\n\n[[task]]\nprompt = \"b\"\ntemplate = \"x\"\n";
        std::fs::write(place.folder.path().join("t.toml"), text).unwrap();
        let none = TaskOptions::default();
        let report = tasks(&place.context, Some(Path::new("t.toml")), &none).unwrap_err();
        let text = report.to_string();
        assert!(
            text.contains("t.toml:4: there is no template \"x\""),
            "{text}"
        );
    }

    #[test]
    fn flags_win_over_a_task_file_and_prompt_files_lie_beside_it() {
        let place = place();
        std::fs::create_dir(place.folder.path().join("t")).unwrap();
        std::fs::write(place.folder.path().join("t/p.md"), "do it\n").unwrap();
        let text = "[[task]]\nprompt_file = \"p.md\"\nmode = \"ask\"\nmodel = \"a\"\n";
        std::fs::write(place.folder.path().join("t/t.toml"), text).unwrap();
        let flags = TaskOptions {
            mode: Some("architect".into()),
            ..TaskOptions::default()
        };
        let found = tasks(&place.context, Some(Path::new("t/t.toml")), &flags).unwrap();
        assert_eq!(found[0].spec.prompt, "do it\n");
        assert_eq!(found[0].spec.mode, Mode::Architect);
        assert_eq!(found[0].spec.model.as_deref(), Some("a"));
    }
}
