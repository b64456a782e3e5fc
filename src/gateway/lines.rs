//! The lines of an answer as they come from the endpoint, and what they mean.
//!
//! A stream may end cleanly without its last line, and an error may come as a line of an answer
//! whose status was 200 long ago. Whoever passes lines on must know which of them is the end, so
//! every line is read; the bytes of a native client are passed on as they came.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::ollama::wire::Timings;

/// A piece of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) thought: Option<String>,
    pub(super) tool_calls: Option<Value>,
    /// A list, where the client asked for it.
    pub(super) logprobs: Option<Value>,
}

impl Piece {
    /// Nothing that a client could use.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tool_calls.is_none()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.text.push_str(&other.text);
        if let Some(thought) = other.thought {
            self.thought.get_or_insert_default().push_str(&thought);
        }
        append(&mut self.tool_calls, other.tool_calls);
        append(&mut self.logprobs, other.logprobs);
    }
}

/// One list after the other.
fn append(list: &mut Option<Value>, more: Option<Value>) {
    match (list, more) {
        (Some(Value::Array(list)), Some(Value::Array(more))) => list.extend(more),
        (list @ None, more) => *list = more,
        (Some(_), _) => {}
    }
}

/// The end of an answer that is whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct End {
    /// `stop` or `length`
    pub(super) reason: String,
    pub(super) timings: Timings,
    /// The model called a tool.
    pub(super) called: bool,
}

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// More of the answer.
    Piece(Piece),
    /// The end, perhaps with a last piece.
    End(Piece, End),
    /// The endpoint gave up.
    Error(String),
    /// No JSON that means anything here; Aider skips such a line, and so does everybody else.
    Noise,
}

/// A line with its bytes, line end included.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) bytes: Bytes,
    pub(super) said: Said,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    message: Option<ReadMessage>,
    #[serde(default)]
    response: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
    #[serde(default)]
    total_duration: u64,
    #[serde(default)]
    load_duration: u64,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    prompt_eval_duration: u64,
    #[serde(default)]
    eval_count: u64,
    #[serde(default)]
    eval_duration: u64,
}

#[derive(Default, Deserialize)]
struct ReadMessage {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

impl Line {
    /// Reads a line without its line end.
    pub(super) fn read(mut bytes: Vec<u8>) -> Self {
        let said = said(&bytes);
        bytes.push(b'\n');
        Self {
            bytes: bytes.into(),
            said,
        }
    }
}

fn said(bytes: &[u8]) -> Said {
    let Ok(read) = serde_json::from_slice::<Read>(bytes) else {
        return Said::Noise;
    };
    if let Some(error) = read.error {
        return Said::Error(error);
    }
    let is_answer = read.message.is_some() || read.response.is_some() || read.done;
    if !is_answer {
        return Said::Noise;
    }
    let message = read.message.unwrap_or_default();
    let piece = Piece {
        text: message.content.or(read.response).unwrap_or_default(),
        thought: message
            .thinking
            .or(read.thinking)
            .filter(|it| !it.is_empty()),
        tool_calls: message.tool_calls.filter(|it| !it.is_null()),
        logprobs: read.logprobs.filter(|it| !it.is_null()),
    };
    if !read.done {
        return Said::Piece(piece);
    }
    let end = End {
        reason: read.done_reason.unwrap_or_else(|| "stop".into()),
        timings: Timings {
            total_duration: read.total_duration,
            load_duration: read.load_duration,
            prompt_eval_count: read.prompt_eval_count,
            prompt_eval_duration: read.prompt_eval_duration,
            eval_count: read.eval_count,
            eval_duration: read.eval_duration,
        },
        called: false,
    };
    Said::End(piece, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Said {
        Line::read(text.as_bytes().to_vec()).said
    }

    #[test]
    fn both_native_shapes_are_read() {
        let piece = |said: Said| match said {
            Said::Piece(piece) => piece,
            other => panic!("{other:?}"),
        };
        let chat = r#"{"message":{"role":"assistant","content":"a"},"done":false}"#;
        assert_eq!(piece(read(chat)).text, "a");
        let thought =
            r#"{"message":{"role":"assistant","content":"","thinking":"b"},"done":false}"#;
        let thought = piece(read(thought));
        assert_eq!(thought.thought.as_deref(), Some("b"));
        assert!(thought.is_empty());
        assert_eq!(piece(read(r#"{"response":"c","done":false}"#)).text, "c");
    }

    #[test]
    fn the_end_carries_its_figures_and_errors_are_errors() {
        let end = r#"{"message":{"content":"z"},"done":true,"done_reason":"length",
            "total_duration":9,"prompt_eval_count":7,"eval_count":3}"#;
        let Said::End(piece, end) = read(end) else {
            panic!("not an end")
        };
        assert_eq!((piece.text.as_str(), end.reason.as_str()), ("z", "length"));
        assert_eq!(
            (end.timings.prompt_eval_count, end.timings.eval_count),
            (7, 3)
        );
        assert_eq!(read(r#"{"error":"x"}"#), Said::Error("x".into()));
        assert_eq!(read("not json"), Said::Noise);
        assert_eq!(read(r#"{"status":"pulling"}"#), Said::Noise);
    }
}
