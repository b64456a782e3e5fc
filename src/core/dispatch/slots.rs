//! How many requests a runner serves at a time, found out from what the endpoint says of them.
//!
//! An endpoint takes any number of requests for a loaded model and lets those above its slots
//! wait inside, unseen. Its timings tell: total − load − prefill − decode is that wait. So one
//! more is tried while nobody has waited and the requests together get faster; the first that
//! waits gives the number away exactly.
//!
//! Short answers wait shortly, so a wait is judged by what the service took as well; and throughput
//! is measured with the wait, because requests that wait inside are not served at a time: then one
//! more above the slots adds nothing, whatever their waits are taken for.
//!
//! Invariant: pure.

use std::time::Duration;

use super::ask::{Moment, ServiceTiming};

/// A wait inside the endpoint that means "no slot was free", however long the service.
const SLOT_WAIT: Duration = Duration::from_millis(200);
/// The same as a part of the service: who finds all slots busy waits for the rest of one, half of it
/// on average.
const SLOT_WAIT_PART: u32 = 4;
/// Below this it is noise of the endpoint's scheduler, or the prompt being cut into tokens.
const SLOT_WAIT_LEAST: Duration = Duration::from_millis(50);
/// One more request at a time must give this much more throughput to be kept.
const GAIN: f64 = 1.1;
/// After this long a limit that was found is tried again: the endpoint may have been restarted
/// with other settings.
const RETRY: Duration = Duration::from_secs(1800);
/// Never more than this without being told.
const MOST: u16 = 16;
/// Weight of a new sample of throughput.
const SMOOTH: f64 = 0.3;

/// Slots of one runner.
#[derive(Debug, Clone, PartialEq)]
pub struct Slots {
    configured: Option<u16>,
    now: u16,
    limit: Option<(u16, Moment)>,
    /// Tokens a second of all requests together, by how many there were.
    rates: [f64; MOST as usize + 1],
}

/// A request that has ended, seen from the slots.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Requests that ran when it was admitted, itself included.
    pub admitted_with: u32,
    /// The same when it ended.
    pub ended_with: u32,
    /// Others waited for a slot when it ended.
    pub wanted: bool,
    /// What the endpoint said.
    pub timing: ServiceTiming,
}

impl Slots {
    /// As many as configured; without that, one until more are found.
    pub fn new(configured: Option<u16>) -> Self {
        Self {
            configured: configured.filter(|slots| *slots > 0),
            now: 1,
            limit: None,
            rates: [0.0; MOST as usize + 1],
        }
    }

    /// Requests to send at a time.
    pub fn get(&self) -> u16 {
        self.configured.unwrap_or(self.now)
    }

    /// Takes a configured number, or goes back to finding out.
    pub fn configure(&mut self, slots: Option<u16>) {
        self.configured = slots.filter(|slots| *slots > 0);
    }

    /// Learns from a request that has ended.
    pub fn learn(&mut self, sample: Sample, now: Moment) {
        if self
            .limit
            .is_some_and(|(_, since)| now.saturating_sub(since) >= RETRY)
        {
            self.limit = None;
        }
        let at_once = u16::try_from(sample.admitted_with)
            .unwrap_or(MOST)
            .clamp(1, MOST);
        if has_waited(&sample.timing) {
            if at_once > 1 {
                self.settle(at_once - 1, now);
            }
            return;
        }
        if sample.ended_with != sample.admitted_with {
            return;
        }
        self.note_rate(at_once, sample.timing);
        if at_once == self.now && sample.wanted {
            self.grow(now);
        }
    }

    fn note_rate(&mut self, at_once: u16, timing: ServiceTiming) {
        let seconds = (timing.slot_wait + timing.decode).as_secs_f64();
        if timing.output_tokens == 0 || seconds <= 0.0 {
            return;
        }
        let rate = timing.output_tokens as f64 / seconds * f64::from(at_once);
        let known = &mut self.rates[usize::from(at_once)];
        *known = if *known == 0.0 {
            rate
        } else {
            *known + SMOOTH * (rate - *known)
        };
    }

    fn grow(&mut self, now: Moment) {
        let (here, below) = (self.rate(self.now), self.rate(self.now - 1));
        if self.now > 1 && here > 0.0 && below > 0.0 && here < GAIN * below {
            self.settle(self.now - 1, now);
        } else if self.now < self.limit.map_or(MOST, |(limit, _)| limit) {
            self.now += 1;
        }
    }

    fn rate(&self, at_once: u16) -> f64 {
        self.rates[usize::from(at_once)]
    }

    fn settle(&mut self, slots: u16, now: Moment) {
        self.now = self.now.min(slots);
        self.limit = Some((slots, now));
    }
}

/// Whether a request found no free slot inside its endpoint.
fn has_waited(timing: &ServiceTiming) -> bool {
    let part = (timing.prefill + timing.decode) / SLOT_WAIT_PART;
    timing.slot_wait >= SLOT_WAIT.min(part.max(SLOT_WAIT_LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint with so many slots, at which more requests at a time are faster together.
    fn serve(slots: &mut Slots, real: u32, requests: usize) {
        for number in 0..requests {
            let at_once = u32::from(slots.get());
            let timing = ServiceTiming {
                slot_wait: Duration::from_secs(u64::from(at_once > real)),
                decode: Duration::from_secs(2),
                output_tokens: 60,
                ..ServiceTiming::default()
            };
            let sample = Sample {
                admitted_with: at_once,
                ended_with: at_once,
                wanted: true,
                timing,
            };
            slots.learn(sample, Duration::from_secs(number as u64));
        }
    }

    #[test]
    fn the_slots_of_an_endpoint_are_found_exactly() {
        for real in 1..=8 {
            let mut slots = Slots::new(None);
            assert_eq!(slots.get(), 1);
            serve(&mut slots, real, 40);
            assert_eq!(u32::from(slots.get()), real);
        }
    }

    /// Answers that take so long, and wait for as long as is told for so many at a time.
    fn short(slots: &mut Slots, decode: u64, wait: impl Fn(u64) -> u64) {
        for number in 0..60 {
            let at_once = u32::from(slots.get());
            let timing = ServiceTiming {
                slot_wait: Duration::from_millis(wait(u64::from(at_once))),
                decode: Duration::from_millis(decode),
                output_tokens: 6,
                ..ServiceTiming::default()
            };
            let sample = Sample {
                admitted_with: at_once,
                ended_with: at_once,
                wanted: true,
                timing,
            };
            slots.learn(sample, Duration::from_secs(number));
        }
    }

    #[test]
    fn short_answers_that_wait_shortly_give_the_slots_away_too() {
        let mut slots = Slots::new(None);
        short(&mut slots, 400, |at_once| if at_once > 2 { 150 } else { 0 });
        assert_eq!(slots.get(), 2);
    }

    #[test]
    fn requests_that_wait_inside_are_not_taken_for_faster_together() {
        let mut slots = Slots::new(None);
        // Three share two slots: 90 ms each instead of 60. Their waits are too short to count.
        short(&mut slots, 60, |at_once| 30 * at_once.saturating_sub(2));
        assert_eq!(slots.get(), 2);
    }

    #[test]
    fn more_at_a_time_is_not_kept_when_it_is_no_faster() {
        let mut slots = Slots::new(None);
        for number in 0..40_u64 {
            let at_once = u32::from(slots.get());
            let timing = ServiceTiming {
                // Three share what two get.
                decode: Duration::from_secs(if at_once > 2 { 3 } else { 2 }),
                output_tokens: 60,
                ..ServiceTiming::default()
            };
            let sample = Sample {
                admitted_with: at_once,
                ended_with: at_once,
                wanted: true,
                timing,
            };
            slots.learn(sample, Duration::from_secs(number));
        }
        assert_eq!(slots.get(), 2);
    }

    #[test]
    fn a_limit_is_tried_again_after_half_an_hour() {
        let mut slots = Slots::new(None);
        serve(&mut slots, 1, 10);
        assert_eq!(slots.get(), 1);
        let timing = ServiceTiming::default();
        let sample = Sample {
            admitted_with: 1,
            ended_with: 1,
            wanted: true,
            timing,
        };
        slots.learn(sample, Duration::from_secs(3600));
        assert_eq!(slots.get(), 2);
    }

    #[test]
    fn a_configured_number_is_kept() {
        let mut slots = Slots::new(Some(3));
        serve(&mut slots, 8, 40);
        assert_eq!(slots.get(), 3);
        slots.configure(None);
        assert_eq!(slots.get(), 1, "it was never above one on its own");
    }
}
