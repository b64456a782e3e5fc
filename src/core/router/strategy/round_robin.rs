//! Each model in turn, on the endpoint where it would take the least time.

use super::Field;

pub(super) fn pick(field: &Field<'_>) -> usize {
    let allowed = field.unshunned();
    let mut models: Vec<usize> = Vec::new();
    for place in &allowed {
        if let Some(model) = field.model_of.get(*place)
            && !models.contains(model)
        {
            models.push(*model);
        }
    }
    models.sort_unstable();
    let turn = usize::try_from(field.turn % models.len().max(1) as u64).unwrap_or(0);
    let model = models.get(turn).copied();
    field.best(|place| {
        let is_its_turn = field.model_of.get(place).copied() == model;
        f64::from(u8::from(is_its_turn))
    })
}
