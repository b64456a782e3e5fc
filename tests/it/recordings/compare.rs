//! What must be the same in a recorded answer and a replayed one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::replay::{Exchange, Got};

/// A load of less than this found the model loaded, nanoseconds. Recorded: 1 to 10 ms warm, 255 ms
/// and more cold.
pub(super) const WARM: u64 = 100_000_000;

/// Everything but the order, which needs the other exchanges.
pub(super) fn exchange(file: &str, exchange: &Exchange, got: &Got) {
    let recorded = &exchange.recorded;
    let place = format!("{file} {} {}", exchange.path(), recorded["request"]["body"]);
    if recorded.get("client_error").is_some() {
        assert_eq!(got.status, None, "{place}: somebody answered");
        return;
    }
    let status = recorded["status"]
        .as_u64()
        .map(|status| u16::try_from(status).unwrap());
    assert_eq!(got.status, status, "{place}: {}", got.text);
    let recorded_type = recorded["headers"]["Content-Type"].as_str();
    assert_eq!(
        got.content_type.as_deref().map(essence),
        recorded_type.map(essence),
        "{place}"
    );
    if let Some(text) = recorded["text"].as_str() {
        assert_eq!(got.text, text, "{place}");
    } else if recorded.get("lines").is_some() {
        lines(file, &place, exchange, got);
    } else {
        let answer: Value = serde_json::from_str(&got.text).expect(&place);
        body(file, &place, &recorded["json"], &answer);
    }
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap()
}

/// One whole JSON body, or one line.
fn body(file: &str, place: &str, recorded: &Value, got: &Value) {
    shape(place, recorded, got);
    for key in ["model", "done", "done_reason"] {
        assert_eq!(got.get(key), recorded.get(key), "{place}: {key}");
    }
    assert_eq!(error_text(got), error_text(recorded), "{place}");
    if let (Some(was), Some(is)) = (load_of(recorded), load_of(got)) {
        assert_eq!(
            is < WARM,
            was < WARM,
            "{place}: loaded in {is} ns, recorded {was} ns"
        );
    }
    if file.starts_with("18") {
        assert_eq!(
            got["prompt_eval_count"], recorded["prompt_eval_count"],
            "{place}"
        );
    }
    if place.contains("/api/ps") {
        assert_eq!(loaded(got), loaded(recorded), "{place}");
        expiries(place, recorded, got);
    }
}

/// Error texts without their numbers and without the reason of this machine's network.
fn error_text(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let text = error
        .as_str()
        .map_or_else(|| error.to_string(), str::to_owned);
    let text = text.split("dial tcp").next().unwrap().to_owned();
    if text.contains("exceed_context_size_error") {
        // Its keys stand in the server's own order, its figures are the model's.
        let inner: Value = serde_json::from_str(&text).unwrap();
        let keys: BTreeSet<&String> = inner["error"].as_object().unwrap().keys().collect();
        return Some(format!("{keys:?} {}", inner["error"]["type"]));
    }
    Some(text)
}

/// Names and contexts of the loaded models.
pub(super) fn loaded(body: &Value) -> BTreeSet<(String, u64)> {
    let models = body["models"].as_array().unwrap().iter();
    models
        .map(|model| {
            let name = model["name"].as_str().unwrap().to_owned();
            (name, model["context_length"].as_u64().unwrap())
        })
        .collect()
}

/// Which model stays for ever, and the order of those that clearly expire one after the other.
fn expiries(place: &str, recorded: &Value, got: &Value) {
    const CLEAR_SECONDS: i64 = 20;
    let read = |body: &Value| -> Vec<(String, jiff::Timestamp)> {
        let models = body["models"].as_array().unwrap().iter();
        let expiry = |m: &Value| m["expires_at"].as_str().unwrap().parse().unwrap();
        let name = |m: &Value| m["name"].as_str().unwrap().to_owned();
        models.map(|m| (name(m), expiry(m))).collect()
    };
    let (recorded, got) = (read(recorded), read(got));
    let for_ever = |models: &[(String, jiff::Timestamp)]| -> BTreeSet<String> {
        let kept = models
            .iter()
            .filter(|(_, at)| at.as_second() > 10_000_000_000);
        kept.map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(for_ever(&got), for_ever(&recorded), "{place}");
    for (index, (first, at)) in recorded.iter().enumerate() {
        for (second, later) in &recorded[index + 1..] {
            if at.as_second() - later.as_second() > CLEAR_SECONDS {
                let position = |name: &String| got.iter().position(|(n, _)| n == name);
                assert!(
                    position(first) < position(second),
                    "{place}: order of {first}, {second}"
                );
            }
        }
    }
}

pub(super) fn load_duration(recorded: &Value) -> Option<u64> {
    let last = recorded["lines"].as_array().and_then(|lines| lines.last());
    load_of(&recorded["json"]).or_else(|| load_of(&last?["line"]))
}

fn load_of(body: &Value) -> Option<u64> {
    body.get("load_duration")?.as_u64()
}

/// Lines of a recorded stream, with those that were left out of the file.
pub(super) fn line_count(recorded: &Value) -> usize {
    let lines = recorded["lines"].as_array().unwrap();
    let count = lines
        .iter()
        .map(|line| match line["omitted_lines"].as_u64() {
            Some(omitted) => usize::try_from(omitted).unwrap(),
            None => 1,
        });
    count.sum()
}

/// A stream: the shape of its lines, how many there are, how it ends.
fn lines(file: &str, place: &str, exchange: &Exchange, got: &Got) {
    let recorded = &exchange.recorded;
    let is_dropped = recorded.get("dropped_by_client").is_some();
    let is_stopped_server = file.starts_with("61");
    assert_eq!(got.is_cut, is_stopped_server, "{place}: cut");
    let lines = recorded["lines"].as_array().unwrap();
    let lines: Vec<Value> = lines
        .iter()
        .filter_map(|l| l.get("line"))
        .filter_map(parsed)
        .collect();
    let is_stream_of_events = got.content_type.as_deref() == Some("text/event-stream");
    let answered: Vec<Value> = got
        .text
        .lines()
        .filter_map(|l| parsed(&Value::from(l)))
        .collect();
    assert!(!answered.is_empty(), "{place}: no lines");
    shape(place, &lines[0], &answered[0]);
    if is_dropped || is_stopped_server {
        return;
    }
    // In the middle every line is like the recorded second one.
    for line in &answered[1..answered.len() - 1] {
        if line
            .get("choices")
            .is_none_or(|c| c[0]["delta"].get("content").is_some())
        {
            shape(place, &lines[1], line);
        }
    }
    let (was, is) = (lines.last().unwrap(), answered.last().unwrap());
    body(file, place, was, is);
    let is_counted = was.get("error").is_none() && was["done_reason"] != "stop";
    if is_counted {
        let factor = if is_stream_of_events { 2 } else { 1 };
        assert_eq!(
            answered.len() * factor,
            line_count(recorded),
            "{place}: number of lines"
        );
    }
}

/// A line of NDJSON, or the data of an event; an empty line is none.
fn parsed(line: &Value) -> Option<Value> {
    let Value::String(text) = line else {
        return Some(line.clone());
    };
    let text = text.strip_prefix("data: ").unwrap_or(text);
    match text {
        "" => None,
        "[DONE]" => Some(Value::from("[DONE]")),
        text => Some(serde_json::from_str(text).unwrap()),
    }
}

/// The same keys with the same types of values; elements of lists like the first one.
fn shape(place: &str, recorded: &Value, got: &Value) {
    match (recorded, got) {
        (Value::Object(was), Value::Object(is)) => {
            let keys =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(is), keys(was), "{place}");
            for (key, value) in was {
                shape(&format!("{place} .{key}"), value, &is[key]);
            }
        }
        (Value::Array(was), Value::Array(is)) => {
            assert_eq!(is.is_empty(), was.is_empty(), "{place}");
            if let Some(first) = was.first() {
                for value in is {
                    shape(&format!("{place}[]"), first, value);
                }
            }
        }
        (was, is) => assert_eq!(kind(is), kind(was), "{place}: {is} instead of {was}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
