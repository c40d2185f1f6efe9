//! Writes the files that are made from code and records: the policy's JSON Schema, the table of
//! reasons, the table of hooks.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::{Context as _, bail, ensure};
use common::verdict::Reason;

use crate::{
    build, hook_table, process,
    setup::{self, Scope},
    tree,
};

/// A generated file.
struct File {
    path: &'static str,
    content: String,
}

/// The verb.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    setup::ensure(Scope::Build)?;
    build::kernel_object()?;
    build::workspace(false)?;
    if check { self::check() } else { write() }
}

/// Fails where a committed file is not what the code says. The workspace is built already.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for file in files()? {
        let there = fs::read_to_string(tree::root().join(file.path)).unwrap_or_default();
        if there != file.content {
            stale.push(file.path);
        }
    }
    if !stale.is_empty() {
        bail!(
            "out of date: {}\nhint: `cargo xtask generate`, and commit",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Writes the files. The workspace is built already.
pub(crate) fn write() -> anyhow::Result<()> {
    for file in files()? {
        let path = tree::root().join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, file.content)
            .with_context(|| format!("{} can not be written", file.path))?;
        eprintln!("generate: {}", file.path);
    }
    Ok(())
}

fn files() -> anyhow::Result<[File; 3]> {
    Ok([
        File {
            path: "policies/policy.schema.json",
            content: schema()?,
        },
        File {
            path: "docs/reasons.md",
            content: reasons()?,
        },
        File {
            path: "docs/hooks.md",
            content: hook_table::page()?,
        },
    ])
}

/// The agent knows the shape of its policies; it prints the schema.
fn schema() -> anyhow::Result<String> {
    let binary = tree::target().join("debug/stockade");
    let schema = process::output(Command::new(binary).args(["policy", "schema"]))?;
    ensure!(
        !schema.is_empty(),
        "`stockade policy schema` prints nothing"
    );
    Ok(schema)
}

fn reasons() -> anyhow::Result<String> {
    let mut text = String::from(
        "# Reasons\n\n\
         Every verdict carries one of these. The code is the metric label, the field of the log \
         and of an event, and what `stockade explain` prints. Numbers are never changed or used \
         again.\n\n\
         <!-- Generated from common/src/verdict.rs by `cargo xtask generate`. -->\n\n\
         | number | code | meaning |\n|---:|---|---|\n",
    );
    for reason in Reason::ALL {
        writeln!(
            text,
            "| {} | `{}` | {} |",
            *reason as u8,
            reason.label(),
            reason.sentence()
        )?;
    }
    Ok(text)
}
