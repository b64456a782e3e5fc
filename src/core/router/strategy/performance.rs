//! The least time until a verified success: what attempts take, over how often they succeed.
//!
//! Times are learned from attempts that succeeded, and a failure costs minutes on top of its own
//! time, so a model that fails at once is not fast.

use super::Field;

/// What a failed attempt costs beside its own time, seconds: the wait before the next one, and
/// somebody's attention.
const FAILURE_SECONDS: f64 = 300.0;

pub(super) fn pick(field: &Field<'_>) -> usize {
    field.best(|place| score(field, place))
}

/// Less the expected seconds until a success.
pub(super) fn score(field: &Field<'_>, place: usize) -> f64 {
    let (Some(candidate), Some(belief)) = (field.places.get(place), field.belief(place)) else {
        return f64::NEG_INFINITY;
    };
    let work = belief.seconds.unwrap_or(candidate.times.service / 1_000.0);
    let once = (candidate.times.wait + candidate.times.load) / 1_000.0 + work;
    let mut success = belief.overall.clamp(0.01, 1.0);
    if field.is_shunned(place) {
        success /= 2.0;
    }
    -(once + (1.0 - success) * FAILURE_SECONDS) / success
}
