//! A filter in front of the emulator that bounds what hostile bytes can cost.
//!
//! The emulator's parser keeps an unbounded buffer for an OSC string, repeats a character up to
//! 65,535 times for nine bytes of input (measured: 64 KiB of them cost 3.9 s), keeps every
//! hyperlink and every combining character it is ever given. The guard understands just enough of
//! the grammar to cut these down, and passes everything else on.
//!
//! What it passes on is made of whole units (a run of valid UTF-8, a complete escape sequence), so
//! the emulator sees the same bytes however the input was cut into chunks.
//!
//! Invariant: bounded state, whatever the input.

/// Longest OSC string that is passed on; the rest is dropped.
const OSC_MAX: usize = 64 * 1024;

/// Longest title. The emulator stacks up to 4,096 of them.
const TITLE_MAX: usize = 1024;

/// Longest control sequence; a longer one is dropped whole. Real ones stay under 100 bytes.
const CSI_MAX: usize = 256;

/// Largest parameter of a control sequence. No terminal has more columns or lines.
const PARAMETER_MAX: u32 = 9_999;

/// Most repetitions of one character (`CSI n b`): more than any line that is drawn.
const REPEAT_MAX: u32 = 512;

/// Most tab stops passed at once; without stops set, the emulator walks the line for each.
const TABS_MAX: u32 = 128;

/// Combining characters that may follow one character.
pub(super) const COMBINING_MAX: usize = 8;

/// Intermediate bytes of an escape sequence; the parser keeps two.
const INTERMEDIATES_MAX: usize = 4;

/// The filter and its place in the grammar.
#[derive(Debug, Default)]
pub struct Guard {
    state: State,
    /// The unit being collected: an incomplete character, a control sequence, an OSC's number.
    held: Vec<u8>,
    combining: usize,
    combining_passed: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Csi,
    /// A control sequence that is too long, until its final byte.
    CsiDropped,
    OscNumber,
    /// An OSC's text, with the bytes that may still be passed on.
    Osc(usize),
    /// An OSC, DCS, SOS, PM or APC string that is dropped.
    Dropped(Ending),
}

/// What ends a dropped string besides ESC, CAN and SUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Bell,
    C1,
    Nothing,
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

impl Guard {
    /// Appends to `out` what the emulator may see of `bytes`.
    pub fn filter(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.state == State::Text {
                rest = self.text(rest, out);
            } else {
                self.step(byte, out);
                rest = tail;
            }
        }
    }

    /// Combining characters passed on since the last call.
    pub(super) fn take_combining_passed(&mut self) -> usize {
        std::mem::take(&mut self.combining_passed)
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => {}
            State::Escape => self.escape(byte, out),
            State::Csi => self.csi(byte, out),
            State::CsiDropped => self.csi_dropped(byte, out),
            State::OscNumber => self.osc_number(byte, out),
            State::Osc(left) => self.osc(byte, left, out),
            State::Dropped(ending) => self.dropped(byte, ending, out),
        }
    }

    /// Passes on text up to the next ESC; returns what is left.
    fn text<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = bytes.iter().position(|&b| b == ESC);
        let (run, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if self.held.is_empty() {
            self.utf8(run, out);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(run);
            self.utf8(&joined, out);
        }
        let Some((_, rest)) = rest.split_first() else {
            return rest;
        };
        if !self.held.is_empty() {
            self.held.clear();
            self.character('\u{fffd}', out);
        }
        self.state = State::Escape;
        rest
    }

    /// Passes on `bytes` as characters; an incomplete one at the end is held for the next chunk.
    fn utf8(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return self.characters(text, out),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    self.characters(&String::from_utf8_lossy(valid), out);
                    let Some(length) = error.error_len() else {
                        self.held.extend_from_slice(rest);
                        return;
                    };
                    // A lone C1 byte is a control that no emulator of ours acts on.
                    if !(length == 1 && rest.first().is_some_and(|b| (0x80..=0x9f).contains(b))) {
                        self.character('\u{fffd}', out);
                    }
                    bytes = rest.get(length..).unwrap_or_default();
                }
            }
        }
    }

    fn characters(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_ascii() {
            if !text.is_empty() {
                self.combining = 0;
                out.extend_from_slice(text.as_bytes());
            }
            return;
        }
        for character in text.chars() {
            self.character(character, out);
        }
    }

    fn character(&mut self, character: char, out: &mut Vec<u8>) {
        if unicode_width::UnicodeWidthChar::width(character) == Some(0) && character != '\0' {
            self.combining += 1;
            if self.combining > COMBINING_MAX {
                return;
            }
            self.combining_passed += 1;
        } else {
            self.combining = 0;
        }
        let mut buffer = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            CAN | SUB => self.abandon(byte, out),
            ESC => self.held.clear(),
            0x00..=0x1f => out.push(byte),
            0x20..=0x2f => self.hold(byte, INTERMEDIATES_MAX),
            b'[' if self.held.is_empty() => self.state = State::Csi,
            b']' if self.held.is_empty() => self.state = State::OscNumber,
            b'P' if self.held.is_empty() => self.state = State::Dropped(Ending::C1),
            b'X' | b'^' | b'_' if self.held.is_empty() => {
                self.state = State::Dropped(Ending::Nothing);
            }
            0x30..=0x7e => {
                out.push(ESC);
                out.append(&mut self.held);
                out.push(byte);
                self.state = State::Text;
            }
            0x7f..=0xff => {}
        }
    }

    fn csi(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESC => self.restart(),
            CAN | SUB => self.abandon(byte, out),
            0x00..=0x1f => out.push(byte),
            0x20..=0x3f if self.held.len() < CSI_MAX => self.held.push(byte),
            0x20..=0x3f => {
                self.held.clear();
                self.state = State::CsiDropped;
            }
            0x40..=0x7e => {
                self.dispatch_csi(byte, out);
                self.held.clear();
                self.state = State::Text;
            }
            0x7f..=0xff => {}
        }
    }

    fn dispatch_csi(&mut self, last: u8, out: &mut Vec<u8>) {
        let plain = !self.held.iter().any(|b| !matches!(b, b'0'..=b'9' | b';'));
        let limit = match last {
            // Repeating a combining character would pile it up on one cell.
            b'b' if plain && self.combining > 0 => return,
            b'b' if plain => REPEAT_MAX,
            b'I' | b'Z' if plain => TABS_MAX,
            _ => PARAMETER_MAX,
        };
        out.extend_from_slice(&[ESC, b'[']);
        let mut number: Option<u32> = None;
        for &byte in &self.held {
            if byte.is_ascii_digit() {
                let digit = u32::from(byte - b'0');
                let value = number.unwrap_or(0).saturating_mul(10).saturating_add(digit);
                number = Some(value.min(limit));
            } else {
                push_number(number.take(), out);
                out.push(byte);
            }
        }
        push_number(number, out);
        out.push(last);
    }

    fn csi_dropped(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESC => self.restart(),
            CAN | SUB => self.abandon(byte, out),
            0x00..=0x1f => out.push(byte),
            0x40..=0x7e => self.state = State::Text,
            0x20..=0x3f | 0x7f..=0xff => {}
        }
    }

    /// Hyperlinks (8) are never drawn, clipboard (52) is never obeyed, our own cues (7717) are
    /// read elsewhere: none of them reaches the emulator.
    fn osc_number(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte.is_ascii_digit() && self.held.len() < 6 {
            self.held.push(byte);
            return;
        }
        let limit = match self.held.as_slice() {
            b"8" | b"52" | b"7717" => 0,
            b"0" | b"1" | b"2" => TITLE_MAX,
            _ => OSC_MAX,
        };
        if limit == 0 {
            self.held.clear();
            self.state = State::Dropped(Ending::Bell);
            return self.dropped(byte, Ending::Bell, out);
        }
        out.extend_from_slice(&[ESC, b']']);
        out.append(&mut self.held);
        self.state = State::Osc(limit);
        self.osc(byte, limit, out);
    }

    fn osc(&mut self, byte: u8, left: usize, out: &mut Vec<u8>) {
        match byte {
            BEL => {
                out.push(BEL);
                self.state = State::Text;
            }
            CAN | SUB => self.abandon(byte, out),
            ESC => {
                out.extend_from_slice(&[ESC, b'\\']);
                self.restart();
            }
            0x20..=0xff if left > 0 => {
                out.push(byte);
                self.state = State::Osc(left - 1);
            }
            0x00..=0xff => {}
        }
    }

    fn dropped(&mut self, byte: u8, ending: Ending, out: &mut Vec<u8>) {
        match (byte, ending) {
            (ESC, _) => self.restart(),
            (CAN | SUB, _) => self.abandon(byte, out),
            (BEL, Ending::Bell) | (0x9c, Ending::C1) => self.state = State::Text,
            (_, Ending::Bell | Ending::C1 | Ending::Nothing) => {}
        }
    }

    /// ESC begins a new sequence wherever it comes.
    fn restart(&mut self) {
        self.held.clear();
        self.state = State::Escape;
    }

    /// CAN and SUB end any sequence and are acted on.
    fn abandon(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.clear();
        out.push(byte);
        self.state = State::Text;
    }

    fn hold(&mut self, byte: u8, limit: usize) {
        if self.held.len() < limit {
            self.held.push(byte);
        }
    }
}

fn push_number(number: Option<u32>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Guard::default().filter(input, &mut out);
        out
    }

    #[test]
    fn ordinary_output_passes_unchanged() {
        for input in [
            "plain text\r\n\ttabs",
            "héllo 日本 e\u{301}",
            "\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3m\x1b[?2004h\x1b[?2026l",
            "\x1b]0;a title\x07\x1b]11;?\x07",
            "\x1b(B\x1b7\x1b8\x1bM\x1b#8",
        ] {
            assert_eq!(filtered(input.as_bytes()), input.as_bytes(), "{input:?}");
        }
    }

    #[test]
    fn an_endless_title_is_cut_and_still_ended() {
        let mut input = b"\x1b]0;".to_vec();
        input.resize(10 << 20, b'x');
        input.push(BEL);
        let out = filtered(&input);
        assert_eq!(out.len(), TITLE_MAX + 4);
        assert_eq!(out.last(), Some(&BEL));
    }

    #[test]
    fn unterminated_strings_of_every_kind_pass_at_most_the_cap_and_hold_nothing() {
        for opening in [
            "\x1b]10;", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x1b[", "\x1b]",
        ] {
            let mut guard = Guard::default();
            let mut out = Vec::new();
            guard.filter(opening.as_bytes(), &mut out);
            for _ in 0..200 {
                guard.filter(&[b'1'; 4096], &mut out);
            }
            assert!(out.len() <= OSC_MAX + 8, "{opening:?}: {}", out.len());
            assert!(guard.held.capacity() <= 2 * CSI_MAX, "{opening:?}");
        }
    }

    #[test]
    fn repetitions_and_huge_parameters_are_clamped() {
        assert_eq!(filtered(b"x\x1b[65535b"), b"x\x1b[512b");
        assert_eq!(filtered(b"\x1b[4294967296000000A"), b"\x1b[9999A");
        assert_eq!(filtered(b"\x1b[999999999;5H"), b"\x1b[9999;5H");
        assert_eq!(filtered(b"\x1b[65535Z"), b"\x1b[128Z");
    }

    #[test]
    fn hyperlinks_clipboard_and_cues_never_reach_the_emulator() {
        assert_eq!(
            filtered(b"a\x1b]8;;http://x\x1b\\b\x1b]8;;\x07c"),
            b"a\x1b\\bc"
        );
        assert_eq!(filtered(b"\x1b]52;c;aGk=\x07x"), b"x");
        assert_eq!(filtered(b"\x1b]7717;nonce;{}\x07x"), b"x");
    }

    #[test]
    fn combining_characters_are_limited_and_never_repeated() {
        let input = format!("a{}\x1b[9b", "\u{301}".repeat(1000));
        let out = filtered(input.as_bytes());
        assert_eq!(out.len(), 1 + 2 * COMBINING_MAX);
    }

    #[test]
    fn a_character_cut_by_a_chunk_or_an_escape_is_whole_or_replaced() {
        let mut guard = Guard::default();
        let mut out = Vec::new();
        guard.filter(&[0xe6, 0x97], &mut out);
        assert!(out.is_empty());
        guard.filter(&[0xa5, 0xe6], &mut out);
        guard.filter(b"\x1b[m", &mut out);
        assert_eq!(out, "日\u{fffd}\x1b[m".as_bytes());
    }
}
