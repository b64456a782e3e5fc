//! Hides agents' tokens in what leaves an agent: Aider prints the URLs of failed requests, and a
//! token is part of such a URL.
//!
//! A token is known by what stands before it, `/agent/`, so that no secret has to be at hand to
//! hide one. A terminal breaks lines where they end: white space and escape sequences in between
//! are passed on and do not end a token. Every character is replaced by one, so columns stay.

use std::borrow::Cow;

/// What stands before a token.
const BEFORE: &[u8] = b"/agent/";
/// Characters of a token: 16 bytes in hexadecimal digits.
const TOKEN: usize = 32;
/// What a hidden character becomes.
const HIDDEN: u8 = b'*';

/// Goes through one agent's output, however it is cut into chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Redactor {
    at: At,
    escape: Escape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of `BEFORE` were seen.
    Before(usize),
    /// So many characters of a token were hidden.
    Inside(usize),
}

impl Default for At {
    fn default() -> Self {
        Self::Before(0)
    }
}

/// Inside an escape sequence; its letters are no part of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// A control sequence, up to its final byte.
    Control,
}

impl Redactor {
    /// The same bytes without tokens.
    pub(super) fn clean<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if *self == Self::default() && !bytes.contains(&b'/') {
            return Cow::Borrowed(bytes);
        }
        let cleaned = bytes.iter().map(|byte| self.step(*byte)).collect();
        Cow::Owned(cleaned)
    }

    fn step(&mut self, byte: u8) -> u8 {
        match self.escape {
            Escape::Begun => {
                self.escape = if byte == b'[' {
                    Escape::Control
                } else {
                    Escape::None
                };
                return byte;
            }
            Escape::Control => {
                if (0x40..=0x7e).contains(&byte) {
                    self.escape = Escape::None;
                }
                return byte;
            }
            Escape::None if byte == 0x1b => {
                self.escape = Escape::Begun;
                return byte;
            }
            Escape::None => {}
        }
        if byte.is_ascii_whitespace() {
            return byte;
        }
        match self.at {
            At::Before(seen) => {
                self.at = before(seen, byte);
                byte
            }
            At::Inside(hidden) if byte.is_ascii_hexdigit() => {
                self.at = if hidden + 1 == TOKEN {
                    At::default()
                } else {
                    At::Inside(hidden + 1)
                };
                HIDDEN
            }
            At::Inside(_) => {
                self.at = before(0, byte);
                byte
            }
        }
    }
}

impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.escape == other.escape
    }
}

/// After one more byte in front of a token.
fn before(seen: usize, byte: u8) -> At {
    let seen = if BEFORE.get(seen) == Some(&byte) {
        seen + 1
    } else {
        usize::from(BEFORE.first() == Some(&byte))
    };
    if seen == BEFORE.len() {
        At::Inside(0)
    } else {
        At::Before(seen)
    }
}

/// A text without tokens.
pub fn redact(text: &str) -> String {
    let cleaned = Redactor::default().clean(text.as_bytes()).into_owned();
    // Only ASCII was replaced, by ASCII.
    String::from_utf8(cleaned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_in_a_url_is_hidden_and_the_rest_stays() {
        let text = format!("for url 'http://127.0.0.1:9/agent/{SECRET}/api/show' (404) abc");
        assert_eq!(
            redact(&text),
            format!(
                "for url 'http://127.0.0.1:9/agent/{}/api/show' (404) abc",
                "*".repeat(32)
            )
        );
    }

    #[test]
    fn a_token_that_the_terminal_broke_is_hidden_too() {
        let (head, tail) = SECRET.split_at(9);
        let text = format!("/age\r\nnt/{head}\r\n\x1b[31m  {tail}/api deadbeef");
        let cleaned = redact(&text);
        assert_eq!(
            cleaned,
            format!(
                "/age\r\nnt/{}\r\n\x1b[31m  {}/api deadbeef",
                "*".repeat(9),
                "*".repeat(23)
            )
        );
    }

    proptest! {
        #[test]
        fn however_the_output_is_cut_no_token_gets_through(
            cuts in proptest::collection::vec(0_usize..120, 0..8),
            before in "[a-z/ ]{0,20}",
        ) {
            let text = format!("{before}http://x/agent/{SECRET}/api/chat");
            let mut redactor = Redactor::default();
            let (mut out, mut from) = (Vec::new(), 0);
            let mut cuts = cuts;
            cuts.sort_unstable();
            for cut in cuts.into_iter().filter(|cut| *cut <= text.len()) {
                out.extend_from_slice(&redactor.clean(&text.as_bytes()[from..cut]));
                from = cut;
            }
            out.extend_from_slice(&redactor.clean(&text.as_bytes()[from..]));
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(!String::from_utf8(out).unwrap().contains(SECRET));
        }
    }
}
