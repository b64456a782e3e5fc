//! The directive language: lines that begin with `@sim`, see `docs/simulator.md`.

/// One change to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A file with this content, new or instead of the old content.
    Create {
        /// Path from the top of the repository.
        path: String,
        /// All of it.
        content: String,
    },
    /// Text at the end of a file.
    Append {
        /// Path.
        path: String,
        /// What is added.
        content: String,
    },
    /// The first occurrence of a text becomes another; deletion is an empty `new`.
    Replace {
        /// Path.
        path: String,
        /// What is there.
        old: String,
        /// What will be there.
        new: String,
    },
}

impl Edit {
    /// The file.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. } | Self::Append { path, .. } | Self::Replace { path, .. } => {
                path
            }
        }
    }

    /// The edit in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Create { path, .. } => format!("write {path}"),
            Self::Append { path, .. } => format!("add to the end of {path}"),
            Self::Replace { path, new, .. } if new.is_empty() => format!("delete from {path}"),
            Self::Replace { path, .. } => format!("replace in {path}"),
        }
    }
}

/// One answer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The edits, well done.
    Edits {
        /// Prose before them.
        say: String,
        /// What changes.
        edits: Vec<Edit>,
        /// A shell command suggested after them.
        shell: Option<String>,
    },
    /// An answer that breaks the edit format.
    Malformed(Vec<Edit>),
    /// An answer that leaves out code with a comment.
    Elided(Vec<Edit>),
    /// No edits, a refusal.
    Refuse(String),
    /// No edits, a question.
    Ask(String),
}

/// All answers that a message asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Answer by answer.
    pub(super) steps: Vec<Step>,
    /// Tokens per second.
    pub(super) rate: Option<f64>,
}

/// Directives that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct DirectiveError {
    /// Counted from 1, in the user's message.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Whether a text holds directives.
pub(super) fn is_directive(text: &str) -> bool {
    text.lines().any(|line| directive(line).is_some())
}

/// What follows `@sim` on a line.
fn directive(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("@sim")?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim())
}

/// The directives with their text, without the prose around them.
pub(super) fn only_directives(text: &str) -> String {
    let mut kept = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if let Some(words) = directive(line) {
            let (verb, rest) = split_word(words);
            in_block = match verb {
                "create" | "append" | "replace" | "delete" => !rest.contains(":="),
                "with" => true,
                _ => false,
            };
            kept.push(line);
        } else if in_block {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Reads all directives of a message.
pub(super) fn parse(text: &str) -> Result<Plan, DirectiveError> {
    let mut parser = Parser {
        lines: text.lines().enumerate(),
        plan: Plan {
            steps: Vec::new(),
            rate: None,
        },
        round: Round::default(),
    };
    parser.run()?;
    Ok(parser.plan)
}

#[derive(Default)]
struct Round {
    before: Vec<Before>,
    say: Vec<String>,
    edits: Vec<Edit>,
    shell: Option<String>,
    refusal: Option<String>,
}

enum Before {
    Malformed(usize),
    Elided(usize),
    Ask(String),
}

struct Parser<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    plan: Plan,
    round: Round,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Result<(), DirectiveError> {
        while let Some((index, line)) = self.lines.next() {
            let Some(words) = directive(line) else {
                continue;
            };
            self.directive(words, index + 1)?;
        }
        self.end_round();
        Ok(())
    }

    fn directive(&mut self, words: &'a str, line: usize) -> Result<(), DirectiveError> {
        let (verb, rest) = split_word(words);
        let error = |what: String| Err(DirectiveError { line, what });
        match verb {
            "create" | "append" | "delete" | "replace" => {
                let edit = self.edit(verb, rest, line)?;
                self.round.edits.push(edit);
            }
            "say" => self.round.say.push(rest.to_owned()),
            "shell" => self.round.shell = Some(rest.to_owned()),
            "refuse" => {
                let words = or(rest, "I am sorry, but I cannot help with that.");
                self.round.refusal = Some(words);
            }
            "ask" => {
                let question = or(rest, "Which of the two do you mean?");
                self.round.before.push(Before::Ask(question));
            }
            "malformed" => self
                .round
                .before
                .push(Before::Malformed(count(rest, line)?)),
            "elide" => self.round.before.push(Before::Elided(count(rest, line)?)),
            "slow" => match rest.parse::<f64>() {
                Ok(rate) if rate > 0.0 && rate.is_finite() => self.plan.rate = Some(rate),
                _ => return error("slow needs a number of tokens per second".into()),
            },
            "then" => self.end_round(),
            "end" | "with" => return error(format!("{verb} without an edit before it")),
            "" => return error("a directive without a verb".into()),
            unknown => return error(format!("unknown directive {unknown:?}")),
        }
        Ok(())
    }

    fn edit(&mut self, verb: &str, rest: &str, line: usize) -> Result<Edit, DirectiveError> {
        let (path, inline) = match rest.split_once(":=") {
            Some((path, text)) => (path.trim(), Some(text.trim())),
            None => (rest.trim(), None),
        };
        if path.is_empty() {
            let what = format!("{verb} needs a path");
            return Err(DirectiveError { line, what });
        }
        let path = path.to_owned();
        let (first, second) = match inline {
            Some(text) => inline_parts(verb, text, line)?,
            None => self.block(verb, line)?,
        };
        Ok(match verb {
            "create" => Edit::Create {
                path,
                content: first,
            },
            "append" => Edit::Append {
                path,
                content: first,
            },
            _ => Edit::Replace {
                path,
                old: first,
                new: second,
            },
        })
    }

    /// The lines up to `@sim end`; for a replacement the two parts around `@sim with`.
    fn block(&mut self, verb: &str, line: usize) -> Result<(String, String), DirectiveError> {
        let (mut first, mut second) = (String::new(), None::<String>);
        for (index, text) in self.lines.by_ref() {
            match directive(text) {
                Some("end") if verb == "replace" && second.is_none() => {
                    let what = "replace needs a line \"@sim with\"".into();
                    return Err(DirectiveError { line, what });
                }
                Some("end") => return Ok((first, second.unwrap_or_default())),
                Some("with") if verb == "replace" && second.is_none() => {
                    second = Some(String::new());
                }
                Some(other) => {
                    let what = format!("{other:?} inside {verb}: \"@sim end\" is missing");
                    let line = index + 1;
                    return Err(DirectiveError { line, what });
                }
                None => {
                    let part = second.as_mut().unwrap_or(&mut first);
                    part.push_str(text);
                    part.push('\n');
                }
            }
        }
        let what = format!("{verb} has no \"@sim end\"");
        Err(DirectiveError { line, what })
    }

    fn repeat(&mut self, times: usize, step: &Step) {
        self.plan
            .steps
            .extend(std::iter::repeat_n(step.clone(), times));
    }

    fn end_round(&mut self) {
        let round = std::mem::take(&mut self.round);
        for before in round.before {
            match before {
                Before::Malformed(n) => self.repeat(n, &Step::Malformed(round.edits.clone())),
                Before::Elided(n) => self.repeat(n, &Step::Elided(round.edits.clone())),
                Before::Ask(question) => self.repeat(1, &Step::Ask(question)),
            }
        }
        let say = round.say.join("\n");
        if let Some(text) = round.refusal {
            self.plan.steps.push(Step::Refuse(text));
        } else if !round.edits.is_empty() || !say.is_empty() || round.shell.is_some() {
            self.plan.steps.push(Step::Edits {
                say,
                edits: round.edits,
                shell: round.shell,
            });
        }
    }
}

/// `old => new` for a replacement, the whole text otherwise; `\n`, `\t` and `\\` are escapes.
fn inline_parts(verb: &str, text: &str, line: usize) -> Result<(String, String), DirectiveError> {
    match verb {
        "create" | "append" => {
            let mut content = unescape(text);
            if !content.is_empty() && !content.ends_with('\n') {
                content.push('\n');
            }
            Ok((content, String::new()))
        }
        "delete" => Ok((unescape(text), String::new())),
        _ => match text.split_once("=>") {
            Some((old, new)) => Ok((unescape(old.trim()), unescape(new.trim()))),
            None => Err(DirectiveError {
                line,
                what: "replace needs \"old => new\" after \":=\"".into(),
            }),
        },
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim())
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

fn count(text: &str, line: usize) -> Result<usize, DirectiveError> {
    if text.is_empty() {
        return Ok(1);
    }
    match text.parse() {
        Ok(count) if (1..=100).contains(&count) => Ok(count),
        _ => Err(DirectiveError {
            line,
            what: format!("{text:?} is not a number of answers from 1 to 100"),
        }),
    }
}
