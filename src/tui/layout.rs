//! Where each panel is, from the size of the client's terminal alone.
//!
//! Under 80 columns there is only the list (or the terminal, while it is typed into); under 120
//! list and terminal are stacked. Where the lower tabs find no room, the first one is not shown, and
//! another one takes the place of the terminal while it is chosen.

use ratatui::layout::{Constraint, Layout, Rect};

use super::keymap::Layer;
use super::model::{Model, Tab};
use crate::core::pool::{Forking, PoolReport};
use crate::engine::Installation;
use crate::pty::{Size, Snapshot};

/// The panels that are shown. A missing one is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Areas {
    /// The first line.
    pub header: Rect,
    /// What is wrong with the squad as a whole.
    pub banner: Rect,
    /// The list.
    pub list: Rect,
    /// The terminal or the task, with its heading.
    pub main: Rect,
    /// The lower tabs, with their heading.
    pub lower: Rect,
    /// The last line.
    pub footer: Rect,
}

impl Areas {
    /// The part of `main` that shows the cells of a terminal.
    pub fn terminal(&self) -> Rect {
        inner(self.main)
    }

    /// The size an agent's terminal gets when it is typed into.
    pub fn terminal_size(&self) -> Size {
        let area = self.terminal();
        Size::new(area.width, area.height).clamped()
    }
}

/// Where each panel of `model` is.
pub fn areas(model: &Model) -> Areas {
    let window = Rect::new(0, 0, model.size.columns, model.size.rows);
    let has_banner = banner(model).is_some() && window.height > 4;
    let [header, banner, body, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(has_banner)),
        Constraint::Min(0),
        Constraint::Length(u16::from(window.height > 2)),
    ])
    .areas(window);
    let frame = Areas {
        header,
        banner,
        footer,
        ..Areas::default()
    };
    split(model, frame, body)
}

fn split(model: &Model, frame: Areas, body: Rect) -> Areas {
    let terminal_only = model.terminal.is_zoomed
        || (body.width < 80 && (model.is_open(Layer::Focus) || model.is_open(Layer::Scroll)));
    if terminal_only {
        return Areas {
            main: body,
            ..frame
        };
    }
    let areas = if body.width < 80 {
        narrow(model, frame, body)
    } else if body.width < 120 {
        stacked(model, frame, body)
    } else {
        beside(frame, body)
    };
    if areas.lower.is_empty() && is_tab_wanted(model) {
        return Areas {
            main: Rect::default(),
            lower: areas.main,
            ..areas
        };
    }
    areas
}

/// A tab was chosen, and nothing else needs its place.
fn is_tab_wanted(model: &Model) -> bool {
    let is_typing = model.is_open(Layer::Focus) || model.is_open(Layer::Scroll);
    model.tab != Tab::default() && !is_typing
}

fn narrow(model: &Model, frame: Areas, body: Rect) -> Areas {
    let lower_height = if is_tab_wanted(model) && body.height >= 8 {
        body.height / 2
    } else {
        0
    };
    let [list, lower] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(lower_height)]).areas(body);
    Areas {
        list,
        lower,
        ..frame
    }
}

fn beside(frame: Areas, body: Rect) -> Areas {
    let list_width = (body.width * 9 / 20).clamp(54, 80);
    let lower_height = if body.height >= 24 {
        body.height / 4
    } else {
        0
    };
    let [list, right] = Layout::horizontal([Constraint::Length(list_width), Constraint::Min(0)])
        .spacing(1)
        .areas(body);
    let [main, lower] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(lower_height)]).areas(right);
    Areas {
        list,
        main,
        lower,
        ..frame
    }
}

fn stacked(model: &Model, frame: Areas, body: Rect) -> Areas {
    let rows = u16::try_from(model.rows().len()).unwrap_or(u16::MAX);
    let list_height = rows
        .saturating_add(1)
        .clamp(4, (body.height * 2 / 5).max(4));
    let lower_height = if body.height >= 34 { 8 } else { 0 };
    let [list, main, lower] = Layout::vertical([
        Constraint::Length(list_height),
        Constraint::Min(0),
        Constraint::Length(lower_height),
    ])
    .areas(body);
    Areas {
        list,
        main,
        lower,
        ..frame
    }
}

/// `area` without the line of its heading.
pub fn inner(area: Rect) -> Rect {
    Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    }
}

/// First row of `screen` that is shown in `height` rows: the part around the cursor, or the end.
pub fn first_row(screen: &Snapshot, height: u16) -> u16 {
    let overflow = screen.size.rows.saturating_sub(height);
    match screen.cursor {
        Some(cursor) => cursor
            .row
            .saturating_sub(height.saturating_sub(1))
            .min(overflow),
        None => overflow,
    }
}

/// What is wrong with the squad as a whole, and whether it is bad.
pub fn banner(model: &Model) -> Option<(String, bool)> {
    if let Some(fault) = &model.view.store_fault {
        let text = format!("nothing can be recorded: {fault}; agents go on, commands are refused");
        return Some((text, true));
    }
    if let Some(why) = &model.view.no_room {
        return Some((format!("{why}: nothing new is begun, agents go on"), false));
    }
    match &model.view.installation {
        Installation::Installing { message } => {
            Some((format!("installing Aider: {message}; tasks wait"), false))
        }
        Installation::Failed { why } => Some((format!("Aider cannot be used: {why}"), true)),
        Installation::Unknown | Installation::Ready { .. } => cold(&model.view.pool),
    }
}

/// Work goes on, only slower.
fn cold(pool: &PoolReport) -> Option<(String, bool)> {
    match &pool.forking {
        Forking::Failed { why } => Some((format!("agents start cold: {why}"), false)),
        Forking::Off | Forking::Starting | Forking::On { .. } => None,
    }
}
