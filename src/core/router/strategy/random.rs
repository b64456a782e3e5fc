//! Any place, each as likely as any other.

use super::Field;

pub(super) fn pick(field: &Field<'_>) -> usize {
    let allowed = field.unshunned();
    let drawn = field.dice.clone().below(allowed.len());
    allowed.get(drawn).copied().unwrap_or(0)
}
