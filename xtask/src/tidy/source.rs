//! A Rust file, and the same text with comments and literals blanked out, so that rules can look for
//! words without being fooled by prose. Knows no rule.

use super::Finding;

/// A Rust file. All three texts have the same offsets and lines.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Without comments.
    pub(crate) uncommented: String,
    /// Without comments and without what stands in literals.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut source = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            uncommented: String::with_capacity(text.len()),
            code: String::with_capacity(text.len()),
        };
        let mut rest = text;
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            let (piece, length) = piece(rest, before);
            let (taken, left) = rest.split_at(length.max(first.len_utf8()));
            match piece {
                Piece::Code => {
                    source.uncommented.push_str(taken);
                    source.code.push_str(taken);
                }
                Piece::Comment => {
                    source.uncommented.push_str(&blank(taken));
                    source.code.push_str(&blank(taken));
                }
                Piece::Literal => {
                    source.uncommented.push_str(taken);
                    source.code.push_str(&blank(taken));
                }
            }
            before = taken.chars().next_back().unwrap_or(' ');
            rest = left;
        }
        source
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|&byte| byte == b'\n')
            .count()
    }

    /// A finding at an offset.
    pub(crate) fn finding(&self, offset: usize, text: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line: self.line(offset),
            text: text.into(),
        }
    }

    /// The identifiers and keywords of the code with their offsets.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// The code from an offset on.
    pub(crate) fn after(&self, offset: usize) -> &str {
        self.code.get(offset..).unwrap_or_default()
    }

    /// The code before an offset.
    pub(crate) fn before(&self, offset: usize) -> &str {
        self.code.get(..offset).unwrap_or_default()
    }

    /// Where the block that opens at or after the offset ends: the offset behind its `}`. None when
    /// a `;` comes first.
    pub(crate) fn block(&self, offset: usize) -> Option<(usize, usize)> {
        let mut depth = 0_usize;
        let mut open = None;
        for (at, byte) in self.after(offset).bytes().enumerate() {
            match byte {
                b';' if depth == 0 => return None,
                b'[' | b'(' if open.is_none() => depth += 1,
                b']' | b')' if open.is_none() => depth = depth.saturating_sub(1),
                b'{' if open.is_none() => {
                    open = Some(offset + at);
                    depth = 1;
                }
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if let Some(open) = open
                && depth == 0
            {
                return Some((open, offset + at + 1));
            }
        }
        None
    }

    /// The blocks of `mod name { … }`: name, start and end, and whether they are only for tests.
    pub(crate) fn inline_modules(&self) -> Vec<InlineModule> {
        self.words()
            .filter(|(_, word)| *word == "mod")
            .filter_map(|(at, word)| {
                let (start, end) = self.block(at + word.len())?;
                let head = self.before(at).trim_end();
                Some(InlineModule {
                    start,
                    end,
                    only_tests: head.ends_with("#[cfg(test)]"),
                })
            })
            .collect()
    }

    /// Whether the whole file is only for tests.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// A module written out in its parent's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InlineModule {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) only_tests: bool,
}

impl InlineModule {
    pub(crate) const fn holds(&self, offset: usize) -> bool {
        self.start <= offset && offset < self.end
    }
}

/// The identifiers and keywords of a text with their offsets.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0;
    text.split(|letter: char| !is_word(letter))
        .filter_map(move |word| {
            let at = offset;
            // Every separator is one letter; those of more than one byte stand only in prose.
            offset += word.len();
            offset += text
                .get(offset..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8);
            (!word.is_empty()).then_some((at, word))
        })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

enum Piece {
    Code,
    Comment,
    Literal,
}

/// What the text begins with, and how many bytes of it.
fn piece(text: &str, before: char) -> (Piece, usize) {
    if text.starts_with("//") {
        return (Piece::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Piece::Comment, block_comment(text));
    }
    if text.starts_with('"') {
        return (Piece::Literal, quoted(text, '"'));
    }
    if text.starts_with('\'') {
        let mut letters = text.chars().skip(1);
        let is_letter = match (letters.next(), letters.next()) {
            (Some('\\'), _) => true,
            (_, after) => after == Some('\''),
        };
        return if is_letter {
            (Piece::Literal, quoted(text, '\''))
        } else {
            (Piece::Code, 1)
        };
    }
    if text.starts_with('r') && (!is_word(before) || matches!(before, 'b' | 'c')) {
        let hashes = text
            .bytes()
            .skip(1)
            .take_while(|&byte| byte == b'#')
            .count();
        if text
            .get(1 + hashes..)
            .is_some_and(|rest| rest.starts_with('"'))
        {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 2 + hashes;
            let length = text.get(start..).and_then(|rest| rest.find(&end));
            return (
                Piece::Literal,
                length.map_or(text.len(), |at| start + at + end.len()),
            );
        }
    }
    (Piece::Code, 1)
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted(text: &str, end: char) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == end {
            return at + letter.len_utf8();
        }
    }
    text.len()
}

fn blank(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let blank = if letter == '\n' { '\n' } else { ' ' };
            std::iter::repeat_n(blank, letter.len_utf8())
        })
        .collect()
}
