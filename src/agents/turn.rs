//! One attempt as its terminal shows it: what is delivered, asked and answered, and when it ends.
//!
//! Pure: bytes go in as parsed cues, what is to be done comes out as [`Step`]s. The actor carries
//! them out through the keeper, under keys that make each of them happen once.

use std::collections::BTreeMap;

use crate::core::agent::{AgentReport, AgentState, Question, Why};
use crate::core::medic::Doing;
use crate::core::settings::Answer;
use crate::core::traffic::{Phase, Traffic};

use super::aider::cues::{AgentScreenState, AskedQuestion, Cue, Signal};
use super::aider::judge::TurnRecord;
use super::aider::prompt::Delivery;
use super::aider::questions::{self, decide};

/// What the terminal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Type the prompt, once.
    Deliver,
    /// Type an answer to question `n`, once.
    Answer {
        /// The question's number.
        number: u32,
        /// The keys.
        keys: &'static [u8],
        /// The question.
        text: String,
        /// In words, for the log.
        answer: String,
    },
    /// Aider came back to its prompt: judge the attempt.
    Settle,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Turn {
    prompt: Delivery,
    answers: BTreeMap<String, Answer>,
    delivered: bool,
    taken: bool,
    settled: bool,
    asked: Option<u32>,
    screen: AgentScreenState,
    record: TurnRecord,
    note: Option<String>,
    pid: Option<u32>,
}

impl Turn {
    pub(super) fn new(prompt: Delivery, answers: BTreeMap<String, Answer>) -> Self {
        Self {
            prompt,
            answers,
            delivered: false,
            taken: false,
            settled: false,
            asked: None,
            screen: AgentScreenState::Starting,
            record: TurnRecord::default(),
            note: None,
            pid: None,
        }
    }

    pub(super) fn prompt(&self) -> &Delivery {
        &self.prompt
    }

    pub(super) fn record(&self) -> &TurnRecord {
        &self.record
    }

    pub(super) fn set_pid(&mut self, pid: u32) {
        self.pid = Some(pid);
    }

    /// The keeper remembers that the prompt was typed.
    pub(super) fn mark_delivered(&mut self) {
        self.delivered = true;
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// The ring's beginning is lost, so the cue that took the prompt may be lost with it: any
    /// prompt after the first one proves it.
    pub(super) fn history_is_cut(&mut self) {
        if self.delivered && matches!(self.screen, AgentScreenState::Prompt { n, .. } if n > 1) {
            self.taken = true;
        }
    }

    /// Takes one signal of the terminal and the state after it.
    pub(super) fn observe(&mut self, signal: &Signal, screen: &AgentScreenState) {
        self.screen = screen.clone();
        let Signal::Cue(cue) = signal else { return };
        if self.prompt.was_taken(cue) {
            self.taken = true;
            self.record = TurnRecord::default();
        }
        self.record.observe(cue);
        match cue {
            Cue::Error { text } | Cue::Warning { text } | Cue::Retry { text } => {
                self.note = Some(text.clone());
            }
            Cue::Edited { files } => self.note = Some(format!("edited {}", files.join(", "))),
            _ => {}
        }
    }

    /// What is to be done now; each step is given once.
    pub(super) fn next(&mut self) -> Option<Step> {
        match &self.screen {
            AgentScreenState::Prompt { reading: true, .. } if !self.delivered => {
                self.delivered = true;
                Some(Step::Deliver)
            }
            AgentScreenState::Prompt { reading: true, .. } if self.taken && !self.settled => {
                self.settled = true;
                Some(Step::Settle)
            }
            AgentScreenState::Question {
                question,
                reading: true,
            } if self.asked != Some(question.n) => {
                let question = question.clone();
                self.asked = Some(question.n);
                self.answer(&question)
            }
            _ => None,
        }
    }

    fn answer(&self, question: &AskedQuestion) -> Option<Step> {
        let decision = decide(question, &self.answers);
        let keys = questions::keys(decision.answer)?;
        let yes = decision.answer == Answer::Yes;
        Some(Step::Answer {
            number: question.n,
            keys,
            text: line(question),
            answer: format!("{} ({})", if yes { "yes" } else { "no" }, decision.why),
        })
    }

    /// The question a human has to answer.
    pub(super) fn open_question(&self) -> Option<Question> {
        let AgentScreenState::Question { question, .. } = &self.screen else {
            return None;
        };
        let decision = decide(question, &self.answers);
        (decision.answer == Answer::Ask).then(|| Question {
            number: question.n,
            kind: decision.kind.name().to_owned(),
            text: line(question),
        })
    }

    /// The open question wants a text, not yes or no.
    pub(super) fn asks_for_a_text(&self) -> bool {
        matches!(
            &self.screen,
            AgentScreenState::Question { question, .. } if question.form == "text"
        )
    }

    /// What the agent is at, for whoever watches its health.
    pub(super) fn doing(&self) -> Doing {
        if let Some(question) = self.open_question() {
            let number = question.number;
            return Doing::Asking { number };
        }
        match &self.screen {
            AgentScreenState::Starting | AgentScreenState::Exited { .. } => Doing::Nothing,
            AgentScreenState::Prompt { .. } if self.settled || !self.delivered => Doing::Nothing,
            AgentScreenState::Prompt { .. }
            | AgentScreenState::Question { .. }
            | AgentScreenState::Busy => Doing::Working,
        }
    }

    /// What the agent says of itself.
    pub(super) fn report(&self, traffic: &Traffic) -> AgentReport {
        let question = self.open_question();
        let (state, why) = match &self.screen {
            _ if question.is_some() => (AgentState::Waiting, Why::Unknown),
            AgentScreenState::Starting => (AgentState::Warming, Why::Starting),
            AgentScreenState::Exited { .. } => (AgentState::Dead, Why::Unknown),
            AgentScreenState::Prompt { .. } if self.settled => (AgentState::Ready, Why::Judging),
            AgentScreenState::Prompt { .. } if !self.delivered => (AgentState::Ready, Why::Unknown),
            AgentScreenState::Prompt { .. }
            | AgentScreenState::Question { .. }
            | AgentScreenState::Busy => (AgentState::Working, why_of(traffic)),
        };
        AgentReport {
            state,
            why,
            pid: self.pid,
            question,
            note: traffic.trouble.clone().or_else(|| self.note.clone()),
            ..AgentReport::default()
        }
    }
}

fn why_of(traffic: &Traffic) -> Why {
    match traffic.phase {
        Phase::Idle => Why::Editing,
        Phase::Queued(ahead) => Why::Queued(ahead),
        Phase::Loading => Why::Loading,
        Phase::Prefill => Why::Prefill,
        Phase::Generating(rate) => Why::Generating(rate),
    }
}

fn line(question: &AskedQuestion) -> String {
    let subject = question.subject.as_deref().unwrap_or_default();
    let text = format!("{subject} {}", question.text);
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    clean
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::aider::cues::InputEnd;
    use crate::agents::aider::prompt::literal;

    fn turn() -> Turn {
        Turn::new(literal("add a test").unwrap(), BTreeMap::new())
    }

    fn at_prompt(n: u32) -> AgentScreenState {
        AgentScreenState::Prompt {
            n,
            mode: "diff".into(),
            reading: true,
        }
    }

    fn taken(turn: &Turn) -> Cue {
        Cue::Input {
            n: 1,
            how: InputEnd::Text,
            bytes: 10,
            sha256: turn.prompt().sha256.clone(),
        }
    }

    #[test]
    fn the_prompt_is_delivered_once_and_the_next_prompt_settles() {
        let mut turn = turn();
        turn.observe(&Signal::Reading { n: 1 }, &at_prompt(1));
        assert_eq!(turn.next(), Some(Step::Deliver));
        assert_eq!(turn.next(), None);
        let cue = taken(&turn);
        turn.observe(&Signal::Cue(cue), &AgentScreenState::Busy);
        assert_eq!(turn.next(), None);
        turn.observe(&Signal::Reading { n: 2 }, &at_prompt(2));
        assert_eq!(turn.next(), Some(Step::Settle));
        assert_eq!(turn.next(), None);
    }

    #[test]
    fn a_delivered_prompt_that_is_not_taken_yet_does_not_settle() {
        let mut turn = turn();
        turn.mark_delivered();
        turn.observe(&Signal::Reading { n: 1 }, &at_prompt(1));
        assert_eq!(turn.next(), None);
    }

    #[test]
    fn a_cut_history_settles_only_at_a_later_prompt() {
        let mut turn = turn();
        turn.mark_delivered();
        turn.observe(&Signal::Reading { n: 1 }, &at_prompt(1));
        turn.history_is_cut();
        assert_eq!(turn.next(), None);
        turn.observe(&Signal::Reading { n: 4 }, &at_prompt(4));
        turn.history_is_cut();
        assert_eq!(turn.next(), Some(Step::Settle));
    }

    #[test]
    fn an_unknown_question_waits_and_a_known_one_is_answered_once() {
        let mut turn = turn();
        let ask = |text: &str, n| AgentScreenState::Question {
            question: AskedQuestion {
                n,
                form: "confirm".into(),
                text: text.into(),
                ..AskedQuestion::default()
            },
            reading: true,
        };
        turn.observe(
            &Signal::Reading { n: 2 },
            &ask("Shall the moon be blue?", 2),
        );
        assert_eq!(turn.next(), None);
        assert!(turn.open_question().is_some());
        assert_eq!(turn.report(&Traffic::default()).state, AgentState::Waiting);
        turn.observe(&Signal::Reading { n: 3 }, &ask("Run shell command?", 3));
        assert!(matches!(
            turn.next(),
            Some(Step::Answer {
                number: 3,
                keys: b"n\r",
                ..
            })
        ));
        assert_eq!(turn.next(), None);
    }
}
