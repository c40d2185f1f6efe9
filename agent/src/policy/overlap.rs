//! What the policies of a set must not share: where one tool's results are handed out, no other
//! tool writes or hands out.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    compile::Claim,
    error::{Code, Findings, PolicyError},
};

/// The claims of one file, kept until all files are read.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) tool: String,
    pub(super) paths: Vec<Claim>,
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
