//! Cues: what our launcher reports in Aider's own output, and the state that follows from them.
//!
//! A cue is `ESC ]7717;<nonce>;<json> BEL`, printed in order with everything else, so a state can
//! be rebuilt from the ring of recent output alone. Cues of another nonce are text that a model or
//! a program printed: they are ignored. `ESC[?2004h` after a prompt or question says that the
//! terminal really reads; further `l`/`h` pairs are redraws (a resize prints two of them).
//!
//! The scanner is our own instead of vte's: it needs two sequences, must never buffer more than
//! one cue (vte's OSC buffer grows without limit) and any ESC starts afresh, so that a sequence
//! that a model left unfinished cannot swallow a cue.
//!
//! Invariant: pure; bytes may come in any pieces.

use serde::Deserialize;

/// Number of the private OSC sequence.
const OSC_NUMBER: &[u8] = b"7717;";

/// Longest cue taken, in bytes; the launcher stays below 2 KiB and a nonce.
const CUE_MAX: usize = 4096;

/// One report of the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "cue", rename_all = "kebab-case")]
pub enum Cue {
    /// Aider is imported and starts.
    Start {
        /// Its version.
        aider: String,
        /// Its process.
        pid: u32,
    },
    /// It will read a prompt.
    Prompt {
        /// Counted from 1 over prompts and questions.
        n: u32,
        /// Aider's edit format at this prompt: `whole`, `diff`, `ask`, `architect`, …
        #[serde(default)]
        mode: String,
    },
    /// Reading a prompt ended.
    Input {
        /// The prompt.
        n: u32,
        /// How it ended.
        how: InputEnd,
        /// Length of the text taken.
        #[serde(default)]
        bytes: usize,
        /// SHA-256 of the text taken, in hex.
        #[serde(default)]
        sha256: String,
    },
    /// It will read an answer.
    Question(AskedQuestion),
    /// Reading an answer ended.
    Answered {
        /// The question.
        n: u32,
        /// What was typed; `None` when it was interrupted.
        answer: Option<String>,
    },
    /// A red line.
    Error {
        /// The text, perhaps shortened.
        text: String,
    },
    /// A yellow line.
    Warning {
        /// The text, perhaps shortened.
        text: String,
    },
    /// Aider tries a request again.
    Retry {
        /// The line printed.
        text: String,
    },
    /// A model answered; the numbers are Aider's estimates (it does not see Ollama's counts).
    Tokens {
        /// Prompt tokens.
        sent: u64,
        /// Generated tokens.
        received: u64,
    },
    /// Edits were applied.
    Edited {
        /// The files, relative to the worktree, perhaps shortened.
        files: Vec<String>,
    },
    /// A commit was made.
    Commit {
        /// Its full hash.
        hash: String,
    },
    /// A turn ended with a reply, kept in `reply.md` of the agent's directory.
    Reply {
        /// Its length.
        bytes: usize,
        /// Edit format of the turn.
        #[serde(default)]
        mode: String,
        /// Its beginning, on one line.
        #[serde(default)]
        text: String,
    },
    /// Answer to SIGUSR1.
    State(RepeatedState),
    /// Aider ended.
    Exit {
        /// Its exit code; 0 says nothing about success.
        code: i32,
    },
    /// A cue of a newer launcher.
    #[serde(other)]
    Unknown,
}

/// How reading a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputEnd {
    /// A text was submitted.
    Text,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D: Aider ends.
    End,
}

/// A question as Aider asks it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct AskedQuestion {
    /// Counted from 1 over prompts and questions.
    pub n: u32,
    /// `confirm` (yes or no) or `text`.
    #[serde(default)]
    pub form: String,
    /// What it is about: a file, a URL, a command.
    #[serde(default)]
    pub subject: Option<String>,
    /// The question.
    pub text: String,
    /// Aider's own default answer.
    #[serde(default)]
    pub default: String,
    /// For a file: it lies inside the worktree and outside `.git`.
    #[serde(default)]
    pub inside: Option<bool>,
    /// For a file: its estimated size in tokens.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// For a file: tokens left in the context.
    #[serde(default)]
    pub room: Option<u64>,
}

/// The present state, as repeated on request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RepeatedState {
    state: String,
    #[serde(default)]
    reading: bool,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    code: i32,
    #[serde(default)]
    n: u32,
    #[serde(default)]
    form: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    default: String,
    #[serde(default)]
    inside: Option<bool>,
    #[serde(default)]
    tokens: Option<u64>,
    #[serde(default)]
    room: Option<u64>,
}

impl RepeatedState {
    fn screen_state(&self) -> AgentScreenState {
        match self.state.as_str() {
            "prompt" => AgentScreenState::Prompt {
                n: self.n,
                mode: self.mode.clone(),
                reading: self.reading,
            },
            "question" => AgentScreenState::Question {
                question: self.question(),
                reading: self.reading,
            },
            "busy" => AgentScreenState::Busy,
            "exited" => AgentScreenState::Exited { code: self.code },
            _ => AgentScreenState::Starting,
        }
    }

    fn question(&self) -> AskedQuestion {
        AskedQuestion {
            n: self.n,
            form: self.form.clone(),
            subject: self.subject.clone(),
            text: self.text.clone(),
            default: self.default.clone(),
            inside: self.inside,
            tokens: self.tokens,
            room: self.room,
        }
    }
}

/// What Aider is doing, as far as its terminal tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentScreenState {
    /// Not yet at its first prompt.
    #[default]
    Starting,
    /// At a prompt.
    Prompt {
        /// The prompt.
        n: u32,
        /// Aider's edit format.
        mode: String,
        /// The terminal reads: a text may be pasted now.
        reading: bool,
    },
    /// At a question.
    Question {
        /// The question.
        question: AskedQuestion,
        /// The terminal reads: an answer may be typed now.
        reading: bool,
    },
    /// Works on what was submitted.
    Busy,
    /// Ended.
    Exited {
        /// Its exit code.
        code: i32,
    },
}

impl AgentScreenState {
    /// Takes one cue; true if the state is another one now.
    pub fn apply(&mut self, cue: &Cue) -> bool {
        let next = match cue {
            Cue::Start { .. } => Self::Starting,
            Cue::Prompt { n, mode } => Self::Prompt {
                n: *n,
                mode: mode.clone(),
                reading: false,
            },
            Cue::Question(question) => Self::Question {
                question: question.clone(),
                reading: false,
            },
            Cue::Input { .. } | Cue::Answered { .. } => Self::Busy,
            Cue::State(repeated) => repeated.screen_state(),
            Cue::Exit { code } => Self::Exited { code: *code },
            Cue::Error { .. }
            | Cue::Warning { .. }
            | Cue::Retry { .. }
            | Cue::Tokens { .. }
            | Cue::Edited { .. }
            | Cue::Commit { .. }
            | Cue::Reply { .. }
            | Cue::Unknown => return false,
        };
        let changed = *self != next;
        *self = next;
        changed
    }

    /// The terminal switched bracketed paste on; the number of the prompt or question that is now
    /// read for the first time.
    fn read(&mut self) -> Option<u32> {
        let (n, reading) = match self {
            Self::Prompt { n, reading, .. } => (*n, reading),
            Self::Question { question, reading } => (question.n, reading),
            Self::Starting | Self::Busy | Self::Exited { .. } => return None,
        };
        if *reading {
            return None;
        }
        *reading = true;
        Some(n)
    }
}

/// What the parser found, in the order of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A cue.
    Cue(Cue),
    /// The terminal now reads for this prompt or question; said once for each.
    Reading {
        /// The prompt or question.
        n: u32,
    },
}

/// Finds cues in the raw output of a pty, in any pieces.
#[derive(Debug, Clone)]
pub struct CueParser {
    prefix: Vec<u8>,
    scan: Scan,
    buffer: Vec<u8>,
    state: AgentScreenState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    Ground,
    Escape,
    Csi,
    Osc,
    /// An OSC that is not ours or too long.
    Skip,
}

impl CueParser {
    /// A parser for the agent with this nonce.
    pub fn new(nonce: &str) -> Self {
        Self {
            prefix: [OSC_NUMBER, nonce.as_bytes(), b";"].concat(),
            scan: Scan::Ground,
            buffer: Vec::new(),
            state: AgentScreenState::default(),
        }
    }

    /// The state after everything fed so far.
    pub fn state(&self) -> &AgentScreenState {
        &self.state
    }

    /// Takes the next bytes of the output.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Signal> {
        let mut signals = Vec::new();
        for &byte in bytes {
            self.take(byte, &mut signals);
        }
        signals
    }

    fn take(&mut self, byte: u8, signals: &mut Vec<Signal>) {
        const BEL: u8 = 0x07;
        const CAN: u8 = 0x18;
        const SUB: u8 = 0x1a;
        const ESC: u8 = 0x1b;
        self.scan = match (self.scan, byte) {
            (_, ESC) => Scan::Escape,
            (_, CAN | SUB) => Scan::Ground,
            (Scan::Ground, _) => return,
            (Scan::Escape, b'[') => self.begin(Scan::Csi),
            (Scan::Escape, b']') => self.begin(Scan::Osc),
            (Scan::Escape, _) | (Scan::Skip, BEL) => Scan::Ground,
            (Scan::Skip, _) => Scan::Skip,
            (Scan::Csi, 0x20..=0x3f) => self.keep(byte),
            (Scan::Csi, _) => {
                if byte == b'h' && self.buffer == b"?2004" {
                    signals.extend(self.state.read().map(|n| Signal::Reading { n }));
                }
                Scan::Ground
            }
            (Scan::Osc, BEL) => {
                if let Some(cue) = self.cue() {
                    self.state.apply(&cue);
                    signals.push(Signal::Cue(cue));
                }
                Scan::Ground
            }
            (Scan::Osc, _) => self.keep(byte),
        };
    }

    fn begin(&mut self, scan: Scan) -> Scan {
        self.buffer.clear();
        scan
    }

    fn keep(&mut self, byte: u8) -> Scan {
        let position = self.buffer.len();
        let foreign = self.scan == Scan::Osc
            && self
                .prefix
                .get(position)
                .is_some_and(|expected| *expected != byte);
        if foreign || position >= CUE_MAX {
            return if self.scan == Scan::Csi {
                Scan::Ground
            } else {
                Scan::Skip
            };
        }
        self.buffer.push(byte);
        self.scan
    }

    fn cue(&self) -> Option<Cue> {
        let json = self.buffer.strip_prefix(self.prefix.as_slice())?;
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
#[path = "cues_tests.rs"]
mod tests;
