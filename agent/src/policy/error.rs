//! What is wrong with a policy file: all findings at once, each with its place, the offending text
//! and what to do about it.
//!
//! This file knows nothing of policies; rendering for people is in `render`.

use std::sync::Arc;

/// Findings that are kept of one file; the rest is counted.
pub const FINDINGS_MAX: usize = 100;
/// Bytes of offending text that a finding quotes.
pub const QUOTE_BYTES_MAX: usize = 80;

/// A place in a file: bytes, half open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $label:literal;)*) => {
        /// What kind of mistake it is. The label is stable: scripts may match it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// The stable label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

codes! {
    /// Not TOML.
    Syntax = "syntax";
    /// A key that the policy file does not have.
    UnknownKey = "unknown_key";
    /// A key without which the table means nothing.
    MissingKey = "missing_key";
    /// A value of another type.
    WrongType = "wrong_type";
    /// A word that is not one of the list.
    UnknownValue = "unknown_value";
    /// A value whose text can not be read.
    BadValue = "bad_value";
    /// A number beyond its bounds, or too many of something.
    OutOfBounds = "out_of_bounds";
    /// A path that is not absolute and normalised, or that no fence may hold.
    BadPath = "bad_path";
    /// Not an address block in canonical form.
    BadAddress = "bad_address";
    /// Not a port, or one that no rule may open.
    BadPort = "bad_port";
    /// Not a domain name or wildcard.
    BadDomain = "bad_domain";
    /// A block that needs another kind of rule.
    SpecialAddress = "special_address";
    /// Said twice.
    Duplicate = "duplicate";
    /// Two statements that contradict each other.
    Conflict = "conflict";
    /// A schema file that can not be read, is open or without an end.
    BadSchema = "bad_schema";
    /// Well formed, but not enforced by this version.
    Unsupported = "unsupported";
}

/// A second place that explains the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What is there.
    pub label: String,
}

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// What is wrong: object first, lower-case.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do.
    pub hint: Option<String>,
    /// Another place to look at.
    pub related: Option<Related>,
}

/// The findings of one file while it is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    omitted: usize,
}

impl Findings {
    /// Adds a finding without a hint.
    pub(super) fn add(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.push(code, span, &message.into(), None, None);
    }

    /// Adds a finding with a hint.
    pub(super) fn hinted(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(code, span, &message.into(), Some(hint.into()), None);
    }

    /// Adds a finding that points at two places.
    pub(super) fn paired(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
        related: Related,
    ) {
        self.push(
            code,
            span,
            &message.into(),
            Some(hint.into()),
            Some(related),
        );
    }

    fn push(
        &mut self,
        code: Code,
        span: Span,
        message: &str,
        hint: Option<String>,
        related: Option<Related>,
    ) {
        if self.kept.len() >= FINDINGS_MAX {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        // Values are quoted in messages, and an escape in a TOML string is any character.
        self.kept.push(Finding {
            code,
            message: printable(message),
            span,
            hint: hint.map(|hint| printable(&hint)),
            related: related.map(|Related { span, label }| Related {
                span,
                label: printable(&label),
            }),
        });
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The value if there is one and nothing was found, else the error that names everything.
    pub(super) fn finish<T>(
        mut self,
        file: &str,
        text: &str,
        value: Option<T>,
    ) -> Result<T, PolicyError> {
        match value {
            Some(value) if self.kept.is_empty() => return Ok(value),
            None if self.kept.is_empty() => {
                self.add(Code::Syntax, Span::default(), "not a policy");
            }
            _ => {}
        }
        let mut findings = self.kept;
        findings.sort_by_key(|finding| (finding.span, finding.code));
        findings.dedup();
        Err(PolicyError {
            file: printable(file).replace('\n', "?"),
            text: Arc::from(text),
            findings,
            omitted: self.omitted,
        })
    }
}

/// Why a policy file was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.plain().trim_end())]
pub struct PolicyError {
    file: String,
    text: Arc<str>,
    findings: Vec<Finding>,
    omitted: usize,
}

impl PolicyError {
    /// The file's name as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was found, in the order of the file.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Findings beyond [`FINDINGS_MAX`].
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether the file is right in itself and only asks for what this version does not enforce.
    #[must_use]
    pub fn only_unsupported(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.code == Code::Unsupported)
    }

    /// The text that a finding is about, one line, bounded.
    #[must_use]
    pub fn quote(&self, finding: &Finding) -> String {
        let text = self
            .text
            .get(finding.span.start..finding.span.end)
            .unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let mut end = line.len().min(QUOTE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        printable(line.get(..end).unwrap_or_default())
    }

    /// Line and column of a finding, from 1, columns in characters.
    #[must_use]
    pub fn place(&self, finding: &Finding) -> (u32, u32) {
        Lines::of(&self.text).place(&self.text, finding.span.start)
    }
}

/// Text without control characters, with as many bytes: a policy file may come from elsewhere, and
/// a terminal obeys what it prints.
#[must_use]
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' {
            out.push('\n');
        } else if c == '\t' {
            out.push(' ');
        } else if c.is_control() {
            (0..c.len_utf8()).for_each(|_| out.push('?'));
        } else {
            out.push(c);
        }
    }
    out
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    /// Reads a text once.
    pub(super) fn of(text: &str) -> Self {
        let begins = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at.saturating_add(1));
        Self(std::iter::once(0).chain(begins).collect())
    }

    /// Line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|begin| *begin <= offset)).unwrap_or(u32::MAX)
    }

    /// Line and column of a byte, from 1, columns in characters.
    pub(super) fn place(&self, text: &str, offset: usize) -> (u32, u32) {
        let line = self.line(offset);
        let begin = self.begin(line);
        let before = text.get(begin..offset).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX);
        (line, column.saturating_add(1))
    }

    /// Where a line begins.
    pub(super) fn begin(&self, line: u32) -> usize {
        let index = usize::try_from(line)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        self.0.get(index).copied().unwrap_or_default()
    }
}
