//! One answer, token by token at the model's pace, with whatever fault was decided for it.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::clock::Clock;
use super::coder::Answer;
use super::outage::Outage;
use super::request::Ask;
use super::scenario::{FaultKind, FaultSpec, ModelSpec, Voice};
use super::scheduler::{Busy, Grant, Slot, Work};
use super::text::{self, Numbers};
use crate::ollama::wire::Timings;

/// Ollama gives up after more than this many equal tokens in a row.
const REPEAT_LIMIT: usize = 30;
/// What Ollama says when its runner dies.
pub(super) const RUNNER_DIED: &str =
    "an error was encountered while running the model: unexpected EOF";
/// What it says when the runner has no memory left.
const NO_MEMORY: &str =
    "an error was encountered while running the model: CUDA error: out of memory";

/// What a model thinks that can, of whatever it is asked.
const THOUGHTS: &str = "The request is clear: what is asked for, and nothing else.";

/// What comes next in an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// A token.
    Text(String),
    /// A token of the thoughts.
    Thought(String),
    /// A line that is not what the API says.
    Raw(String),
    /// The last line.
    Done {
        reason: &'static str,
        timings: Timings,
    },
    /// A last line with an error.
    Error(String),
    /// The connection breaks.
    Cut,
    /// A clean end without a last line.
    End,
}

/// An answer in the making; dropping it frees slot and model.
pub(super) struct Generation {
    held: Option<(Grant, Slot)>,
    decoding: Option<Busy>,
    /// Said before the answer.
    thoughts: VecDeque<String>,
    source: Source,
    fault: Option<FaultSpec>,
    pace: Pace,
    outage: Outage,
    /// Tokens per second that were asked for, or the model's own.
    rate: f64,
    is_rate_asked: bool,
    started: Instant,
    due: Instant,
    arrived: Instant,
    timings: Timings,
    limit: Option<u64>,
    stops: Vec<String>,
    said: String,
    last: String,
    repeats: usize,
    ended: bool,
}

enum Source {
    Text(VecDeque<String>),
    Words(Numbers, Option<usize>),
    Loop,
    /// Like a weak model that must write JSON: one bracket, then line ends for ever.
    BareJson {
        is_open: bool,
    },
}

impl Source {
    fn next(&mut self) -> Option<String> {
        match self {
            Self::Text(tokens) => tokens.pop_front(),
            Self::Words(_, Some(0)) => None,
            Self::Words(numbers, left) => {
                *left = left.map(|n| n - 1);
                Some(numbers.word())
            }
            Self::Loop => Some(" di".into()),
            Self::BareJson { is_open } => {
                let token = if *is_open { "\n" } else { "{" };
                *is_open = true;
                Some(token.into())
            }
        }
    }

    fn of(text: &str) -> Self {
        Self::Text(text::tokens(text).into())
    }

    /// What the model says to `ask`; `reply` is what a coder would.
    fn new(ask: &Ask, model: &ModelSpec, reply: &str, fault: Option<&FaultSpec>) -> Self {
        let prompt: String = ask.messages.iter().map(|m| m.content.as_str()).collect();
        match (&ask.format, model.voice) {
            _ if fault.is_some_and(|fault| fault.kind == FaultKind::Empty) => Self::of(""),
            (Some(Value::Object(schema)), _) => {
                Self::of(&instance(&Value::Object(schema.clone())).to_string())
            }
            (Some(_), Voice::Endless | Voice::Ends | Voice::Loop) => {
                Self::BareJson { is_open: false }
            }
            (Some(_), Voice::Coder) => Self::of("{}"),
            (None, Voice::Coder) => Self::of(reply),
            (None, Voice::Endless) => Self::Words(Numbers::of(&prompt), None),
            (None, Voice::Ends) => Self::Words(Numbers::of(&prompt), Some(model.length)),
            (None, Voice::Loop) => Self::Loop,
        }
    }
}

/// What is known before the first token.
pub(super) struct Begin {
    pub(super) arrived: Instant,
    pub(super) granted: Instant,
    pub(super) prompt_tokens: u64,
    pub(super) prefill: Duration,
    pub(super) num_ctx: u64,
    pub(super) reply: Answer,
    pub(super) pace: Pace,
    pub(super) outage: Outage,
}

/// How the time of a token varies.
pub(super) struct Pace {
    pub(super) clock: Clock,
    /// Largest deviation, as a share.
    pub(super) jitter: f64,
    pub(super) numbers: Numbers,
}

impl Pace {
    /// A token that takes `seconds` on average.
    fn token(&mut self, seconds: f64) -> Duration {
        let deviation = self.jitter * (2.0 * self.numbers.fraction() - 1.0);
        let seconds = seconds * (1.0 + deviation);
        self.clock.real(Duration::from_secs_f64(seconds))
    }
}

impl Generation {
    /// An answer of `model` to `ask`.
    pub(super) fn new(
        held: Option<(Grant, Slot)>,
        ask: &Ask,
        model: &ModelSpec,
        begin: Begin,
        fault: Option<FaultSpec>,
    ) -> Self {
        let mut stops = ask.stops();
        stops.extend(model.stop.iter().cloned());
        let decoding = held
            .as_ref()
            .map(|(_, slot)| Busy::new(&slot.engine, Work::Decode));
        Self {
            held,
            decoding,
            thoughts: thoughts(ask, model, fault.as_ref()),
            source: Source::new(ask, model, &begin.reply.text, fault.as_ref()),
            fault,
            pace: begin.pace,
            outage: begin.outage,
            rate: begin.reply.rate.unwrap_or(model.rate),
            is_rate_asked: begin.reply.rate.is_some(),
            started: Instant::now(),
            due: Instant::now(),
            arrived: begin.arrived,
            timings: Timings {
                load_duration: nanos(begin.granted - begin.arrived),
                prompt_eval_count: begin.prompt_tokens,
                prompt_eval_duration: nanos(begin.prefill),
                ..Timings::default()
            },
            limit: limit(ask, begin.num_ctx),
            stops,
            said: String::new(),
            last: String::new(),
            repeats: 0,
            ended: false,
        }
    }

    /// Waits for the next token; `None` after the end. A runner that dies ends all its answers.
    pub(super) async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let death = self.held.as_ref().map(|(grant, _)| grant.death());
        let death = async {
            match death {
                Some(death) => death.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = self.speak() => event,
            () = death => Some(self.end(Event::Error(RUNNER_DIED.into()))),
        }
    }

    async fn speak(&mut self) -> Option<Event> {
        if let Some(event) = self.faulty().await {
            return Some(event);
        }
        if self
            .limit
            .is_some_and(|limit| self.timings.eval_count >= limit)
        {
            return Some(self.done("length"));
        }
        let thought = self.thoughts.pop_front();
        let is_thought = thought.is_some() || self.thinks_only();
        let Some(token) = thought.or_else(|| self.source.next()) else {
            return Some(self.done("stop"));
        };
        self.repeats = if token == self.last {
            self.repeats + 1
        } else {
            1
        };
        self.last.clone_from(&token);
        if self.repeats > REPEAT_LIMIT + 1 {
            return Some(self.end(Event::End));
        }
        self.timings.eval_count += 1;
        let time = self.token_time();
        self.due += time;
        tokio::time::sleep_until(self.due).await;
        Some(if is_thought {
            Event::Thought(token)
        } else {
            self.token(token)
        })
    }

    fn thinks_only(&self) -> bool {
        let fault = self.fault.as_ref();
        fault.is_some_and(|fault| fault.kind == FaultKind::ThinkingOnly)
    }

    /// How long this token takes: the more streams the runner speaks, the longer.
    fn token_time(&mut self) -> Duration {
        let factor = match &self.held {
            // What was asked for is kept.
            Some((_, slot)) if !self.is_rate_asked => slot.engine.decode_factor(),
            _ => {
                return self
                    .pace
                    .clock
                    .real(Duration::from_secs_f64(1.0 / self.rate));
            }
        };
        self.pace.token(factor / self.rate)
    }

    fn token(&mut self, token: String) -> Event {
        let before = self.said.len();
        self.said.push_str(&token);
        let stop = self
            .stops
            .iter()
            .filter_map(|stop| self.said.find(stop))
            .min();
        let Some(at) = stop else {
            return Event::Text(token);
        };
        // What comes before the stop is still said; the stop itself is not.
        let kept = self.said.get(before..at).unwrap_or_default().to_owned();
        self.source = Source::of("");
        self.limit = None;
        Event::Text(kept)
    }

    /// The fault, when its time has come.
    async fn faulty(&mut self) -> Option<Event> {
        let fault = self.fault.as_ref()?;
        if self.timings.eval_count < u64::try_from(fault.after).unwrap_or(u64::MAX) {
            return None;
        }
        let message = fault.message.clone();
        match fault.kind {
            FaultKind::Stall => std::future::pending().await,
            FaultKind::Cut => {
                // What was said before is sent first: a pending body is a flushed one.
                let token = self.token_time();
                tokio::time::sleep(token.max(Duration::from_millis(1))).await;
                Some(self.end(Event::Cut))
            }
            FaultKind::NoDone => Some(self.end(Event::End)),
            FaultKind::ErrorLine => {
                let message = message.unwrap_or_else(|| RUNNER_DIED.into());
                Some(self.end(Event::Error(message)))
            }
            FaultKind::RunnerKilled => {
                if let Some((grant, _)) = &self.held {
                    grant.kill_runner();
                }
                Some(self.end(Event::Error(RUNNER_DIED.into())))
            }
            FaultKind::RunnerOom => {
                if let Some((grant, _)) = &self.held {
                    grant.expire_all();
                }
                let message = message.unwrap_or_else(|| NO_MEMORY.into());
                Some(self.end(Event::Error(message)))
            }
            FaultKind::Down => {
                self.outage.begin(fault.duration);
                std::future::pending().await
            }
            FaultKind::Repeat => {
                self.fault = None;
                self.source = Source::Loop;
                None
            }
            FaultKind::MalformedLine => {
                self.fault = None;
                Some(Event::Raw(message.unwrap_or_else(|| "{\"model\":".into())))
            }
            FaultKind::Status
            | FaultKind::Busy
            | FaultKind::Refuse
            | FaultKind::QueueError
            | FaultKind::Truncated
            | FaultKind::Exceeded
            | FaultKind::Empty
            | FaultKind::ThinkingOnly
            | FaultKind::SlowLoad
            | FaultKind::StuckLoad
            | FaultKind::LoadError
            | FaultKind::LoadOom
            | FaultKind::CpuOnly
            | FaultKind::SlowUnload
            | FaultKind::StuckUnload
            | FaultKind::PsLag
            | FaultKind::Removed
            | FaultKind::Repointed => None,
        }
    }

    fn done(&mut self, reason: &'static str) -> Event {
        self.timings.eval_duration = nanos(self.started.elapsed());
        self.timings.total_duration = nanos(self.arrived.elapsed());
        let timings = self.timings;
        self.end(Event::Done { reason, timings })
    }

    fn end(&mut self, event: Event) -> Event {
        self.ended = true;
        // Slot and model are free before the client hears of the end.
        self.let_go();
        event
    }

    /// Frees slot and model; the slot still knows what was said.
    fn let_go(&mut self) {
        self.decoding = None;
        if let Some((grant, mut slot)) = self.held.take() {
            slot.says("assistant\n");
            slot.says(&self.said);
            // The slot first: whoever waits for it has the runner as well.
            drop(slot);
            drop(grant);
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn thoughts(ask: &Ask, model: &ModelSpec, fault: Option<&FaultSpec>) -> VecDeque<String> {
    let is_empty = fault.is_some_and(|fault| fault.kind == FaultKind::Empty);
    if ask.thinks(model) && !is_empty {
        text::tokens(THOUGHTS).into()
    } else {
        VecDeque::new()
    }
}

/// Tokens after which an answer ends in any case.
fn limit(ask: &Ask, num_ctx: u64) -> Option<u64> {
    let predict = ask.integer("num_predict").ok().flatten().unwrap_or(-1);
    match u64::try_from(predict) {
        // Seen: 0 does not end by itself.
        Ok(0) => None,
        Ok(limit) => Some(limit),
        Err(_negative) => Some(10 * num_ctx),
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The smallest value that satisfies a JSON schema's types.
fn instance(schema: &Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let pairs = properties.into_iter().flatten();
            Value::Object(pairs.map(|(key, of)| (key.clone(), instance(of))).collect())
        }
        Some("array") => Value::Array(Vec::new()),
        Some("integer" | "number") => Value::from(6),
        Some("boolean") => Value::Bool(true),
        _ => Value::String("text".into()),
    }
}
