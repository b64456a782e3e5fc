//! A Rust file as far as the architecture is concerned: the paths it names, with their lines.
//!
//! Not a parser of Rust: tokens without comments and literals, and the tree of a `use`. What it
//! cannot see is a path put together by a macro; there is none in this project.

use std::collections::BTreeSet;

/// One file.
pub(crate) struct Source {
    /// Relative to its top folder, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    tokens: Vec<Token>,
}

/// A path as it is written, `use` trees taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// It stands in a module of tests.
    pub(crate) test: bool,
    /// Inline modules around it.
    nesting: usize,
}

/// What a path stands in.
#[derive(Debug, Clone, Copy)]
struct Around {
    nesting: usize,
    test: bool,
}

impl Around {
    fn named(self, segments: Vec<String>, line: usize) -> Named {
        Named {
            segments,
            line,
            test: self.test,
            nesting: self.nesting,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.replace('\\', "/"),
            text: text.to_owned(),
            tokens: tokens(text),
        }
    }

    /// The top module it belongs to: the folder, or the file at the top.
    pub(crate) fn module(&self) -> &str {
        self.path
            .split('/')
            .next()
            .unwrap_or(&self.path)
            .trim_end_matches(".rs")
    }

    /// Whether `word` is a token of the code.
    pub(crate) fn names(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.text == word)
    }

    /// Lines that are neither blank nor comment only.
    pub(crate) fn code_lines(&self) -> usize {
        let lines = self.text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }

    /// Every path, as written.
    pub(crate) fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut modules = Vec::new();
        let mut around = Around {
            nesting: 0,
            test: self.is_test_file(),
        };
        let mut depth = 0_usize;
        let mut index = 0;
        while let Some(token) = self.tokens.get(index) {
            match token.text.as_str() {
                "{" => {
                    depth += 1;
                    if index >= 2 && self.is(index - 2, "mod") {
                        modules.push((depth, around));
                        let test = around.test || self.is_test_module(index - 2);
                        around = Around {
                            nesting: around.nesting + 1,
                            test,
                        };
                    }
                }
                "}" => {
                    if let Some((_, outside)) = modules.pop_if(|(opened, _)| *opened == depth) {
                        around = outside;
                    }
                    depth = depth.saturating_sub(1);
                }
                word if is_word(word) => {
                    index = self.path_at(index, &[], around, &mut found);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        found
    }

    /// Paths into this crate, without `crate`; those that climb there by `super` included.
    pub(crate) fn crate_paths(&self) -> Vec<Named> {
        self.paths()
            .into_iter()
            .filter_map(|path| self.below_root(path))
            .collect()
    }

    fn below_root(&self, mut path: Named) -> Option<Named> {
        let root = ["crate", "warpsquad"].contains(&path.segments[0].as_str());
        let skipped = if root { 1 } else { self.climbed(&path)? };
        path.segments.drain(..skipped);
        (!path.segments.is_empty()).then_some(path)
    }

    /// How many `super` begin `path`, when they lead exactly to the root.
    fn climbed(&self, path: &Named) -> Option<usize> {
        let file = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let depth = file.split('/').count() + path.nesting;
        let climbed = path
            .segments
            .iter()
            .take_while(|segment| *segment == "super")
            .count();
        (climbed == depth).then_some(climbed)
    }

    /// Reads the path that begins at `index`, after `prefix`; returns the index behind it.
    fn path_at(
        &self,
        index: usize,
        prefix: &[String],
        around: Around,
        found: &mut Vec<Named>,
    ) -> usize {
        let line = self.tokens[index].line;
        let mut segments = prefix.to_vec();
        let mut index = index;
        loop {
            segments.push(self.tokens[index].text.clone());
            index += 1;
            if !self.is(index, "::") {
                break;
            }
            index += 1;
            if self.is(index, "{") {
                return self.group_at(index + 1, &segments, around, found);
            }
            let word = self
                .tokens
                .get(index)
                .is_some_and(|token| is_word(&token.text));
            if !word {
                break;
            }
        }
        found.push(around.named(segments, line));
        index
    }

    /// Reads the rest of a `use` group; returns the index behind its brace.
    fn group_at(
        &self,
        index: usize,
        prefix: &[String],
        around: Around,
        found: &mut Vec<Named>,
    ) -> usize {
        let mut index = index;
        while let Some(token) = self.tokens.get(index) {
            match token.text.as_str() {
                "}" => return index + 1,
                "as" => index += 2,
                "*" => {
                    let segments = prefix.to_vec();
                    found.push(around.named(segments, token.line));
                    index += 1;
                }
                word if is_word(word) => index = self.path_at(index, prefix, around, found),
                _ => index += 1,
            }
        }
        index
    }

    fn is_test_file(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// Whether the `mod` at `index` has `#[cfg(test)]` before it.
    fn is_test_module(&self, index: usize) -> bool {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        index >= 7
            && attribute
                .iter()
                .zip(index - 7..)
                .all(|(text, at)| self.is(at, text))
    }

    fn is(&self, index: usize, text: &str) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.text == text)
    }
}

/// The crates of `[dependencies]`, as they are named in code.
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single signs, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader {
        chars: &chars,
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(next) = reader.peek(0) {
        let line = reader.line;
        if next.is_alphanumeric() || next == '_' {
            let word = reader.word();
            let literal = ["r", "b", "br", "c", "cr"].contains(&word.as_str());
            if literal && matches!(reader.peek(0), Some('"' | '#')) && reader.skip_raw(&word) {
                continue;
            }
            tokens.push(Token { text: word, line });
        } else if next == '"' {
            reader.skip_string();
        } else if next == '\'' {
            reader.skip_character();
        } else if next == '/' && matches!(reader.peek(1), Some('/' | '*')) {
            reader.skip_comment();
        } else if next == ':' && reader.peek(1) == Some(':') {
            reader.forward(2);
            tokens.push(Token {
                text: "::".into(),
                line,
            });
        } else {
            reader.forward(1);
            if !next.is_whitespace() {
                tokens.push(Token {
                    text: next.into(),
                    line,
                });
            }
        }
    }
    tokens
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn forward(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(next);
            self.forward(1);
        }
        word
    }

    fn skip_string(&mut self) {
        self.forward(1);
        while let Some(next) = self.peek(0) {
            self.forward(if next == '\\' { 2 } else { 1 });
            if next == '"' {
                return;
            }
        }
    }

    /// A literal with a prefix; `false` when it is none (`r#type`).
    fn skip_raw(&mut self, prefix: &str) -> bool {
        let rest = self.chars.iter().skip(self.at);
        let hashes = rest.take_while(|next| **next == '#').count();
        if self.peek(hashes) != Some('"') {
            return false;
        }
        if !prefix.contains('r') {
            self.skip_string();
            return true;
        }
        self.forward(hashes + 1);
        while let Some(next) = self.peek(0) {
            self.forward(1);
            if next == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.forward(hashes);
                break;
            }
        }
        true
    }

    /// A character, or a lifetime.
    fn skip_character(&mut self) {
        let escaped = self.peek(1) == Some('\\');
        if !escaped && self.peek(2) != Some('\'') {
            self.forward(1);
            self.word();
            return;
        }
        self.forward(if escaped { 3 } else { 2 });
        while let Some(next) = self.peek(0) {
            self.forward(1);
            if next == '\'' {
                return;
            }
        }
    }

    fn skip_comment(&mut self) {
        if self.peek(1) == Some('/') {
            while self.peek(0).is_some_and(|c| c != '\n') {
                self.forward(1);
            }
            return;
        }
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.forward(1);
                    continue;
                }
            }
            self.forward(2);
            if depth == 0 {
                return;
            }
        }
    }
}
