//! Files of at most 400 lines, functions of at most 70; the exceptions are listed with their
//! reasons, and the list may only shrink.

use std::cmp::Ordering;

use anyhow::{Context as _, bail};
use toml_edit::{DocumentMut, Table};

use super::{Finding, source::Source};

/// The list of exceptions.
pub(crate) const LIST: &str = "xtask/tidy-exceptions.toml";

const FILE_LINES: usize = 400;
/// Lines between the braces that are neither blank nor a comment: clippy counts the same way.
const FUNCTION_LINES: usize = 70;

/// What may be longer.
pub(crate) struct Exceptions(Vec<Exception>);

struct Exception {
    path: String,
    /// None for the file itself.
    function: Option<String>,
    lines: usize,
    used: bool,
}

impl Exceptions {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let document: DocumentMut = text.parse().context(LIST)?;
        let mut all = Vec::new();
        for (kind, item) in document.iter() {
            let tables = item
                .as_array_of_tables()
                .with_context(|| format!("{LIST}: `{kind}`"))?;
            for table in tables {
                all.push(exception(kind, table)?);
            }
        }
        Ok(Self(all))
    }

    /// Entries that nothing needed.
    pub(crate) fn unused(&self) -> Vec<Finding> {
        self.0
            .iter()
            .filter(|exception| !exception.used)
            .map(|Exception { path, function, .. }| {
                let what = function.as_deref().unwrap_or("the file");
                let text = format!("{path}: {what} is short enough or gone: strike the entry");
                Finding {
                    path: LIST.to_owned(),
                    line: 0,
                    text,
                }
            })
            .collect()
    }

    /// What is wrong with this many lines, if anything is.
    fn complaint(
        &mut self,
        source: &Source,
        function: Option<&str>,
        lines: usize,
    ) -> Option<String> {
        let limit = if function.is_some() {
            FUNCTION_LINES
        } else {
            FILE_LINES
        };
        if lines <= limit {
            return None;
        }
        let what = function.map_or_else(|| "the file".to_owned(), |name| format!("`{name}`"));
        let listed = self.0.iter_mut().find(|exception| {
            exception.path == source.path && exception.function.as_deref() == function
        });
        let Some(listed) = listed else {
            return Some(format!("{what} has {lines} lines, more than {limit}"));
        };
        listed.used = true;
        let allowed = listed.lines;
        match lines.cmp(&allowed) {
            Ordering::Equal => None,
            Ordering::Greater => Some(format!(
                "{what} has {lines} lines, more than the {allowed} of its exception"
            )),
            Ordering::Less => Some(format!(
                "{what} shrank to {lines} lines: write {lines} into {LIST}"
            )),
        }
    }
}

fn exception(kind: &str, table: &Table) -> anyhow::Result<Exception> {
    let text = |key: &str| {
        let value = table.get(key).and_then(toml_edit::Item::as_str);
        value
            .map(str::to_owned)
            .with_context(|| format!("{LIST}: an entry lacks `{key}`"))
    };
    if text("reason")?.trim().is_empty() {
        bail!("{LIST}: {}: the reason is empty", text("path")?);
    }
    let lines = table.get("lines").and_then(toml_edit::Item::as_integer);
    let function = match kind {
        "file" => None,
        "function" => Some(text("name")?),
        other => bail!("{LIST}: `{other}` is neither `file` nor `function`"),
    };
    Ok(Exception {
        path: text("path")?,
        function,
        lines: usize::try_from(lines.with_context(|| format!("{LIST}: an entry lacks `lines`"))?)?,
        used: false,
    })
}

pub(crate) fn check(source: &Source, exceptions: &mut Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(text) = exceptions.complaint(source, None, source.text.lines().count()) {
        findings.push(source.finding(0, text));
    }
    for (at, name, lines) in functions(source) {
        if let Some(text) = exceptions.complaint(source, Some(name), lines) {
            findings.push(source.finding(at, text));
        }
    }
    findings
}

/// Each function with a body: offset, name, lines.
fn functions(source: &Source) -> Vec<(usize, &str, usize)> {
    let mut words = source.words().peekable();
    let mut found = Vec::new();
    while let Some((at, word)) = words.next() {
        let Some(&(name_at, name)) = words.peek().filter(|_| word == "fn") else {
            continue;
        };
        // `fn(` is a type.
        if name_at != at + word.len() + 1 {
            continue;
        }
        if let Some((start, end)) = source.block(name_at + name.len()) {
            let body = source
                .uncommented
                .get(start + 1..end - 1)
                .unwrap_or_default();
            let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
            found.push((at, name, lines));
        }
    }
    found
}
