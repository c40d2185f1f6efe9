//! The rules of the house that no compiler knows, one file a rule. Each rule looks at text and
//! answers with findings; only this file reads the disk.

mod absences;
mod attributes;
mod header;
mod imports;
mod members;
mod names;
mod size;
mod source;
#[cfg(test)]
mod tests;
mod unsafe_places;
mod words;

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, bail};

use self::{size::Exceptions, source::Source};
use crate::tree;

/// A breach of a rule.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.text),
            line => write!(out, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// Rules that look at one Rust file.
const RUST_RULES: [fn(&Source) -> Vec<Finding>; 5] = [
    absences::check,
    attributes::check,
    header::check,
    imports::check,
    unsafe_places::check,
];

/// The verb.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = tree::root();
    let mut paths = Vec::new();
    walk(&root, &root, &mut paths)?;
    paths.sort();
    let list = fs::read_to_string(root.join(size::LIST)).context(size::LIST)?;
    let mut exceptions = Exceptions::parse(&list)?;
    let mut findings = Vec::new();
    for path in &paths {
        findings.extend(names::check(path));
        let Ok(text) = fs::read_to_string(root.join(path)) else {
            continue; // Not text.
        };
        findings.extend(words::check(path, &text));
        if path.ends_with("Cargo.toml") {
            findings.extend(members::check(path, &text)?);
        }
        if Path::new(path)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let source = Source::new(path, &text);
            findings.extend(RUST_RULES.iter().flat_map(|rule| rule(&source)));
            findings.extend(size::check(&source, &mut exceptions));
        }
    }
    findings.extend(exceptions.unused());
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} breaches of the rules of the house", findings.len());
    }
    eprintln!("tidy: {} files", paths.len());
    Ok(())
}

/// Every file but those that git or cargo keep for themselves, with `/` between folders.
fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if name != ".git" && name != "target" {
                walk(root, &entry.path(), paths)?;
            }
        } else if kind.is_file() && name != "Cargo.lock" && name != ".git" {
            let path = entry.path();
            let path = path
                .strip_prefix(root)?
                .to_str()
                .context("a path is not UTF-8")?;
            paths.push(path.to_owned());
        }
    }
    Ok(())
}
