//! A text being written: characters, a cursor, and the keys that everybody expects.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longest text, in characters; more is refused.
pub const TEXT_MAX: usize = 1024 * 1024;

/// A text being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Editor {
    text: Vec<char>,
    cursor: usize,
}

/// The text does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is longer than {TEXT_MAX} characters")]
pub struct TooLong;

impl Editor {
    /// A text with the cursor at its end.
    pub fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().take(TEXT_MAX).collect();
        let cursor = text.len();
        Self { text, cursor }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Nothing but blanks.
    pub fn is_blank(&self) -> bool {
        self.text.iter().all(|c| c.is_whitespace())
    }

    /// Inserts at the cursor; line ends become LF, control characters but tabs are left out.
    ///
    /// # Errors
    /// Nothing was inserted.
    pub fn insert(&mut self, text: &str) -> Result<(), TooLong> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let new: Vec<char> = text
            .chars()
            .filter(|c| matches!(c, '\n' | '\t') || !c.is_control())
            .collect();
        if self.text.len() + new.len() > TEXT_MAX {
            return Err(TooLong);
        }
        let count = new.len();
        self.text.splice(self.cursor..self.cursor, new);
        self.cursor += count;
        Ok(())
    }

    /// Acts on a key; `false` when it means nothing here.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.cursor = self.line_start(),
            KeyCode::Char('k') if control => self.remove(self.cursor, self.line_end()),
            KeyCode::Char('u') if control => self.remove(self.line_start(), self.cursor),
            KeyCode::Char('w') if control => self.remove(self.word_start(), self.cursor),
            KeyCode::Char(c) if key.modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                return self.insert(c.encode_utf8(&mut [0; 4])).is_ok();
            }
            KeyCode::Backspace => self.remove(self.cursor.saturating_sub(1), self.cursor),
            KeyCode::Delete => self.remove(self.cursor, self.cursor + 1),
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            KeyCode::Home => self.cursor = self.line_start(),
            KeyCode::End => self.cursor = self.line_end(),
            KeyCode::Up => self.up(),
            KeyCode::Down => self.down(),
            _ => return false,
        }
        true
    }

    /// Lines of at most `width` columns as they are shown, and the cursor's column and line.
    pub fn wrapped(&self, width: usize) -> (Vec<String>, (usize, usize)) {
        let width = width.max(2);
        let mut lines = vec![String::new()];
        let mut used = 0;
        let mut cursor = (0, 0);
        for (index, &c) in self.text.iter().enumerate() {
            let shown = shown(c);
            let columns = unicode_width::UnicodeWidthStr::width(shown.as_str());
            if c != '\n' && used + columns > width {
                lines.push(String::new());
                used = 0;
            }
            if index == self.cursor {
                cursor = (used, lines.len() - 1);
            }
            if c == '\n' {
                lines.push(String::new());
                used = 0;
            } else if let Some(line) = lines.last_mut() {
                line.push_str(&shown);
                used += columns;
            }
        }
        if self.cursor == self.text.len() {
            if used >= width {
                lines.push(String::new());
                used = 0;
            }
            cursor = (used, lines.len() - 1);
        }
        (lines, cursor)
    }

    fn remove(&mut self, start: usize, end: usize) {
        let end = end.min(self.text.len());
        self.text.drain(start.min(end)..end);
        self.cursor = start.min(self.text.len());
    }

    fn line_start(&self) -> usize {
        let before = self.text.iter().take(self.cursor);
        before
            .rev()
            .position(|&c| c == '\n')
            .map_or(0, |distance| self.cursor - distance)
    }

    fn line_end(&self) -> usize {
        let after = self.text.iter().skip(self.cursor);
        after
            .clone()
            .position(|&c| c == '\n')
            .map_or(self.text.len(), |distance| self.cursor + distance)
    }

    fn word_start(&self) -> usize {
        let mut start = self.cursor;
        let before = |index: usize| self.text.get(index.wrapping_sub(1));
        while before(start).is_some_and(|c| c.is_whitespace()) {
            start -= 1;
        }
        while before(start).is_some_and(|c| !c.is_whitespace()) {
            start -= 1;
        }
        start
    }

    fn up(&mut self) {
        let start = self.line_start();
        let column = self.cursor - start;
        if start == 0 {
            self.cursor = 0;
            return;
        }
        self.cursor = start - 1;
        let end = self.cursor;
        self.cursor = (self.line_start() + column).min(end);
    }

    fn down(&mut self) {
        let column = self.cursor - self.line_start();
        let end = self.line_end();
        if end == self.text.len() {
            self.cursor = end;
            return;
        }
        self.cursor = end + 1;
        self.cursor = (self.cursor + column).min(self.line_end());
    }
}

/// A character as it is shown.
fn shown(c: char) -> String {
    match c {
        '\t' => "    ".into(),
        c if super::text::is_unsafe(c) => "\u{fffd}".into(),
        c => c.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, codes: &[KeyCode]) {
        for &code in codes {
            editor.key(KeyEvent::from(code));
        }
    }

    #[test]
    fn lines_are_walked_by_column() {
        let mut editor = Editor::new("abc\nd\nefgh");
        press(&mut editor, &[KeyCode::Up]);
        editor.insert("1").unwrap();
        press(&mut editor, &[KeyCode::Up, KeyCode::Home]);
        editor.insert("2").unwrap();
        press(
            &mut editor,
            &[KeyCode::Down, KeyCode::Down, KeyCode::Backspace],
        );
        assert_eq!(editor.text(), "2abc\nd1\nfgh");
    }

    #[test]
    fn words_and_lines_can_be_removed() {
        let mut editor = Editor::new("one two  ");
        editor.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(editor.text(), "one ");
        editor.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!(editor.text(), "");
        press(
            &mut editor,
            &[KeyCode::Backspace, KeyCode::Delete, KeyCode::Left],
        );
        assert_eq!(editor, Editor::default());
    }

    #[test]
    fn a_pasted_text_loses_its_control_characters_and_a_huge_one_is_refused() {
        let mut editor = Editor::default();
        editor.insert("a\r\nb\x1b[31m\tc").unwrap();
        assert_eq!(editor.text(), "a\nb[31m\tc");
        assert_eq!(editor.insert(&"x".repeat(TEXT_MAX)), Err(TooLong));
        assert_eq!(editor.text(), "a\nb[31m\tc");
    }

    #[test]
    fn wrapping_shows_where_the_cursor_is() {
        let editor = Editor::new("abcdef\n日本");
        let (lines, cursor) = editor.wrapped(4);
        assert_eq!(lines, ["abcd", "ef", "日本", ""]);
        assert_eq!(cursor, (0, 3));
    }
}
