//! `warpsquad template …`: the templates that tasks can be given, and what each means here.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{Template as Asked, TemplateList, TemplateNamed};
use super::context::Context;
use super::report::{Kind, Problem, Report};
use crate::config::templates::{
    CheckState, Library, Missing, Offer, Place, Shelf, Sign, Template, rank,
};
use crate::config::{ConfigError, Loaded, Sources};
use crate::core::settings::Settings;

/// All templates, and what they mean in one repository; looked at when first asked for.
pub(super) struct Offers {
    sources: Sources,
    loaded: Loaded,
    path: String,
    opened: OnceCell<(Library, Place)>,
}

impl Offers {
    /// The templates for the repository at `root`.
    pub(super) fn new(context: &Context, root: &Path) -> Result<Self, Report> {
        Self::at(context, Some(root.to_owned()))
    }

    fn at(context: &Context, root: Option<PathBuf>) -> Result<Self, Report> {
        let path = context.environment.get("PATH");
        Ok(Self {
            sources: context.sources(root.clone())?,
            loaded: context.load(root)?,
            path: path.cloned().unwrap_or_default(),
            opened: OnceCell::new(),
        })
    }

    fn opened(&self) -> &(Library, Place) {
        self.opened.get_or_init(|| {
            let root = self.sources.repository.as_deref();
            let library = Library::open(self.sources.templates().as_deref(), root);
            (library, Place::new(root, Some(&self.loaded), &self.path))
        })
    }

    /// The settings of the repository.
    pub(super) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// What the template of this name means here.
    pub(super) fn get(&self, name: &str) -> Result<Offer, Report> {
        let (library, place) = self.opened();
        match library.get(name) {
            Ok(template) => Ok(Offer::new(template, place)),
            Err(missing) => Err(missing.into()),
        }
    }

    /// All, the best ones first, each with its rank if it is one of them.
    fn ranked(&self) -> Vec<(Option<usize>, Offer)> {
        let (library, place) = self.opened();
        let signs = library.all().iter().flat_map(|it| &it.when);
        let seen = place.survey.find(signs);
        let best = rank::best(library.all(), &seen);
        let others = library.all().iter();
        let others = others.filter(|it| !best.iter().any(|best| best.name == it.name));
        let offer = |template: &Template| Offer::new(template, place);
        best.iter()
            .enumerate()
            .map(|(index, it)| (Some(index + 1), offer(it)))
            .chain(others.map(|it| (None, offer(it))))
            .collect()
    }
}

impl From<Missing> for Report {
    fn from(missing: Missing) -> Self {
        let text = missing.to_string();
        match missing {
            Missing::Unknown { meant, .. } => Self::user(text).hint(match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => "'warpsquad template list' shows all".to_owned(),
            }),
            Missing::Broken { mistakes, .. } => {
                let mut report = Self::new(Kind::Config, text);
                report
                    .problems
                    .extend(mistakes.into_iter().map(|it| Problem {
                        error: format!("{}: {}", it.place, it.text),
                        hints: it.hint.into_iter().collect(),
                    }));
                report
            }
        }
    }
}

pub(super) fn run(context: &mut Context, asked: &Asked) -> Result<(), Report> {
    match asked {
        Asked::List(options) => list(context, options),
        Asked::Show(options) => show(context, options),
    }
}

/// A repository is not needed, but one that was named must exist.
fn offers(context: &Context, named: Option<&Path>) -> Result<Offers, Report> {
    let root = match named {
        Some(_) => Some(context.need_repository(named)?),
        None => context.repository(None),
    };
    Offers::at(context, root)
}

fn list(context: &mut Context, options: &TemplateList) -> Result<(), Report> {
    let offers = offers(context, options.repo.as_deref())?;
    let mut ranked = offers.ranked();
    if options.best {
        ranked.retain(|(rank, _)| rank.is_some());
    }
    if options.json {
        let rows: Vec<Value> = ranked
            .iter()
            .map(|(rank, offer)| document(offer, *rank))
            .collect();
        context.out.json(&rows);
    } else {
        let head = ["BEST", "NAME", "MODE", "FROM", "WHAT IT IS FOR"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(ranked.iter().map(|(rank, offer)| {
            let template = &offer.template;
            vec![
                rank.map(|rank| rank.to_string()).unwrap_or_default(),
                template.name.clone(),
                template.mode.as_str().to_owned(),
                template.shelf.as_str().to_owned(),
                template.summary.clone(),
            ]
        }));
        context.out.table(&rows);
    }
    let mistakes = offers.opened().0.mistakes();
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(ConfigError { mistakes }.into())
}

fn show(context: &mut Context, options: &TemplateNamed) -> Result<(), Report> {
    let offers = offers(context, options.repo.as_deref())?;
    let offer = offers.get(&options.name)?;
    if options.json {
        let ranked = offers.ranked();
        let mut found = ranked
            .iter()
            .filter(|(_, it)| it.template.name == options.name);
        let rank = found.next().and_then(|(rank, _)| *rank);
        context.out.json(&document(&offer, rank));
        return Ok(());
    }
    let template = &offer.template;
    context
        .out
        .line(&format!("{} · {}", template.name, template.title));
    context.out.line(&template.summary);
    context.out.table(&facts(&offer));
    context.out.line("\nprompt:");
    context.out.line(template.prompt.trim());
    if !template.notes.trim().is_empty() {
        context.out.line("\nnotes:");
        context.out.line(template.notes.trim());
    }
    Ok(())
}

fn facts(offer: &Offer) -> Vec<Vec<String>> {
    let template = &offer.template;
    let own = template.check.as_ref().map(|check| check.command.as_str());
    let verify = match (own, &offer.check) {
        (None, _) => offer.verify.clone(),
        (Some(command), state) => Some(match words(state) {
            Some(why) => format!("{command} (not used here: {why})"),
            None => command.to_owned(),
        }),
    };
    let signs: Vec<String> = template.when.iter().map(ToString::to_string).collect();
    let rows = [
        ("from", Some(template.shelf.to_string())),
        ("extends", template.extends.clone()),
        ("mode", Some(template.mode.as_str().into())),
        ("category", Some(template.category.as_str().into())),
        ("verify", verify),
        ("edit format", template.edit_format.clone()),
        ("reads", Some(template.read.join(", "))),
        ("read here", Some(offer.read.join(", "))),
        ("fits", Some(signs.join(", "))),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(vec![format!("  {name}"), value])
        })
        .collect()
}

/// Why a template's check is not used.
fn words(state: &CheckState) -> Option<String> {
    match state {
        CheckState::None | CheckState::Used => None,
        CheckState::Configured => Some("verify.command is set".into()),
        CheckState::Untrusted => Some("the repository proposes it; see 'warpsquad trust'".into()),
        CheckState::Lacks(sign) => Some(format!("there is no {sign}")),
        CheckState::NoProgram(program) => Some(format!("{program} was not found")),
    }
}

fn document(offer: &Offer, rank: Option<usize>) -> Value {
    let template = &offer.template;
    let signs = |signs: &[Sign]| -> Vec<String> { signs.iter().map(ToString::to_string).collect() };
    let check = template.check.as_ref();
    json!({
        "name": template.name,
        "title": template.title,
        "summary": template.summary,
        "extends": template.extends,
        "from": template.shelf.as_str(),
        "file": match &template.shelf {
            Shelf::BuiltIn => None,
            Shelf::User(file) | Shelf::Repository(file) => Some(file),
        },
        "best": rank,
        "mode": template.mode,
        "category": template.category,
        "verify": check.map(|check| &check.command),
        "verify_needs": check.map(|check| signs(&check.needs)).unwrap_or_default(),
        "verify_unused": words(&offer.check),
        "verify_here": offer.verify,
        "edit_format": template.edit_format,
        "read": template.read,
        "read_here": offer.read,
        "when": signs(&template.when),
        "prompt": template.prompt,
        "notes": template.notes,
    })
}
