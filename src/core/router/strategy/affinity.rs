//! What is best at this kind of work: one draw from what is believed of each model, and the highest
//! wins (Thompson sampling). A model of which little is known is drawn high now and then and gets
//! its chance; one that is known to be worse does not.

use super::Field;

/// What a fault of the model at this very task takes from it.
const SHUNNED: f64 = 0.25;

pub(super) fn pick(field: &Field<'_>) -> usize {
    field.best(|place| score(field, place))
}

/// The draw.
pub(super) fn score(field: &Field<'_>, place: usize) -> f64 {
    let draw = field.belief(place).map_or(0.0, |belief| belief.draw);
    draw - penalty(field, place)
}

/// What is taken from a model that has just failed at the task.
pub(super) fn penalty(field: &Field<'_>, place: usize) -> f64 {
    if field.is_shunned(place) {
        SHUNNED
    } else {
        0.0
    }
}
