//! How a text is handed to Aider: as one bracketed paste and Enter.
//!
//! A paste keeps newlines and braces literal and may be of any length. Three things would still
//! change it: bytes that end the paste or move the cursor, which are replaced by visible signs;
//! CR, which is a newline; and a first character that makes it a command or a block. The last is
//! solved by a word joiner in front, which the launcher takes off again, so that the model gets
//! the text as it was written.
//!
//! Invariant: pure.

use sha2::{Digest, Sha256};

use super::cues::{Cue, InputEnd};

/// Takes away the meaning of the first character; the launcher removes it (`LITERAL` there).
const LITERAL: char = '\u{2060}';

/// Tells a spare to read what its task is before it takes the text; the launcher removes it
/// (`HANDOVER` there).
const HANDOVER: char = '\u{2061}';

/// A text ready for the pty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The keys, to be written in order and once.
    pub bytes: Vec<u8>,
    /// SHA-256 in hex of the text as Aider will report it in its `input` cue.
    pub sha256: String,
}

impl Delivery {
    /// The cue says that exactly this text was taken.
    pub fn was_taken(&self, cue: &Cue) -> bool {
        matches!(cue, Cue::Input { how: InputEnd::Text, sha256, .. } if *sha256 == self.sha256)
    }
}

/// A text that cannot be a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prompt is empty")]
pub struct EmptyPrompt;

/// A prompt: never a command, whatever it begins with.
pub fn literal(text: &str) -> Result<Delivery, EmptyPrompt> {
    let clean = clean(text);
    let marks: Vec<char> = literal_mark(&clean)?.into_iter().collect();
    Ok(deliver(&marks, &clean))
}

/// The first prompt of an agent that was started before its task was known.
pub fn handed_over(text: &str) -> Result<Delivery, EmptyPrompt> {
    let clean = clean(text);
    let mut marks = vec![HANDOVER];
    marks.extend(literal_mark(&clean)?);
    Ok(deliver(&marks, &clean))
}

fn literal_mark(clean: &str) -> Result<Option<char>, EmptyPrompt> {
    if clean.trim().is_empty() {
        return Err(EmptyPrompt);
    }
    let is_command = clean.starts_with(['/', '!', LITERAL, HANDOVER]);
    let is_block = clean.trim_start_matches('\n').starts_with('{');
    Ok((is_command || is_block).then_some(LITERAL))
}

/// A line of a human's: `/add`, `!ls` and the like keep their meaning.
pub fn line(text: &str) -> Delivery {
    deliver(&[], &clean(text))
}

fn deliver(marks: &[char], clean: &str) -> Delivery {
    let mut text = String::with_capacity(clean.len() + 16);
    text.push_str("\x1b[200~");
    text.extend(marks);
    text.push_str(clean);
    text.push_str("\x1b[201~\r");
    Delivery {
        bytes: text.into_bytes(),
        sha256: sha256(clean),
    }
}

/// The text as Aider receives it: newlines are LF, other control characters are visible signs.
pub fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(visible).collect()
}

fn visible(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\r' => '\n',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        _ => character,
    }
}

fn sha256(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String does not fail.
            let _written = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasted(text: &str) -> String {
        let bytes = literal(text).unwrap().bytes;
        let text = String::from_utf8(bytes).unwrap();
        let inner = text.strip_prefix("\x1b[200~").unwrap();
        inner.strip_suffix("\x1b[201~\r").unwrap().to_owned()
    }

    #[test]
    fn a_text_cannot_end_its_own_paste() {
        let text = "one\x1b[201~\r/exit\r two \x03\x04\x7f\u{9b}31m";
        let inner = pasted(text);
        assert_eq!(inner, "one␛[201~\n/exit\n two ␃␄␡\u{fffd}31m");
    }

    #[test]
    fn newlines_tabs_and_unicode_stay() {
        let text = "fn main() {\r\n\tprintln!(\"Grüße, 世界 🦀\");\r\n}\n";
        assert_eq!(pasted(text), text.replace("\r\n", "\n"));
    }

    #[test]
    fn a_first_character_never_makes_a_command_or_a_block() {
        for text in ["/exit", "!rm -rf .", "{", "\n{tag", "\u{2060}/exit"] {
            assert_eq!(pasted(text), format!("\u{2060}{text}"));
        }
        assert_eq!(pasted(" /exit"), " /exit");
        assert!(line("/add src").bytes.starts_with(b"\x1b[200~/add"));
    }

    #[test]
    fn an_empty_prompt_is_refused() {
        assert_eq!(literal(" \n\t"), Err(EmptyPrompt));
    }

    #[test]
    fn a_delivery_is_recognised_by_the_text_without_the_mark() {
        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(literal("abc").unwrap().sha256, abc);
        assert_eq!(literal("/abc").unwrap().sha256, line("/abc").sha256);
        let taken = |sha256: &str| Cue::Input {
            n: 1,
            how: InputEnd::Text,
            bytes: 3,
            sha256: sha256.into(),
        };
        assert!(literal("abc").unwrap().was_taken(&taken(abc)));
        assert!(!literal("abcd").unwrap().was_taken(&taken(abc)));
    }
}
