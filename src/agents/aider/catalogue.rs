//! What can go wrong under Aider, by the words it prints, and whose fault that is.
//!
//! Aider's exit code is 0 for every failure, so its words are all there is. An endpoint's and the
//! machine's faults never cost a task an attempt.
//!
//! Invariant: pure.

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The endpoint or the way to it.
    Endpoint,
    /// The model: it is missing, or what it wrote cannot be used.
    Model,
    /// The task: it does not fit.
    Task,
    /// git refused.
    Git,
    /// The machine: disk, permissions, Aider itself.
    Machine,
}

impl Whose {
    /// The attempt counts against the task's retries.
    pub fn costs_an_attempt(self) -> bool {
        matches!(self, Self::Model | Self::Task)
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The endpoint did not serve a request.
    Request,
    /// The endpoint does not have the model.
    ModelMissing,
    /// The model cannot do what was asked of it.
    ModelUnfit,
    /// The request exceeds the context.
    ContextExceeded,
    /// The answer was cut off at a token limit.
    AnswerCut,
    /// The answer was empty.
    EmptyAnswer,
    /// The edits in the answer could not be applied.
    MalformedEdit,
    /// Three corrections did not help.
    CorrectionsExhausted,
    /// An edit was refused: the file is ignored by git.
    EditRefused,
    /// git refused to stage, diff or commit.
    Git,
    /// A file could not be written.
    Disk,
    /// A human or the squad interrupted.
    Interrupted,
    /// Aider crashed.
    Crashed,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// Aider's words, on one line, at most 300 characters.
    pub text: String,
    /// Whose fault it is.
    pub whose: Whose,
}

impl Failure {
    /// A failure with these words.
    pub fn new(kind: FailureKind, whose: Whose, text: &str) -> Self {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            kind,
            text: line.chars().take(300).collect(),
            whose,
        }
    }
}

/// A row applies when the text contains all its words.
type Row = (&'static [&'static str], FailureKind, Whose);

/// The first row that applies wins: the particular stands before the general.
const TABLE: &[Row] = &[
    (
        &["No space left on device"],
        FailureKind::Disk,
        Whose::Machine,
    ),
    (
        &["has hit a token limit!"],
        FailureKind::AnswerCut,
        Whose::Task,
    ),
    (
        &["Your estimated chat context of", "exceeds"],
        FailureKind::ContextExceeded,
        Whose::Task,
    ),
    (
        &["litellm.", "exceeds maximum context length"],
        FailureKind::ContextExceeded,
        Whose::Task,
    ),
    (
        &["litellm.", "exceeds the context length"],
        FailureKind::ContextExceeded,
        Whose::Task,
    ),
    (
        &["litellm.", "exceeds the available context"],
        FailureKind::ContextExceeded,
        Whose::Task,
    ),
    (
        &["litellm.", "longer than the context length"],
        FailureKind::ContextExceeded,
        Whose::Task,
    ),
    (
        &["litellm.", "model ", " not found"],
        FailureKind::ModelMissing,
        Whose::Model,
    ),
    (
        &["litellm.", "does not support"],
        FailureKind::ModelUnfit,
        Whose::Model,
    ),
    // The gateway's own verdicts on what a model answered, and on what no endpoint takes.
    (
        &["litellm.", "the model answered nothing"],
        FailureKind::EmptyAnswer,
        Whose::Model,
    ),
    (
        &["litellm.", "the model repeated itself"],
        FailureKind::EmptyAnswer,
        Whose::Model,
    ),
    (
        &["litellm.", "(status 400)"],
        FailureKind::ModelUnfit,
        Whose::Model,
    ),
    (
        &["OllamaError: ", "404 Not Found"],
        FailureKind::ModelMissing,
        Whose::Model,
    ),
    (&["litellm."], FailureKind::Request, Whose::Endpoint),
    (&["OllamaError: "], FailureKind::Request, Whose::Endpoint),
    (
        &["The API provider", "not able to"],
        FailureKind::Request,
        Whose::Endpoint,
    ),
    (
        &["Only ", " reflections allowed"],
        FailureKind::CorrectionsExhausted,
        Whose::Model,
    ),
    (
        &["did not conform to the edit format"],
        FailureKind::MalformedEdit,
        Whose::Model,
    ),
    (
        &["Empty response received from LLM"],
        FailureKind::EmptyAnswer,
        Whose::Model,
    ),
    (
        &["Skipping edits to ", " that matches gitignore"],
        FailureKind::EditRefused,
        Whose::Task,
    ),
    (&["Unable to commit: "], FailureKind::Git, Whose::Git),
    (&["Unable to add "], FailureKind::Git, Whose::Git),
    (&["Unable to diff: "], FailureKind::Git, Whose::Git),
    (&["Cmd('git') failed"], FailureKind::Git, Whose::Git),
    (
        &["Unable to read git repository"],
        FailureKind::Git,
        Whose::Git,
    ),
    (
        &["Unable to write file "],
        FailureKind::Disk,
        Whose::Machine,
    ),
    (
        &["Unable to create ", "skipping edits"],
        FailureKind::Disk,
        Whose::Machine,
    ),
    (
        &["Exception while updating files"],
        FailureKind::MalformedEdit,
        Whose::Model,
    ),
    (&["^C again to exit"], FailureKind::Interrupted, Whose::Task),
    (
        &["^C KeyboardInterrupt"],
        FailureKind::Interrupted,
        Whose::Task,
    ),
    (&["Aider ended by "], FailureKind::Crashed, Whose::Task),
];

/// The failure that a red or yellow line reports, if it is in the catalogue.
pub fn classify(text: &str) -> Option<Failure> {
    let (_, kind, whose) = TABLE
        .iter()
        .find(|(words, _, _)| words.iter().all(|word| text.contains(word)))?;
    Some(Failure::new(*kind, *whose, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines as Aider 0.86.2 printed them.
    #[test]
    fn every_known_line_has_its_kind() {
        let connection = "litellm.APIConnectionError: Ollama_chatException - ";
        let table = [
            (
                format!("{connection}[Errno 111] Connection refused"),
                FailureKind::Request,
                Whose::Endpoint,
            ),
            (
                format!("{connection}{{\"error\": \"model 'missing:1b' not found\"}}"),
                FailureKind::ModelMissing,
                Whose::Model,
            ),
            (
                format!(
                    "{connection}{{\"error\": \"input length exceeds maximum context length\"}}"
                ),
                FailureKind::ContextExceeded,
                Whose::Task,
            ),
            (
                format!("{connection}litellm.Timeout: Connection timed out after 5.0 seconds."),
                FailureKind::Request,
                Whose::Endpoint,
            ),
            (
                format!(
                    "{connection}KeyError: 'message', Got unexpected response from Ollama: {{}}"
                ),
                FailureKind::Request,
                Whose::Endpoint,
            ),
            (
                "Model ollama_chat/m has hit a token limit!\nToken counts below".into(),
                FailureKind::AnswerCut,
                Whose::Task,
            ),
            (
                "Your estimated chat context of 401 tokens exceeds the 200 token limit for m!"
                    .into(),
                FailureKind::ContextExceeded,
                Whose::Task,
            ),
            (
                "The LLM did not conform to the edit format.".into(),
                FailureKind::MalformedEdit,
                Whose::Model,
            ),
            (
                "Only 3 reflections allowed, stopping.".into(),
                FailureKind::CorrectionsExhausted,
                Whose::Model,
            ),
            (
                "Empty response received from LLM. Check your provider account?".into(),
                FailureKind::EmptyAnswer,
                Whose::Model,
            ),
            (
                "Unable to commit: Cmd('git') failed due to: exit code(128)".into(),
                FailureKind::Git,
                Whose::Git,
            ),
            (
                "\n\n^C again to exit".into(),
                FailureKind::Interrupted,
                Whose::Task,
            ),
        ];
        for (text, kind, whose) in table {
            let failure = classify(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((failure.kind, failure.whose), (kind, whose), "{text}");
            assert!(!failure.text.contains('\n'));
        }
    }

    #[test]
    fn other_lines_are_no_failure() {
        for text in [
            "Warning: it's best to only add files that need changes to the chat.",
            "Retrying in 0.2 seconds...",
            "",
        ] {
            assert_eq!(classify(text), None, "{text}");
        }
    }

    #[test]
    fn faults_of_others_cost_a_task_nothing() {
        assert!(!Whose::Endpoint.costs_an_attempt());
        assert!(!Whose::Git.costs_an_attempt());
        assert!(!Whose::Machine.costs_an_attempt());
        assert!(Whose::Model.costs_an_attempt());
    }
}
