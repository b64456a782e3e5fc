//! Service in the order of arrival, as an endpoint does it that is left alone.
//!
//! The first request holds up all others until its model is loaded and has a free slot. When the
//! context is not pinned, each request asks for another one, and its model is loaded again.

use std::collections::VecDeque;

use crate::core::dispatch::{Ask, Order, RequestId, Runner};

#[derive(Debug, Clone)]
pub(super) struct Fifo {
    slots: usize,
    room: usize,
    is_pinned: bool,
    waiting: VecDeque<Ask>,
    running: Vec<(RequestId, Runner)>,
    /// Longest unused first.
    resident: Vec<Runner>,
    /// The first of those that wait has had its load.
    is_fresh: bool,
    is_busy: bool,
}

impl Fifo {
    pub(super) fn new(slots: u16, room: u16, is_pinned: Pinning) -> Self {
        Self {
            slots: usize::from(slots),
            room: usize::from(room),
            is_pinned: is_pinned == Pinning::Pinned,
            waiting: VecDeque::new(),
            running: Vec::new(),
            resident: Vec::new(),
            is_fresh: false,
            is_busy: false,
        }
    }

    pub(super) fn submit(&mut self, ask: Ask) {
        self.waiting.push_back(ask);
    }

    pub(super) fn finished(&mut self, id: RequestId) {
        self.running.retain(|(running, _)| *running != id);
    }

    pub(super) fn loaded(&mut self, runner: &Runner) {
        self.is_busy = false;
        self.is_fresh = true;
        self.resident.push(runner.clone());
    }

    pub(super) fn unloaded(&mut self, runner: &Runner) {
        self.is_busy = false;
        self.resident.retain(|resident| resident != runner);
    }

    pub(super) fn orders(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some(order) = self.order() {
            orders.push(order);
        }
        orders
    }

    fn order(&mut self) -> Option<Order> {
        let first = self.waiting.front().filter(|_| !self.is_busy)?;
        let runner = first.runner.clone();
        let is_resident = self.resident.contains(&runner);
        if is_resident && (self.is_pinned || self.is_fresh) {
            return self.admit(&runner);
        }
        let victim = if is_resident {
            Some(&runner)
        } else {
            self.resident
                .first()
                .filter(|_| self.resident.len() >= self.room)
        };
        let Some(victim) = victim else {
            self.is_busy = true;
            return Some(Order::Load {
                runner,
                beside: self.resident.len(),
            });
        };
        if self.running.iter().any(|(_, running)| running == victim) {
            return None;
        }
        self.is_busy = true;
        Some(Order::Unload {
            runner: victim.clone(),
        })
    }

    fn admit(&mut self, runner: &Runner) -> Option<Order> {
        let at_once = self
            .running
            .iter()
            .filter(|(_, running)| running == runner)
            .count();
        if at_once >= self.slots {
            return None;
        }
        let ask = self.waiting.pop_front()?;
        self.is_fresh = false;
        self.resident.retain(|resident| resident != runner);
        self.resident.push(runner.clone());
        self.running.push((ask.id, ask.runner));
        Some(Order::Admit {
            id: ask.id,
            epoch: 0,
            swap: None,
        })
    }
}

/// Whether the context of a model's requests is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinning {
    Pinned,
    Unpinned,
}
