//! Chance that can be repeated.

use std::time::SystemTime;

/// A small generator, so that a run can be repeated from the seed it prints.
pub(crate) struct Dice(u64);

impl Dice {
    /// The seed comes from the environment variable `name`, else from the time.
    pub(crate) fn seeded(name: &str) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let fresh = now.as_secs() ^ u64::from(now.subsec_nanos());
        let seed = std::env::var(name).map_or(fresh, |seed| seed.parse().unwrap());
        eprintln!("{name}={seed}");
        Self(seed | 1)
    }

    /// `SplitMix64`
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}
