//! Checks licences, sources and bans of the dependencies.
//!
//! Advisories are not part of it: their database is fetched from the network on every run, and a
//! check whose answer changes without a commit belongs to a schedule, not to `test`.
//! `cargo deny check advisories` with the same file does it by hand.

use crate::{
    process,
    setup::{self, CARGO_DENY, Scope},
    tree,
};

/// The verb.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Scope::All)?;
    check()
}

/// The check, for a machine that is set up.
///
/// It reads the manifest of every crate in the lock file, also of those that are for other systems and
/// that no build has fetched.
pub(crate) fn check() -> anyhow::Result<()> {
    process::run(process::cargo().args(["fetch", "--locked"]))?;
    let binary = tree::tools()?.join("bin").join(CARGO_DENY.name);
    let mut command = std::process::Command::new(binary);
    command
        .current_dir(tree::root())
        .args(["--offline", "--locked", "--workspace", "check"]);
    process::run(command.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]))
}
