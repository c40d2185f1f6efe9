//! A refused policy for people and for programs: plain lines, a terminal's picture, JSON.
//!
//! This file decides how findings look; it neither makes nor judges them, and prints nothing itself.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde_json::{Value, json};

use super::error::{Finding, Lines, PolicyError, printable};

/// Characters of a source line that a plain rendering shows.
const LINE_CHARS_MAX: usize = 120;

impl PolicyError {
    /// `file:line:column: error[code]: message`, the line with its mark, and the hint: for logs,
    /// pipes and editors.
    #[must_use]
    pub fn plain(&self) -> String {
        let places = Lines::of(self.text());
        let findings = self.findings().iter();
        let mut out: Vec<String> = findings
            .flat_map(|finding| self.plain_finding(&places, finding))
            .collect();
        if self.omitted() > 0 {
            out.push(format!("{}: and {} more", self.file(), self.omitted()));
        }
        out.push(String::new());
        out.join("\n")
    }

    fn plain_finding(&self, places: &Lines, finding: &Finding) -> Vec<String> {
        let (line, column) = places.place(self.text(), finding.span.start);
        let (file, code) = (self.file(), finding.code.label());
        let message = &finding.message;
        let mut out = vec![format!("{file}:{line}:{column}: error[{code}]: {message}")];
        let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
        if before < LINE_CHARS_MAX {
            let source = self.text().get(places.begin(line)..).unwrap_or_default();
            let source = printable(source.lines().next().unwrap_or_default());
            let shown: String = source.chars().take(LINE_CHARS_MAX).collect();
            let room = LINE_CHARS_MAX.saturating_sub(before).max(1);
            let width = self.quote(finding).chars().count().clamp(1, room);
            let (indent, mark) = (" ".repeat(before), "^".repeat(width));
            out.push(format!("{line:>6} | {shown}"));
            out.push(format!("       | {indent}{mark}"));
        }
        if let Some(related) = &finding.related {
            let (line, _) = places.place(self.text(), related.span.start);
            out.push(format!("       see line {line}: {}", related.label));
        }
        if let Some(hint) = &finding.hint {
            let hint = hint.replace('\n', "\n             ");
            out.push(format!("       hint: {hint}"));
        }
        out
    }

    /// The same as a picture, for a terminal.
    #[must_use]
    pub fn graphical(&self, color: bool, width: usize) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width);
        let source = NamedSource::new(self.file(), printable(self.text()));
        let mut out = String::new();
        for finding in self.findings() {
            let picture = Picture {
                finding,
                source: &source,
            };
            if handler.render_report(&mut out, &picture).is_err() {
                return self.plain();
            }
            out.push('\n');
        }
        if self.omitted() > 0 {
            out.push_str("  and more\n");
        }
        out
    }

    /// One object a finding.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let lines = Lines::of(self.text());
        let object = |finding: &Finding| {
            let (line, column) = lines.place(self.text(), finding.span.start);
            json!({
                "file": self.file(),
                "line": line,
                "column": column,
                "code": finding.code.label(),
                "message": finding.message,
                "text": self.quote(finding),
                "hint": finding.hint,
                "related_line": finding
                    .related
                    .as_ref()
                    .map(|related| lines.line(related.span.start)),
            })
        };
        self.findings().iter().map(object).collect()
    }
}

/// One finding as miette wants it.
#[derive(Debug)]
struct Picture<'a> {
    finding: &'a Finding,
    source: &'a NamedSource<String>,
}

impl std::fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Picture<'_> {}

impl Diagnostic for Picture<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.finding.code.label()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let hint = self.finding.hint.as_ref()?;
        Some(Box::new(hint))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.finding.span;
        let length = span.end.saturating_sub(span.start);
        let here = LabeledSpan::new_primary_with_span(None, (span.start, length));
        let there = self.finding.related.as_ref().map(|related| {
            let length = related.span.end.saturating_sub(related.span.start);
            LabeledSpan::new_with_span(Some(related.label.clone()), (related.span.start, length))
        });
        Some(Box::new(std::iter::once(here).chain(there)))
    }
}
