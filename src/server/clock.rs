//! The machine's clocks, read together.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::core::Timestamp;
use crate::core::clock::Reading;
use crate::keeper::time_since_boot;

/// Readings that were taken further apart than this say nothing about each other.
const TOGETHER: Duration = Duration::from_millis(100);
/// A stopped process may be stopped again; after this many tries the last reading has to do.
const TRIES: usize = 3;

/// The wall clock.
#[must_use]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// All of them at one moment.
#[must_use]
pub(super) fn read() -> Reading {
    let mut reading = read_once();
    for _ in 1..TRIES {
        if awake().saturating_sub(reading.awake) < TOGETHER {
            break;
        }
        reading = read_once();
    }
    reading
}

fn read_once() -> Reading {
    Reading {
        awake: awake(),
        wall: now(),
        total: time_since_boot(),
    }
}

/// Stops while the machine sleeps.
fn awake() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::Clock;

    #[test]
    fn a_machine_that_is_awake_sees_no_jump() {
        let mut clock = Clock::new(read());
        for _ in 0..1_000 {
            assert_eq!(clock.tell(read()), None);
        }
    }
}
