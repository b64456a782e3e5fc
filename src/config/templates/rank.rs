//! The best templates for a repository, by what it shows.
//!
//! The repository's and the user's own come first: somebody wrote them for this. Then come the
//! variants of the languages and frameworks that are there, those of most files first and
//! frameworks before their language; then the roles that no listed variant stands for.
//!
//! Invariant: pure.

use super::survey::Sightings;
use super::template::{Shelf, Template};

/// So many are offered.
pub const BEST: usize = 8;

/// So many of them are variants: roles are wanted in every repository.
const VARIANTS: usize = 5;

/// How well a template fits: files of its kind, and whether a text in one of them says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    /// Files that match its patterns.
    pub files: usize,
    /// A text was found that only its framework has.
    pub is_named: bool,
}

/// How well `template` fits; `None` when it does not.
///
/// Where signs with a text are given, one of them must be seen: files alone do not tell React
/// from TypeScript.
pub fn fit(template: &Template, seen: &Sightings) -> Option<Fit> {
    let count = |has_text: bool| -> usize {
        let signs = template.when.iter();
        signs
            .filter(|sign| sign.text.is_some() == has_text)
            .map(|sign| seen.count(sign))
            .sum()
    };
    let (files, texts) = (count(false), count(true));
    let needs_text = template.when.iter().any(|sign| sign.text.is_some());
    let fits = if needs_text { texts > 0 } else { files > 0 };
    (fits || template.when.is_empty()).then_some(Fit {
        files,
        is_named: texts > 0,
    })
}

/// The best eight of `templates`, the best first.
pub fn best<'a>(templates: &'a [Template], seen: &Sightings) -> Vec<&'a Template> {
    let mut best = own(templates, seen);
    let room = BEST.saturating_sub(best.len()).min(VARIANTS);
    best.extend(variants(templates, seen).into_iter().take(room));
    let roles = templates
        .iter()
        .filter(|role| role.shelf == Shelf::BuiltIn && role.when.is_empty());
    for role in roles {
        let stands_for = |it: &&Template| it.extends.as_deref() == Some(role.name.as_str());
        if best.len() < BEST && !best.iter().any(stands_for) {
            best.push(role);
        }
    }
    best.truncate(BEST);
    best
}

fn own<'a>(templates: &'a [Template], seen: &Sightings) -> Vec<&'a Template> {
    let is_own = |it: &&Template| it.shelf != Shelf::BuiltIn && fit(it, seen).is_some();
    let mut own: Vec<&Template> = templates.iter().filter(is_own).collect();
    own.sort_by_key(|it| {
        let is_users = matches!(it.shelf, Shelf::User(_));
        (is_users, std::cmp::Reverse(fit(it, seen)))
    });
    own
}

fn variants<'a>(templates: &'a [Template], seen: &Sightings) -> Vec<&'a Template> {
    let at = |name: &str| templates.iter().position(|it| it.name == name);
    let order = |it: &Template| {
        let role = it.extends.as_deref().unwrap_or(&it.name);
        (at(role), at(&it.name))
    };
    let mut found: Vec<_> = templates
        .iter()
        .filter(|it| it.shelf == Shelf::BuiltIn && !it.when.is_empty())
        .filter_map(|it| Some((std::cmp::Reverse(fit(it, seen)?), order(it), it)))
        .collect();
    found.sort_by_key(|(fit, order, _)| (*fit, *order));
    found.into_iter().map(|(_, _, it)| it).collect()
}
