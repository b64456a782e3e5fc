//! The fields of requests and their types, read as Go reads JSON into its structures.
//!
//! Names match without case, `null` leaves a field as it is, what is unknown is passed over, and a
//! value of the wrong type refuses the request in Go's words. Those name the structure of the whole
//! request and the path below it, because Ollama's messages are read by a function of their own,
//! whose error gets the place of the message.
//!
//! Source: `api/types.go` of Ollama 0.32, `encoding/json` of Go 1.24.

use serde_json::{Map, Value};

use super::go;
use super::request::Refusal;

/// What Ollama says of a tool call whose arguments are no object (they are read by a library).
const NO_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
/// What `think` may be.
const THINK: &str = "\"high\", \"medium\", \"low\", \"max\", true, or false";

/// Fields by name.
pub(super) type Table = &'static [(&'static str, Kind)];

/// What a field must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    Whole,
    /// An object of whatever content.
    Object,
    /// A list whose elements are not looked at, by its Go type.
    List(&'static str),
    /// A structure, by its Go type.
    Row(&'static str, Table),
    /// A list of structures.
    Rows(&'static Rows),
    /// Of a tool call.
    Arguments,
    Think,
    /// Looked at later, if at all.
    Any,
}

/// A list of structures.
pub(super) struct Rows {
    /// Its Go type.
    list: &'static str,
    /// That of an element.
    element: &'static str,
    /// How errors in it name the structure, if not as the request.
    structure: Option<&'static str>,
    fields: Table,
}

/// `/api/chat`
pub(super) const CHAT: Table = &[
    ("model", Kind::Text),
    ("messages", Kind::Rows(&MESSAGES)),
    ("stream", Kind::Flag),
    ("format", Kind::Any),
    ("keep_alive", Kind::Any),
    ("tools", Kind::List("api.Tools")),
    ("options", Kind::Object),
    ("think", Kind::Think),
    ("truncate", Kind::Flag),
    ("shift", Kind::Flag),
    ("logprobs", Kind::Flag),
    ("top_logprobs", Kind::Whole),
];

/// `/api/generate`
pub(super) const GENERATE: Table = &[
    ("model", Kind::Text),
    ("prompt", Kind::Text),
    ("suffix", Kind::Text),
    ("system", Kind::Text),
    ("template", Kind::Text),
    ("context", Kind::List("[]int")),
    ("stream", Kind::Flag),
    ("raw", Kind::Flag),
    ("format", Kind::Any),
    ("keep_alive", Kind::Any),
    ("images", Kind::List("[]api.ImageData")),
    ("options", Kind::Object),
    ("think", Kind::Think),
    ("truncate", Kind::Flag),
    ("shift", Kind::Flag),
    ("logprobs", Kind::Flag),
    ("top_logprobs", Kind::Whole),
];

/// `/v1/chat/completions`
pub(super) const OPENAI: Table = &[
    ("model", Kind::Text),
    ("messages", Kind::Rows(&OPENAI_MESSAGES)),
    ("stream", Kind::Flag),
    ("max_tokens", Kind::Whole),
];

const MESSAGES: Rows = Rows {
    list: "[]api.Message",
    // The name that it has in the function that reads it.
    element: "api.Alias",
    structure: None,
    fields: &[
        ("role", Kind::Text),
        ("content", Kind::Text),
        ("thinking", Kind::Text),
        ("images", Kind::List("[]api.ImageData")),
        ("tool_calls", Kind::Rows(&TOOL_CALLS)),
        ("tool_name", Kind::Text),
        ("tool_call_id", Kind::Text),
    ],
};

const TOOL_CALLS: Rows = Rows {
    list: "[]api.ToolCall",
    element: "api.ToolCall",
    structure: None,
    fields: &[
        ("id", Kind::Text),
        (
            "function",
            Kind::Row(
                "api.ToolCallFunction",
                &[
                    ("index", Kind::Whole),
                    ("name", Kind::Text),
                    ("arguments", Kind::Arguments),
                ],
            ),
        ),
    ],
};

const OPENAI_MESSAGES: Rows = Rows {
    list: "[]openai.Message",
    element: "openai.Message",
    structure: Some("Message"),
    fields: &[("role", Kind::Text), ("content", Kind::Any)],
};

/// Where a value stands.
#[derive(Clone)]
struct Place {
    structure: &'static str,
    path: String,
}

impl Place {
    fn below(&self, name: &str) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Self {
            structure: self.structure,
            path,
        }
    }

    fn refuse(&self, value: &Value, wanted: &str) -> Refusal {
        let text = go::type_error(value, self.structure, &self.path, wanted);
        Refusal::new(400, text)
    }
}

/// The fields of a request under their own names, checked.
pub(super) fn read(
    body: &Map<String, Value>,
    table: Table,
    structure: &'static str,
) -> Result<Map<String, Value>, Refusal> {
    let path = String::new();
    fields(body, table, &Place { structure, path })
}

fn fields(
    object: &Map<String, Value>,
    table: Table,
    place: &Place,
) -> Result<Map<String, Value>, Refusal> {
    let mut read = Map::new();
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.to_lowercase();
        let known = table.iter().find(|(known, _)| *known == name);
        let value = match known {
            Some((_, kind)) => kind.read(value, &place.below(&name))?,
            None => value.clone(),
        };
        read.insert(name, value);
    }
    Ok(read)
}

impl Kind {
    fn read(self, value: &Value, place: &Place) -> Result<Value, Refusal> {
        match (self, value) {
            (Self::Text, Value::String(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Whole, Value::Number(_))
            | (Self::Object | Self::Arguments, Value::Object(_))
            | (Self::List(_), Value::Array(_))
            | (Self::Any, _) => Ok(value.clone()),
            (Self::Row(_, table), Value::Object(object)) => {
                fields(object, table, place).map(Value::Object)
            }
            (Self::Rows(rows), Value::Array(items)) => {
                let items = items.iter().map(|item| rows.item(item, place));
                items.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (Self::Arguments, _) => Err(Refusal::new(400, NO_OBJECT)),
            (Self::Think, _) => think(value).map(|()| value.clone()),
            _ => Err(place.refuse(value, self.go_type())),
        }
    }

    fn go_type(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "bool",
            Self::Whole => "int",
            Self::Object => "map[string]interface {}",
            Self::List(name) | Self::Row(name, _) => name,
            Self::Rows(rows) => rows.list,
            Self::Arguments => "api.ToolCallFunctionArguments",
            Self::Think => "api.ThinkValue",
            Self::Any => "interface {}",
        }
    }
}

impl Rows {
    fn item(&self, item: &Value, place: &Place) -> Result<Value, Refusal> {
        match item {
            Value::Null => Ok(Value::Object(Map::new())),
            Value::Object(object) => {
                let place = Place {
                    structure: self.structure.unwrap_or(place.structure),
                    path: place.path.clone(),
                };
                fields(object, self.fields, &place).map(Value::Object)
            }
            other => Err(place.refuse(other, self.element)),
        }
    }
}

fn think(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Bool(_) => Ok(()),
        Value::String(level) if ["high", "medium", "low", "max"].contains(&level.as_str()) => {
            Ok(())
        }
        Value::String(level) => {
            let text = format!("invalid think value: {level:?} (must be {THINK})");
            Err(Refusal::new(400, text))
        }
        _ => {
            let text = format!("think must be a boolean or string ({THINK})");
            Err(Refusal::new(400, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(body: Value) -> String {
        let Value::Object(body) = body else {
            panic!("{body} is no object")
        };
        let refusal = read(&body, CHAT, "ChatRequest").unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_place() {
        let message = |message: Value| json!({ "messages": [message] });
        let call = |function: Value| message(json!({"tool_calls": [{ "function": function }]}));
        let table = [
            (
                json!({"messages": [1, 2]}),
                "number into Go struct field ChatRequest.messages of type api.Alias",
            ),
            (
                message(json!({"content": 5})),
                "number into Go struct field ChatRequest.messages.content of type string",
            ),
            (
                call(json!({"name": []})),
                "array into Go struct field ChatRequest.messages.tool_calls.function.name of type string",
            ),
            (
                json!({"STREAM": "yes"}),
                "string into Go struct field ChatRequest.stream of type bool",
            ),
            (
                json!({"options": 1}),
                "number into Go struct field ChatRequest.options of type map[string]interface {}",
            ),
        ];
        for (body, expected) in table {
            let expected = format!("json: cannot unmarshal {expected}");
            assert_eq!(refusal(body), expected);
        }
        assert_eq!(
            refusal(call(json!({"arguments": "{\"city\": \"Rome\"}"}))),
            NO_OBJECT
        );
        assert_eq!(
            refusal(json!({"think": "hard"})),
            "invalid think value: \"hard\" (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
        );
    }

    #[test]
    fn names_match_without_case_and_null_is_nothing() {
        let Value::Object(body) = json!({
            "Model": "m", "Messages": [{"Role": "user", "CONTENT": "hi"}, null], "stream": null,
            "other": [1],
        }) else {
            panic!("an object is one")
        };
        let read = read(&body, CHAT, "ChatRequest").unwrap();
        let expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}, {}], "other": [1],
        });
        assert_eq!(Value::Object(read), expected);
    }
}
