//! Values of configuration keys: read from TOML or from text, checked by kind, written back.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::suggestion;
use super::url;
use crate::core::router::Strategy;
use crate::core::settings::{
    Answer, Colour, EndpointSettings, MaxAgents, MergeStrategy, OptionValue, Selection, Unanswered,
};
use crate::core::vram::KvCache;

/// What a key accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number from `min` to `max`.
    Integer {
        /// Smallest accepted.
        min: i64,
        /// Largest accepted.
        max: i64,
    },
    /// A number from `min` to `max`.
    Float {
        /// Smallest accepted.
        min: f64,
        /// Largest accepted.
        max: f64,
    },
    /// `"auto"`, or a whole number from `min` to `max`.
    AutoOr {
        /// Smallest accepted.
        min: i64,
        /// Largest accepted.
        max: i64,
    },
    /// Any text that is not empty.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A time such as `"90s"`, `"5m"` or `"1h 30m"`.
    Duration,
    /// A size such as `"512KiB"` or `"1MiB"`, or a number of bytes.
    Size,
    /// A list of texts.
    List,
    /// A text, a number or a boolean, passed on as it is.
    Scalar,
    /// A list of tables with `name` and `url`.
    Endpoints,
}

impl Kind {
    /// The kind in words, as messages and the reference name it.
    pub fn describe(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Float { min, max } => format!("a number from {min} to {max}"),
            Self::AutoOr { min, max } => {
                format!("\"auto\" or a whole number from {min} to {max}")
            }
            Self::Text => "a text".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Duration => "a time such as \"90s\" or \"5m\"".into(),
            Self::Size => "a size such as \"512KiB\" or a number of bytes".into(),
            Self::List => "a list of texts".into(),
            Self::Scalar => "a text, a number or a boolean".into(),
            Self::Endpoints => "a list of tables with name and url".into(),
        }
    }
}

/// A value of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing is set.
    Unset,
    /// See [`Kind::Bool`].
    Bool(bool),
    /// See [`Kind::Integer`].
    Integer(i64),
    /// See [`Kind::Float`].
    Float(f64),
    /// See [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// See [`Kind::Duration`].
    Duration(Duration),
    /// See [`Kind::Size`].
    Size(usize),
    /// See [`Kind::List`].
    List(Vec<String>),
    /// See [`Kind::Scalar`].
    Scalar(OptionValue),
    /// See [`Kind::Endpoints`].
    Endpoints(Vec<EndpointSettings>),
}

/// Why a value was not accepted: what it is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Completes "key is …" or "key …".
    pub what: String,
    /// What would be right.
    pub hint: String,
}

impl Value {
    /// The value as it is written in a file; `None` when nothing is set.
    pub fn to_toml(&self) -> Option<String> {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        Some(match self {
            Self::Unset => return None,
            Self::Bool(value) | Self::Scalar(OptionValue::Bool(value)) => value.to_string(),
            Self::Integer(value) | Self::Scalar(OptionValue::Integer(value)) => value.to_string(),
            Self::Float(value) | Self::Scalar(OptionValue::Float(value)) => float(*value),
            Self::Text(value) | Self::Scalar(OptionValue::Text(value)) => text(value),
            Self::Duration(value) => text(&humantime::format_duration(*value).to_string()),
            Self::Size(value) => text(&size(*value)),
            Self::List(values) => {
                let items: Vec<_> = values.iter().map(|value| text(value)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Endpoints(endpoints) => {
                let items: Vec<_> = endpoints
                    .iter()
                    .map(|e| {
                        let mut row = format!("name = {}, url = {}", text(&e.name), text(&e.url));
                        for (name, value) in [
                            ("parallel", e.parallel.to_value()),
                            ("vram", e.vram.to_value()),
                            ("kv_cache", e.kv_cache.to_value()),
                            ("gpu", e.gpu.to_value()),
                        ] {
                            let value = value.to_toml().map(|value| format!(", {name} = {value}"));
                            row.push_str(&value.unwrap_or_default());
                        }
                        format!("{{ {row} }}")
                    })
                    .collect();
                format!("[{}]", items.join(", "))
            }
        })
    }
}

fn float(value: f64) -> String {
    toml::Value::Float(value).to_string()
}

/// Reads `raw` as a value of `kind`. Endpoints are read by `parse`, which knows lines.
pub fn from_toml(kind: Kind, raw: &DeValue<'_>) -> Result<Value, Refused> {
    match (kind, raw) {
        (Kind::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
        (Kind::Scalar, DeValue::Boolean(value)) => Ok(Value::Scalar(OptionValue::Bool(*value))),
        (
            Kind::Integer { .. } | Kind::AutoOr { .. } | Kind::Float { .. } | Kind::Scalar,
            DeValue::Integer(number),
        ) => {
            let value = i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|error| refused(kind, &format!("is {number}, {error}")))?;
            number_of(kind, value)
        }
        (Kind::Size, DeValue::Integer(number)) => from_text(kind, &number.to_string()),
        (Kind::Float { .. } | Kind::Scalar, DeValue::Float(number)) => {
            let value = number.as_str().parse().unwrap_or(f64::NAN);
            float_of(kind, value)
        }
        (
            Kind::Text
            | Kind::AutoOr { .. }
            | Kind::Choice(_)
            | Kind::Duration
            | Kind::Size
            | Kind::Scalar,
            DeValue::String(text),
        ) => from_text_as_written(kind, text),
        (Kind::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) if !text.is_empty() => Ok(text.to_string()),
                other => Err(refused(kind, &format!("holds {}", shown(other)))),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        (_, other) => Err(refused(kind, &format!("is {}", shown(other)))),
    }
}

/// Reads the text of an environment variable or a flag as a value of `kind`.
pub fn from_text(kind: Kind, text: &str) -> Result<Value, Refused> {
    let trimmed = text.trim();
    match kind {
        Kind::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
            "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
            _ => Err(refused(kind, &format!("is {trimmed:?}"))),
        },
        Kind::Integer { .. } => match trimmed.parse() {
            Ok(value) => number_of(kind, value),
            Err(_) => Err(refused(kind, &format!("is {trimmed:?}"))),
        },
        Kind::AutoOr { .. } => match trimmed.parse() {
            Ok(value) => number_of(kind, value),
            Err(_) => from_text_as_written(kind, trimmed),
        },
        Kind::Float { .. } => match trimmed.parse() {
            Ok(value) => float_of(kind, value),
            Err(_) => Err(refused(kind, &format!("is {trimmed:?}"))),
        },
        Kind::Scalar => Ok(Value::Scalar(scalar(trimmed))),
        Kind::List => Ok(Value::List(parts(trimmed).map(str::to_owned).collect())),
        Kind::Endpoints => endpoints(trimmed),
        Kind::Text | Kind::Choice(_) | Kind::Duration | Kind::Size => {
            from_text_as_written(kind, trimmed)
        }
    }
}

fn from_text_as_written(kind: Kind, text: &str) -> Result<Value, Refused> {
    match kind {
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => Err(Refused {
            what: format!("is {text:?}"),
            hint: suggestion(text, words),
        }),
        Kind::AutoOr { .. } if text == "auto" => Ok(Value::Text(text.to_owned())),
        Kind::AutoOr { .. } => Err(refused(kind, &format!("is {text:?}"))),
        Kind::Duration => humantime::parse_duration(text)
            .map(Value::Duration)
            .map_err(|error| refused(kind, &format!("is {text:?}: {error}"))),
        Kind::Size => parse_size(text)
            .map(Value::Size)
            .ok_or_else(|| refused(kind, &format!("is {text:?}"))),
        Kind::Scalar => Ok(Value::Scalar(OptionValue::Text(text.to_owned()))),
        _ if text.trim().is_empty() => Err(Refused {
            what: "is empty".into(),
            hint: "leave the key out instead".into(),
        }),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn refused(kind: Kind, what: &str) -> Refused {
    Refused {
        what: what.to_owned(),
        hint: format!("expected {}", kind.describe()),
    }
}

fn number_of(kind: Kind, value: i64) -> Result<Value, Refused> {
    match kind {
        Kind::Integer { min, max } | Kind::AutoOr { min, max } if (min..=max).contains(&value) => {
            Ok(Value::Integer(value))
        }
        Kind::Float { .. } => float_of(kind, value as f64),
        Kind::Scalar => Ok(Value::Scalar(OptionValue::Integer(value))),
        _ => Err(refused(kind, &format!("is {value}"))),
    }
}

fn float_of(kind: Kind, value: f64) -> Result<Value, Refused> {
    match kind {
        Kind::Float { min, max } if (min..=max).contains(&value) => Ok(Value::Float(value)),
        Kind::Scalar if value.is_finite() => Ok(Value::Scalar(OptionValue::Float(value))),
        _ => Err(refused(kind, &format!("is {value}"))),
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn scalar(text: &str) -> OptionValue {
    let finite = |value: &f64| value.is_finite();
    match (text, text.parse::<i64>(), text.parse::<f64>()) {
        ("true", ..) => OptionValue::Bool(true),
        ("false", ..) => OptionValue::Bool(false),
        (_, Ok(value), _) => OptionValue::Integer(value),
        (_, _, Ok(value)) if finite(&value) => OptionValue::Float(value),
        _ => OptionValue::Text(text.to_owned()),
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// `http://a,gpu2=http://b`: endpoints without a name are called `endpoint-1`, ….
fn endpoints(text: &str) -> Result<Value, Refused> {
    let mut list: Vec<EndpointSettings> = Vec::new();
    for (index, part) in parts(text).enumerate() {
        let (name, address) = match part.split_once('=') {
            Some((name, address)) if !name.contains('/') => (name.trim().to_owned(), address),
            _ => (format!("endpoint-{}", index + 1), part),
        };
        let url = url::normalise(address).map_err(|error| Refused {
            what: format!("names {part:?}: {error}"),
            hint: "expected NAME=URL, separated by commas".into(),
        })?;
        list.push(EndpointSettings {
            name,
            url,
            ..EndpointSettings::default()
        });
    }
    let names: std::collections::BTreeSet<_> = list.iter().map(|e| &e.name).collect();
    if names.len() != list.len() || list.is_empty() {
        return Err(Refused {
            what: format!("is {text:?}"),
            hint: "expected NAME=URL with different names, separated by commas".into(),
        });
    }
    Ok(Value::Endpoints(list))
}

const UNITS: [(&str, usize); 7] = [
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

fn parse_size(text: &str) -> Option<usize> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|rest| (rest, *factor)))
        .unwrap_or((lower.as_str(), 1));
    digits
        .trim()
        .replace('_', "")
        .parse::<usize>()
        .ok()?
        .checked_mul(factor)
}

/// The size in the largest binary unit that divides it.
fn size(bytes: usize) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, shift)| format!("{}{unit}", bytes >> shift),
        )
}

/// A settings field that a [`Value`] can fill. `None` where the value is of another kind.
pub trait Field: Sized {
    /// The field as a value.
    fn to_value(&self) -> Value;
    /// The field from a value that its kind has accepted.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! integer_field {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Integer(i64::from(*self))
            }
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Integer(value) => Self::try_from(value).ok(),
                    _ => None,
                }
            }
        }
    )+};
}
integer_field!(u8, u16, u32);

macro_rules! simple_field {
    ($($type:ty => $variant:ident),+ $(,)?) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    )+};
}
simple_field!(
    bool => Bool,
    f64 => Float,
    String => Text,
    Duration => Duration,
    usize => Size,
    Vec<String> => List,
    OptionValue => Scalar,
    Vec<EndpointSettings> => Endpoints,
);

macro_rules! word_field {
    ($($type:ident { $($variant:ident => $word:literal),+ $(,)? })+) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Text(match self { $(Self::$variant => $word),+ }.to_owned())
            }
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Text(word) => match word.as_str() {
                        $($word => Some(Self::$variant),)+
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    )+};
}
/// Only the strategies that can be configured have words here.
impl Field for Strategy {
    fn to_value(&self) -> Value {
        Value::Text(self.as_str().to_owned())
    }
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(word) => Self::from_word(&word),
            _ => None,
        }
    }
}
word_field! {
    Selection {
        Auto => "auto",
        Fastest => "fastest",
        MostCapable => "most-capable",
        RoundRobin => "round-robin",
    }
    Answer { Yes => "yes", No => "no", Ask => "ask" }
    Colour { Auto => "auto", Always => "always", Never => "never" }
    Unanswered { Wait => "wait", Yes => "yes", No => "no", Hold => "hold" }
    KvCache { F16 => "f16", Q8_0 => "q8_0", Q4_0 => "q4_0" }
    MergeStrategy { Squash => "squash", Merge => "merge", Rebase => "rebase" }
}

impl Field for MaxAgents {
    fn to_value(&self) -> Value {
        match self {
            Self::Fixed(count) => Value::Integer(i64::from(*count)),
            Self::Auto => Value::Text("auto".into()),
        }
    }
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Integer(count) => u16::try_from(count).ok().map(Self::Fixed),
            Value::Text(word) if word == "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl<T: Field> Field for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, Field::to_value)
    }
    fn from_value(value: Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }
}

/// Reads one entry of a map field.
pub fn entry<T: Field>(map: &BTreeMap<String, T>, name: &str) -> Value {
    map.get(name).map_or(Value::Unset, Field::to_value)
}

/// Writes one entry of a map field.
pub fn set_entry<T: Field>(map: &mut BTreeMap<String, T>, name: &str, value: Value) {
    if let Some(value) = T::from_value(value) {
        map.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units_and_written_in_the_largest_that_fits() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("1 mb", 1_000_000),
            ("17", 17),
            ("2kib", 2048),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_size("one"), None);
        assert_eq!(parse_size("99999999999999GiB"), None);
        assert_eq!(size(1 << 20), "1MiB");
        assert_eq!(size(1_500), "1500B");
    }

    #[test]
    fn every_value_is_read_back_as_it_was_written() {
        let values = [
            (Kind::Bool, Value::Bool(true)),
            (Kind::Integer { min: 0, max: 9 }, Value::Integer(7)),
            (Kind::Float { min: 0.0, max: 2.0 }, Value::Float(0.5)),
            (Kind::Text, Value::Text("a \"b\" \\ c".into())),
            (Kind::Duration, Value::Duration(Duration::from_secs(5_430))),
            (Kind::Size, Value::Size(3 << 20)),
            (Kind::List, Value::List(vec!["a".into(), "b, c".into()])),
            (Kind::Scalar, Value::Scalar(OptionValue::Float(1.0))),
        ];
        for (kind, value) in values {
            let text = value.to_toml().unwrap();
            let raw = DeValue::parse(&text).unwrap();
            assert_eq!(from_toml(kind, raw.get_ref()), Ok(value), "{text}");
        }
    }

    #[test]
    fn endpoints_from_text_may_be_named_or_not() {
        let Ok(Value::Endpoints(list)) = from_text(Kind::Endpoints, "a=http://x:1, y:2") else {
            panic!("not read");
        };
        assert_eq!(list[0].url, "http://x:1");
        assert_eq!(list[1].name, "endpoint-2");
        assert_eq!(list[1].url, "http://y:2");
        assert!(from_text(Kind::Endpoints, "a=x,a=y").is_err());
        assert!(from_text(Kind::Endpoints, " ").is_err());
    }
}
