//! An answer on its way from an endpoint to a client.
//!
//! Nothing is passed on before the first text: until then a failure is nobody's business but ours,
//! and the request may go elsewhere. After it, a request is never repeated: whatever breaks is said
//! in a last line, because Aider takes a stream that merely ends for a finished answer and would
//! commit half of one.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::limit::{Limit, TooLong};
use super::lines::{End, Line, Piece, Said};
use crate::core::failure::Failure;
use crate::ollama::LineDecoder;

/// Longest line of an answer.
const LINE_MAX: usize = 16 << 20;
/// Lines without text that are kept back at most; a model that thinks longer is passed on.
const HELD_MAX: usize = 4_096;

/// Ollama ends a stream after more than 30 equal tokens in a row, without a last line.
const REPEATS: u32 = 25;

/// An endpoint closes its answer within this time after the last line.
const CLOSE_MAX: Duration = Duration::from_millis(250);

/// Bytes of an answer as the endpoint sends them.
pub(super) type Body = BoxStream<'static, io::Result<Bytes>>;

/// An answer that has not ended.
pub(super) struct Answer {
    body: Body,
    decoder: LineDecoder,
    ready: VecDeque<Line>,
    /// The agent is gone: what it asked for is given up.
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    limit: Limit,
    called: bool,
    /// The last piece, and how often it has come in a row.
    last: (String, u32),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A line with a piece of the answer, or one that means nothing.
    Line(Line),
    /// The last line of an answer that is whole.
    Last(Line, End),
    /// It will not become whole.
    Broken(Failure),
    /// The client is gone.
    Gone,
}

impl Answer {
    pub(super) fn new(body: Body, gone: CancellationToken) -> Self {
        Self {
            body,
            decoder: LineDecoder::new(LINE_MAX),
            ready: VecDeque::new(),
            gone: Box::pin(gone.cancelled_owned()),
            limit: Limit::new(),
            called: false,
            last: (String::new(), 0),
        }
    }

    /// Waits for the first text; what comes before it is kept back.
    ///
    /// A model that was told to think is passed on from its first thought.
    pub(super) async fn begin(&mut self, patience: Patience, thinks: bool) -> Result<(), Failure> {
        let mut held = VecDeque::new();
        let mut limit = patience.first;
        let mut thought = false;
        loop {
            let next = self.next(limit).await;
            limit = patience.gap;
            match next {
                Next::Line(line) => {
                    let (empty, thinking) = match &line.said {
                        Said::Piece(piece) => (piece.is_empty(), piece.thought.is_some()),
                        Said::End(..) | Said::Error(_) | Said::Noise => (true, false),
                    };
                    thought |= thinking;
                    held.push_back(line);
                    if !empty || (thinking && thinks) || held.len() > HELD_MAX {
                        break;
                    }
                }
                Next::Last(line, end) => {
                    let text = match &line.said {
                        Said::End(piece, _) => !piece.is_empty(),
                        Said::Piece(_) | Said::Error(_) | Said::Noise => false,
                    };
                    if !text {
                        let thought = thought || end.timings.eval_count > 1;
                        return Err(if thought {
                            Failure::thinking_only()
                        } else {
                            Failure::empty()
                        });
                    }
                    held.push_back(line);
                    break;
                }
                Next::Broken(failure) => return Err(failure),
                Next::Gone => return Err(Failure::gone()),
            }
        }
        held.append(&mut self.ready);
        self.ready = held;
        Ok(())
    }

    /// The next line within `limit`.
    pub(super) async fn next(&mut self, limit: Duration) -> Next {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return self.judged(line);
            }
            let chunk = tokio::select! {
                biased;
                () = self.gone.as_mut() => return Next::Gone,
                chunk = self.limit.within(limit, self.body.next()) => chunk,
            };
            match chunk {
                Err(TooLong) => return Next::Broken(Failure::stalled(limit)),
                Ok(None) => return self.at_end(),
                Ok(Some(Err(error))) => {
                    return Next::Broken(Failure::cut(&super::conductor::root_cause(&error)));
                }
                Ok(Some(Ok(bytes))) => match self.decoder.push(&bytes) {
                    Ok(lines) => self.ready.extend(lines.into_iter().map(Line::read)),
                    Err(error) => return Next::Broken(Failure::cut(&error.to_string())),
                },
            }
        }
    }

    /// The stream has ended; a last line without a line end may be left.
    fn at_end(&mut self) -> Next {
        match self.decoder.finish().map(Line::read) {
            Some(line) => self.judged(line),
            None if self.last.1 > REPEATS => Next::Broken(Failure::repeat_abort()),
            None => Next::Broken(Failure::no_done()),
        }
    }

    fn judged(&mut self, line: Line) -> Next {
        match &line.said {
            Said::Piece(piece) => {
                self.called |= piece.tool_calls.is_some();
                if piece.text == self.last.0 {
                    self.last.1 += 1;
                } else {
                    self.last = (piece.text.clone(), 1);
                }
                Next::Line(line)
            }
            Said::Noise => Next::Line(line),
            Said::Error(why) => Next::Broken(Failure::mid_stream(why)),
            Said::End(piece, end) => {
                let mut end = end.clone();
                end.called = self.called || piece.tool_calls.is_some();
                Next::Last(line, end)
            }
        }
    }

    /// Reads what the endpoint sends after the last line: the end of the body, without which its
    /// connection cannot serve the next request.
    pub(super) async fn close(mut self) {
        let rest = async { while let Some(Ok(_)) = self.body.next().await {} };
        // An endpoint that goes on after its end loses the connection.
        let _within = tokio::time::timeout(CLOSE_MAX, rest).await;
    }

    /// All of it in one piece, with the last line.
    pub(super) async fn collect(
        &mut self,
        limit: Duration,
        mut seen: impl FnMut(),
    ) -> Result<(Piece, End, Line), Failure> {
        let mut all = Piece::default();
        loop {
            match self.next(limit).await {
                Next::Line(line) => {
                    if let Said::Piece(piece) = line.said {
                        seen();
                        all.add(piece);
                    }
                }
                Next::Last(line, end) => {
                    if let Said::End(piece, _) = &line.said {
                        all.add(piece.clone());
                    }
                    return Ok((all, end, line));
                }
                Next::Broken(failure) => return Err(failure),
                Next::Gone => return Err(Failure::gone()),
            }
        }
    }
}

/// How long an endpoint may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Until the first token.
    pub(super) first: Duration,
    /// Between two tokens.
    pub(super) gap: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_secs(60),
        gap: Duration::from_secs(30),
    };
    const PIECE: &str = "{\"message\":{\"content\":\"a\"},\"done\":false}\n";
    const EMPTY: &str = "{\"message\":{\"content\":\"\"},\"done\":false}\n";
    const LAST: &str = "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n";

    fn answer(parts: Vec<io::Result<Bytes>>) -> Answer {
        let body = futures_util::stream::iter(parts);
        Answer::new(body.boxed(), CancellationToken::new())
    }

    fn whole(text: &str) -> Answer {
        // Cut where it hurts: no chunk ends with a line.
        let bytes = text.as_bytes();
        answer(
            bytes
                .chunks(7)
                .map(|part| Ok(Bytes::copy_from_slice(part)))
                .collect(),
        )
    }

    #[tokio::test]
    async fn lines_before_the_first_text_are_kept_back_and_then_passed_on_in_order() {
        let mut answer = whole(&[EMPTY, EMPTY, PIECE, LAST].concat());
        answer.begin(PATIENCE, false).await.unwrap();
        for expected in [EMPTY, EMPTY, PIECE] {
            let Next::Line(line) = answer.next(PATIENCE.gap).await else {
                panic!("no line")
            };
            assert_eq!(line.bytes, expected);
        }
        assert!(matches!(answer.next(PATIENCE.gap).await, Next::Last(..)));
    }

    #[tokio::test]
    async fn an_answer_without_text_fails_before_anything_is_passed_on() {
        let failure = whole(&[EMPTY, LAST].concat())
            .begin(PATIENCE, false)
            .await
            .unwrap_err();
        assert_eq!(failure, Failure::empty());
    }

    #[tokio::test]
    async fn a_clean_end_without_a_last_line_is_a_failure() {
        let mut answer = whole(PIECE);
        answer.begin(PATIENCE, false).await.unwrap();
        assert!(matches!(answer.next(PATIENCE.gap).await, Next::Line(_)));
        let Next::Broken(failure) = answer.next(PATIENCE.gap).await else {
            panic!("not broken")
        };
        assert_eq!(failure, Failure::no_done());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_stall_and_an_agent_that_is_gone_is_neither() {
        let gone = CancellationToken::new();
        let body = futures_util::stream::pending().boxed();
        let mut answer = Answer::new(body, gone.clone());
        let failure = answer.begin(PATIENCE, false).await.unwrap_err();
        assert_eq!(failure, Failure::stalled(PATIENCE.first));
        gone.cancel();
        assert!(matches!(answer.next(PATIENCE.gap).await, Next::Gone));
    }

    #[tokio::test]
    async fn a_whole_answer_is_collected_with_its_figures() {
        let mut answer = whole(&[PIECE, PIECE, LAST].concat());
        let (all, end, _) = answer.collect(PATIENCE.gap, || {}).await.unwrap();
        assert_eq!((all.text.as_str(), end.reason.as_str()), ("aa", "stop"));
    }
}
