//! Tokens of simulated answers: cutting text, made-up words, a small generator of numbers.

/// Ollama ends an answer after more equal tokens in a row than this. An answer that was asked for
/// shall come whole, so equal words are joined before there are too many.
const EQUAL_IN_A_ROW: usize = 20;

/// Cuts a text into pieces of a few characters, as a tokeniser would; together they are the text.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut equal = 0;
    for token in pieces(text) {
        let is_equal = joined.last() == Some(&token);
        equal = if is_equal { equal + 1 } else { 0 };
        match joined.last_mut() {
            Some(last) if equal >= EQUAL_IN_A_ROW => {
                last.push_str(&token);
                equal = 0;
            }
            _ => joined.push(token),
        }
    }
    joined
}

fn pieces(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    for c in text.chars() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let last = token.chars().last();
        let at_boundary = last.is_some_and(|last| is_word(last) != is_word(c) && last != ' ');
        if at_boundary || token.chars().count() >= 6 {
            tokens.push(std::mem::take(&mut token));
        }
        token.push(c);
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

/// Number of tokens of a prompt.
pub(super) fn count(text: &str, chars_per_token: f64) -> u64 {
    let tokens = (text.chars().count() as f64 / chars_per_token).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length divided by a positive number"
    )]
    let count = tokens as u64;
    count
}

/// `SplitMix64`: small, seeded, good enough for made-up words and the odds of faults.
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
#[derive(Debug, Clone)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for this text: the same prompt gets the same answer.
    pub(super) fn of(text: &str) -> Self {
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 … 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A made-up word with a space before it.
    pub(super) fn word(&mut self) -> String {
        let mut word = String::from(" ");
        for _ in 0..=(self.next() % 2) {
            for letters in [b"bdfgklmnprstvz".as_slice(), b"aeiou".as_slice()] {
                let length = u64::try_from(letters.len()).unwrap_or(1);
                let index = usize::try_from(self.next() % length).unwrap_or(0);
                word.push(char::from(letters.get(index).copied().unwrap_or(b'a')));
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_are_the_text(text in ".{0,200}") {
            prop_assert_eq!(tokens(&text).concat(), text);
        }
    }

    #[test]
    fn a_word_said_a_hundred_times_is_not_a_hundred_equal_tokens() {
        for text in ["word ".repeat(100), "=".repeat(900), "\n".repeat(900)] {
            let tokens = tokens(&text);
            assert_eq!(tokens.concat(), text);
            let longest = tokens.chunk_by(|a, b| a == b).map(<[_]>::len);
            assert!(longest.max().unwrap() <= 30, "{tokens:?}");
        }
    }

    #[test]
    fn words_differ_and_are_the_same_for_the_same_prompt() {
        let words = |prompt: &str| {
            let mut numbers = Numbers::of(prompt);
            (0..50).map(|_| numbers.word()).collect::<Vec<_>>()
        };
        assert_eq!(words("a"), words("a"));
        assert_ne!(words("a"), words("b"));
    }
}
