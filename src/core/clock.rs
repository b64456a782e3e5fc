//! Time that counts: which part of the wall clock's progress was lived through.
//!
//! Deadlines are kept as moments of the wall clock, so that they can be stored and shown. But a
//! lease, a time to live or a backoff is about time in which something could have been done: the
//! machine may sleep for a night, and somebody may set the clock. Whenever the wall clock has gone
//! further (or less far) than the time lived through, the difference is a [`Jump`], and every
//! pending deadline is moved by it. One rule covers a suspend and a clock that was set, in either
//! direction.
//!
//! Invariant: pure. Readings come in as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Smaller differences are the ordinary steering of a clock.
const TOLERANCE: Duration = Duration::from_secs(2);

/// All clocks at one moment. The two durations have beginnings of their own: only differences of
/// each mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock; it can be set.
    pub wall: Timestamp,
    /// Time in which the machine was awake.
    pub awake: Duration,
    /// Time in which the machine was awake or asleep.
    pub total: Duration,
}

/// A machine that never sleeps and whose clock is never set.
impl From<Timestamp> for Reading {
    fn from(wall: Timestamp) -> Self {
        let total = Duration::from_millis(wall.0);
        Self {
            wall,
            awake: total,
            total,
        }
    }
}

impl Reading {
    /// How long the machine slept since `earlier`; what is within the tolerance is no sleep.
    pub fn asleep_since(&self, earlier: &Self) -> Duration {
        let total = self.total.saturating_sub(earlier.total);
        let awake = self.awake.saturating_sub(earlier.awake);
        let asleep = total.saturating_sub(awake);
        if asleep < TOLERANCE {
            Duration::ZERO
        } else {
            asleep
        }
    }
}

/// What the wall clock went through without anybody living through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Jump {
    /// Milliseconds on the wall clock; negative when it was set back.
    pub millis: i64,
    /// Milliseconds of that in which the machine slept; 0 when the clock was set.
    pub asleep: u64,
}

impl Jump {
    /// Both, one after the other.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            millis: self.millis.saturating_add(later.millis),
            asleep: self.asleep.saturating_add(later.asleep),
        }
    }
}

/// Compares each reading with the one before.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    last: Reading,
}

impl Clock {
    /// A clock that starts at `first`.
    pub fn new(first: Reading) -> Self {
        Self { last: first }
    }

    /// Takes a reading; says what was not lived through since the last one.
    pub fn tell(&mut self, reading: Reading) -> Option<Jump> {
        let expected = self.steady(&reading);
        let asleep = reading.asleep_since(&self.last);
        self.last = reading;
        let millis = signed(reading.wall.0).saturating_sub(signed(expected.0));
        if millis.unsigned_abs() < millis_of(TOLERANCE) {
            return None;
        }
        let asleep = millis_of(asleep);
        Some(Jump { millis, asleep })
    }

    /// The wall clock at `reading`, had it not jumped since the last one.
    pub fn steady(&self, reading: &Reading) -> Timestamp {
        let lived = reading.awake.saturating_sub(self.last.awake);
        self.last.wall.plus(lived)
    }
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn reading(wall: u64, awake: u64, total: u64) -> Reading {
        Reading {
            wall: Timestamp(wall),
            awake: Duration::from_millis(awake),
            total: Duration::from_millis(total),
        }
    }

    fn clock() -> Clock {
        Clock::new(reading(10 * HOUR, 500, 9_000))
    }

    #[test]
    fn time_that_is_lived_through_is_no_jump() {
        let mut clock = clock();
        let later = reading(11 * HOUR, 500 + HOUR, 9_000 + HOUR);
        assert_eq!(clock.tell(later), None);
        // A second of steering on the way is none either.
        assert_eq!(
            clock.tell(reading(12 * HOUR - 1_000, 500 + 2 * HOUR, 9_000 + 2 * HOUR)),
            None
        );
    }

    #[test]
    fn a_stopped_monotonic_clock_means_that_the_machine_slept() {
        let mut clock = clock();
        let jump = Jump {
            millis: signed(8 * HOUR),
            asleep: 8 * HOUR,
        };
        assert_eq!(
            clock.tell(reading(18 * HOUR + 70, 570, 9_070 + 8 * HOUR)),
            Some(jump)
        );
        assert_eq!(
            clock.tell(reading(18 * HOUR + 80, 580, 9_080 + 8 * HOUR)),
            None
        );
    }

    #[test]
    fn a_wall_clock_that_is_set_is_no_sleep() {
        let mut clock = clock();
        let forward = clock.tell(reading(11 * HOUR, 500, 9_000));
        let back = clock.tell(reading(9 * HOUR, 500, 9_000));
        let set = |millis| Some(Jump { millis, asleep: 0 });
        assert_eq!((forward, back), (set(signed(HOUR)), set(-signed(2 * HOUR))));
    }

    #[test]
    fn a_wait_is_measured_on_the_steady_clock() {
        let clock = clock();
        let jumped = reading(3 * HOUR, 4_500, 13_000);
        assert_eq!(clock.steady(&jumped), Timestamp(10 * HOUR + 4_000));
    }

    proptest! {
        #[test]
        fn a_deadline_moved_by_every_jump_comes_after_its_time_awake(
            steps in prop::collection::vec((0u64..60_000, 0u64..HOUR, -600_000i64..600_000), 1..40),
        ) {
            let first = reading(1_000 * HOUR, 0, 0);
            let (mut clock, mut now) = (Clock::new(first), first);
            let (mut moved, mut awake) = (0_i64, 0_i64);
            for (lived, slept, set) in steps {
                let wall = signed(now.wall.0) + signed(lived + slept) + set;
                now = Reading {
                    wall: Timestamp(u64::try_from(wall).unwrap()),
                    awake: now.awake + Duration::from_millis(lived),
                    total: now.total + Duration::from_millis(lived + slept),
                };
                awake += signed(lived);
                moved += clock.tell(now).map_or(0, |jump| jump.millis);
            }
            // What is left unmoved of each step is within the tolerance.
            let passed = signed(now.wall.0) - signed(first.wall.0) - moved;
            prop_assert!((passed - awake).abs() <= 40 * 2_000);
        }
    }
}
