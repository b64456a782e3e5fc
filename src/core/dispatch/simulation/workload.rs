//! Who asks what when.

use std::time::Duration;

use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;
use crate::core::task::Priority;

/// Machines, models and clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// GPUs; each is one endpoint.
    pub machines: Vec<Machine>,
    /// Models, named by their place in [`Machine::loads`] and [`Step::model`].
    pub models: Vec<ModelName>,
    /// What each client asks, one after the other.
    pub scripts: Vec<Script>,
    /// What a service is predicted to take; nobody knows what it will take.
    pub predicted: Duration,
    /// When to stop; none: when all is served.
    pub until: Option<Duration>,
}

/// A GPU with one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its endpoint.
    pub endpoint: EndpointName,
    /// Requests that a model serves at a time.
    pub slots: u16,
    /// Models that fit into its memory together.
    pub room: u16,
    /// A load of each model.
    pub loads: Vec<Duration>,
    /// Any unload.
    pub unload: Duration,
}

/// A client and its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Its name.
    pub client: String,
    /// What it asks, in order.
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// It arrives so long …
    pub gap: Duration,
    /// … after this.
    pub since: Since,
    /// The machine that serves it.
    pub machine: usize,
    /// The model that it wants.
    pub model: usize,
    /// What its service takes.
    pub service: Duration,
    /// How urgent it is.
    pub priority: Priority,
}

/// What a client's next request follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The end of its previous one; the start, for the first.
    End,
    /// The arrival of its previous one: it did not wait for the answer.
    Arrival,
}

/// Agents that think, ask, wait for the answer and think again.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// Agents; agent i uses model i modulo their number.
    pub agents: usize,
    /// Models.
    pub models: usize,
    /// Models that fit into memory together.
    pub room: u16,
    /// Requests that a model serves at a time.
    pub slots: u16,
    /// Unloading one model and loading another.
    pub swap: Duration,
    /// Mean of an exponential distribution.
    pub service: Duration,
    /// Mean of an exponential distribution.
    pub think: Duration,
    /// Simulated time.
    pub until: Duration,
    /// Where the draws start.
    pub seed: u64,
}

/// Requests of one agent in the longest simulation.
const STEPS_MOST: u32 = 100_000;
/// Part of a swap that is the unload, where only the whole is given.
const UNLOAD_PART: u32 = 10;

impl Closed {
    /// The agents' draws, the same for every strategy.
    pub fn workload(&self) -> Workload {
        let mut random = Random::new(self.seed);
        let each = self.until.as_secs_f64() / (self.service + self.think).as_secs_f64();
        let enough = (0..STEPS_MOST)
            .take_while(|steps| f64::from(*steps) < 2.0 * each + 50.0)
            .count();
        let scripts = (0..self.agents).map(|agent| {
            let steps = (0..enough).map(|_| Step {
                gap: random.exponential(self.think),
                since: Since::End,
                machine: 0,
                model: agent % self.models,
                service: random.exponential(self.service),
                priority: Priority::Normal,
            });
            Script {
                client: format!("agent {agent}"),
                steps: steps.collect(),
            }
        });
        let unload = self.swap / UNLOAD_PART;
        Workload {
            scripts: scripts.collect(),
            machines: vec![Machine {
                endpoint: EndpointName::from("gpu"),
                slots: self.slots,
                room: self.room,
                loads: vec![self.swap.saturating_sub(unload); self.models],
                unload,
            }],
            models: (0..self.models)
                .map(|model| ModelName::new(&format!("model-{model}")))
                .collect(),
            predicted: self.service,
            until: Some(self.until),
        }
    }
}

/// `SplitMix64`: a seeded generator of draws (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose draws depend on nothing but the seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Between 0 and 1, without 0.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.unit().ln())
    }
}
