//! An attempt's bed in the ward: what the actor sees goes to the medic and the meter, what they
//! order is carried out through the keeper and reported with its reason.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::core::agent::AgentReport;
use crate::core::health::Health;
use crate::core::medic::{Blame, Medic, Order, Prescription, Sign, Treatment, Vitals};
use crate::core::quota::{self, Meter, Ruling, Usage};
use crate::core::settings::{MedicSettings, QuotaSettings, Settings, Unanswered};
use crate::core::task::Task;
use crate::core::traffic::Traffic;
use crate::engine::Fact;
use crate::keeper::JobSignal;

use super::actor::{Actor, Ending, Watched};
use super::aider::cues::{Cue, Signal};
use super::turn::{Step, Turn};

/// Ctrl-C as a terminal sends it.
const INTERRUPT: &[u8] = b"\x03";

/// Something to be done for or about an agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Care {
    /// Send a signal.
    Signal(JobSignal, Treatment, String),
    /// Press Ctrl-C.
    Interrupt(String),
    /// Answer question `number`.
    Answer {
        /// The question's number.
        number: u32,
        /// The question.
        text: String,
        /// The answer.
        answer: Unanswered,
        /// Why it is answered.
        why: String,
    },
    /// Only say so.
    Tell(Treatment, String),
    /// The attempt is judged.
    Conclude(Fact),
    /// The attempt ends without a judgement.
    GiveUp(String),
}

/// What is known of an agent's condition.
#[derive(Debug)]
pub(super) struct Ward {
    medic: Medic,
    meter: Meter,
    rules: MedicSettings,
    limits: QuotaSettings,
    began: Instant,
    usage: Option<Usage>,
    /// A quota that it is near to.
    near: Option<String>,
    /// Aider's last complaint, which a retry follows.
    complaint: Option<String>,
    waiting: VecDeque<Care>,
    /// When its time limit is worth a warning, and the words for it.
    late: Option<(Instant, String)>,
    /// The attempt is judged: nothing more is done.
    discharged: bool,
}

impl Ward {
    pub(super) fn of(actor: &Actor) -> Self {
        Self::new(&actor.workshop.settings, age(&actor.task))
    }

    /// A ward for an agent that has worked for `age` on its attempt.
    fn new(settings: &Settings, age: Duration) -> Self {
        Self {
            late: late(settings.tasks.time_limit, age),
            medic: Medic::new(settings.medic.clone(), Duration::ZERO),
            meter: Meter::default(),
            rules: settings.medic.clone(),
            limits: settings.quota.clone(),
            began: Instant::now(),
            usage: None,
            near: None,
            complaint: None,
            waiting: VecDeque::new(),
            discharged: false,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes a chunk of output as its cues; the answer to a nudge is no sign of progress.
    pub(super) fn output(&mut self, signals: &[Signal]) {
        let now = self.now();
        let repeated = |signal: &Signal| matches!(signal, Signal::Cue(Cue::State(_)));
        if !signals.iter().any(repeated) {
            self.medic.see(Sign::Output, now);
        }
        for signal in signals {
            let Signal::Cue(cue) = signal else { continue };
            match cue {
                Cue::Error { text } | Cue::Warning { text } => self.complaint = Some(text.clone()),
                Cue::Retry { text } => {
                    let text = self.complaint.clone().unwrap_or_else(|| text.clone());
                    self.medic.see(Sign::Retried(text), now);
                }
                Cue::Tokens { .. }
                | Cue::Edited { .. }
                | Cue::Commit { .. }
                | Cue::Reply { .. } => self.medic.see(Sign::Progressed, now),
                Cue::Start { .. }
                | Cue::Prompt { .. }
                | Cue::Input { .. }
                | Cue::Question(_)
                | Cue::Answered { .. }
                | Cue::State(_)
                | Cue::Exit { .. }
                | Cue::Unknown => {}
            }
        }
    }

    /// The gateway saw something of its requests.
    pub(super) fn traffic(&mut self, traffic: &Traffic) {
        let open = traffic.open > 0;
        self.medic.see(Sign::Traffic { open }, self.now());
    }

    /// A human typed into its terminal.
    pub(super) fn human(&mut self) {
        self.medic.see(Sign::Human, self.now());
    }

    /// Its processes were measured.
    pub(super) fn measured(&mut self, vitals: &Vitals) {
        self.medic.measure(vitals, self.now());
        self.usage = Some(vitals.usage);
        let readings = quota::of_agent(&vitals.usage, &self.limits);
        self.near = quota::nearest(&readings);
        for ruling in self.meter.judge(&readings) {
            match ruling {
                Ruling::Warn(why) => self.waiting.push_back(Care::Tell(Treatment::Warned, why)),
                Ruling::Stop(why) => self.over_quota(why),
            }
        }
    }

    /// It has to end for the sake of a quota.
    pub(super) fn over_quota(&mut self, why: String) {
        let end = Care::Conclude(Fact::OverQuota { why });
        self.waiting.push_back(end);
    }

    /// Nothing more is done about it.
    pub(super) fn discharge(&mut self) {
        self.discharged = true;
    }

    /// When something is due, if nothing else is seen before.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.discharged {
            return None;
        }
        let medic = self.medic.due().map(|due| self.began + due);
        let late = self.late.as_ref().map(|(moment, _)| *moment);
        [medic, late].into_iter().flatten().min()
    }

    /// What is to be done now; asked again until there is nothing.
    pub(super) fn next(&mut self, turn: &Turn) -> Option<Care> {
        if self.discharged {
            return None;
        }
        let now = self.now();
        self.medic.doing(turn.doing(), now);
        if let Some(care) = self.waiting.pop_front() {
            return Some(care);
        }
        if let Some((_, why)) = self.late.take_if(|(moment, _)| *moment <= Instant::now()) {
            return Some(Care::Tell(Treatment::Warned, why));
        }
        loop {
            let prescription = self.medic.treat(now)?;
            if let Some(care) = self.care(prescription, turn) {
                return Some(care);
            }
        }
    }

    fn care(&self, prescription: Prescription, turn: &Turn) -> Option<Care> {
        let Prescription { order, why } = prescription;
        match order {
            Order::Nudge => Some(Care::Signal(JobSignal::Usr1, Treatment::Nudged, why)),
            Order::Continue => Some(Care::Signal(JobSignal::Cont, Treatment::Continued, why)),
            Order::Interrupt => Some(Care::Interrupt(why)),
            Order::GiveUp(blame) => Some(ending(blame, &why)),
            Order::Unanswered => self.unanswered(turn, &why),
        }
    }

    /// The policy for the question that nobody answers; none lets it wait.
    fn unanswered(&self, turn: &Turn, why: &str) -> Option<Care> {
        let question = turn.open_question()?;
        let answer = self.rules.unanswered.get(&question.kind).copied();
        match answer.unwrap_or_default() {
            Unanswered::Wait => None,
            Unanswered::Hold => Some(Care::GiveUp(format!("{why}: {}", question.text))),
            Unanswered::Yes | Unanswered::No if turn.asks_for_a_text() => None,
            answer @ (Unanswered::Yes | Unanswered::No) => Some(Care::Answer {
                number: question.number,
                text: question.text,
                answer,
                why: why.to_owned(),
            }),
        }
    }

    /// How an attempt ends that came back to its prompt because it was interrupted.
    fn verdict(&self) -> Option<Care> {
        let (blame, why) = self.medic.verdict()?;
        Some(ending(blame, why))
    }

    /// Adds what is known here to what the agent says of itself.
    pub(super) fn complete(&self, report: AgentReport) -> AgentReport {
        let near = self.near.clone().map_or(Health::Ok, Health::Degraded);
        AgentReport {
            health: self.medic.health().worse(near),
            usage: self.usage,
            ..report
        }
    }
}

/// The warning at four fifths of the time limit, unless that is past: a former server gave it.
fn late(limit: Duration, age: Duration) -> Option<(Instant, String)> {
    let left = (limit / 5 * 4).checked_sub(age)?;
    let minutes = |time: Duration| time.as_secs() / 60;
    let (used, all) = (minutes(limit / 5 * 4), minutes(limit));
    let why = format!("near its quota, time: {used} min of {all} min");
    Some((Instant::now().checked_add(left)?, why))
}

fn ending(blame: Blame, why: &str) -> Care {
    let why = why.to_owned();
    match blame {
        Blame::Endpoint => Care::Conclude(Fact::Held { why }),
        Blame::Unknown => Care::GiveUp(why),
    }
}

/// How long ago the task's attempt was assigned, by the wall clock but for what does not count.
fn age(task: &Task) -> Duration {
    let started = task
        .attempt()
        .map_or(0, |attempt| attempt.started.shifted(attempt.uncounted_ms).0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
        .saturating_sub(Duration::from_millis(started))
}

impl Watched {
    /// Does what the terminal asks for and what is due for the agent's health. An agent that came
    /// back to its prompt because it was interrupted is not judged by what it left there.
    pub(super) async fn attend(&mut self, actor: &Actor) -> Option<Ending> {
        if let Some(step) = self.turn.next() {
            match self.ward.verdict().filter(|_| step == Step::Settle) {
                None => self.step(actor, step).await,
                Some(care) => {
                    let ending = self.give(actor, care).await;
                    if ending.is_some() {
                        return ending;
                    }
                }
            }
        }
        while let Some(care) = self.ward.next(&self.turn) {
            if let Some(ending) = self.give(actor, care).await {
                return Some(ending);
            }
        }
        None
    }

    /// Carries out one piece of care and reports it.
    async fn give(&mut self, actor: &Actor, care: Care) -> Option<Ending> {
        let keeper = actor.workshop.jobs.keeper();
        match care {
            Care::Signal(signal, what, why) => {
                if let Err(error) = keeper.signal(&self.job, signal).await {
                    tracing::debug!(job = %self.job, %error, "it could not be signalled");
                }
                actor.say(Fact::Treated { what, why }).await;
            }
            Care::Interrupt(why) => {
                self.write(actor, INTERRUPT).await;
                let what = Treatment::Interrupted;
                actor.say(Fact::Treated { what, why }).await;
            }
            Care::Answer {
                number,
                text,
                answer,
                why,
            } => {
                let (keys, word): (&[u8], _) = match answer {
                    Unanswered::Yes => (b"y\r", "yes"),
                    Unanswered::No | Unanswered::Wait | Unanswered::Hold => (b"n\r", "no"),
                };
                let key = format!("question-{number}");
                if let Err(error) = keeper.deliver(&self.job, &key, keys).await {
                    tracing::warn!(job = %self.job, %error, "the answer was not typed");
                }
                let answer = format!("{word} ({why})");
                actor.say(Fact::Answered { text, answer }).await;
            }
            Care::Tell(what, why) => actor.say(Fact::Treated { what, why }).await,
            Care::Conclude(fact) => {
                self.charge(actor).await;
                self.conclude(actor, fact).await;
            }
            Care::GiveUp(why) => return Some(Ending::GivenUp(why)),
        }
        None
    }
}

#[cfg(test)]
#[path = "medic_tests.rs"]
mod tests;
