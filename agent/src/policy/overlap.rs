//! What the policies of a set must not share: where one tool's results are handed out, no other
//! tool writes or hands out; and no unit is fenced by two.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    compile::Claim,
    error::{Code, Findings, PolicyError, Span},
    unit::UnitGlob,
};

/// The claims of one file, kept until all files are read.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) tool: String,
    pub(super) paths: Vec<Claim>,
    pub(super) units: Vec<(UnitGlob, Span)>,
}

/// Every name of units that can be seen to name another policy's, one error a file.
pub(super) fn shared_units(set: &[Claims]) -> Vec<PolicyError> {
    set.iter()
        .filter_map(|file| {
            let mut findings = Findings::default();
            for (glob, span) in &file.units {
                let others = set.iter().filter(|other| other.tool != file.tool);
                let found = others
                    .flat_map(|other| other.units.iter().map(move |(unit, _)| (&other.tool, unit)))
                    .find(|(_, unit)| glob.collides(unit));
                if let Some((tool, unit)) = found {
                    let message = format!("`{glob}`: the tool `{tool}` matches `{unit}`");
                    let hint = "a unit has one policy: let only one of the two name it";
                    findings.hinted(Code::Conflict, *span, message, hint);
                }
            }
            if findings.is_empty() {
                return None;
            }
            findings.finish(&file.file, &file.text, None::<()>).err()
        })
        .collect()
}

/// Every claim that reaches into another tool's output, one error a file.
pub(super) fn overlaps(set: &[Claims]) -> Vec<PolicyError> {
    let mut outputs: BTreeMap<&PathBuf, Vec<&str>> = BTreeMap::new();
    let mut writes: BTreeMap<&PathBuf, Vec<&str>> = BTreeMap::new();
    for Claims { tool, paths, .. } in set {
        for claim in paths {
            let all = if claim.output {
                &mut outputs
            } else {
                &mut writes
            };
            all.entry(&claim.path).or_default().push(tool);
        }
    }
    set.iter()
        .filter_map(|file| {
            let mut findings = Findings::default();
            for claim in &file.paths {
                let under_output = other(&outputs, claim, &file.tool);
                let under_write = || other(&writes, claim, &file.tool).filter(|_| claim.output);
                let (what, (path, tool)) = match (under_output, under_write()) {
                    (Some(found), _) => ("is handed out for", found),
                    (None, Some(found)) => ("is written by", found),
                    (None, None) => continue,
                };
                let message = format!(
                    "`{}`: `{}` {what} the tool `{tool}`",
                    claim.path.display(),
                    path.display()
                );
                let hint = "what a tool hands out is its own: name another folder";
                findings.hinted(Code::Conflict, claim.span, message, hint);
            }
            if findings.is_empty() {
                return None;
            }
            findings.finish(&file.file, &file.text, None::<()>).err()
        })
        .collect()
}

/// The nearest path at or above a claim that another tool claims.
fn other<'a>(
    all: &BTreeMap<&'a PathBuf, Vec<&'a str>>,
    claim: &Claim,
    tool: &str,
) -> Option<(&'a PathBuf, &'a str)> {
    claim.path.ancestors().find_map(|above| {
        let (path, tools) = all.get_key_value(&above.to_owned())?;
        let other = tools.iter().find(|other| **other != tool)?;
        Some((*path, *other))
    })
}
