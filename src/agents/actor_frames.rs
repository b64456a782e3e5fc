//! When an agent's terminal is drawn, and what else is due by time.

use tokio::time::Instant;

use super::super::aider::cues::AgentScreenState;
use super::{Actor, FRAME, HANDS_OFF, UPDATE_TIMEOUT, Watched};

impl Watched {
    /// The next moment at which something is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        let hands = self.last_human.map(|typed| typed + HANDS_OFF);
        let hands = hands.filter(|moment| *moment > Instant::now());
        let start =
            matches!(self.cues.state(), AgentScreenState::Starting).then_some(self.start_limit);
        let ward = self.ward.due().filter(|_| hands.is_none());
        let due = [self.frame_due, self.update_due, hands, start, ward];
        due.into_iter().flatten().min()
    }

    pub(super) fn woken(&mut self, actor: &Actor) {
        let now = Instant::now();
        if self.update_due.is_some_and(|due| due <= now) {
            self.screen.end_update();
            self.update_due = None;
            self.publish(actor);
        }
        if self.frame_due.is_some_and(|due| due <= now) {
            self.publish(actor);
        }
    }

    /// Sees whether an update has begun or ended.
    pub(super) fn time_update(&mut self) {
        if self.screen.update_pending() {
            self.update_due
                .get_or_insert_with(|| Instant::now() + UPDATE_TIMEOUT);
        } else {
            self.update_due = None;
        }
    }

    /// At once on the first change, then at most every `FRAME`.
    pub(super) fn draw_soon(&mut self, actor: &Actor) {
        let now = Instant::now();
        match self.last_frame {
            Some(last) if now < last + FRAME => {
                self.frame_due.get_or_insert(last + FRAME);
            }
            _ => self.publish(actor),
        }
    }

    pub(super) fn publish(&mut self, actor: &Actor) {
        self.frame_due = None;
        self.last_frame = Some(Instant::now());
        actor.screen_out.send_replace(Some(self.screen.snapshot(0)));
    }
}
