//! Text from outside, made safe and short enough to show.

use unicode_width::UnicodeWidthChar;

/// `text` on one line without anything a terminal would act on: line ends and tabs become a
/// space, other control characters and those that reorder text are shown as `�`.
pub fn plain(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_unsafe(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The lines of `text`, each safe to show, tabs as four spaces.
pub fn plain_lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            line.trim_end_matches('\r')
                .replace('\t', "    ")
                .chars()
                .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
                .collect()
        })
        .collect()
}

/// Control characters, and the ones that change the direction of text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` in at most `width` columns; `…` (or `.`) says that something is missing.
pub fn cut(text: &str, width: usize, ellipsis: char) -> String {
    if unicode_width::UnicodeWidthStr::width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    if width > 0 {
        kept.push(ellipsis);
    }
    kept
}

/// Wraps `text` to `width` columns, at spaces where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    plain_lines(text)
        .iter()
        .flat_map(|line| wrap_line(line, width))
        .collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        let length = unicode_width::UnicodeWidthStr::width(word.trim_end());
        if used > 0 && used + length > width {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let columns = c.width().unwrap_or(0);
            if used > 0 && used + columns > width {
                if c == ' ' {
                    continue;
                }
                lines.push(String::new());
                used = 0;
            }
            if let Some(last) = lines.last_mut() {
                last.push(c);
            }
            used += columns;
        }
    }
    lines
}

/// A duration as `0:42`, `12:07` or `3h04`.
pub fn clock(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}h{minutes:02}")
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        assert_eq!(plain(" a\nb\tc\x1b[31md\u{9b}\u{202e}e "), "a b c�[31md��e");
        assert_eq!(plain_lines("a\tb\r\nc\x07"), ["a    b", "c�"]);
    }

    #[test]
    fn text_is_cut_by_columns_not_by_characters() {
        assert_eq!(cut("日本語", 6, '…'), "日本語");
        assert_eq!(cut("日本語", 5, '…'), "日本…");
        assert_eq!(cut("日本語", 4, '…'), "日…");
        assert_eq!(cut("abc", 0, '…'), "");
    }

    #[test]
    fn long_words_are_broken_and_others_kept_whole() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("a\n\nb", 3), ["a", "", "b"]);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(clock(Duration::from_secs(42)), "0:42");
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 240)), "3h04");
    }
}
