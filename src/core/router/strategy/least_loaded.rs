//! Where a request that came now would be served first: the wait that the gateway predicts, and
//! what has to be loaded.
//!
//! The number of open requests says little: an endpoint that answers errors at once has few of them
//! and would draw all traffic. The predicted wait does not fall when requests fail.

use super::Field;

/// An agent that stands ready saves its start, about two seconds.
const READY_MS: f64 = 2_000.0;

pub(super) fn pick(field: &Field<'_>) -> usize {
    let allowed = field.allowed();
    field.best(|place| {
        let Some(times) = field.places.get(place).map(|place| place.times) else {
            return f64::NEG_INFINITY;
        };
        if !allowed(place) {
            return f64::NEG_INFINITY;
        }
        let saved = if field.ready == Some(place) {
            READY_MS
        } else {
            0.0
        };
        saved - times.wait - times.load
    })
}
