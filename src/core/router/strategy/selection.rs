//! The rules that need nothing learned: what answers soonest, the most capable, and for a named
//! model the endpoint where it would take the least time.

use super::Field;

/// The model that answers soonest: waiting and loading count as much as the work.
pub(super) fn fastest(field: &Field<'_>) -> usize {
    let allowed = field.allowed();
    field.best(|place| match field.places.get(place) {
        Some(it) if allowed(place) => -it.times.total(),
        Some(_) | None => f64::NEG_INFINITY,
    })
}

/// The model with the most parameters, then bytes.
pub(super) fn most_capable(field: &Field<'_>) -> usize {
    let allowed = field.unshunned();
    let best = allowed.iter().filter_map(|place| field.places.get(*place));
    let best = best
        .max_by_key(|it| it.model.ability())
        .map(|it| &it.model.name);
    field.best(|place| {
        let name = field.places.get(place).map(|it| &it.model.name);
        f64::from(u8::from(name.is_some() && name == best))
    })
}

/// Where it would take the least time.
pub(super) fn cheapest(field: &Field<'_>) -> usize {
    field.best(|_| 0.0)
}
