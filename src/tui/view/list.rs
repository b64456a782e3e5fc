//! The list: agents with their tasks, then tasks that no agent holds.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::keymap::Layer;
use super::super::layout::inner;
use super::super::model::{Model, Row};
use super::super::text::{clock, cut, plain};
use super::super::theme::Role;
use super::super::update::list_top;
use super::parts;
use crate::core::agent::AgentState;
use crate::core::task::{Task, TaskState};
use crate::engine::view::AgentView;

/// What one line says.
struct Entry {
    number: String,
    glyph: &'static str,
    role: Role,
    model: String,
    text: String,
    right: String,
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    let role = if model.layer() == Layer::Overview {
        Role::Title
    } else {
        Role::Faint
    };
    let rows = model.rows();
    let place = format!("agents and tasks {}/{}", model.list.index + 1, rows.len());
    let title = if rows.len() > usize::from(inner(area).height) {
        place.as_str()
    } else {
        "agents and tasks"
    };
    parts::heading(frame, area, model, title, role);
    let area = inner(area);
    let top = list_top(model, usize::from(area.height));
    let lines = rows
        .iter()
        .enumerate()
        .skip(top)
        .take(usize::from(area.height))
        .filter_map(|(index, row)| Some(line(model, index, &entry(model, *row)?, area.width)))
        .collect();
    parts::lines(frame, area, lines, 0);
}

fn entry(model: &Model, row: Row) -> Option<Entry> {
    match row {
        Row::Agent(slot) => {
            let agent = model.view.agents.iter().find(|agent| agent.slot == slot)?;
            Some(agent_entry(model, agent))
        }
        Row::Task(id) => Some(task_entry(model, model.view.task(id)?)),
    }
}

fn agent_entry(model: &Model, agent: &AgentView) -> Entry {
    let (glyph, role) = model.theme.agent_health(&agent.report);
    let text = if agent.task.is_some() {
        agent.title.clone()
    } else {
        activity(agent)
    };
    let right = agent
        .since
        .filter(|_| agent.task.is_some())
        .map(|since| clock(model.now.since(since)))
        .unwrap_or_default();
    Entry {
        number: agent.slot.to_string(),
        glyph,
        role,
        model: agent.model.clone(),
        text,
        right,
    }
}

fn task_entry(model: &Model, task: &Task) -> Entry {
    let (glyph, role) = model.theme.task(task);
    let used = task.attempt().map(|attempt| attempt.model.clone());
    let is_new = task.state == TaskState::Review && task.unseen;
    Entry {
        number: format!("t{}", task.id),
        glyph,
        role,
        model: used
            .or_else(|| task.spec.model.clone())
            .unwrap_or_else(|| "auto".into()),
        text: task.spec.title(),
        right: if is_new {
            "review, new".into()
        } else {
            task.state_label().into()
        },
    }
}

fn line<'a>(model: &Model, index: usize, entry: &Entry, width: u16) -> Line<'a> {
    let theme = &model.theme;
    let is_selected = index == model.list.index;
    let cursor = if is_selected { theme.cursor() } else { " " };
    let room = usize::from(width).saturating_sub(8);
    let right = if room >= 24 { entry.right.as_str() } else { "" };
    let model_width = if room >= 44 { 16 } else { 0 };
    let right_width = right.width() + usize::from(!right.is_empty());
    let text_width = room.saturating_sub(model_width + usize::from(model_width > 0) + right_width);
    let fit = |text: &str, width: usize| {
        let text = cut(&theme.text(&plain(text)), width, theme.ellipsis());
        let fill = width.saturating_sub(text.width());
        format!("{text}{}", " ".repeat(fill))
    };
    let base = if is_selected {
        theme.style(Role::Title)
    } else {
        theme.style(Role::Text)
    };
    let mut spans = vec![
        Span::styled(cursor, theme.style(Role::Active)),
        Span::styled(format!("{:>4} ", entry.number), base),
        Span::styled(format!("{} ", entry.glyph), theme.style(entry.role)),
    ];
    if model_width > 0 {
        let text = format!("{} ", fit(&entry.model, model_width));
        spans.push(Span::styled(text, theme.style(Role::Faint)));
    }
    spans.push(Span::styled(fit(&entry.text, text_width), base));
    if !right.is_empty() {
        spans.push(Span::styled(format!(" {right}"), theme.style(entry.role)));
    }
    Line::from(spans)
}

/// What an agent does and why, in a few words.
pub(super) fn activity(agent: &AgentView) -> String {
    if let Some(ill) = agent.report.health.why() {
        return ill.to_owned();
    }
    match agent.report.state {
        AgentState::Working => agent.report.why.to_string(),
        AgentState::Waiting => "asks a question".into(),
        AgentState::Cold | AgentState::Ready if agent.task.is_none() => "free".into(),
        state => state.to_string(),
    }
}
