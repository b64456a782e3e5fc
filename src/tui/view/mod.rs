//! Drawing a dashboard: one file for each panel, nothing decided here.
//!
//! Everything shown that comes from outside goes through [`super::text`] first.

mod composer;
mod diff;
mod frame;
mod help;
mod line;
mod list;
mod lower;
mod palette;
mod parts;
mod runners;
mod task;
mod terminal;

use ratatui::Frame;

pub use help::lines as help_lines;
pub use lower::extent as tab_extent;

use super::keymap::Layer;
use super::layout::areas;
use super::model::{Model, Row};

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let areas = areas(model);
    frame::header(frame, areas.header, model);
    frame::banner(frame, areas.banner, model);
    list::draw(frame, areas.list, model);
    match model.list.cursor {
        Some(Row::Task(_)) => task::draw(frame, areas.main, model),
        Some(Row::Agent(_)) | None => terminal::draw(frame, areas.main, model),
    }
    lower::draw(frame, areas.lower, model);
    frame::footer(frame, areas.footer, model);
    for layer in &model.layers {
        match layer {
            Layer::Overview | Layer::Focus | Layer::Scroll => {}
            Layer::Composer | Layer::Options => composer::draw(frame, model),
            Layer::Line => line::draw(frame, model),
            Layer::Diff => diff::draw(frame, model),
            Layer::Confirm => line::confirm(frame, model),
            Layer::Help => help::draw(frame, model),
            Layer::Palette => palette::draw(frame, model),
        }
    }
}

#[cfg(test)]
mod tests;
