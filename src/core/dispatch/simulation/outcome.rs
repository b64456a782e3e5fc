//! What a workload has cost.

use std::time::Duration;

/// The sum of a simulation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Waits of the requests that were admitted, shortest first.
    pub waits: Vec<Duration>,
    /// Requests that were answered, by client.
    pub served: Vec<u64>,
    /// Loads for which something had to go.
    pub swaps: u64,
    /// Time in which a model was unloaded or loaded and nothing else could be.
    pub swapping: Duration,
    /// From the start to the last answer.
    pub makespan: Duration,
    /// Decisions that were asked of the strategy.
    pub decisions: u64,
}

impl Outcome {
    /// The wait that this part of the requests did not exceed: 0.95 for nineteen of twenty.
    pub fn wait(&self, part: f64) -> Duration {
        let position = part * self.waits.len().saturating_sub(1) as f64;
        let at = (0..self.waits.len()).find(|at| *at as f64 >= position);
        at.and_then(|at| self.waits.get(at))
            .copied()
            .unwrap_or_default()
    }

    /// All answers.
    pub fn answers(&self) -> u64 {
        self.served.iter().sum()
    }

    /// Answers an hour.
    pub fn hourly(&self) -> f64 {
        let hours = self.makespan.as_secs_f64() / 3600.0;
        if hours > 0.0 {
            self.answers() as f64 / hours
        } else {
            0.0
        }
    }

    /// The client with the fewest answers by the one with the most; 1 is fair.
    pub fn fairness(&self) -> f64 {
        let least = self.served.iter().min().copied().unwrap_or_default();
        let most = self.served.iter().max().copied().unwrap_or_default();
        if most == 0 {
            1.0
        } else {
            least as f64 / most as f64
        }
    }
}
