//! Reads a log of requests as the flight recorder leaves it.
//!
//! A server that was killed may have torn a line, anywhere in it, also inside a character. So the
//! file is taken as bytes, and a line that is no request is left out and counted; only a file
//! without any request is an error.

use std::io::Read as _;
use std::path::Path;

use super::report::Report;
use crate::core::dispatch::simulation::Log;
use crate::core::served::Served;

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) log: Log,
    /// Lines that are no request.
    pub(super) skipped: usize,
}

/// Reads a file, or standard input where it is named `-`.
pub(super) fn read(path: &Path) -> Result<Read, Report> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| {
        Report::user(format!("{}: {error}", path.display()))
            .hint("name a log of requests that the gateway has written, or - for standard input")
    })?;
    parse(&bytes, &path.display().to_string())
}

/// The requests in it. Where there is none, the first line that should have been one is named.
pub(super) fn parse(bytes: &[u8], file: &str) -> Result<Read, Report> {
    let mut requests: Vec<Served> = Vec::new();
    let mut faults = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line) {
            Ok(served) => requests.push(served),
            Err(error) => faults.push((index + 1, error)),
        }
    }
    if requests.is_empty()
        && let Some((number, error)) = faults.first()
    {
        let text = format!("{file}:{number}: this is no request of the gateway: {error}");
        return Err(
            Report::user(text).hint("each line is one JSON object as the gateway writes it")
        );
    }
    let log = Log::new(requests);
    if log.is_empty() {
        let text = format!("{file}: no request in it reached an endpoint");
        return Err(Report::user(text).hint("replay a log of a time at which agents worked"));
    }
    let skipped = faults.len();
    Ok(Read { log, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id": 1, "at": 0, "client": "agent-1", "model": "m:7b", "endpoint": "gpu", "total_us": 5, "outcome": {"ended": "done"}}"#;

    #[test]
    fn a_torn_line_is_left_out_and_counted() {
        let (torn, _) = LINE.split_at(LINE.len() / 2);
        let mut bytes = format!("{torn}\n{LINE}\n\n{LINE}\n").into_bytes();
        // Torn inside a character: the first byte of an ä.
        bytes.extend_from_slice(b"{\"client\": \"\xc3\n");
        let read = parse(&bytes, "requests.jsonl").unwrap();
        assert_eq!((read.log.len(), read.skipped), (2, 2));
    }

    #[test]
    fn where_no_line_is_a_request_the_first_is_named_with_file_and_line() {
        let error = parse(b"\n\n{\"id\": 2}\nhello\n", "requests.jsonl").unwrap_err();
        assert_eq!(error.kind.code(), 2);
        let text = error.to_string();
        assert!(
            text.starts_with("error: requests.jsonl:3: this is no request"),
            "{text}"
        );
        assert!(text.contains("hint: "), "{text}");
    }

    #[test]
    fn a_log_without_requests_says_so() {
        let refused = LINE.replace(r#""done""#, r#""refused", "why": "full""#);
        for text in ["", &refused] {
            let error = parse(text.as_bytes(), "requests.jsonl").unwrap_err();
            let text = error.to_string();
            assert!(text.contains("no request in it reached"), "{text}");
        }
    }
}
