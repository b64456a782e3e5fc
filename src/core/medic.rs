//! The medic: sees that an agent does not get on, and says what to do about it.
//!
//! It watches one attempt. While the agent works, silence (no output, no model request) for
//! `medic.stall` is answered in three steps: the launcher is asked to say its state again, in case
//! a chunk of output was lost; then Aider is interrupted as by Ctrl-C; then the attempt is given
//! up. An open request on which nothing comes back for `medic.no_answer`, and a request that Aider
//! has repeated `medic.retries` times, are interrupted at once: the endpoint is to blame. A
//! question that nobody answers for `medic.question_timeout` is handed to the policy of its kind.
//!
//! Invariant: pure. `now` is the time since any fixed moment; it never runs backwards.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::quota::Usage;
use super::settings::MedicSettings;
use super::size::Bytes;

/// The launcher answers a signal within this, unless it is stuck.
const NUDGE_GRACE: Duration = Duration::from_secs(10);
/// An interrupted Aider is back at its prompt within this, unless it is stuck.
const INTERRUPT_GRACE: Duration = Duration::from_secs(15);

/// What was done about an agent; the events of a task name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Its launcher was asked to say its state again.
    Nudged,
    /// It was interrupted as by Ctrl-C.
    Interrupted,
    /// Its process was stopped and goes on.
    Continued,
    /// It comes near a quota.
    Warned,
    /// Something waits until the disk has room again.
    HeldBack,
    /// A step that a restart of the machine cut off is done once more.
    Repeated,
}

impl Treatment {
    /// The participle used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nudged => "nudged",
            Self::Interrupted => "broken off",
            Self::Continued => "continued",
            Self::Warned => "warned",
            Self::HeldBack => "held back",
            Self::Repeated => "begun again",
        }
    }
}

/// What the agent is at, as far as the medic is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doing {
    /// Starts, is at its prompt, or is being judged: somebody else watches the time.
    #[default]
    Nothing,
    /// Works on its prompt.
    Working,
    /// Asks a human.
    Asking {
        /// The question's number.
        number: u32,
    },
}

/// Something that was seen of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It wrote to its terminal.
    Output,
    /// A model request began, moved on or ended.
    Traffic {
        /// One is open now.
        open: bool,
    },
    /// Aider tries a request again; its own words.
    Retried(String),
    /// A request was answered or an edit was made.
    Progressed,
    /// A human typed something.
    Human,
}

/// Whether an agent's process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Life {
    /// It does.
    #[default]
    Running,
    /// It was stopped by a signal (SIGSTOP).
    Stopped,
    /// It has ended and nobody has collected it.
    Zombie,
    /// There is no such process.
    Gone,
}

/// How a process tree was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Whether its first process runs.
    pub life: Life,
    /// What all of it uses.
    pub usage: Usage,
}

/// Whose fault it is that an attempt was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The endpoint's: the task is held.
    Endpoint,
    /// Nobody knows: the task is interrupted.
    Unknown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Ask the launcher to say its state again.
    Nudge,
    /// Press Ctrl-C once.
    Interrupt,
    /// Let a stopped process go on.
    Continue,
    /// Apply the policy for the question that nobody answers.
    Unanswered,
    /// End the attempt.
    GiveUp(Blame),
}

/// What is to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prescription {
    /// What.
    pub order: Order,
    /// Why, for the event.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Calm,
    Nudged {
        at: Duration,
        why: String,
    },
    Interrupted {
        at: Duration,
        why: String,
        blame: Blame,
    },
    Over,
}

/// Watches one attempt.
#[derive(Debug)]
pub struct Medic {
    rules: MedicSettings,
    doing: Doing,
    /// Since when it does that, or has been left alone by humans at a question.
    since: Duration,
    output: Duration,
    traffic: Duration,
    open: bool,
    slow: bool,
    retries: u32,
    retried: String,
    stage: Stage,
    /// The question whose policy was applied.
    handed_over: Option<u32>,
    life: Life,
    continued: bool,
    growth: Growth,
}

impl Medic {
    /// A medic who begins to watch at `now`.
    pub fn new(rules: MedicSettings, now: Duration) -> Self {
        Self {
            rules,
            doing: Doing::Nothing,
            since: now,
            output: now,
            traffic: now,
            open: false,
            slow: false,
            retries: 0,
            retried: String::new(),
            stage: Stage::Calm,
            handed_over: None,
            life: Life::Running,
            continued: false,
            growth: Growth::default(),
        }
    }

    /// The agent is at something; saying the same again changes nothing.
    pub fn doing(&mut self, doing: Doing, now: Duration) {
        if self.doing == doing {
            return;
        }
        self.doing = doing;
        self.since = now;
        self.slow = false;
        if matches!(self.stage, Stage::Nudged { .. }) {
            self.stage = Stage::Calm;
        }
    }

    /// Takes a sign.
    pub fn see(&mut self, sign: Sign, now: Duration) {
        match sign {
            Sign::Output => self.output = now,
            Sign::Traffic { open } => {
                self.traffic = now;
                self.open = open;
                self.slow = false;
            }
            Sign::Retried(text) => {
                self.output = now;
                self.retries += 1;
                self.retried = text;
            }
            Sign::Progressed => {
                self.output = now;
                self.retries = 0;
            }
            Sign::Human => {
                self.since = now;
                return;
            }
        }
        if matches!(self.stage, Stage::Nudged { .. }) {
            self.stage = Stage::Calm;
        }
    }

    /// Takes a measurement of its process.
    pub fn measure(&mut self, vitals: &Vitals, now: Duration) {
        self.life = vitals.life;
        self.growth.add(vitals.usage.memory, now);
    }

    /// When something is due, if nothing else is seen before.
    pub fn due(&self) -> Option<Duration> {
        match (self.doing, &self.stage) {
            (_, Stage::Over) | (Doing::Nothing, _) => None,
            (Doing::Asking { number }, _) => (self.handed_over != Some(number))
                .then(|| self.since.saturating_add(self.rules.question_timeout)),
            (Doing::Working, Stage::Interrupted { at, .. }) => Some(*at + INTERRUPT_GRACE),
            (Doing::Working, Stage::Nudged { at, .. }) => Some(*at + NUDGE_GRACE),
            (Doing::Working, Stage::Calm) if self.open => {
                let asked = self.traffic.max(self.since);
                let hopeless = asked.saturating_add(self.rules.no_answer);
                let slow = asked.saturating_add(self.rules.stall);
                Some(if self.slow {
                    hopeless
                } else {
                    hopeless.min(slow)
                })
            }
            (Doing::Working, Stage::Calm) => {
                Some(self.last_sign().saturating_add(self.rules.stall))
            }
        }
    }

    fn last_sign(&self) -> Duration {
        self.output.max(self.traffic).max(self.since)
    }

    /// What is to be done now; asked again until there is nothing.
    pub fn treat(&mut self, now: Duration) -> Option<Prescription> {
        if self.life == Life::Stopped && !self.continued {
            self.continued = true;
            return Some(order(Order::Continue, "its process was stopped"));
        }
        if self.is_in_retry_loop() {
            let times = self.retries;
            let why = format!(
                "the endpoint failed {times} times in a row: {}",
                self.retried
            );
            return Some(self.interrupt(why, Blame::Endpoint, now));
        }
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        match (self.doing, self.stage.clone()) {
            (Doing::Nothing, _) | (_, Stage::Over) => None,
            (Doing::Asking { number }, _) => {
                self.handed_over = Some(number);
                let waited = words(self.rules.question_timeout);
                let why = format!("nobody answered for {waited}");
                Some(order(Order::Unanswered, &why))
            }
            (Doing::Working, Stage::Interrupted { why, blame, .. }) => {
                self.stage = Stage::Over;
                Some(order(Order::GiveUp(blame), &why))
            }
            (Doing::Working, Stage::Nudged { why, .. }) => {
                Some(self.interrupt(why, Blame::Unknown, now))
            }
            (Doing::Working, Stage::Calm) if self.open => self.unanswered_request(now),
            (Doing::Working, Stage::Calm) => Some(self.nudge(now)),
        }
    }

    fn is_in_retry_loop(&self) -> bool {
        let calm = matches!(self.stage, Stage::Calm | Stage::Nudged { .. });
        calm && self.doing == Doing::Working
            && self.rules.retries > 0
            && self.retries >= self.rules.retries
    }

    fn unanswered_request(&mut self, now: Duration) -> Option<Prescription> {
        let asked = self.traffic.max(self.since);
        if now < asked.saturating_add(self.rules.no_answer) {
            self.slow = true;
            return None;
        }
        let why = format!("the model sent nothing for {}", words(self.rules.no_answer));
        Some(self.interrupt(why, Blame::Endpoint, now))
    }

    fn nudge(&mut self, now: Duration) -> Prescription {
        let why = format!(
            "no output and no model request for {}",
            words(self.rules.stall)
        );
        self.stage = Stage::Nudged {
            at: now,
            why: why.clone(),
        };
        order(Order::Nudge, &why)
    }

    fn interrupt(&mut self, why: String, blame: Blame, now: Duration) -> Prescription {
        let prescription = order(Order::Interrupt, &why);
        self.stage = Stage::Interrupted {
            at: now,
            why,
            blame,
        };
        prescription
    }

    /// Why the attempt is over, when the agent has come back to its prompt after an interruption.
    pub fn verdict(&self) -> Option<(Blame, &str)> {
        match &self.stage {
            Stage::Interrupted { why, blame, .. } => Some((*blame, why)),
            Stage::Calm | Stage::Nudged { .. } | Stage::Over => None,
        }
    }

    /// How the agent is.
    pub fn health(&self) -> Health {
        match self.life {
            Life::Running => {}
            Life::Stopped => return Health::Degraded("its process is stopped".into()),
            Life::Zombie => return Health::Down("its process has ended".into()),
            Life::Gone => return Health::Down("its process is gone".into()),
        }
        if let Stage::Nudged { why, .. } | Stage::Interrupted { why, .. } = &self.stage {
            return Health::Degraded(why.clone());
        }
        if self.doing == Doing::Working && self.retries > 0 {
            let why = format!("request repeated {} times: {}", self.retries, self.retried);
            return Health::Degraded(why);
        }
        if self.slow {
            let long = words(self.rules.stall.min(self.rules.no_answer));
            return Health::Degraded(format!("the model has sent nothing for {long}"));
        }
        match self.growth.trend() {
            Some(why) => Health::Degraded(why),
            None => Health::Ok,
        }
    }
}

fn order(order: Order, why: &str) -> Prescription {
    Prescription {
        order,
        why: why.to_owned(),
    }
}

/// `90 s`, `5 min`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 120 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else if seconds == 0 {
        format!("{} ms", time.as_millis())
    } else {
        format!("{seconds} s")
    }
}

/// Samples looked at for a trend.
const TREND: usize = 10;
/// Between two samples of a trend.
const TREND_STEP: Duration = Duration::from_secs(60);
/// A trend of less than this is breathing.
const TREND_MIN: u64 = 256 << 20;

/// Memory that grows from minute to minute without ever shrinking.
#[derive(Debug, Default)]
struct Growth {
    samples: VecDeque<(Duration, u64)>,
}

impl Growth {
    fn add(&mut self, memory: u64, now: Duration) {
        if self
            .samples
            .back()
            .is_some_and(|(at, _)| now < *at + TREND_STEP)
        {
            return;
        }
        self.samples.push_back((now, memory));
        if self.samples.len() > TREND {
            self.samples.pop_front();
        }
    }

    fn trend(&self) -> Option<String> {
        if self.samples.len() < TREND {
            return None;
        }
        let (first, last) = (self.samples.front()?.1, self.samples.back()?.1);
        let memory = self.samples.iter().map(|(_, memory)| *memory);
        let rises = memory.clone().zip(memory.skip(1)).all(|(a, b)| b > a);
        let grown = last.saturating_sub(first);
        (rises && grown >= TREND_MIN).then(|| {
            format!(
                "its memory grew from {} to {} and does not stop",
                Bytes(first),
                Bytes(last)
            )
        })
    }
}

#[cfg(test)]
#[path = "medic_tests.rs"]
mod tests;
