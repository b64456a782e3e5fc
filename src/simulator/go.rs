//! Go's ways that show through Ollama's API: durations and JSON error texts.

use std::time::Duration;

use serde_json::Value;

/// Reads a Go duration: `5m`, `1h30m`, `-1s`, `0`. `None` in the result is a negative one.
pub(super) fn duration(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits).unwrap_or((rest, ""));
        let number: f64 = number.parse().map_err(|_not_a_number| invalid())?;
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters).unwrap_or((tail, ""));
        let factor = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => {
                return Err(format!("time: unknown unit {other:?} in duration {text:?}"));
            }
        };
        seconds += number * factor;
        rest = tail;
    }
    if is_negative {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_too_long| invalid())
}

/// What Go says of JSON that cannot be read.
pub(super) fn syntax_error(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".into();
    }
    let line = text
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let found = line
        .chars()
        .nth(error.column().saturating_sub(1))
        .unwrap_or(' ');
    let place = if error.to_string().starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else {
        "looking for beginning of value"
    };
    format!("invalid character '{found}' {place}")
}

/// What Go says of a value of the wrong type.
pub(super) fn type_error(value: &Value, structure: &str, field: &str, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!(
        "json: cannot unmarshal {found} into Go struct field {structure}.{field} of type {wanted}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let seconds = |n: f64| Ok(Some(Duration::from_secs_f64(n)));
        assert_eq!(duration("90s"), seconds(90.0));
        assert_eq!(duration("1h30m"), seconds(5_400.0));
        assert_eq!(duration("1.5s"), seconds(1.5));
        assert_eq!(duration("0"), seconds(0.0));
        assert_eq!(duration("-1s"), Ok(None));
        let missing = "time: missing unit in duration \"-1\"";
        assert_eq!(duration("-1"), Err(missing.to_owned()));
        assert_eq!(duration(""), Err("time: invalid duration \"\"".to_owned()));
        let unknown = "time: unknown unit \"d\" in duration \"1d\"";
        assert_eq!(duration("1d"), Err(unknown.to_owned()));
    }
}
