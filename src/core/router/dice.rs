//! Random numbers that are a function of a seed: the same question gets the same answer.
//!
//! `SplitMix64` (Steele, Lea, Flood 2014) is used because its state is one number and any seed is a
//! good one; Beta draws are two Gamma draws by the method of Marsaglia and Tsang (2000).
//!
//! Invariant: pure; nothing of the machine comes in.

/// A generator of random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The generator for one decision: `parts` tell it apart from all others of the same seed.
    pub fn new(seed: u64, parts: [u64; 2]) -> Self {
        let mut dice = Self { state: seed };
        for part in parts {
            dice.state = dice.bits() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        dice.bits();
        dice
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Evenly between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Evenly one of `0..count`; 0 where there is none.
    pub fn below(&mut self, count: usize) -> usize {
        let count = (count as u64).max(1);
        usize::try_from(self.bits() % count).unwrap_or(0)
    }

    /// A draw from the Beta distribution; both parameters positive.
    pub fn beta(&mut self, good: f64, bad: f64) -> f64 {
        let (x, y) = (self.gamma(good), self.gamma(bad));
        if x + y > 0.0 { x / (x + y) } else { 0.5 }
    }

    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // The method needs a shape of 1 or more: a power of a uniform draw makes up for it.
            let shape = shape.max(1e-3);
            return self.gamma(shape + 1.0) * self.unit().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        // Accepted at the first try in more than 95 of 100 cases; the bound is never met.
        for _ in 0..64 {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
        d
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_parts_give_the_same_numbers_and_others_give_others() {
        let draw = |seed, parts| Dice::new(seed, parts).bits();
        assert_eq!(draw(1, [2, 3]), draw(1, [2, 3]));
        assert_ne!(draw(1, [2, 3]), draw(1, [3, 2]));
        assert_ne!(draw(1, [2, 3]), draw(2, [2, 3]));
    }

    #[test]
    fn beta_draws_have_the_mean_and_the_spread_of_the_distribution() {
        let mut dice = Dice::new(7, [0, 0]);
        for (good, bad) in [(1.0, 1.0), (0.5, 0.5), (8.0, 2.0), (40.0, 60.0)] {
            let draws: Vec<f64> = (0..20_000).map(|_| dice.beta(good, bad)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let square = |x: &f64| (x - mean).powi(2);
            let variance = draws.iter().map(square).sum::<f64>() / draws.len() as f64;
            let mass = good + bad;
            let expected = good * bad / (mass * mass * (mass + 1.0));
            assert!((mean - good / mass).abs() < 0.01, "{good} {bad}: {mean}");
            assert!(
                (variance - expected).abs() < expected * 0.1,
                "{variance} {expected}"
            );
        }
    }
}
