//! What of a request is its prompt: how long it is, and what it has in common with others.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::ask::{BadRequest, Members};

/// An image is some 768 tokens for the usual encoders: as many characters as that much text has.
pub(super) const IMAGE_CHARS: u64 = 768 * 4;

/// A part of a prompt: its text, and characters that stand for what is no text.
pub(super) struct Part {
    text: String,
    beside: u64,
}

/// What counts of a message.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    role: Option<String>,
    content: Option<String>,
    images: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

/// Role and text of each message.
pub(super) fn messages(body: &Members) -> Result<Vec<Part>, BadRequest> {
    let Some(list) = body.get("messages").filter(|it| it.get() != "null") else {
        return Ok(Vec::new());
    };
    let list: Vec<&RawValue> = serde_json::from_str(list.get())
        .map_err(|_reason| BadRequest::new("'messages' is no list"))?;
    let part = |message: &&RawValue| {
        // What is no message the endpoint refuses in its own words.
        let read: Message<'_> = serde_json::from_str(message.get()).unwrap_or_default();
        let (role, content) = (read.role.as_deref(), read.content.as_deref());
        let calls = read.tool_calls.map_or("", RawValue::get);
        let images = read.images.map_or(0, |images| images.len());
        Part {
            text: format!(
                "{}\n{}\n{calls}",
                role.unwrap_or_default(),
                content.unwrap_or_default()
            ),
            beside: u64::try_from(images).unwrap_or(0) * IMAGE_CHARS,
        }
    };
    Ok(list.iter().map(part).collect())
}

/// What `/api/generate` is asked.
pub(super) fn texts(body: &Members) -> Result<Vec<Part>, BadRequest> {
    let mut texts = Vec::new();
    for key in ["system", "prompt", "suffix"] {
        let Some(value) = body.get(key).filter(|it| it.get() != "null") else {
            continue;
        };
        let text: String = serde_json::from_str(value.get())
            .map_err(|_reason| BadRequest::new(format!("'{key}' is no text")))?;
        if !text.is_empty() {
            texts.push(Part { text, beside: 0 });
        }
    }
    Ok(texts)
}

/// Characters of all parts, and the chain of their hashes. Tools come before all messages.
pub(super) fn prefixes(parts: &[Part], tools: Option<&str>) -> (u64, Vec<(u64, u64)>) {
    let (mut chars, mut hasher) = (0, DefaultHasher::new());
    if let Some(tools) = tools {
        tools.hash(&mut hasher);
        chars += u64::try_from(tools.len()).unwrap_or(u64::MAX);
    }
    let chain = parts
        .iter()
        .map(|part| {
            part.text.hash(&mut hasher);
            chars += u64::try_from(part.text.chars().count()).unwrap_or(u64::MAX) + part.beside;
            (hasher.finish(), chars)
        })
        .collect();
    (chars, chain)
}
